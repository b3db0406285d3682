"""An outbox that lasts, as people and relays look into it: how much waits, what it is, try it again, forget it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

__all__ = ["Row", "Store"]


class Row(NamedTuple):
    """One call as it is kept.

    Attributes:
        number: tells the calls of one outbox apart; never used again.
        request: as `km_logging.wire.encode` makes it.
        accepted_at: Unix time, seconds.
        origin: the outbox that answers for it in its books, or 0 for none.
        is_dead: 1 if the server refused it for its own sake, so that it is only kept to be looked at; else 0.
    """

    number: int
    request: str
    accepted_at: float
    origin: int = 0
    is_dead: int = 0


class Store(Protocol):
    """What can be asked of an outbox that lasts; each method raises OutboxError if that cannot be done."""

    @property
    def size(self) -> int:
        """What it takes, in bytes."""

    @property
    def is_delivered(self) -> bool:
        """Whether any process delivers from it just now."""

    def count(self, *, dead: bool = False) -> int:
        """How many calls there are: living or dead ones."""

    def last(self) -> int:
        """The highest number of the calls that there are."""

    def each(self, *, dead: bool | None = None) -> Iterator[Row]:
        """Living calls, dead ones, or with None all; oldest first, a few at a time."""

    def revive(self, now: float) -> int:
        """Have dead calls tried again, as if they were accepted now; returns how many."""

    def purge(self, numbers: Sequence[int]) -> None:
        """Forget calls for good."""

    def close(self) -> None:
        """Use it no more."""
