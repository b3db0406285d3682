"""uvicorn, with three things of its own: it takes odd requests, logs none of them, and stops at once.

* Browsers, curl and people send bytes in a URL as they are, spaces and what is above ASCII among them; h11 refuses
  them. They are quoted before h11 sees them, so that they reach the beacons. What is no HTTP at all is still answered
  with 400, by uvicorn.
* Logging is switched off for our own connections, not by ``access_log=False``: that would silence the loggers of
  uvicorn, which are global, under an application that runs in the same process.
* Before it waits for connections to end, open streams are told to end; what has not after a moment is cut.

Imports uvicorn at the top, so this module is imported only when a sandbox starts.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Engine", "mended"]

#: How long requests under way may take after the server was told to stop, in seconds.
GRACE = 1.0

#: Longest head of a request, in bytes: far beyond what is looked at, so that long queries are answered too.
MAX_HEAD = 1_048_576

#: How long a connection may be silent between two requests, in seconds; a sender that is idle for less reuses it.
KEEP_ALIVE = 60

#: What stands between method and version, taken for the target whatever it is; a line may end without the version.
_REQUEST_LINE = re.compile(rb"(?P<method>[^ ]+) (?P<target>.*?)(?P<version>(?: HTTP/[0-9.]+)?\r?)", re.DOTALL)
_UNQUOTED = re.compile(rb"[^\x21-\x7e]")


def mended(data: bytes) -> bytes:
    """The data with its first line as HTTP wants it, whatever bytes its target is made of.

    >>> mended("GET /e?_p=Zo\u00eb B HTTP/1.1".encode())
    b'GET /e?_p=Zo%C3%AB%20B HTTP/1.1'
    """
    line, end, rest = data.partition(b"\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return data
    # After CONNECT, a connection is no longer one of HTTP; here it is a method like any other.
    method = b"GET" if found["method"] == b"CONNECT" else found["method"]
    target = _UNQUOTED.sub(lambda byte: b"%%%02X" % byte[0][0], found["target"])
    return method + b" " + target + found["version"] + end + rest


class _Protocol(H11Protocol):
    """One connection."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        # Not config.loaded_app: where the root logger's level is very low, that logs whole scopes, queries included.
        self.app = config.app
        self.access_log = False

        self._line = b""  # of a request, as far as it has come

    def data_received(self, data: bytes) -> None:
        is_line = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]  # and not what comes behind it
        if is_line:
            self._line += data
            if b"\n" not in self._line and len(self._line) <= MAX_HEAD:
                return
            data, self._line = mended(self._line), b""
        super().data_received(data)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep what uvicorn says of this server out of the application's logs, but for errors: its logger is global."""
    logger, own = logging.getLogger("uvicorn.error"), threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != own or record.levelno >= logging.ERROR

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


class Engine(uvicorn.Server):
    """Runs one application.

    Args:
        app: the application.
        on_ready: called once connections are accepted, in the thread that serves.
        on_stop: called when the server begins to stop, to end what would go on for ever.
    """

    def __init__(self, app: Starlette, on_ready: Callable[[], object], on_stop: Callable[[], object]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_keep_alive=KEEP_ALIVE,
            ),
        )
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is told to stop."""
        with _unlogged():
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End everything within `GRACE`."""
        self._on_stop()
        impatience = asyncio.get_running_loop().call_later(GRACE, self._cut)
        await super().shutdown(sockets)
        impatience.cancel()

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C and SIGTERM; unlike uvicorn, do not raise them again afterwards: we were asked, and did."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
