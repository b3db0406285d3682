"""A real Redis server on a free port of loopback, and a line to it that a test can cut."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import redis

from km_logging.addresses import StreamAddress, parse_outbox
from support.network import Host
from support.system import need
from support.tracking import GUARD

#: Every command is on the disk before it is answered.
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class RedisServer:
    """One server, which keeps its port and its folder over restarts.

    Args:
        folder: where it keeps what it keeps.
        options: of its command line, such as `ALWAYS`.
        speaks_tls: whether its port is one for TLS.
        on: the host that it runs on, if not on this one.
    """

    def __init__(self, folder: Path, *options: str, speaks_tls: bool = False, on: Host | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        ports = ["--port", "0", "--tls-port"] if speaks_tls else ["--port"]
        self.host = on.address if on else "127.0.0.1"
        command = [need("redis-server"), *ports, str(self.port), "--bind", self.host, "--save", "", *options]
        self._command = on.command(*command) if on else command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """What to give as `outbox`."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def where(self) -> StreamAddress:
        """The same, parsed."""
        return at(self.address)

    def start(self) -> None:
        """Start it, with what it has kept, and wait until it answers."""
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + GUARD
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < end, "redis-server is not ready"
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        if "--tls-port" in self._command:  # nobody here could ask it
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False
        with suppress(redis.RedisError), self.client() as client:
            return client.ping()
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(GUARD)
            self._process = None

    def pause(self) -> None:
        """Have it answer nothing, while connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of the tests' own."""
        return redis.Redis(host=self.host, port=self.port, decode_responses=True, protocol=2)

    def keep_from_writing(self) -> None:
        """Have it refuse every change, as a replica does whose primary is gone."""
        with self.client() as client:
            client.replicaof("127.0.0.1", 1)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Have its memory be full, so that it refuses what would take more."""
        with self.client() as client:
            client.config_set("maxmemory", "1mb")
            try:
                yield
            finally:
                client.config_set("maxmemory", "0")

    def let_write(self) -> None:
        """Have it be its own primary again."""
        with self.client() as client:
            client.replicaof("NO", "ONE")


def at(address: str, **options: object) -> StreamAddress:
    """A stream by its address and options."""
    return parse_outbox("outbox", f"{address}?{urlencode(options)}")


def grow_old(server: RedisServer, consumer: str, stream: str = "km") -> None:
    """Let time pass for a consumer that is dead: what is in its hands seems idle for long."""
    with server.client() as client, suppress(redis.ResponseError):  # there may be no group
        held = client.xpending_range(stream, "km_logging", "-", "+", 10_000, consumername=consumer)
        if held:
            ids = [entry["message_id"] for entry in held]
            client.xclaim(stream, "km_logging", consumer, 0, ids, idle=3_600_000, justid=True)


class Cable:
    """A TCP proxy in front of a server, on a port of its own: plugged in, cut off, or dead but still connected.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._is_cut = self._is_dead = False
        self._lock = threading.Lock()  # guards all above
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Cable:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(GUARD)
        with self._lock:
            self._drop_all()
        self._listener.close()
        self._selector.close()

    @property
    def address(self) -> str:
        """What to give as `outbox`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Break off every connection, and refuse new ones."""
        with self._lock:
            self._is_cut = True
            self._drop_all()

    def die(self) -> None:
        """Pass nothing on, in either direction, and say nothing of it."""
        with self._lock:
            self._is_dead = True

    def mend(self) -> None:
        """Be as before. What was passed to a dead one is lost, with its connection."""
        with self._lock:
            if self._is_dead:
                self._drop_all()
            self._is_cut = self._is_dead = False

    def _run(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.02):
                with self._lock, suppress(OSError):
                    self._serve(key.fileobj)

    def _serve(self, ready: socket.socket) -> None:
        if ready is self._listener:
            near, _ = self._listener.accept()
            if self._is_cut:
                near.close()
                return
            self._join(near, socket.create_connection(("127.0.0.1", self._target), timeout=GUARD))
        elif ready in self._pairs and not self._is_dead:
            self._pass_on(ready, self._pairs[ready])
        elif ready in self._pairs:
            self._stopped.wait(0.005)  # what comes stays where it is

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        for one, other in [(near, far), (far, near)]:
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            received = one.recv(65_536)
            other.sendall(received)
        except OSError:
            received = b""
        if not received:
            self._drop(one)

    def _drop_all(self) -> None:
        for one in list(self._pairs):
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is not None:
            self._pairs.pop(other, None)
            for end in (one, other):
                self._selector.unregister(end)
                end.close()
