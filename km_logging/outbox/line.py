"""How one process uses the server of a Redis outbox: it connects when it is needed, and lets it alone after a fault."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from km_logging.addresses import StreamAddress
from km_logging.calls import type_name
from km_logging.errors import MissingExtraError, OutboxError
from km_logging.importing import importing
from km_logging.policy import backoff

if TYPE_CHECKING:
    from km_logging.outbox.stream import Stream

__all__ = ["Line", "check_redis", "stream_at"]

#: How long to wait for the server, in seconds; meanwhile nothing else of the outbox goes on.
PATIENCE = 1.0

#: The same for one last try when there is no more time: several trackers may have one each.
LAST_PATIENCE = 0.25

#: How long a fork waits for what is under way, in seconds.
FORK_PATIENCE = 2.0

Result = TypeVar("Result")


def check_redis() -> None:
    """Raises MissingExtraError if redis-py is not installed."""
    if find_spec("redis") is None:
        raise MissingExtraError("a redis:// outbox", "redis")


def stream_at(address: StreamAddress, *, patience: float) -> Stream:
    """A connection; call it where an import may take its time.

    Raises:
        MissingExtraError: redis-py is not installed.
        OutboxError: the server cannot be used; says what to do about it.
    """
    check_redis()
    try:
        with importing:
            from km_logging.outbox.stream import Stream  # redis takes 100 ms to import
    except Exception as error:  # noqa: BLE001 - an installation, or the end of the process, may raise anything
        remedy = "pip install 'km_logging[redis]'"
        raise OutboxError(f"redis-py cannot be imported: {type_name(error)}", remedy) from None
    return Stream(address, patience=patience)


class Line:
    """One connection at a time, for all threads of this process. A forked child has a line of its own.

    Args:
        address: of the stream.
        opened: is called with each new connection; may raise OutboxError.
        tell: says what is wrong, and what to do about it.
        meanwhile: what is the case while the server cannot be used.
    """

    def __init__(
        self,
        address: StreamAddress,
        *,
        opened: Callable[[Stream], None],
        tell: Callable[[str, str], None],
        meanwhile: str,
    ) -> None:
        with suppress(RuntimeError):
            # redis imports this, and Python refuses it as soon as the process begins to end: the first call may have
            # come just before that.
            import concurrent.futures.thread  # noqa: F401
        self._address = address
        self._opened = opened
        self._tell = tell
        self._meanwhile = meanwhile
        self._lock = threading.RLock()  # guards everything below
        self._stream: Stream | None = None
        self._is_shut = False
        self._faults = 0
        self._retry_at = 0.0
        self._patience = PATIENCE

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as anybody has noticed."""
        return self._stream is not None

    @property
    def is_held(self) -> bool:
        """Whether this thread is just asking."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name for it

    def ask(self, what: Callable[[Stream], Result]) -> Result | None:
        """Ask the server; None if it cannot be asked just now, which was said."""
        if self.is_held:  # a signal handler came in between: it would get the answer to another question
            return None
        with self._lock:
            if self._is_shut or time.monotonic() < self._retry_at:
                return None
            try:
                stream = self._stream = self._stream or self._connected()
                answer = what(stream)
            except OutboxError as error:
                self._failed(error)
                return None
            except BaseException:  # broken off: its answer would be taken for another's
                self._hang_up()
                raise
            self._faults = 0
            return answer

    def do(self, what: Callable[[Stream], object]) -> bool:
        """Ask for something that has no answer; whether it was done."""
        return bool(self.ask(lambda stream: (what(stream),)))

    def _connected(self) -> Stream:
        patience, self._patience = self._patience, PATIENCE
        stream = stream_at(self._address, patience=patience)
        try:
            self._opened(stream)
        except BaseException:
            stream.close()
            raise
        return stream

    def _failed(self, error: OutboxError) -> None:
        self._hang_up()
        self._faults += 1
        self._retry_at = time.monotonic() + backoff(self._faults, random.random())
        message = f"the outbox {self._address} cannot be used ({error.message}), so {self._meanwhile}"
        self._tell(message, error.remedy)

    def retry(self, patience: float = PATIENCE) -> None:
        """Try again with the next question, whatever was, and wait for so many seconds."""
        self._retry_at = 0.0
        self._patience = patience

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def shut(self) -> None:
        """Ask nothing more."""
        with self._lock:
            self._is_shut = True
            self._hang_up()

    def before_fork(self) -> None:
        """Leave no connection open that a child would share; it opens again with the next question."""
        # If it is not free in time, redis-py sees in the child that the connection is another process's.
        if self._lock.acquire(timeout=FORK_PATIENCE):
            self._hang_up()

    def after_fork(self) -> None:
        """In the parent: go on."""
        with suppress(RuntimeError):  # it was not acquired in time
            self._lock.release()
