"""What is ours in an HTTP connection of urllib3's: a query that nobody logs, an answer in time, and an end at a fork.

Nothing here imports urllib3: its connections become ours where `requests` takes them from its pool.
"""

from __future__ import annotations

import io
import os
import socket
import time
import weakref
from contextvars import ContextVar
from typing import Any

__all__ = ["Bounding", "OurConnection", "patience_of_thread", "query_of_thread", "sever"]

#: What the connection adds to this thread's request. Context variables, as in `guard`.
query_of_thread: ContextVar[str] = ContextVar("km_logging_query", default="")

#: Seconds that an answer to this thread's request may take; 0 if the request is not ours.
patience_of_thread: ContextVar[float] = ContextVar("km_logging_patience", default=0.0)


class OurConnection:
    """A connection that adds the query of this thread's request, below everything that logs or raises.

    And whose answer comes in time, or not at all.

    Attributes:
        is_plain: whether it is otherwise urllib3's own, and leads to the server itself, or through a tunnel.
    """

    is_plain = False

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
            _sockets.add(self.sock)  # type: ignore[attr-defined]
        finally:
            _shaking_hands.pop(self, None)

    def _new_conn(self) -> Any:
        """What `connect` has urllib3 do first; in a greenlet of a forked child's parent it is the last as well."""
        process = os.getpid()
        sock = super()._new_conn()  # type: ignore[misc]
        if os.getpid() != process:
            sock.close()
            raise ConnectionAbortedError
        _shaking_hands[self] = sock.fileno()
        return sock

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        query = query_of_thread.get()
        query_of_thread.set("")
        super().putrequest(method, f"{url}?{query}" if query else url, *args, **options)  # type: ignore[misc]

    def response_class(self, sock: Any, *args: Any, **options: Any) -> Any:
        """What `http.client` makes for each answer, also for a proxy's to CONNECT."""
        response = super().response_class(sock, *args, **options)  # type: ignore[misc]
        if patience_of_thread.get() and isinstance(response.fp, io.BufferedReader):
            response.fp = io.BufferedReader(_Bounded(response.fp.detach(), sock, patience_of_thread.get()))
        return response


#: The sockets of all connections.
_sockets: weakref.WeakSet[Any] = weakref.WeakSet()

#: The descriptors of those that are agreeing on TLS, or with a proxy: until then nobody else knows the socket.
_shaking_hands: dict[object, int] = {}


def sever() -> None:
    """Have the copies of all sockets lead nowhere, in a forked child; the server is told nothing by that.

    gevent's greenlets go on in the child, and would take the answers of the parent's.
    """
    nowhere, elsewhere = socket.socketpair()
    nowhere.shutdown(socket.SHUT_RDWR)  # closing it is not enough: gevent does that later
    for number in {*_shaking_hands.values(), *(sock.fileno() for sock in _sockets)}:
        if number >= 0:  # it is not closed
            os.dup2(nowhere.fileno(), number, inheritable=False)
    nowhere.close()
    elsewhere.close()
    _sockets.clear()


class Bounding:
    """What `http.client` reads an answer from: a socket, and its bytes in time."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Bounded(self._sock.makefile("rb", buffering=0), self._sock, patience_of_thread.get()))


class _Bounded(io.RawIOBase):
    """What arrives at a socket until a moment; the socket's own timeout is for each read of it.

    Args:
        raw: reads from the socket.
        sock: the socket.
        seconds: from now.
    """

    def __init__(self, raw: io.RawIOBase, sock: Any, seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._usual = sock.gettimeout()
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        if self._usual is None or left < self._usual:  # which the next request on this connection sets again
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
