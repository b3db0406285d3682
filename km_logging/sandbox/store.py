"""The calls that the sandbox holds: the last ones, in memory, for any number of threads.

One lock guards everything. Who waits for calls is woken under it: a thread in `wait` by the condition, a stream by a
callback, which must be quick and must not call the store.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile

from km_logging.sandbox.checks import Received
from km_logging.sandbox.history import History

__all__ = ["CAPACITY", "WAIT", "Store"]

#: How many calls are held unless another number is given.
CAPACITY = 10_000

#: How long `Store.wait` waits unless told otherwise, in seconds: a test that waits in vain should say so soon.
WAIT = 5.0


class Store:
    """The last calls received, oldest first.

    Args:
        capacity: how many are held; the oldest are forgotten for newer ones.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._changed = threading.Condition()
        self._calls: deque[Received] = deque()
        self._history = History()
        self._watchers: set[Callable[[], object]] = set()
        self._last_id = 0
        self._forgotten = 0
        self._closed = False

    @property
    def forgotten(self) -> int:
        """How many calls have gone to make room for newer ones, since the start or `clear`."""
        return self._forgotten

    @property
    def last_id(self) -> int:
        """The id of the last call received, cleared or not; 0 before the first."""
        return self._last_id

    @property
    def closed(self) -> bool:
        """Whether no more calls will come."""
        return self._closed

    def add(self, received: Received) -> Received:
        """Hold a call; returns it with its id, and with what earlier calls say about it."""
        with self._changed:
            self._last_id += 1
            call = replace(self._history.judge(received), id=self._last_id)
            self._calls.append(call)
            if len(self._calls) > self.capacity:
                self._history.forget(self._calls.popleft())
                self._forgotten += 1
            self._wake()
        return call

    def calls(self, after: int = 0) -> list[Received]:
        """The calls held with an id above ``after``, oldest first."""
        with self._changed:
            newest_first = list(takewhile(lambda call: call.id > after, reversed(self._calls)))
        return newest_first[::-1]

    def clear(self) -> None:
        """Forget everything, as if nothing had been received; ids go on."""
        with self._changed:
            self._calls.clear()
            self._history = History()
            self._forgotten = 0

    def wait(self, n: int = 1, timeout: float | None = WAIT) -> list[Received]:
        """Wait until ``n`` calls have been received since the start or `clear`, or no more will come.

        Args:
            n: how many.
            timeout: seconds; None waits for ever.

        Returns:
            The calls held: fewer than ``n`` if the time is over, or if more were received than are held.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._forgotten + len(self._calls) >= n, timeout)
            return list(self._calls)

    @contextmanager
    def watched(self, callback: Callable[[], object]) -> Iterator[None]:
        """Have ``callback`` called at every call received, and when the store is closed, inside the ``with``."""
        with self._changed:
            self._watchers.add(callback)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.discard(callback)

    def close(self) -> None:
        """Tell everybody who waits that no more calls will come; what is held stays."""
        with self._changed:
            self._closed = True
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        for callback in self._watchers:
            callback()
