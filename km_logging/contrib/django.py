"""Django: the person of each request, sync and async. Django is imported when it makes the middleware, not before.

A log call in an asynchronous view cannot wait for a query: before such a view the person is asked for once, for what
Django keeps of the answer. Otherwise only a call that names nobody costs a query, and only the first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from km_logging.contrib.parts import AsyncParts, Parts
from km_logging.identity import identify
from km_logging.settings import as_callable

__all__ = ["KissmetricsMiddleware", "user_of"]


def user_of(request: Any) -> object:
    """The primary key of whoever is signed in, at this moment; None if nobody is."""
    user = getattr(request, "user", None)
    return user.pk if user is not None and user.is_authenticated else None


class KissmetricsMiddleware:
    """Identifies the person of each request. Stands in MIDDLEWARE, after Django's AuthenticationMiddleware.

    The setting ``KM_PERSON``, else `user_of`, says who that is: a callable, or the dotted path of one, that takes the
    request and returns str, int or UUID, or None.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction
        from django.conf import settings

        self._person = as_callable("KM_PERSON", getattr(settings, "KM_PERSON", user_of))
        self._get_response = get_response
        self._is_async = iscoroutinefunction
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer one request: returns the response, or under an event loop what is awaited for it."""
        person = identify(partial(self._person, request))
        if self._is_async(self):
            return self._respond(request, person)
        with person:
            return _bound(self._get_response(request), person)

    async def _respond(self, request: Any, person: identify) -> Any:
        with person:
            return _bound(await self._get_response(request), person)

    def process_view(self, request: Any, view: object, *_: object) -> None:
        """Ask before an asynchronous view; Django calls this where it may wait."""
        if self._is_async(view):
            with suppress(Exception):  # it may be known only in the view
                self._person(request)


def _bound(response: Any, person: identify) -> Any:
    """The response, with the person bound while it is streamed; but a file is sent by servers in their own ways."""
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        parts = AsyncParts if response.is_async else Parts
        response.streaming_content = parts(response.streaming_content, person)
    return response
