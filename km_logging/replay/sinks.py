"""Where the calls of a replay go: to the server, into an outbox, or nowhere.

A `Mark` stands for everything that was put before it: it is done once none of that can be lost any more.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from km_logging.addresses import OutboxAddress
from km_logging.calls import Problem
from km_logging.deadline import Deadline
from km_logging.delivery import Delivery
from km_logging.errors import OutboxError
from km_logging.ledger import Ledger
from km_logging.outbox.database import Database, fault_of
from km_logging.outbox.memory import MemoryOutbox
from km_logging.queueing import Mark
from km_logging.senders import make_sender
from km_logging.settings import Settings

__all__ = ["Nowhere", "Sending", "Sink", "Storing"]

#: How many calls may wait to be sent, or be under way.
ROOM = 2_000

#: How long to wait while another process writes into an outbox, in seconds.
PATIENCE = 30.0


class Sink(Protocol):
    """Takes requests, which the books have as taken already.

    Attributes:
        ledger: the books.
    """

    ledger: Ledger

    def has_room(self, seconds: float) -> bool:
        """Whether more can be put, after waiting for it so long at most."""

    def put(self, requests: Sequence[str]) -> None:
        """Take requests, as `km_logging.wire.encode` makes them."""

    def mark(self) -> Mark:
        """A mark behind everything that was put."""

    def close(self) -> None:
        """End; what is not done is given up."""


class Nowhere:
    """Takes everything and does nothing, for a look at what would be sent."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def has_room(self, seconds: float) -> bool:  # noqa: ARG002, D102 - the protocol documents the methods
        return True

    def put(self, requests: Sequence[str]) -> None:
        """Forget them."""

    def mark(self) -> Mark:  # noqa: D102
        return _done()

    def close(self) -> None:
        """Nothing is open."""


class Storing:
    """Commits calls to an outbox, from which an application or a relay delivers.

    Args:
        address: of the file, which is made if it is not there.

    Raises:
        OutboxError: it cannot be used; also `put`.
    """

    def __init__(self, address: OutboxAddress) -> None:
        self.ledger = Ledger()
        self._file = Database(address, creates=True, patience=PATIENCE)

    def has_room(self, seconds: float) -> bool:  # noqa: ARG002, D102
        return True

    def put(self, requests: Sequence[str]) -> None:  # noqa: D102
        rest = [(request, time.time(), 0) for request in requests]
        try:
            while rest:
                added = self._file.add_some(rest)
                if not added:
                    raise OutboxError(
                        "the outbox is full", "have it delivered, or raise ?max_mb=, and go on with --resume"
                    )
                self.ledger.handed_over.add_many(added)
                del rest[:added]
        except sqlite3.Error as error:
            raise OutboxError(*fault_of(error)) from error

    def mark(self) -> Mark:  # noqa: D102
        return _done()

    def close(self) -> None:  # noqa: D102
        self._file.close()


class Sending:
    """Sends calls as a tracker does, from memory, without being polite: nobody else works in this process.

    Args:
        settings: `api_key`, `endpoint` and the settings of delivery.
        report: says a problem of delivery; in whatever thread.
    """

    def __init__(self, settings: Settings, report: Callable[[Problem], None]) -> None:
        self.ledger = Ledger()
        self._settings = settings
        self._room = threading.Condition()  # guards _pending
        self._pending = 0
        self._delivery = Delivery(
            settings,
            outbox=MemoryOutbox(self.ledger, self._left),
            make_sender=lambda: make_sender(settings),
            ledger=self.ledger,
            left=self._left,
            report=report,
        )
        self._delivery.drain(hurry=False)
        self._delivery.start()

    def _left(self, calls: int) -> None:
        with self._room:
            self._pending -= calls
            self._room.notify()

    def has_room(self, seconds: float) -> bool:  # noqa: D102
        with self._room:
            return self._room.wait_for(lambda: self._pending < ROOM, seconds)

    def put(self, requests: Sequence[str]) -> None:  # noqa: D102
        with self._room:
            self._pending += len(requests)
        self._delivery.put(requests)

    def mark(self) -> Mark:  # noqa: D102
        mark = Mark()
        self._delivery.reached(mark)
        return mark

    def close(self) -> None:  # noqa: D102
        self._delivery.finish(Deadline(0))
        self._delivery.close()


def _done() -> Mark:
    mark = Mark()
    mark.done.set()
    return mark
