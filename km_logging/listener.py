"""The one `QueueListener` thread: it tells the calls of the snapshots, asks `before_send`, and fills the outbox.

Everything that may take its time happens here or later: telling, users' callbacks, what is said about problems. An
exception, whoever raises it, costs its own call at most; one that left `handle` would end the thread silently.
"""

from __future__ import annotations

import logging.handlers
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from km_logging import wire
from km_logging.calls import Call, Problem, call_problems, type_name
from km_logging.guard import THREAD_NAME, here
from km_logging.ledger import Ledger
from km_logging.problems import Reporter
from km_logging.queueing import Batch, CallQueue, Mark
from km_logging.tagging import Rules, Snapshot
from km_logging.telling import Told, recheck

__all__ = ["Listener"]

#: Over how many of the last events `merged` is estimated.
REMEMBERED = 10_000


class Listener(logging.handlers.QueueListener):
    """The standard library's `QueueListener`, taking batches instead of records.

    Args:
        calls: the queue.
        tell: tells the call of a snapshot, counting and reporting nothing.
        before_send: the user's callback, or None.
        keep: takes requests into the outbox.
        reached: is told of each mark, once everything before it was kept.
        ledger: the books.
        reporter: says problems.
        rules: the settings of tagging.
    """

    def __init__(
        self,
        calls: CallQueue,
        *,
        tell: Callable[[Snapshot], Told],
        before_send: Callable[..., object] | None,
        keep: Callable[[list[str]], None],
        reached: Callable[[Mark], None],
        ledger: Ledger,
        reporter: Reporter,
        rules: Rules,
    ) -> None:
        super().__init__(calls)  # of a queue it uses what `dequeue` and `stop` below use
        self._calls = calls
        self._tell = tell
        self._before_send = before_send
        self._keep = keep
        self._reached = reached
        self._ledger = ledger
        self._reporter = reporter
        self._rules = rules
        self._merging = _Merging(REMEMBERED)

    def stop(self) -> None:
        """Let the thread end once the queue is empty; does not wait for it, since a callback may hang in it."""
        self.enqueue_sentinel()
        self._thread = None

    def enqueue_sentinel(self) -> None:
        """Close the queue: what is in it is still taken."""
        self._calls.close()

    def dequeue(self, block: bool) -> Batch | None:  # type: ignore[override]  # noqa: FBT001 - inherited
        """Wait for a batch; None once the queue is closed and empty, which ends the thread."""
        if not here.ours:
            here.ours = True
            threading.current_thread().name = f"{THREAD_NAME}listener"
        return self._calls.get(block)

    def handle(self, batch: Batch) -> None:  # type: ignore[override]
        """Take one batch: the calls into the outbox together, the marks in their places."""
        requests: list[str] = []
        for item in batch:
            if isinstance(item, Mark):
                self._keep(requests)
                requests = []
                self._reached(item)
            elif isinstance(item, Problem):
                self._reporter.report(item)
            else:
                requests += self._requests(item)
        self._keep(requests)

    def _requests(self, item: Snapshot | Call) -> Iterator[str]:
        """The request of one call; none if it is refused or withheld."""
        try:
            call = item if isinstance(item, Call) else self._told(item)
            sent = None if call is None else self._withheld_or(call)
            if call is not None and sent is None:
                self._ledger.dropped["withheld"].add()
            if sent is not None:
                request = wire.encode(sent)
                if sent.kind == "event" and self._merging.repeats(request):
                    self._ledger.merged.add()
                yield request
                return
        except Exception as error:  # noqa: BLE001 - the listener must outlive whatever is wrong with one call
            self._ledger.turned_away.add()
            message = f"a call could not be told ({type_name(error)})"
            self._note(Problem("delivery", message, "please report this to the authors of km_logging"))
        self._calls.left()

    def _told(self, snapshot: Snapshot) -> Call | None:
        told = self._tell(snapshot)
        if told.call is None:
            self._ledger.turned_away.add()  # before it counts as refused: never as both accepted and refused
        for problem in told.problems:
            self._note(problem)
        return told.call

    def _note(self, problem: Problem) -> None:
        self._ledger.refused[problem.kind].add()
        self._reporter.report(problem)

    def _withheld_or(self, call: Call) -> Call | None:
        """What `before_send` makes of the call; None if it withholds it, raises, or returns what is no call."""
        if self._before_send is None:
            return call
        try:
            # A copy: what the callback does to the properties must not reach the problems that name this call.
            changed = self._before_send(replace(call, properties=dict(call.properties)))
        except BaseException as error:  # noqa: BLE001 - even SystemExit must not end this thread
            self._note(_callback_problem(f"raised {type_name(error)}", call))
            return None
        if changed is None:
            return None
        if not isinstance(changed, Call) or next(call_problems(changed), None) is not None:
            self._note(_callback_problem("returned what is no sound call", call))
            return None
        told = recheck(changed, self._rules)
        for problem in told.problems:
            self._note(problem)
        return told.call


def _callback_problem(what: str, call: Call) -> Problem:
    message = f"before_send {what}, so its call is withheld"
    return Problem("callback", message, "return the call, a changed copy of it, or None", call)


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
