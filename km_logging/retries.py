"""Calls that were tried and wait for another try: not in the outbox, which has nothing to do but to keep."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from km_logging.outbox import Entry

__all__ = ["Retries"]


class Retries:
    """Entries by the moment at which they are due, by the monotonic clock in seconds. `delivery` holds the lock."""

    def __init__(self) -> None:
        self._due: deque[Entry] = deque()
        self._later: list[tuple[float, int, Entry]] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter([*self._due, *(entry for _, _, entry in self._later)])  # a signal handler may take some out

    def __len__(self) -> int:
        return len(self._due) + len(self._later)

    @property
    def due(self) -> int:
        """How many may be tried at once."""
        return len(self._due)

    @property
    def next_at(self) -> float:
        """When the next one will be due; infinite if none waits for its time."""
        return self._later[0][0] if self._later else math.inf

    def add(self, entry: Entry, due_at: float) -> None:
        """Have an entry tried again at that moment."""
        heapq.heappush(self._later, (due_at, entry.number, entry))

    def add_due(self, entry: Entry) -> None:
        """Have an entry tried again at once, behind those that may be."""
        self._due.append(entry)

    def ripe(self, now: float) -> Iterator[Entry]:
        """Take out what waited long enough."""
        while self._later and self._later[0][0] <= now:
            yield heapq.heappop(self._later)[2]

    def hurry(self) -> None:
        """Everything is due at once."""
        self._due.extend(entry for _, _, entry in sorted(self._later))
        self._later.clear()

    def take(self) -> Entry | None:
        """Take out what was due first; None if nothing is."""
        return self._due.popleft() if self._due else None

    def discard(self, entry: Entry) -> bool:
        """Take out this one; false if it is not there, so if a signal handler was faster."""
        with suppress(ValueError):
            self._due.remove(entry)
            return True
        for later in [later for later in self._later if later[2] is entry]:
            with suppress(ValueError):
                self._later.remove(later)
                heapq.heapify(self._later)
                return True
        return False
