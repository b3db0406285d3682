"""What an outbox holds in memory while its file or server cannot be used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from km_logging.outbox import Entry

__all__ = ["Held"]


class Held:
    """Entries with numbers below zero, so that nobody takes them for rows of a file.

    Attributes:
        own: how many own calls are in memory, those included that were taken and not ended.
        last: the lowest number, which the newest entry has.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self.own = 0
        self.last = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def add(self, entry: Entry) -> None:
        """Hold one more."""
        self.own += entry.is_own
        self.last -= 1
        self._entries.append(entry._replace(number=self.last))

    def take(self) -> Entry:
        """The oldest one, to be ended by `end`."""
        return self._entries.popleft()

    def end(self, entry: Entry) -> None:
        """One that was taken is in memory no more."""
        self.own -= entry.is_own

    def first(self, count: int) -> list[Entry]:
        """The oldest ones, which stay."""
        return list(islice(self._entries, count))

    def drop(self, count: int) -> int:
        """The oldest ones are elsewhere now; returns how many of them were own ones."""
        own = sum(self._entries.popleft().is_own for _ in range(count))
        self.own -= own
        return own

    def evict(self) -> Entry | None:
        """Give up the oldest own one; None if there is none."""
        # A signal handler that logs may be faster.
        with suppress(RuntimeError, ValueError):
            entry = next((entry for entry in self._entries if entry.is_own), None)
            if entry is not None:
                self._entries.remove(entry)
                self.own -= 1
                return entry
        return None

    def clear(self) -> int:
        """Give up all; returns how many own ones that were, those included that are in other hands."""
        own, self.own = self.own, 0
        self._entries.clear()
        return own
