"""ASGI: the person of each request, for FastAPI, Starlette and everything else that speaks it. Imports no framework.

uvicorn ends its workers by a signal, so that nothing runs at their exit. What was logged until the last request had
been answered is therefore delivered at the end of the application's life, which the server announces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from km_logging.identity import identify
from km_logging.process import drain_now
from km_logging.settings import as_callable

__all__ = ["KissmetricsMiddleware"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class KissmetricsMiddleware:
    """Identifies the person of each request or websocket: ``app.add_middleware(KissmetricsMiddleware, person=...)``.

    Args:
        app: the ASGI application.
        person: takes the scope; returns str, int or UUID, or None. Asked by each tracked call that names nobody, so
            it sees what the application and the middlewares further in have put there. None: identify nobody.
    """

    def __init__(self, app: App, person: Callable[[Scope], object] | None = None) -> None:
        self._app = app
        self._person = None if person is None else as_callable("person", person)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, serve one websocket, or live."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._person is None:
            await self._app(scope, receive, send)
        else:
            with identify(partial(self._person, scope)):
                await self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The life that the application has, or one of ours: Django refuses one, others return at once."""
        heard: list[Message] = []

        async def hear() -> Message:
            heard.append(await receive())
            return heard[-1]

        async def say(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                drain_now()  # nobody is served any more; and asyncio is not the only loop
            await send(message)

        try:
            await self._app(scope, hear, say)
        except Exception:
            if heard:
                raise
        for moment in () if heard else ("startup", "shutdown"):
            await receive()
            await say({"type": f"lifespan.{moment}.complete"})
