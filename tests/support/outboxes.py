"""Outboxes for tests, with the books that their calls must agree with."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from km_logging.addresses import OutboxAddress, StreamAddress
from km_logging.calls import Problem
from km_logging.ledger import Ledger
from km_logging.outbox import Entry
from km_logging.outbox.database import Database
from km_logging.outbox.memory import MemoryOutbox
from km_logging.outbox.opening import opened
from km_logging.outbox.redis import RedisOutbox
from km_logging.outbox.sqlite import SqliteOutbox

#: When all calls of these tests are accepted, Unix time.
NOW = 1_700_000_000.0


class Bench:
    """An outbox with its books.

    Args:
        where: path of its file, or address of its stream; None for one in memory.
        max_mb: how large the file may grow.
        options: more for `SqliteOutbox` or `RedisOutbox`.
    """

    def __init__(self, where: Path | StreamAddress | None = None, *, max_mb: int = 1_024, **options: Any) -> None:
        self.ledger = Ledger()
        self.problems: list[Problem] = []
        self._behind = self._given = self._ended = 0
        options = {"delivers": True, "api_key": "k", "report": self.problems.append, **options}
        if where is None:
            self.outbox = MemoryOutbox(self.ledger, self._left)
        elif isinstance(where, StreamAddress):
            self.outbox = RedisOutbox(where, ledger=self.ledger, left=self._left, **options)
        else:
            address = OutboxAddress("sqlite", str(where), max_mb=max_mb)
            self.outbox = SqliteOutbox(address, ledger=self.ledger, left=self._left, **options)

    def _left(self, calls: int) -> None:
        self._behind -= calls

    def put(self, *requests: str, now: float = NOW) -> None:
        """Put calls."""
        self._behind += len(requests)
        self._given += len(requests)
        self.outbox.put(requests, now)

    def put_now(self, request: str) -> bool:
        """Put a call in the way of a log call that waits for its commit."""
        committed = self.outbox.put_now(request, NOW)
        self._given += committed
        return committed

    def claim(self, limit: int = 1_000) -> list[Entry]:
        """Claim entries."""
        return list(self.outbox.claim(limit))

    def claimed(self, limit: int = 1_000) -> list[str]:
        """Claim entries, and say which requests they hold."""
        return requests_of(self.claim(limit))

    def settle(self, *entries: Entry) -> None:
        """Settle entries."""
        for entry in entries:
            self.outbox.settle(entry)
            self._ended += entry.is_own

    def bury(self, entry: Entry) -> None:
        """Bury an entry."""
        self.outbox.bury(entry)
        self._ended += entry.is_own

    def evict(self) -> Entry | None:
        """Evict an entry."""
        entry = self.outbox.evict()
        self._ended += entry is not None
        return entry

    def mend(self) -> None:
        """Have the outbox look after what it is in as if the pause after its failure were over."""
        (self.outbox._line if isinstance(self.outbox, RedisOutbox) else self.outbox._access).retry()
        self.outbox.look()

    def close(self) -> None:
        """Close the outbox in the way of a tracker."""
        self.outbox.keep_rest()
        self.outbox.close()

    @property
    def dropped(self) -> dict[str, int]:
        """How many calls the outbox has dropped, and why."""
        return {reason: tally.value for reason, tally in self.ledger.dropped.items() if tally.value}

    @property
    def handed_over(self) -> int:
        """How many calls other processes answer for now."""
        return self.ledger.handed_over.value

    def check(self) -> None:
        """Every call is in one column of the books; those that end with the process take up room in memory."""
        outbox = self.outbox
        assert self._given == self._ended + self.handed_over + outbox.pending + sum(self.dropped.values())
        assert self._behind == outbox.pending - outbox.lasting
        assert 0 <= outbox.lasting <= outbox.pending


def requests_of(entries: Sequence[Entry]) -> list[str]:
    """What entries hold."""
    return [entry.request for entry in entries]


def database(path: Path, **options: Any) -> Database:
    """A connection of our own kind."""
    return Database(OutboxAddress("sqlite", str(path)), **{"creates": True, "patience": 5.0, **options})


def kept(where: Path | StreamAddress, *, dead: bool | None = False) -> list[str]:
    """The requests in an outbox that lasts."""
    address = where if isinstance(where, StreamAddress) else OutboxAddress("sqlite", str(where))
    with opened(address) as store:
        return [row.request for row in store.each(dead=dead)]


def in_file(path: Path, *, dead: bool | None = False) -> list[str]:
    """The requests in a file."""
    file = database(path, creates=False)
    try:
        return [row.request for row in file.each(dead=dead)]
    finally:
        file.close()


def writing(path: Path) -> sqlite3.Connection:
    """Another program that is in the middle of writing, until it rolls back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection
