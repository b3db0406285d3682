"""The sandbox as something to start and stop: in a thread for tests, in the foreground for the command.

The socket listens before anything else happens, so an address that cannot be had is an error for the caller, and a
port given as 0 is known before the first request.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from km_logging.errors import MissingExtraError, SettingsError
from km_logging.sandbox.checks import Received
from km_logging.sandbox.hosts import exposure
from km_logging.sandbox.store import CAPACITY, WAIT, Store

if TYPE_CHECKING:
    from typing_extensions import Self

    from km_logging.sandbox.engine import Engine

__all__ = ["KEPT_CAPACITY", "Sandbox", "serve"]

#: How many calls are held where a file keeps them, unless another number is given.
KEPT_CAPACITY = 100_000


class Sandbox:
    """A tracking server on this machine; a context manager that starts and stops it. Runs once.

    Example::

        with Sandbox() as sandbox:
            tracker = km.Tracker(api_key="any", endpoint=sandbox.endpoint)
            tracker.event("bob", "Signed Up")
            [call] = sandbox.wait(1, timeout=10)

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allow_hosts: names beside this machine's own under which the pages and ``/api/*`` answer.
        db: a file that keeps the calls from one start to the next; None keeps them in memory only. It is made at the
            start if it is not there, and no other sandbox may use it at the same time.
        capacity: how many calls are held; None for `CAPACITY` in memory, `KEPT_CAPACITY` with ``db``.

    Attributes:
        store: where the calls are held.
        warning: what to know before listening on ``host``, or None.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_hosts: Iterable[str] = (),
        db: str | os.PathLike[str] | None = None,
        capacity: int | None = None,
    ) -> None:
        if capacity is None:
            capacity = CAPACITY if db is None else KEPT_CAPACITY
        self.store = Store(capacity)
        self._db = db
        self.warning = exposure(host)
        self._address = host, port
        #: An address that somebody chose to listen on is a name of this machine.
        self._allow_hosts = (*allow_hosts, f"[{host}]" if ":" in host else host)
        self._endpoint: str | None = None
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._endpoint or 'not started'}, {len(self.calls)} calls>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """What to give as the setting ``endpoint``, such as ``http://127.0.0.1:8123``.

        Raises:
            RuntimeError: the sandbox has not been started.
        """
        if self._endpoint is None:
            raise RuntimeError("the sandbox has no address yet: start it first")
        return self._endpoint

    @property
    def calls(self) -> list[Received]:
        """The calls received, sound or not, oldest first; also after the end."""
        return self.store.calls()

    def wait(self, n: int = 1, timeout: float | None = WAIT) -> list[Received]:
        """Wait until ``n`` calls have been received, at most ``timeout`` seconds; see `Store.wait`."""
        return self.store.wait(n, timeout)

    def start(self) -> None:
        """Serve in a background thread; returns when connections are accepted.

        Raises:
            MissingExtraError: the extra ``sandbox`` is not installed.
            SettingsError: the address cannot be listened on, or ``db`` not be used.
        """
        ready: Future[None] = Future()
        listener, engine = self._open(lambda: ready.set_result(None))

        def serve_until_stopped() -> None:
            try:
                self._run(engine, listener)
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = threading.Thread(target=serve_until_stopped, name="km_logging-sandbox", daemon=True)
        self._thread.start()
        ready.result()

    def run(self, on_ready: Callable[[str], object] | None = None) -> None:
        """Serve in this thread until Ctrl-C, SIGTERM, or `stop` in another one.

        Args:
            on_ready: called with the endpoint once connections are accepted.

        Raises:
            MissingExtraError: the extra ``sandbox`` is not installed.
            SettingsError: the address cannot be listened on, or ``db`` not be used.
        """
        listener, engine = self._open(lambda: on_ready(self.endpoint) if on_ready is not None else None)
        self._run(engine, listener)

    def stop(self) -> None:
        """End what is under way, streams too, within a second or so; the calls stay."""
        if self._engine is not None:
            self._engine.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _open(self, on_ready: Callable[[], object]) -> tuple[socket.socket, Engine]:
        if self._engine is not None:
            raise RuntimeError("a sandbox runs once: make another one")
        try:
            from km_logging.sandbox.app import create_app
            from km_logging.sandbox.engine import Engine
        except ModuleNotFoundError as error:
            raise MissingExtraError("km-logging sandbox", "sandbox") from error
        listener = _listen(*self._address)
        try:
            self._keep()
        except BaseException:
            listener.close()
            raise
        self._endpoint = _endpoint(listener)
        self._engine = Engine(create_app(self.store, self._allow_hosts), on_ready, on_stop=self.store.close)
        return listener, self._engine

    def _keep(self) -> None:
        if self._db is None:
            return
        from km_logging.sandbox.kept import CallFile

        file = CallFile(self._db)
        try:
            self.store.keep_in(file)
        except BaseException:
            file.close()
            raise

    def _run(self, engine: Engine, listener: socket.socket) -> None:
        try:
            with listener:
                engine.run([listener])
        finally:
            self.store.let_go()


def serve(
    host: str = "127.0.0.1",
    port: int = 8123,
    *,
    allow_hosts: Iterable[str] = (),
    db: str | os.PathLike[str] | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Run a sandbox in this thread until Ctrl-C or SIGTERM; warns on stderr if other machines can reach it.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allow_hosts: names beside this machine's own under which the pages and ``/api/*`` answer.
        db: a file that keeps the calls from one start to the next; None keeps them in memory only.
        on_ready: called with the endpoint once connections are accepted.

    Raises:
        MissingExtraError: the extra ``sandbox`` is not installed.
        SettingsError: the address cannot be listened on, or ``db`` not be used.
    """
    sandbox = Sandbox(host, port, allow_hosts=allow_hosts, db=db)
    if sandbox.warning is not None:
        sys.stderr.write(sandbox.warning + "\n")
    sandbox.run(on_ready)


def _listen(host: str, port: int) -> socket.socket:
    if port not in range(65_536):  # the system would take it for another one, silently
        raise SettingsError(f"the sandbox cannot listen on port {port}: choose one up to 65535, or 0 for a free one")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        message = f"the sandbox cannot listen on {host}:{port} ({error}): choose another host or port"
        raise SettingsError(message) from error
    # Connections inherit it. Without, an answer's head and body, sent one after the other, wait 40 ms for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _endpoint(listener: socket.socket) -> str:
    """The URL at which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not listened on, replaced
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
