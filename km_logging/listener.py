"""The one `QueueListener` thread: it makes requests of what comes through the queue, and fills the outbox.

Everything that may take its time happens here or later: telling, users' callbacks, what is said about problems. An
exception, whoever raises it, costs its own call at most; one that left `handle` would end the thread silently.
"""

from __future__ import annotations

import logging.handlers
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from km_logging.calls import Problem
from km_logging.guard import THREAD_NAME, ours, park
from km_logging.intake import Intake
from km_logging.ledger import Ledger
from km_logging.problems import EVERY, Reporter, dropped
from km_logging.queueing import Batch, CallQueue, Committed, Mark

__all__ = ["Listener"]

#: After so many calls of a batch they are kept, and a pause may be due; where it is a commit to keep them, after more.
SLICE = 10
SLICE_LASTING = 100

#: Of what was dropped, what is said; the rest was asked for.
SAID = ("overflow", "expired", "rejected")

#: Over how many of the last events `merged` is estimated.
REMEMBERED = 10_000


class Listener(logging.handlers.QueueListener):
    """The standard library's `QueueListener`, taking batches instead of records.

    Args:
        calls: the queue.
        intake: makes requests.
        keep: takes requests into the outbox.
        wake: is told that new calls are in the outbox already.
        rest: is told what this thread took, and says how long it should rest, both in seconds.
        reached: is told of each mark, once everything before it was kept.
        lasts: whether what is kept outlives the process.
        ledger: the books.
        reporter: says problems.
    """

    def __init__(  # noqa: PLR0913 - each of them is somebody else's, and comes by name
        self,
        calls: CallQueue,
        *,
        intake: Intake,
        keep: Callable[[list[str]], None],
        wake: Callable[[], None],
        rest: Callable[[float], float],
        reached: Callable[[Mark], None],
        lasts: bool,
        ledger: Ledger,
        reporter: Reporter,
    ) -> None:
        super().__init__(calls)  # of a queue it uses what `dequeue` and `stop` below use
        self._calls = calls
        self._intake = intake
        self._keep = keep
        self._wake = wake
        self._rest = rest
        self._reached = reached
        self._slice = SLICE_LASTING if lasts else SLICE
        self._ledger = ledger
        self._reporter = reporter
        self._merging = _Merging(REMEMBERED)
        self._said_dropped = dict.fromkeys(SAID, 0)
        self._says_dropped_at = -math.inf

    def stop(self) -> None:
        """Let the thread end once the queue is empty; does not wait for it, since a callback may hang in it."""
        self.enqueue_sentinel()
        self._thread = None

    def enqueue_sentinel(self) -> None:
        """Close the queue: what is in it is still taken."""
        self._calls.close()

    def dequeue(self, block: bool) -> Batch | None:  # type: ignore[override]  # noqa: FBT001 - inherited
        """Wait for a batch; None once the queue is closed and empty, which ends the thread."""
        if not ours.get():
            ours.set(True)
            threading.current_thread().name = f"{THREAD_NAME}listener"
        batch = self._calls.get(block)
        if self._calls.is_abandoned:
            park()
        return batch

    def handle(self, batch: Batch) -> None:  # type: ignore[override]
        """Take one batch: the calls into the outbox together, the marks in their places."""
        requests: list[str] = []
        is_fuller = False
        began = time.thread_time()
        for item in batch:
            if len(requests) >= self._slice and self._calls.is_unhurried:
                self._keep(requests)
                requests = []
                began = self._have_rested(began)
            if isinstance(item, Mark):
                self._keep(requests)
                requests = []
                self._reached(item)
            elif isinstance(item, Problem):
                self._reporter.report(item)
            elif isinstance(item, Committed):
                self._count_merged(item.request)
                is_fuller = True
            else:
                request = item if isinstance(item, str) else self._intake.request(item, self._reporter.report)
                if request is None:
                    self._calls.left()
                else:
                    self._count_merged(request)
                    requests.append(request)
        self._keep(requests)
        self._have_rested(began)
        self._say_dropped()
        if is_fuller:
            self._wake()

    def _have_rested(self, began: float) -> float:
        """Rest for what was done since ``began``, by this thread's CPU time; returns that time afterwards."""
        if pause := self._rest(time.thread_time() - began):
            self._calls.rest(pause)
        return time.thread_time()

    def _say_dropped(self) -> None:
        """Say how many calls were dropped since this was said last, but once a minute."""
        if time.monotonic() < self._says_dropped_at:
            return
        tallies = {reason: self._ledger.dropped[reason].value for reason in SAID}
        if counts := {reason: more for reason in SAID if (more := tallies[reason] - self._said_dropped[reason])}:
            self._said_dropped = tallies
            self._says_dropped_at = time.monotonic() + EVERY
            self._reporter.report(dropped(counts, self._ledger.last_error))

    def _count_merged(self, request: str) -> None:
        if request.startswith("/e") and self._merging.repeats(request):
            self._ledger.merged.add()


class _Merging:
    """Remembers the last events, to tell those that Kissmetrics will count as one with an earlier one.

    It keeps 64 bits of each, so it is an estimate: two different events are taken for equal once in 10**15.
    """

    def __init__(self, most: int) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()
        self._most = most

    def repeats(self, request: str) -> bool:
        """Whether an equal request is among the last ones; it holds person, name, second and properties."""
        key = hash(request)
        if key in self._known:
            return True
        if len(self._order) == self._most:
            self._known.discard(self._order.popleft())
        self._order.append(key)
        self._known.add(key)
        return False
