"""The web application: three beacons that take anything, and an API to read what they took.

* ``/e``, ``/s``, ``/a`` answer 200 with the 1x1 GIF, whatever they are given, by any method, under any ``Host``.
* ``/`` and ``/api/*`` answer only under this machine's own names, and those that were allowed; see `hosts`. No answer
  has CORS headers, so a page on the web can neither read nor clear anything here.
* A request's query is taken out of its scope before anything else sees it: no log record or error can hold it.
"""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from km_logging.calls import KINDS, Problem
from km_logging.sandbox.checks import Received, receive
from km_logging.sandbox.hosts import hostname, refusal
from km_logging.sandbox.query import MAX_QUERY
from km_logging.sandbox.store import Store
from km_logging.sandbox.stream import events, resumed
from km_logging.wire import PATHS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GIF", "create_app"]

#: One transparent pixel.
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

#: Between comments on a silent stream, in seconds.
HEARTBEAT = 15.0

_ID = re.compile("[0-9]{1,18}")
_FORM = "application/x-www-form-urlencoded"
_EVENTS = "text/event-stream"
_BAD_BODY = Problem("bad_body", "the body is no urlencoded form, and is ignored", f"send the parameters as {_FORM}")

_WELCOME = """\
This is the km_logging sandbox, a local stand-in for Kissmetrics' tracking server.

  /e /s /a        take calls as Kissmetrics does: point KM_ENDPOINT at this server
  /api/calls      what was received, oldest first, sound or not; ?kind= ?person= ?name= ?since= ?after= choose;
                  DELETE forgets it
  /api/problems   what is wrong with it
  /api/stream     each call as it comes (server-sent events)

Calls held: {held:,}, at most {capacity:,}; {forgotten:,} older ones are forgotten.
"""


def create_app(
    store: Store,
    allow_hosts: Iterable[str] = (),
    *,
    clock: Callable[[], float] = time.time,
    heartbeat: float = HEARTBEAT,
) -> Starlette:
    """The application of one sandbox.

    Args:
        store: where calls are kept; closing it ends the open streams.
        allow_hosts: names beside this machine's own under which ``/`` and ``/api/*`` answer.
        clock: Unix time in seconds.
        heartbeat: seconds between comments on a silent stream.
    """
    api = _Api(store, heartbeat)
    beacons = [Route(path, _Beacon(store, kind, clock)) for kind, path in PATHS.items()]
    pages = [
        Route("/", api.welcome),
        Route("/api/calls", api.calls, methods=["GET"]),
        Route("/api/calls", api.clear, methods=["DELETE"]),
        Route("/api/problems", api.problems),
        Route("/api/stream", api.stream),
    ]
    guard = Middleware(_Guard, allowed=frozenset(map(hostname, allow_hosts)))
    app = Starlette(routes=[*beacons, *pages], middleware=[guard])
    app.router.redirect_slashes = False  # it would send the query, key included, back in a Location header
    return app


class _Guard:
    """Refuses other machines' names, but for the beacons; sees to the headers that every answer has."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["cache-control"] = "no-store"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self._answer(scope)(scope, receive, send_guarded)

    def _answer(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http" or scope["path"] in PATHS.values():
            return self._app
        refused = refusal(Headers(scope=scope).get("host", ""), self._allowed)
        return self._app if refused is None else PlainTextResponse(refused, status_code=403)


class _Beacon:
    """One of ``/e``, ``/s``, ``/a``."""

    def __init__(self, store: Store, kind: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._kind = kind
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope["query_string"]
        scope["query_string"] = b""
        body = await _body(receive)
        if body is None:
            return
        self._store.add(self._received(query, body, Headers(scope=scope).get("content-type", _FORM)))
        await Response(GIF, media_type="image/gif")(scope, receive, send)

    def _received(self, query: bytes, body: bytes, content_type: str) -> Received:
        is_form = content_type.partition(";")[0].strip().lower() == _FORM
        received = receive(self._kind, query + b"&" + body if is_form else query, self._clock())
        return received if is_form or not body else replace(received, problems=(*received.problems, _BAD_BODY))


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


class _Api:
    """What ``/`` and ``/api/*`` answer."""

    def __init__(self, store: Store, heartbeat: float) -> None:
        self._store = store
        self._heartbeat = heartbeat

    async def welcome(self, _request: Request) -> Response:
        held, capacity, forgotten = len(self._store.calls()), self._store.capacity, self._store.forgotten
        return PlainTextResponse(_WELCOME.format(held=held, capacity=capacity, forgotten=forgotten))

    async def calls(self, request: Request) -> Response:
        return JSONResponse({"calls": [call.as_dict() for call in self._chosen(request.query_params)]})

    async def clear(self, _request: Request) -> Response:
        self._store.clear()
        return JSONResponse({"calls": []})

    async def problems(self, request: Request) -> Response:
        problems: list[dict[str, object]] = []
        for call in self._chosen(request.query_params):
            problems += [
                {"kind": it.kind, "message": it.message, "remedy": it.remedy, "call": call.as_dict()}
                for it in call.problems
            ]
        return JSONResponse({"problems": problems})

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":  # there is no end to wait for without a body to read
            return Response(media_type=_EVENTS)
        seen = request.headers.get("last-event-id") or request.query_params.get("after")
        after = resumed(self._store, None if seen is None else _whole("after", seen))
        return StreamingResponse(events(self._store, after, self._heartbeat), media_type=_EVENTS)

    def _chosen(self, query: QueryParams) -> Iterator[Received]:
        """The calls that a query asks for."""
        kind, person, name = query.get("kind"), query.get("person"), query.get("name")
        if kind is not None and kind not in KINDS:
            raise HTTPException(400, f"400: kind is one of {', '.join(KINDS)}\n")
        since = _seconds("since", query.get("since", "0"))
        return (
            call
            for call in self._store.calls(_whole("after", query.get("after", "0")))
            if call.received_at >= since
            and kind in {None, call.kind}
            and person in {None, call.person}
            and (name is None or (call.name is not None and call.name.lower() == name.lower()))
        )


def _whole(name: str, text: str) -> int:
    if not _ID.fullmatch(text):
        raise HTTPException(400, f"400: {name} is the id of a call, a whole number\n")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise HTTPException(400, f"400: {name} is Unix time in seconds\n")
    return seconds
