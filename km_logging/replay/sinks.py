"""Where the calls of a replay go: to the server, into an outbox, or nowhere.

A `Mark` stands for everything that was put before it: it is done once none of that can be lost any more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from km_logging.calls import Problem
from km_logging.deadline import Deadline
from km_logging.delivery import Delivery
from km_logging.errors import OutboxError
from km_logging.ledger import Ledger
from km_logging.outbox import Entry, make_outbox
from km_logging.outbox.memory import MemoryOutbox
from km_logging.queueing import Mark
from km_logging.senders import make_sender
from km_logging.settings import Settings

__all__ = ["Located", "Nowhere", "Sending", "Sink", "Storing"]

#: How many calls may wait to be sent, or be under way.
ROOM = 2_000

#: How long to wait for an outbox that cannot be used for the time being, and how often to look, in seconds.
PATIENCE = 10.0
LOOK = 0.05


class Located(str):
    """A request that says where its call stands.

    Attributes:
        where: file and line.
    """

    __slots__ = ("where",)
    where: str


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

    def rejected(self) -> Sequence[str]:
        """The requests that the server refused for their own sake, each once."""

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

    def rejected(self) -> Sequence[str]:  # noqa: D102
        return ()

    def close(self) -> None:
        """Nothing is open."""


class Storing:
    """Commits calls to an outbox that lasts, from which an application or a relay delivers.

    Args:
        settings: `outbox`, which is made if it is not there; `deliver` is false.
    """

    def __init__(self, settings: Settings) -> None:
        self.ledger = Ledger()
        self._problem: Problem | None = None
        self._outbox = make_outbox(settings, ledger=self.ledger, left=lambda _: None, report=self._note)

    def _note(self, problem: Problem) -> None:
        self._problem = problem

    def has_room(self, seconds: float) -> bool:  # noqa: ARG002, D102
        return True

    def put(self, requests: Sequence[str]) -> None:
        """Returns once they are committed; raises OutboxError if that cannot be done."""
        # What cannot be used from the beginning is a mistake; later, somebody may be writing for long.
        deadline = Deadline(PATIENCE if self.ledger.handed_over.value else 0)
        self._outbox.put(requests, time.time())
        while self._outbox.pending and deadline.left:
            time.sleep(LOOK)
            self._outbox.look()
        if self.ledger.dropped["overflow"].value:
            raise OutboxError("the outbox is full", "have it delivered, or give it more room, and go on with --resume")
        if self._outbox.pending:
            assert self._problem is not None
            message, _, _ = self._problem.message.partition(", so calls wait")
            raise OutboxError(message, self._problem.remedy)

    def mark(self) -> Mark:  # noqa: D102
        return _done()

    def rejected(self) -> Sequence[str]:  # noqa: D102
        return ()

    def close(self) -> None:  # noqa: D102
        self._outbox.close()


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
        self._outbox = _Waiting(self.ledger, self._left)
        self._delivery = Delivery(
            settings,
            outbox=self._outbox,
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

    def rejected(self) -> Sequence[str]:  # noqa: D102
        found = self._outbox.buried
        return [found.popleft() for _ in range(len(found))]

    def close(self) -> None:  # noqa: D102
        self._delivery.finish(Deadline(0))
        self._delivery.close()


class _Waiting(MemoryOutbox):
    """Remembers what the server refused, until it is asked; one thread appends, another takes."""

    def __init__(self, ledger: Ledger, left: Callable[[int], None]) -> None:
        super().__init__(ledger, left)
        self.buried: deque[str] = deque()

    def bury(self, entry: Entry) -> None:
        self.buried.append(entry.request)
        self.settle(entry)


def _done() -> Mark:
    mark = Mark()
    mark.done.set()
    return mark
