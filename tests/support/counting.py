"""A lean tracking server that counts as Kissmetrics does: equal calls once. For many thousands of requests a second."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from support.servers import GIF

__all__ = ["CountingServer"]

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: %d\r\n\r\n" % len(GIF) + GIF


class CountingServer:
    """Counts request targets; a context manager that serves while it is open.

    Attributes:
        counted: each target, and how often it came.
        requests: how many there were in all.
    """

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.requests = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def endpoint(self) -> str:
        """What to give as `endpoint`."""
        return f"http://127.0.0.1:{self._port}"

    def arrived(self, targets: list[str]) -> None:
        with self._changed:
            self.counted.update(targets)
            self.requests += len(targets)
            self._changed.notify_all()

    def wait(self, requests: int, seconds: float) -> bool:
        """Wait until there were so many requests, or for so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.requests >= requests, seconds)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=256)
        self._server = self._loop.run_until_complete(serving)
        self._port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def __enter__(self) -> CountingServer:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _Connection(asyncio.Protocol):
    def __init__(self, server: CountingServer) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        if requests:
            self._server.arrived([request.split(b" ", 2)[1].decode() for request in requests])
            self._transport.write(_ANSWER * len(requests))
