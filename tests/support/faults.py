"""A server with the faults of a bad day: raw sockets on loopback, and a behaviour that a test switches at any time."""

from __future__ import annotations

import math
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate

from support.raw import _TcpServer
from support.servers import GIF
from support.tracking import GUARD, person_of


@dataclass(frozen=True)
class Mode:
    """How the server behaves: an answer and the way it is sent, or what is done instead."""

    status: str = "200 OK"
    headers: str = "Content-Type: image/gif\r\n"  # {elsewhere}: where redirects lead; {date}: the end of `patience`
    body: bytes = GIF
    cut: int | None = None  # where the answer is cut off
    drip: float = 0.0  # seconds before each byte
    whole: bool = False  # the head comes at once, and only the body drips
    patience: float = 0.0  # seconds that the server wants to be left alone
    instead: str = ""


_STATUSES = ["400", "403", "413", "425", "429", "500", "502", "503"]

MODES = {
    "good": Mode(),
    "204": Mode("204 No Content", "", b""),
    "slow": Mode(drip=0.001),
    "refuses": Mode(instead="refuse"),
    "resets before reading": Mode(instead="reset before"),
    "resets after reading": Mode(instead="reset after"),
    "hangs": Mode(instead="hang"),
    "drips its status": Mode("200 " + "x" * 10_000, drip=0.02),
    "drips its headers": Mode(headers=f"X: {'x' * 10_000}\r\n", drip=0.02),
    "drips its body": Mode(body=b"x" * 100_000, drip=0.02, whole=True),
    "status cut off": Mode(cut=11),
    "body cut off": Mode(cut=-3),
    "301": Mode("301 Moved Permanently", "Location: {elsewhere}/e?_p=elsewhere\r\n", b""),
    "429 for seconds": Mode("429 Too Many Requests", "Retry-After: 1\r\n", patience=1.0),
    "429 until a date": Mode("429 Too Many Requests", "Retry-After: {date}\r\n", patience=1.0),
    "503 for seconds": Mode("503 Service Unavailable", "Retry-After: 1\r\n", patience=1.0),
    "408": Mode("408 Request Timeout", "Connection: close\r\n", b"late"),
    **{status: Mode(f"{status} No", "Content-Type: text/plain\r\n", b"no") for status in _STATUSES},
    "a page": Mode("200 OK", "Content-Type: text/html\r\n", b"<!DOCTYPE html><title>Sign in</title>"),
}


@dataclass(frozen=True)
class Seen:
    """A request that was read: in which mode, when, and when the server had wanted it at the earliest (Unix time)."""

    mode: str
    target: str
    at: float
    wanted: float


class FaultServer:
    """Keeps its port, and behaves as its mode says, from the next request on.

    Args:
        mode: one of `MODES`, to begin with.
        elsewhere: where its redirects lead.
        context: for TLS.
    """

    def __init__(self, mode: str = "good", elsewhere: str = "", context: ssl.SSLContext | None = None) -> None:
        self.mode, self.elsewhere, self.context = mode, elsewhere, context
        #: How often a client met each mode, whether a request was read or not; nobody is seen while it refuses.
        self.met: Counter[str] = Counter()
        self.seen: list[Seen] = []
        self.open: set[socket.socket] = set()
        self._wanted = 0.0
        self._lock = threading.Lock()  # guards `met`, `seen` and `_wanted`
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._server = _Server(self, 0)
        self.port: int = self._server.server_address[1]
        self.endpoint = f"http{'s' if context else ''}://127.0.0.1:{self.port}"

    def become(self, mode: str) -> None:
        """Switch to another mode; who refuses also breaks off what is open."""
        self.mode, listens = mode, MODES[mode].instead != "refuse"
        if listens and self._thread is None:
            self._server.server_activate()
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
            self._thread.start()
        elif not listens and self._thread is not None:
            self._go_away()
            self._server = _Server(self, self.port)  # keeps the port, and does not listen

    def people(self, *modes: str) -> Counter[str]:
        """Whom the requests told of that were read in these modes."""
        return Counter(person_of(seen.target) for seen in list(self.seen) if seen.mode in modes)

    def __enter__(self) -> FaultServer:
        self.become(self.mode)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._go_away()

    def _go_away(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        new = True
        with suppress(OSError):
            while self._serve_one(connection, new=new):
                new = False
        connection.close()
        self.open.discard(connection)

    def _serve_one(self, connection: socket.socket, *, new: bool) -> bool:
        """Read a request and reply; false if that is the end of the connection."""
        target = "" if new and MODES[self.mode].instead == "reset before" else _read(connection)
        if target is None:
            return False
        with self._lock:
            name = self.mode
            self.met[name] += 1
            if target:
                self.seen.append(Seen(name, target, time.time(), self._wanted))
        mode = MODES[name]
        if mode.instead == "hang":
            return bool(connection.recv(1))
        if mode.instead:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False  # and with that to close is to reset
        answer, at_once = self._answer(mode)
        connection.sendall(answer[:at_once])
        for at in range(at_once, len(answer)):
            if self._stopped.wait(mode.drip):
                return False
            connection.sendall(answer[at : at + 1])
        return mode.cut is None

    def _answer(self, mode: Mode) -> tuple[bytes, int]:
        """What to send, and how much of it at once."""
        moment = time.time() + mode.patience
        if mode.patience:
            with self._lock:
                moment = math.ceil(moment) if "{date}" in mode.headers else moment
                self._wanted = max(self._wanted, moment)
        headers = mode.headers.format(elsewhere=self.elsewhere, date=formatdate(moment, usegmt=True))
        head = f"HTTP/1.1 {mode.status}\r\n{headers}Content-Length: {len(mode.body)}\r\n\r\n".encode()
        answer = (head + mode.body)[: mode.cut]
        return answer, (len(head) if mode.whole else 0) if mode.drip else len(answer)


class _Server(_TcpServer):
    """Has its port from the beginning, and listens once it is activated."""

    request_queue_size = 128

    def __init__(self, faults: FaultServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), None, bind_and_activate=False)
        self._faults = faults
        self.server_bind()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(2 * GUARD)
        if self._faults.context:  # the handshake takes place in the thread of the connection
            connection = self._faults.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._faults.open.add(connection)
        return connection, address

    def finish_request(self, request: socket.socket, _address: object) -> None:
        self._faults.serve(request)


def _read(connection: socket.socket) -> str | None:
    """The target of the next request; None if there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(65_536)
        if not received:
            return None
        head += received
    return head.split(b" ")[1].decode()
