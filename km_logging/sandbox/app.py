"""The web application: three beacons that take anything, an API to read what they took, and pages to look at it.

* ``/e``, ``/s``, ``/a`` answer under any ``Host`` and to pages of any origin: websites call them.
* Everything else answers only under this machine's own names, and those that were allowed; ``/api/..`` only to pages
  of this server, if to pages; see `hosts`. No answer has CORS headers, so a page on the web can neither read nor clear
  anything here, and none of ours can load or ask anything elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from km_logging.sandbox.api import Api
from km_logging.sandbox.assets import Asset, assets
from km_logging.sandbox.beacons import Beacon, Check
from km_logging.sandbox.hosts import foreign, hostname, refusal
from km_logging.sandbox.store import Store
from km_logging.wire import PATHS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["create_app"]

#: Between comments on a silent stream, in seconds.
HEARTBEAT = 15.0

#: What every answer says to browsers.
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_BEACON_HEADERS = _HEADERS | {"cross-origin-resource-policy": "cross-origin"}
_PAGE_HEADERS = _HEADERS | {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


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
        allow_hosts: names beside this machine's own under which the pages and ``/api/*`` answer.
        clock: Unix time in seconds.
        heartbeat: seconds between comments on a silent stream.
    """
    api = Api(store, heartbeat)
    beacons = [Route(path, Beacon(store, kind, clock)) for kind, path in PATHS.items()]
    checks = [Route(f"/api/check/{kind}", Check(store, kind, clock)) for kind in PATHS]
    readings = [
        Route("/api/calls", api.calls, methods=["GET"]),
        Route("/api/calls", api.clear, methods=["DELETE"]),
        Route("/api/problems", api.problems),
        Route("/api/stream", api.stream),
        Route("/api/person", api.person),
        Route("/api/status", api.status),
    ]
    pages = [Route(path, _page(asset)) for path, asset in assets().items()]
    guard = Middleware(_Guard, allowed=frozenset(map(hostname, allow_hosts)))
    app = Starlette(routes=[*beacons, *checks, *readings, *pages], middleware=[guard])
    app.router.redirect_slashes = False  # it would send the query, key included, back in a Location header
    return app


def _page(asset: Asset) -> Endpoint:
    async def page(_request: Request) -> Response:
        return Response(asset.content, media_type=asset.media_type)

    return page


class _Guard:
    """Refuses who may not read, but for the beacons; sees to the headers that every answer has."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # another server than ours may ask for more
            await self._app(scope, receive, send)
            return
        is_beacon = scope["path"] in PATHS.values()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_BEACON_HEADERS if is_beacon else _PAGE_HEADERS)
            await send(message)

        refused = None if is_beacon else self._refusal(scope["path"], Headers(scope=scope))
        answer = self._app if refused is None else PlainTextResponse(refused, status_code=403)
        await answer(scope, receive, send_guarded)

    def _refusal(self, path: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        refused = refusal(host, self._allowed)
        if refused is not None or not path.startswith("/api"):
            return refused
        return foreign(headers.get("sec-fetch-site"), headers.get("origin"), host)
