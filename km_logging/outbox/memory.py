"""``memory:`` An outbox that ends with the process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence

from km_logging.ledger import Ledger
from km_logging.outbox import Entry

__all__ = ["MemoryOutbox"]


class MemoryOutbox:
    """Entries in a deque; its bound is the tracker's `capacity`.

    Args:
        ledger: the books.
        left: is told how many calls no longer take up room in memory.
    """

    lasts = False
    moves = 0
    poll = math.inf
    lasting = 0
    is_held = False

    def __init__(self, ledger: Ledger, left: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._left = left
        self._entries: deque[Entry] = deque()
        self._number = 0
        self._claimed = 0
        self.wake: Callable[[], None] = lambda: None

    def put(self, requests: Sequence[str], now: float) -> None:
        for request in requests:
            self._number += 1
            self._entries.append(Entry(request, now, self._number))

    def look(self) -> None:
        """Nobody else puts anything here."""

    def claim(self, limit: int) -> Sequence[Entry]:
        claimed = [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]
        self._claimed += len(claimed)
        return claimed

    def settle(self, entry: Entry) -> None:  # noqa: ARG002 - what was claimed is no longer here
        self._claimed -= 1
        self._left(1)

    bury = settle

    def sync(self) -> None:
        """There is nothing to write down."""

    stop_at_last = keep_rest = sync

    def holds(self, entry: Entry) -> bool:  # noqa: ARG002 - all entries are alike
        return True

    def evict(self) -> Entry | None:
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self._left(1)
        return entry

    def close(self, under_way: Collection[Entry] = ()) -> None:  # noqa: ARG002 - all is given up
        left, self._claimed = self.pending, 0
        self._entries.clear()
        self._ledger.dropped["closed"].add_many(left)
        self._left(left)

    def finish(self, entry: Entry, *, is_delivered: bool) -> bool:  # noqa: ARG002 - it is in the books as closed
        return False

    def before_fork(self) -> None:
        """Nothing is open."""

    after_fork = abandon = before_fork

    @property
    def waiting(self) -> int:
        return len(self._entries)

    @property
    def pending(self) -> int:
        return len(self._entries) + self._claimed

    @property
    def oldest(self) -> float | None:
        return self._entries[0].accepted_at if self._entries else None

    @property
    def span(self) -> range:
        return range(self._number + 1)
