"""A real HTTP server on loopback that records what reaches it and answers as a test tells it to."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b")


@dataclass
class Reply:
    """How to answer one request.

    Attributes:
        status: the HTTP status.
        headers: more headers.
        body: what follows them.
        delay: seconds before the answer.
        hang_up: close the connection without an answer.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "image/gif"})
    body: bytes = GIF
    delay: float = 0.0
    hang_up: bool = False


class TrackingServer:
    """Records every request target, in order of arrival.

    Args:
        reply: takes the number of the request (0, 1, ..) and its target; returns the `Reply`.
        port: 0 for a free one.
        host: the address to listen on.
        idle: after so many seconds without a request a connection is closed; None: never.
    """

    def __init__(
        self,
        reply: Callable[[int, str], Reply] = lambda _number, _target: Reply(),
        port: int = 0,
        host: str = "127.0.0.1",
        idle: float | None = None,
    ) -> None:
        self.targets: list[str] = []
        self.arrivals: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.closed_connections = 0
        self.idle = idle
        self._reply = reply
        self._changed = threading.Condition()
        self._server = _Server((host, port), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def endpoint(self) -> str:
        """What to give as `endpoint`."""
        return f"http://{self._server.server_address[0]}:{self.port}"

    @property
    def queries(self) -> list[list[tuple[str, str]]]:
        """The decoded parameters of each request."""
        return [parse_qsl(target.partition("?")[2], keep_blank_values=True) for target in list(self.targets)]

    def arrived(self, target: str, headers: dict[str, str]) -> Reply:
        with self._changed:
            number = len(self.targets)
            self.targets.append(target)
            self.arrivals.append(time.monotonic())
            self.headers.append(headers)
            self._changed.notify_all()
        return self._reply(number, target)

    def wait(self, count: int, timeout: float = 30.0) -> list[str]:
        """Wait until ``count`` requests have arrived, and return their targets."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.targets) >= count, timeout), self.targets
            return list(self.targets)

    def __enter__(self) -> TrackingServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle of an answer is part of the tests."""


def _handler_of(server: TrackingServer) -> type[socketserver.BaseRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = server.idle

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def finish(self) -> None:
            super().finish()
            server.closed_connections += 1

        def do_GET(self) -> None:
            reply = server.arrived(self.path, dict(self.headers))
            if reply.delay:
                threading.Event().wait(reply.delay)
            if reply.hang_up:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


@contextmanager
def refused() -> Iterator[str]:
    """An endpoint at which nothing listens, while the port stays reserved."""
    import socket

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"
