"""From the outbox to the server: who sends what when. Threads here, decisions in `policy`.

Workers are daemonic threads that take an entry, send it, and report the answer. They grow with the backlog up to
`senders`, and go when idle. One condition guards all state below; it is never held while anything is sent, and the
log call takes it only to evict an old call when it is asked to (`overflow="drop_oldest"`).

A call that must wait for another try waits here, not in the outbox, so that an outbox has nothing to do but to keep.
"""

from __future__ import annotations

import heapq
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from km_logging import policy
from km_logging.calls import Problem, type_name
from km_logging.guard import THREAD_NAME, here
from km_logging.ledger import Ledger
from km_logging.outbox import Entry, Outbox
from km_logging.policy import Answer, Breaker, Throttle, Verdict
from km_logging.queueing import Mark
from km_logging.senders import Sender
from km_logging.settings import Settings

__all__ = ["Delivery"]

#: A worker with nothing to do goes after so many seconds.
IDLE = 10.0

#: Python 3.12.0 to 3.12.2 start no thread while the process ends, which is when the most calls may wait for one. There,
#: all workers start with the first call, and stay.
KEEPS_WORKERS = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2)


class Delivery:
    """Delivers what an outbox holds.

    Args:
        settings: `senders`, `retry_for`, `cpu_share`.
        outbox: what to deliver from.
        make_sender: called in a worker's thread, once, and again if it raised.
        ledger: the books.
        ended: is told how many calls are no longer pending, once they are not.
        report: says a problem.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        make_sender: Callable[[], Sender],
        ledger: Ledger,
        ended: Callable[[int], None],
        report: Callable[[Problem], None],
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._make_sender = make_sender
        self._ledger = ledger
        self._ended = ended
        self._report_problem = report
        self._turn = threading.Condition()  # guards everything below
        self._due: deque[Entry] = deque()
        self._later: list[tuple[float, int, Entry]] = []
        self._under_way: dict[int, Entry] = {}
        self._marks: list[Mark] = []
        self._number = 0
        self._pending = 0
        self._workers = 0
        self._idle = 0
        self._drains = 0
        self._width = settings.senders
        self._breaker = Breaker()
        self._throttle = Throttle()
        self._closed = False
        self._sender: Sender | None = None
        self._making = threading.Lock()  # held while the sender is made: an import, and the user's `session`

    # What the listener and the tracker ask for.

    def start(self) -> None:
        """Have one worker at least; raises RuntimeError if no thread can be started."""
        with self._turn:
            if not self._closed:
                for _ in range((self._width if KEEPS_WORKERS else 1) - self._workers):
                    self._add_worker()

    def put(self, requests: Iterable[str]) -> None:
        """Take new calls."""
        with self._turn:
            now = time.time()
            entries = [Entry(request, now, self._number + count) for count, request in enumerate(requests, start=1)]
            if not entries:
                return
            if self._closed:
                self._give_up(len(entries), "closed")
                return
            self._number += len(entries)
            self._pending += len(entries)
            self._outbox.put(entries)
            self._turn.notify(len(entries))
            self._grow()

    def reached(self, mark: Mark) -> None:
        """The listener has put everything that came before the mark."""
        with self._turn:
            mark.last, mark.left = self._number, self._pending
            if mark.left:
                self._marks.append(mark)
            else:
                mark.done.set()
        mark.seen.set()

    def evict(self) -> bool:
        """Drop the oldest call that waits; false if none does."""
        with self._turn:
            entry = None if self._closed else self._oldest_waiting()
            if entry is not None:
                self._end(entry)
            return entry is not None

    def _oldest_waiting(self) -> Entry | None:
        """Take out the oldest entry that is not under way: those that were tried are older than those that were not."""
        while tried := [*self._due, *(entry for _, _, entry in self._later)]:
            oldest = min(tried, key=lambda entry: entry.number)
            if self._taken_out(oldest):
                self._outbox.settle(oldest)
                return oldest
        return self._outbox.evict()

    def _taken_out(self, entry: Entry) -> bool:
        """Take an entry out of those that wait for another try; false if a signal handler was faster."""
        with suppress(ValueError):
            self._due.remove(entry)
            return True
        for later in [later for later in self._later if later[2] is entry]:
            with suppress(ValueError):
                self._later.remove(later)
                heapq.heapify(self._later)
                return True
        return False

    def drain(self, *, hurry: bool) -> None:
        """Stop being polite, until `relax`: somebody waits for the calls to be gone.

        Args:
            hurry: there will be no later: end the pauses that are our own, too.
        """
        with self._turn:
            self._drains += 1
            if hurry:
                self._breaker = self._breaker.hurried()
                self._due.extend(entry for _, _, entry in sorted(self._later))
                self._later.clear()
            self._grow()
            self._turn.notify_all()

    def relax(self) -> None:
        """The end of a `drain`."""
        with self._turn:
            self._drains -= 1

    def close(self) -> int:
        """Give up what is pending and let the workers end; returns how many calls that were."""
        with self._turn:
            self._closed = True
            left, self._pending = self._pending, 0
            self._give_up(left, "closed")
            self._release_marks()
            self._turn.notify_all()
        if self._sender is not None:
            with suppress(Exception):  # a session is the user's code
                self._sender.close()
        return left

    def abandon(self) -> None:
        """In a forked child: whatever of this still runs here (greenlets do) must not send the parent's calls again.

        Takes no lock: the thread that held it does not exist in this process.
        """
        self._closed = True

    @property
    def oldest(self) -> float | None:
        """When the oldest pending call was accepted, Unix time; None if none is pending."""
        with self._turn:
            entries = [*self._due, *self._under_way.values(), *(entry for _, _, entry in self._later)]
            moments = [entry.accepted_at for entry in entries]
            if self._outbox.oldest is not None:
                moments.append(self._outbox.oldest)
            return min(moments, default=None)

    @property
    def is_held(self) -> bool:
        """Whether this thread holds the lock; a signal handler may find itself there."""
        return bool(self._turn._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name for it

    # The workers.

    def _grow(self) -> None:
        """Add a worker if all are busy while calls wait. The lock is held."""
        # For what is due later one idle worker keeps the time.
        waiting = self._outbox.waiting + len(self._due) + bool(self._later)
        most = self._width if self._sender is not None else 1  # which says how many it can serve
        if waiting > self._idle and self._workers < most and not self._closed:
            # Without more threads, those that are there do the work.
            with suppress(RuntimeError):
                self._add_worker()

    def _add_worker(self) -> None:
        worker = threading.Thread(target=self._work, name=f"{THREAD_NAME}sender-{self._workers + 1}", daemon=True)
        worker.start()
        self._workers += 1

    def _work(self) -> None:
        here.ours = True
        while (entry := self._take()) is not None:
            sender = self._sender_or_not(entry)
            began = time.thread_time()
            try:
                answer = sender if isinstance(sender, Answer) else sender.send(entry.request)
            except Exception as error:  # noqa: BLE001 - a sender promises not to; this thread must not end for it
                answer = Answer(None, error=type_name(error))
            try:
                self._settle(entry, answer, time.thread_time() - began)
            except Exception as error:  # noqa: BLE001 - a worker must outlive whatever is wrong with one call
                message = f"delivery met an error of its own ({type_name(error)})"
                self._report_problem(Problem("delivery", message, "please report this to the authors of km_logging"))

    def _take(self) -> Entry | None:
        """Wait for an entry that may be sent now; None if this worker should end."""
        with self._turn:
            while not self._closed and self._workers <= self._width:
                now = time.monotonic()
                self._ripen(now)
                pause = self._pause(now)
                if pause <= 0 and self._breaker.allows(now) and not self._is_waited_for and (entry := self._next()):
                    self._breaker = self._breaker.began()
                    self._under_way[entry.number] = entry
                    self._grow()
                    return entry
                if self._pending:
                    self._wait(pause)
                elif not self._wait(IDLE) and not self._pending and not KEEPS_WORKERS:
                    break
            self._workers -= 1
            self._turn.notify()  # what woke this one may have been meant for one who stays
            return None

    def _wait(self, seconds: float) -> bool:
        self._idle += 1
        try:
            return self._turn.wait(min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._idle -= 1

    def _pause(self, now: float) -> float:
        """Seconds until something may be sent, or something is due: 0 or less if at once."""
        if self._is_waited_for:
            return self._until_later(now)
        until = self._breaker.until if self._drains else max(self._breaker.until, self._throttle.until)
        if until > now:
            return min(until - now, self._until_later(now))
        return 0.0 if self._due or self._outbox.waiting else self._until_later(now)

    @property
    def _is_waited_for(self) -> bool:
        """Whether everything waits for one attempt: a probe, or the first, which makes the sender that has a width."""
        return self._breaker.probing or (self._sender is None and bool(self._under_way))

    def _until_later(self, now: float) -> float:
        return self._later[0][0] - now if self._later else IDLE

    def _ripen(self, now: float) -> None:
        """What waited long enough is due, or has expired while nothing could be sent."""
        while self._later and self._later[0][0] <= now:
            _, _, entry = heapq.heappop(self._later)
            if self._is_expired(entry):
                self._drop(entry, "expired")
            else:
                self._due.append(entry)

    def _next(self) -> Entry | None:
        while self._due:
            entry = self._due.popleft()
            if not self._is_expired(entry):
                return entry
            self._drop(entry, "expired")
        return next(iter(self._outbox.claim(1)), None)

    def _sender_or_not(self, entry: Entry) -> Sender | Answer:
        """The sender, made with the first attempt; or why there is none."""
        if entry.tries:
            self._ledger.retried.add()
        if self._sender is not None:
            return self._sender
        try:
            with self._making:
                if self._sender is None:
                    sender = self._make_sender()
                    self._width = min(self._settings.senders, sender.width)
                    self._sender = sender
        except BaseException as error:  # noqa: BLE001 - the user's `session` may raise even SystemExit
            kind, what = ("callback", "session") if self._settings.session else ("delivery", "making the sender")
            problem = Problem(kind, f"{what} raised {type_name(error)}", "mend what it says; calls wait meanwhile")
            self._report_problem(problem)
            return Answer(None, error=f"{what} raised {type_name(error)}")
        with self._turn:
            self._grow()
            self._turn.notify_all()
        return self._sender

    # After an attempt.

    def _settle(self, entry: Entry, answer: Answer, cpu: float) -> None:
        verdict = policy.verdict(answer)
        with self._turn:
            if self._closed:
                return
            now = time.monotonic()
            self._throttle = self._throttle.spent(cpu, self._settings.cpu_share, now)
            self._under_way.pop(entry.number, None)
            entry = entry._replace(tries=entry.tries + 1)
            if verdict is not Verdict.DELIVERED:
                self._ledger.last_error = str(answer)
            if verdict is Verdict.RETRY:
                patience = policy.retry_after(answer.retry_after, time.time())
                self._breaker = self._breaker.failed(now, random.random(), patience)
                self._again(entry, now)
                return
            if self._breaker != Breaker():
                self._breaker = self._breaker.succeeded(now)
                self._turn.notify_all()
            if verdict is Verdict.DELIVERED:
                self._ledger.note_delivered()
                self._outbox.settle(entry)
                self._end(entry)
            elif entry.tries >= policy.REJECT_AFTER:
                self._drop(entry, "rejected")
            else:
                self._again(entry, now)

    def _again(self, entry: Entry, now: float) -> None:
        """Try once more after a while, unless its time is over."""
        left = entry.accepted_at + self._settings.retry_for - time.time()
        if left <= 0:
            self._drop(entry, "expired")
            return
        pause = max(policy.backoff(entry.tries, random.random()), self._breaker.until - now)
        due = now + min(left, pause)
        heapq.heappush(self._later, (due, entry.number, entry))

    def _is_expired(self, entry: Entry) -> bool:
        """Whether its time is over; each call gets one try at least."""
        return entry.tries > 0 and time.time() >= entry.accepted_at + self._settings.retry_for

    def _drop(self, entry: Entry, reason: str) -> None:
        self._ledger.dropped[reason].add()
        self._outbox.settle(entry)
        self._end(entry)

    def _give_up(self, calls: int, reason: str) -> None:
        for _ in range(calls):
            self._ledger.dropped[reason].add()
        self._ended(calls)

    def _end(self, entry: Entry) -> None:
        """The call is no longer pending: count it off, and tell who waits for it."""
        self._pending -= 1
        self._ended(1)
        for mark in self._marks:
            if entry.number <= mark.last:
                mark.left -= 1
        if self._marks:
            self._release_marks()

    def _release_marks(self) -> None:
        for mark in self._marks:
            if mark.left == 0 or self._closed:
                mark.done.set()
        self._marks = [mark for mark in self._marks if not mark.done.is_set()]
