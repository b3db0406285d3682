"""WSGI: the person of each request, for Flask and everything else that speaks it. Imports no framework.

The person is bound wherever the application's code runs until the server closes the response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from km_logging.contrib.parts import Parts
from km_logging.identity import identify
from km_logging.settings import as_callable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["KissmetricsMiddleware"]


class KissmetricsMiddleware:
    """Identifies the person of each request: ``app.wsgi_app = KissmetricsMiddleware(app.wsgi_app, person=...)``.

    Args:
        app: the WSGI application.
        person: takes the request's environ; returns str, int or UUID, or None. Asked by each tracked call that names
            nobody, where it is made: inside Flask's request, so that ``lambda environ: session.get("user")`` will do.
            While a response is streamed that holds only for what Flask's ``stream_with_context`` encloses.
    """

    def __init__(self, app: WSGIApplication, person: Callable[[WSGIEnvironment], object]) -> None:
        self._app = app
        self._person = as_callable("person", person)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        person = identify(partial(self._person, environ))
        with person:
            parts = self._app(environ, start_response)
        file_wrapper = environ.get("wsgi.file_wrapper")
        is_file = isinstance(file_wrapper, type) and isinstance(parts, file_wrapper)
        # For a list or a file no code of the application runs, and a server sends them in ways of its own.
        return parts if is_file or isinstance(parts, list | tuple) else Parts(parts, person)
