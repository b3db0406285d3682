"""The books: what became of every accepted call, in counters that need no lock.

The log call may be interrupted anywhere by a signal handler or a finaliser that logs as well, so a counter must be
one C call to add to: `itertools.count` is. Every accepted call ends in one of the other columns, or is pending:

    accepted == delivered + handed_over + pending + sum(dropped.values())
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from km_logging.calls import PROBLEMS

__all__ = ["DROPPED", "Counts", "Ledger", "Stats", "Tally"]

#: Why a call that was accepted is not delivered.
DROPPED: dict[str, str] = {
    "overflow": "more calls were waiting in memory than `capacity`, or the outbox has reached `max_mb` or `max`",
    "expired": "it could not be delivered within `retry_for`",
    "rejected": "the server refused it three times for its own sake",
    "withheld": "`before_send` returned None, or raised",
    "closed": "the tracker was closed before it could be delivered",
}


class Counts(dict[str, int]):
    """What occurred to how often; what did not occur is not there, and reads as 0."""

    __slots__ = ()

    def __missing__(self, what: str) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of what became of the calls of this process, since its start or fork.

    Attributes:
        accepted: sound calls taken, those dropped on the spot included.
        delivered: answered by the server.
        handed_over: committed to a lasting outbox for another process to deliver.
        pending: still here: in the queue, waiting in the outbox, or under way.
        retried: attempts that were not the first of their call.
        dropped: reason (see `DROPPED`) to count; only reasons that occurred.
        refused: kind of problem (see `km_logging.calls.PROBLEMS`) to count; only kinds that occurred.
        merged: an estimate over the last 10,000 events: those that Kissmetrics will count as one with an earlier one.
        oldest_pending_s: age of the oldest pending call in seconds, or None if none is pending.
        last_delivered: Unix time of the last delivery, seconds, or None.
        last_error: why the last attempt that failed did, or None; holds neither key nor query.
    """

    accepted: int
    delivered: int
    handed_over: int
    pending: int
    retried: int
    dropped: Counts
    refused: Counts
    merged: int
    oldest_pending_s: float | None
    last_delivered: float | None
    last_error: str | None


class Tally:
    """A count that any thread, signal handler or finaliser adds to by one C call."""

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = itertools.count()
        #: Add one.
        self.add = self._count.__next__

    def add_many(self, count: int) -> None:
        """Add ``count``, one by one."""
        for _ in range(count):
            self.add()

    @property
    def value(self) -> int:
        """How often `add` was called. Only the text form of a count tells it without counting on: ``count(7)``."""
        return int(repr(self._count)[6:-1])


class Ledger:
    """All counters of one tracker."""

    def __init__(self) -> None:
        self.taken = Tally()
        self.turned_away = Tally()
        self.delivered = Tally()
        self.handed_over = Tally()
        self.retried = Tally()
        self.merged = Tally()
        self.dropped = {reason: Tally() for reason in DROPPED}
        self.refused = {kind: Tally() for kind in PROBLEMS}
        self.last_delivered: float | None = None
        self.last_error: str | None = None

    def note_delivered(self, *, is_own: bool = True) -> None:
        """One call was delivered just now; one that another process had handed over is not in its books."""
        if is_own:
            self.delivered.add()
        self.last_delivered = time.time()

    def stats(self, oldest: float | None) -> Stats:
        """The books as they stand.

        Args:
            oldest: Unix time at which the oldest pending call was accepted, or None.
        """
        # Read where calls end before where they begin: what moves in between can only seem to be pending still.
        refused = {kind: tally.value for kind, tally in self.refused.items()}
        dropped = {reason: tally.value for reason, tally in self.dropped.items()}
        delivered, handed_over = self.delivered.value, self.handed_over.value
        turned_away = self.turned_away.value
        accepted = self.taken.value - turned_away
        pending = accepted - delivered - handed_over - sum(dropped.values())
        return Stats(
            accepted=accepted,
            delivered=delivered,
            handed_over=handed_over,
            pending=pending,
            retried=self.retried.value,
            dropped=_occurred(dropped),
            refused=_occurred(refused),
            merged=self.merged.value,
            oldest_pending_s=max(0.0, time.time() - oldest) if pending and oldest is not None else None,
            last_delivered=self.last_delivered,
            last_error=self.last_error,
        )


def _occurred(counts: dict[str, int]) -> Counts:
    return Counts({what: count for what, count in counts.items() if count})
