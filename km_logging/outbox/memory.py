"""``memory:`` An outbox that ends with the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from km_logging.outbox import Entry

__all__ = ["MemoryOutbox"]


class MemoryOutbox:
    """Entries in a deque; its bound is the tracker's `capacity`."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def put(self, entries: Sequence[Entry]) -> None:
        self._entries.extend(entries)

    def claim(self, limit: int) -> Sequence[Entry]:
        return [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]

    def settle(self, entry: Entry) -> None:
        """Nothing to do: what was claimed is no longer here."""

    def evict(self) -> Entry | None:
        return self._entries.popleft() if self._entries else None

    @property
    def waiting(self) -> int:
        return len(self._entries)

    @property
    def oldest(self) -> float | None:
        return self._entries[0].accepted_at if self._entries else None
