"""Seam 1: where accepted calls wait. One small file a kind; they hold requests, that is neither key nor endpoint.

An outbox only keeps; when something is tried again is `delivery`'s business. All methods are called by one thread at
a time, under the lock of `delivery`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Entry", "Outbox"]


class Entry(NamedTuple):
    """One call in an outbox.

    Attributes:
        request: as `km_logging.wire.encode` makes it.
        accepted_at: Unix time, seconds.
        number: counts the entries of this process.
        tries: attempts so far.
    """

    request: str
    accepted_at: float
    number: int
    tries: int = 0


class Outbox(Protocol):
    """What delivery needs of every kind of outbox."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Keep new entries."""

    def claim(self, limit: int) -> Sequence[Entry]:
        """Take up to ``limit`` entries, oldest first; each is claimed once, until it is settled."""

    def settle(self, entry: Entry) -> None:
        """Forget a claimed entry: it was delivered, or is given up."""

    def evict(self) -> Entry | None:
        """Forget the oldest entry that is not claimed and return it; None if there is none to give."""

    @property
    def waiting(self) -> int:
        """How many entries are not claimed."""

    @property
    def oldest(self) -> float | None:
        """When the oldest entry that is not claimed was accepted, Unix time; None if there is none."""
