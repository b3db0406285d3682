"""The calls that the sandbox holds: the last ones, in memory, for any number of threads.

One lock guards everything, a file that keeps them too. Who waits for calls is woken under it: a thread in `wait` by
the condition, a stream by a callback, which must be quick and must not call the store.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from km_logging.sandbox.checks import Received
from km_logging.sandbox.history import History

if TYPE_CHECKING:
    from km_logging.sandbox.kept import CallFile

__all__ = ["CAPACITY", "WAIT", "News", "Position", "Store"]

#: How many calls are held unless another number is given.
CAPACITY = 10_000

#: How long `Store.wait` waits unless told otherwise, in seconds: a test that waits in vain should say so soon.
WAIT = 5.0


class Position(NamedTuple):
    """How far a reader of the calls has come.

    Attributes:
        id: of the last call that it knows.
        clears: of how many `Store.clear` it knows.
    """

    id: int
    clears: int


class News(NamedTuple):
    """What a reader does not know yet.

    Attributes:
        cleared: the id up to which calls were cleared since; None if none were.
        calls: those after its position, oldest first.
        position: where it is when it knows all that.
    """

    cleared: int | None
    calls: list[Received]
    position: Position


class Store:
    """The last calls received, oldest first.

    Args:
        capacity: how many are held; the oldest are forgotten for newer ones.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._changed = threading.Condition()
        self._calls: deque[Received] = deque()
        self._started_at = time.time()
        self._history = History()
        self._file: CallFile | None = None
        self._watchers: set[Callable[[], object]] = set()
        self._last_id = 0
        self._cleared = 0
        self._clears = 0
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

    def status(self) -> dict[str, object]:
        """How full it is, as JSON can carry it.

        ``held``, ``capacity``, ``forgotten``, ``last_id``; ``db``, the file's name or None; and ``started_at``, Unix
        time in seconds, by which a reader knows that ids may be those of other calls than before.
        """
        with self._changed:
            return {
                "started_at": self._started_at,
                "held": len(self._calls),
                "capacity": self.capacity,
                "forgotten": self._forgotten,
                "last_id": self._last_id,
                "db": self._file.name if self._file is not None and self._file.is_open else None,
            }

    def add(self, received: Received) -> Received:
        """Hold a call; returns it with its id, and with what earlier calls say about it."""
        with self._changed:
            self._last_id += 1
            call = replace(self._history.judge(received), id=self._last_id)
            gone = self._hold(call)
            if self._file is not None:
                self._file.add(call, gone)
            self._wake()
        return call

    def look(self, received: Received) -> Received:
        """The call as `add` would return it, without an id; nothing is held."""
        with self._changed:
            return self._history.look(received)

    def _hold(self, call: Received) -> int:
        """Hold a call; returns the id of the one that has gone to make room for it, or 0."""
        self._calls.append(call)
        if len(self._calls) <= self.capacity:
            return 0
        gone = self._calls.popleft()
        self._history.forget(gone)
        self._forgotten += 1
        return gone.id

    def calls(self, after: int = 0) -> list[Received]:
        """The calls held with an id above ``after``, oldest first."""
        with self._changed:
            return self._after(after)

    def _after(self, after: int) -> list[Received]:
        newest_first = list(takewhile(lambda call: call.id > after, reversed(self._calls)))
        return newest_first[::-1]

    def clear(self) -> None:
        """Forget everything, as if nothing had been received; ids go on."""
        with self._changed:
            self._calls.clear()
            self._history = History()
            self._forgotten = 0
            self._cleared = self._last_id
            self._clears += 1
            if self._file is not None:
                self._file.clear()
            self._wake()

    def wait(self, n: int = 1, timeout: float | None = WAIT) -> list[Received]:
        """Wait until ``n`` calls have been received since the start or `clear`, or no more will come.

        Args:
            n: how many, those included that a file kept from before.
            timeout: seconds; None waits for ever.

        Returns:
            The calls held: fewer than ``n`` if the time is over, or if more were received than are held.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._forgotten + len(self._calls) >= n, timeout)
            return list(self._calls)

    @contextmanager
    def watched(self, callback: Callable[[], object]) -> Iterator[None]:
        """Have ``callback`` called at each call received, `clear`, and `close` inside the ``with``."""
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

    # For readers that follow what comes.

    def resumed(self, after: int | None) -> Position:
        """Where a reader begins.

        Args:
            after: the id of the last call that it knows; None if it is new and wants what comes from now on. One that
                was never given is from before a restart: all that is held is news, and all that it knows is cleared.
        """
        with self._changed:
            if after is None:
                return Position(self._last_id, self._clears)
            if after > self._last_id:
                return Position(0, self._clears - 1)
            may_know_cleared_ones = after <= self._cleared != 0  # to be told twice does no harm
            return Position(after, self._clears - may_know_cleared_ones)

    def news(self, position: Position) -> News:
        """What a reader at this position does not know yet, all of one moment."""
        with self._changed:
            cleared = self._cleared if position.clears != self._clears else None
            return News(cleared, self._after(position.id), Position(self._last_id, self._clears))

    # The file.

    def keep_in(self, file: CallFile) -> None:
        """Go on with what a file holds, and keep there what comes, until `let_go`. Before the first call.

        Raises:
            SettingsError: the file is damaged.
        """
        with self._changed:
            gone = 0
            for call in file.calls():
                self._history.judge(call)  # what earlier ones say about it, it says itself
                gone = self._hold(call) or gone
            if gone:
                file.forget(gone)
            self._last_id = file.last_id
            self._cleared = (self._calls[0].id if self._calls else self._last_id + 1) - 1
            self._file = file

    def let_go(self) -> None:
        """Close the file, if there is one; what is held stays in memory."""
        with self._changed:
            if self._file is not None:
                self._file.close()
