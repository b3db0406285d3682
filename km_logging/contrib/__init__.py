"""Where applications live: a middleware for each kind of web framework, which says who is acting in a request.

    django.py    Django, sync and async: whoever is signed in, or what the setting KM_PERSON says
    wsgi.py      Flask and everything else that speaks WSGI
    asgi.py      FastAPI, Starlette and everything else that speaks ASGI; delivers at the end of the application's life
    parts.py     what these do while a response is streamed

Each is one short file that uses the library and is used by nothing in it. The person is asked for by the log call, and
only by one that names nobody (see `km_logging.identify`): inside the application, where sessions and logins are known.
"""
