"""Servers below HTTP: one that answers with whatever bytes a test gives, and a proxy."""

from __future__ import annotations

import http.client
import selectors
import socket
import socketserver
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from support.servers import GIF

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: %d\r\n\r\n%b" % (len(GIF), GIF)


class _Served:
    """Serves in a thread of its own from `__enter__` to `__exit__`."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RawServer(_Served):
    """Answers one request a connection with bytes, and hangs up.

    Args:
        answers: the bytes for the first requests; later ones get the GIF.
    """

    def __init__(self, *answers: bytes) -> None:
        #: The first line of each request.
        self.requests: list[str] = []
        left, outer = deque(answers), self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                first = self.rfile.readline().decode()
                while self.rfile.readline().strip():
                    pass
                if first:
                    outer.requests.append(first.strip())
                    self.wfile.write(left.popleft() if left else GOOD)

        super().__init__(_TcpServer(("127.0.0.1", 0), Handler))


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


class Proxy(_Served):
    """An HTTP proxy: forwards what is asked for by its whole URL, and tunnels what is asked to be connected."""

    def __init__(self) -> None:
        #: Method and target of each request, as the client wrote them.
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(("GET", self.path))
                url = urlsplit(self.path)
                if not url.hostname:
                    self.send_error(400, "a proxy needs the whole URL")
                    return
                origin = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
                origin.request("GET", self.path.partition(url.netloc)[2], headers={"Via": "1.1 test"})
                answer = origin.getresponse()
                body = answer.read()
                origin.close()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_CONNECT(self) -> None:
                outer.asked.append(("CONNECT", self.path))
                host, _, port = self.path.partition(":")
                with socket.create_connection((host, int(port)), timeout=10) as origin:
                    self.send_response(200)
                    self.end_headers()
                    _pump(self.connection, origin)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Quiet."""

        super().__init__(_HttpServer(("127.0.0.1", 0), Handler))


class _HttpServer(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


def _pump(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select(10):
                data = key.fileobj.recv(65_536)
                if not data:
                    return
                key.data.sendall(data)
