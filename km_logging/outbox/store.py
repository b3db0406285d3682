"""An outbox that lasts, as people and relays look into it: how much waits, what it is, try it again, forget it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple, Protocol

from km_logging.addresses import OutboxAddress, StreamAddress
from km_logging.errors import OutboxError

__all__ = ["Row", "Store", "opened"]

#: How long to wait while another process writes, or for a server, in seconds.
PATIENCE = 10.0


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


@contextmanager
def opened(address: OutboxAddress) -> Iterator[Store]:
    """The outbox at an address, which is never made.

    Raises:
        OutboxError: it cannot be used; says what to do about it.
        MissingExtraError: what it needs is not installed.
    """
    if isinstance(address, StreamAddress):
        from km_logging.outbox.line import stream_at

        with closing(stream_at(address, patience=PATIENCE)) as stream:
            yield stream
        return
    import sqlite3

    from km_logging.outbox.database import Database, fault_of

    file = Database(address, creates=False, patience=PATIENCE)
    try:
        yield file
    except sqlite3.Error as error:  # an OSError is the caller's own
        raise OutboxError(*fault_of(error)) from error
    finally:
        file.close()
