"""Where applications live: one short file for each host whose ways matter, used by nothing in the library.

    django.py       Django, sync and async: whoever is signed in, or what the setting KM_PERSON says
    wsgi.py         Flask and everything else that speaks WSGI
    asgi.py         FastAPI, Starlette and everything else that speaks ASGI; delivers at the end of the application
    parts.py        what these do while a response is streamed
    celery.py       the person goes along with a task; logging set up by a worker; the end of its processes
    rq.py           the person goes along with a job; a worker that delivers before its process ends by `os._exit`
    aws_lambda.py   a decorator that delivers before the process is frozen

Each imports its framework lazily, or not at all. The person of a request is asked for by the log call, and only by one
that names nobody (see `km_logging.identify`): inside the application, where sessions and logins are known.
"""
