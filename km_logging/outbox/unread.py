"""Own calls that stand in the stream of a Redis outbox, and that nobody was seen to take. Pure.

The stream is read from its beginning to its end, by all that deliver together. So what stood before a call that was
just read is in somebody's hands by then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from km_logging.outbox.store import Row
    from km_logging.outbox.stream import Added

__all__ = ["Unread"]


class _Stretch:
    """Calls that stand one after the other, with nobody else's among them.

    Attributes:
        left: how many of them nobody was seen to take.
        first: number of the first one.
        last: number of the last one.
        accepted_at: of the first one, Unix time.
    """

    __slots__ = ("accepted_at", "first", "last", "left")

    def __init__(self, added: Added, accepted_at: float) -> None:
        self.left, self.first, self.last = added
        self.accepted_at = accepted_at


class Unread:
    """Stretches of own calls, in order."""

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque()

    def add(self, added: Added, accepted_at: float) -> None:
        """Some were put, the first of which was accepted at that time."""
        self._stretches.append(_Stretch(added, accepted_at))

    def clear(self) -> None:
        """Whoever takes them, it does not matter here."""
        self._stretches.clear()

    @property
    def moments(self) -> list[float]:
        """When they were accepted, Unix time; of each stretch that of the first call."""
        return [stretch.accepted_at for stretch in self._stretches]

    def read(self, rows: Sequence[Row], *, is_all: bool) -> tuple[set[int], int]:
        """Calls were read.

        Args:
            rows: in order.
            is_all: whether nothing after these is in nobody's hands.

        Returns:
            Numbers of own calls among them; and how many other own ones are in others' hands by now.
        """
        own: set[int] = set()
        passed = 0
        for row in rows:
            passed += self._pass(row.number)
            if self._stretches and row.number >= self._stretches[0].first:
                self._stretches[0].left -= 1
                own.add(row.number)
        passed += self._pass(math.inf if is_all else rows[-1].number + 1)
        return own, passed

    def _pass(self, number: float) -> int:
        """What stood before this number is in somebody's hands; returns how many of it nobody was seen to take."""
        passed = 0
        while self._stretches and self._stretches[0].last < number:
            passed += self._stretches.popleft().left
        return passed
