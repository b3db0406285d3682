"""``/e``, ``/s``, ``/a`` answer 200 with the 1x1 GIF, whatever they are given, by any method.

A request's query is taken out of its scope before anything else sees it, so that no log record or error can hold it;
the same for ``/api/check/..``, which says what a beacon would find, and stores nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response

from km_logging.calls import Problem
from km_logging.sandbox.checks import Received, receive
from km_logging.sandbox.query import MAX_QUERY
from km_logging.sandbox.store import Store

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["GIF", "Beacon", "Check"]

#: One transparent pixel.
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

_FORM = "application/x-www-form-urlencoded"
_BAD_BODY = Problem("bad_body", "the body is no urlencoded form, and is ignored", f"send the parameters as {_FORM}")


class Beacon:
    """One of ``/e``, ``/s``, ``/a``."""

    def __init__(self, store: Store, kind: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._kind = kind
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and hold the call."""
        query = _taken_out(scope)
        body = await _body(receive)
        if body is None:
            return
        self._store.add(self._received(query, body, Headers(scope=scope).get("content-type", _FORM)))
        await Response(GIF, media_type="image/gif")(scope, receive, send)

    def _received(self, query: bytes, body: bytes, content_type: str) -> Received:
        is_form = content_type.partition(";")[0].strip().lower() == _FORM
        received = receive(self._kind, query + b"&" + body if is_form else query, self._clock())
        return received if is_form or not body else replace(received, problems=(*received.problems, _BAD_BODY))


class Check:
    """One of ``/api/check/event``, ``set`` and ``alias``: ``{"call": .., "problems": [..]}``."""

    def __init__(self, store: Store, kind: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._kind = kind
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what a beacon would find."""
        query = _taken_out(scope)
        await self._answer(scope["method"], query)(scope, receive, send)

    def _answer(self, method: str, query: bytes) -> Response:
        if method not in {"GET", "HEAD"}:
            return PlainTextResponse("Method Not Allowed", status_code=405, headers={"Allow": "GET, HEAD"})
        call = self._store.look(receive(self._kind, query, self._clock())).as_dict()
        return JSONResponse({"call": call, "problems": call["problems"]})


def _taken_out(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    scope["query_string"] = b""
    return query


async def _body(receive: Receive) -> bytes | None:
    """As much of the body as is looked at; None if the client has gone before it was sent."""
    body, more = b"", True
    while more and len(body) <= MAX_QUERY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
