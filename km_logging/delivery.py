"""From the outbox to the server: who sends what when. Threads here, decisions in `policy`.

Workers are daemonic threads that take an entry, send it, and report the answer. They grow with the backlog up to
`senders`, and go when idle. One condition guards all state below; it is never held while anything is sent, and the
log call takes it only to evict an old call when it is asked to (`overflow="drop_oldest"`).

A call that must wait for another try waits in `retries`, not in the outbox, so that an outbox has nothing to do but to
keep. `pacing` says when more may begin, `marks` knows who waits for calls to end. What an outbox shares with other
processes is looked at now and then, by whoever is idle.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from km_logging import policy
from km_logging.calls import Problem, type_name
from km_logging.deadline import Deadline
from km_logging.guard import THREAD_NAME, ours, park
from km_logging.ledger import Ledger
from km_logging.marks import Marks
from km_logging.outbox import Entry, Outbox
from km_logging.pacing import Pacing
from km_logging.policy import Answer, Breaker, Verdict
from km_logging.problems import EVERY, unreachable
from km_logging.queueing import Mark
from km_logging.retries import Retries
from km_logging.senders import ManySender, Sender
from km_logging.settings import Settings

__all__ = ["Delivery"]

#: A worker with nothing to do goes after so many seconds.
IDLE = 10.0

#: What cannot be reached for so long, in seconds, is said.
OUTAGE = 10.0

#: How often to look whether everything is through, in seconds.
GLANCE = 0.01

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
        left: is told how many calls no longer take up room in memory.
        report: says a problem.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        make_sender: Callable[[], Sender],
        ledger: Ledger,
        left: Callable[[int], None],
        report: Callable[[Problem], None],
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        outbox.wake = self.wake
        self._make_sender = make_sender
        self._ledger = ledger
        self._left = left
        self._report_problem = report
        self._turn = threading.Condition()  # guards everything below
        self._retries = Retries()
        self._under_way: set[Entry] = set()
        self._marks = Marks(outbox)
        self._workers = 0
        self._idle = 0
        self._width = settings.senders
        self._breaker = Breaker()
        self._says_unreachable_at = math.inf
        self._pacing = Pacing(settings.cpu_share)
        self._watched_until = math.inf  # a worker waits for this moment; no other one need wait for a later one
        self._closed = False
        self._is_abandoned = False
        self._ended: Callable[[], None] = lambda: None
        self._sender: Sender | None = None
        self._many: ManySender | None = None  # the same, if it has many requests under way in one thread
        self._is_driving = False  # a worker has many requests under way
        self._making = threading.Lock()  # held while the sender is made: an import, and the user's `session`

    # What the listener and the tracker ask for.

    def start(self) -> None:
        """Have one worker at least; raises RuntimeError if no thread can be started."""
        with self._turn:
            if not self._closed:
                for _ in range((self._width if KEEPS_WORKERS else 1) - self._workers):
                    self._add_worker()

    @property
    def has_workers(self) -> bool:
        """Whether anybody is there to deliver."""
        return self._workers > 0

    def put(self, requests: Sequence[str]) -> None:
        """Take new calls."""
        with self._turn:
            if self._closed:
                self._ledger.dropped["closed"].add_many(len(requests))
                self._left(len(requests))
            elif requests:
                self._outbox.put(requests, time.time())
                self._wake(len(requests))

    def wake(self) -> None:
        """There may be something new in the outbox."""
        with self._turn:
            self._wake(1)

    def _wake(self, calls: int) -> None:
        self._marks.follow()
        self._turn.notify(calls)
        self._wake_driver()
        self._grow()

    def _wake_driver(self) -> None:
        if self._many is not None:
            self._many.wake()

    def reached(self, mark: Mark) -> None:
        """The listener has put everything that came before the mark."""
        with self._turn:
            self._marks.add(mark)
            if self._closed:
                self._marks.give_up()
        mark.seen.set()

    def evict(self) -> bool:
        """Drop the oldest call in memory that waits; false if none does, or if an outbox that lasts is just in use."""
        if not self._turn.acquire(blocking=not self._outbox.lasts):
            return False
        try:
            entry = None if self._closed else self._oldest_waiting()
            if entry is not None:
                self._marks.ended(entry)
            return entry is not None
        finally:
            self._turn.release()

    def _oldest_waiting(self) -> Entry | None:
        """Take out the oldest entry that is not under way: those that were tried are older than those that were not."""
        while tried := [entry for entry in self._retries if self._outbox.holds(entry)]:
            oldest = min(tried, key=lambda entry: entry.accepted_at)
            if self._retries.discard(oldest):
                self._outbox.settle(oldest)
                return oldest
        return self._outbox.evict()

    def drain(self, *, hurry: bool) -> None:
        """Stop being polite, until `relax`: somebody waits for the calls to be gone.

        Args:
            hurry: there will be no later: end the pauses that are our own, too.
        """
        with self._turn:
            self._pacing.waiters += 1
            if hurry:
                self._breaker = self._breaker.hurried()
                self._retries.hurry()
            self._grow()
            self._turn.notify_all()
            self._wake_driver()

    def relax(self) -> None:
        """The end of a `drain`."""
        with self._turn:
            self._pacing.waiters -= 1

    def close(self, ended: Callable[[], None] = lambda: None) -> None:
        """Give up what is pending, or leave it to others, and let the workers end.

        Args:
            ended: is called once nothing is under way, here or later: an answer that comes late still counts.
        """
        with self._turn:
            self._closed = True
            self._ended = ended
            self._outbox.close(self._under_way)
            self._marks.give_up()
            self._turn.notify_all()
            if not self._under_way:
                ended()
        self._close_sender()

    @property
    def is_through(self) -> bool:
        """Whether everything that is there was tried, or nothing can be sent for the time being.

        What the server refused for its own sake was tried only when it is rejected.
        """
        with self._turn:
            self._outbox.look()
            is_open = self._breaker.until > time.monotonic()
            refused = any(entry.refusals for entry in self._retries)
            return not self._under_way and (is_open or not (self._outbox.waiting or refused))

    def finish(self, deadline: Deadline) -> None:
        """Take nothing more, and wait for what is under way."""
        with self._turn:
            self._width = 0  # every worker is one too many
            self._turn.notify_all()
            while self._workers > 0 and deadline.left:
                self._turn.wait(deadline.left)

    def finish_others(self, deadline: Deadline) -> None:
        """Deliver what other processes have handed over until now, too: there may be none of them left."""
        with self._turn:
            self._outbox.stop_at_last()
            self._turn.notify_all()
            while not self.is_through and not self._closed and deadline.left:
                self._turn.wait(min(deadline.left, GLANCE))

    def keep_rest(self) -> None:
        """There is no more time: what lasts shall hold everything that it can."""
        with self._turn:
            self._outbox.keep_rest()

    def abandon(self) -> None:
        """In a forked child: whatever of this still runs here (greenlets do) must not send the parent's calls again.

        Takes no lock: the thread that held it does not exist in this process.
        """
        self._closed = self._is_abandoned = True
        self._outbox.abandon()
        if self._sender is not None:
            self._sender.abandon()

    @property
    def oldest(self) -> float | None:
        """When the oldest pending call was accepted, Unix time; None if none is pending."""
        with self._turn:
            moments = [entry.accepted_at for entry in (*self._retries, *self._under_way) if entry.is_own]
            if self._outbox.oldest is not None:
                moments.append(self._outbox.oldest)
            return min(moments, default=None)

    @property
    def is_held(self) -> bool:
        """Whether this thread holds the lock; a signal handler may find itself there."""
        return self._outbox.is_held or bool(self._turn._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name for it

    def rest(self, cpu: float) -> float:
        """The listener took so much CPU time, in seconds; how many seconds it should rest for that.

        None where calls last: they are put down first.
        """
        with self._turn:
            if self._outbox.lasts:
                self._pacing.worked(cpu)
                return 0.0
            return self._pacing.rest(cpu, self._outbox.waiting, time.monotonic())

    # The workers.

    def _grow(self) -> None:
        """Add a worker if all are busy while calls wait. The lock is held."""
        # For what is due later one idle worker keeps the time.
        waiting = self._outbox.waiting + self._retries.due + (self._retries.next_at < math.inf)
        most = self._width if self._sender is not None else 1  # which says how many it can serve
        is_unwatched = self._workers == 0 and self._outbox.poll < math.inf
        is_wanted = is_unwatched or (waiting > self._idle and not self._pacing.holds_back(time.monotonic()))
        if is_wanted and self._workers < most and not self._closed:
            # Without more threads, those that are there do the work.
            with suppress(RuntimeError):
                self._add_worker()

    def _add_worker(self) -> None:
        worker = threading.Thread(target=self._work, name=f"{THREAD_NAME}sender-{self._workers + 1}", daemon=True)
        worker.start()
        self._workers += 1

    def _work(self) -> None:
        ours.set(True)
        began = time.thread_time()
        while (entry := self._take()) is not None:
            if self._sender is None:
                sender = self._sender_or_not()
                began = time.thread_time()  # to import it is not what an attempt takes
            else:
                sender = self._sender
            if self._many is not None:
                self._drive(self._many, entry)
                continue
            try:
                answer = sender if isinstance(sender, Answer) else sender.send(entry.request)
            except Exception as error:  # noqa: BLE001 - a sender promises not to; this thread must not end for it
                answer = Answer(None, error=type_name(error))
            began, before = time.thread_time(), began  # from one answer to the next: to wait has its price, too
            self._settle([(entry, answer)], began - before)

    def _drive(self, sender: ManySender, entry: Entry) -> None:
        """Have many requests under way in this one thread, until there is nothing to send."""
        self._is_driving = True
        sender.begin(entry.request, entry)
        under_way = 1
        began = time.thread_time()
        while under_way:
            more, seconds = self._take_more(sender.width - under_way)
            for another in more:
                sender.begin(another.request, another)
            under_way += len(more)
            answered = cast("list[tuple[Entry, Answer]]", sender.wait(seconds))
            under_way -= len(answered)
            began, before = time.thread_time(), began
            self._settle(answered, began - before)
        with self._turn:
            self._is_driving = False
            self._close_sender()

    def _close_sender(self) -> None:
        """Once it is closed here; but a sender of many only where nobody is in the middle of using it."""
        if self._closed and self._sender is not None and not self._is_driving:
            with suppress(Exception):  # a session is the user's code
                self._sender.close()

    def _take_more(self, limit: int) -> tuple[list[Entry], float]:
        """Entries that may be sent now, beside those that are under way, and seconds until there may be more."""
        with self._turn:
            self._outbox.look()
            self._marks.follow()
            more: list[Entry] = []
            now = time.monotonic()
            self._ripen(now)
            may_more = not self._closed and self._width > 0
            while may_more and len(more) < limit and self._may_begin(self._pause(now), now):
                # While nothing speaks against the path, all at once.
                room = min(limit - len(more), self._pacing.room(now))
                found = self._next(int(room) if self._breaker.is_closed else 1)
                if not found:
                    break
                for entry in found:
                    self._begin(entry, now)
                more += found
            return more, max(0.0, min(self._pause(now) or IDLE, self._outbox.poll, IDLE))

    def _begin(self, entry: Entry, now: float) -> None:
        self._breaker = self._breaker.began()
        self._pacing.began(now)
        self._under_way.add(entry)
        if entry.tries:
            self._ledger.retried.add()

    def _may_begin(self, pause: float, now: float) -> bool:
        return pause <= 0 and self._breaker.allows(now) and not self._is_waited_for

    def _take(self) -> Entry | None:
        """Wait for an entry that may be sent now; None if this worker should end."""
        with self._turn:
            idle_since = time.monotonic()
            while not self._closed and self._workers <= self._width:
                self._outbox.look()
                self._marks.follow()
                now = time.monotonic()
                self._ripen(now)
                pause = self._pause(now)
                if self._may_begin(pause, now) and (found := self._next(1)):
                    self._begin(found[0], now)
                    self._grow()
                    self._turn.notify()  # who waits for the next moment in the place of this one
                    return found[0]
                if not self._under_way:
                    self._outbox.sync()
                if self._is_needed:
                    idle_since = now
                if now - idle_since >= IDLE:
                    break
                if self._wait(now, min(pause, self._outbox.poll)):
                    idle_since = time.monotonic()
            self._workers -= 1
            self._turn.notify_all()  # what woke this one may have been meant for one who stays, or for `finish`
        if self._is_abandoned:
            park()
        return None

    @property
    def _is_needed(self) -> bool:
        """Whether this worker must stay although there is nothing to send: somebody must keep the time, or look."""
        alone = self._workers == 1 and self._outbox.poll < math.inf
        return KEEPS_WORKERS or alone or bool(self._outbox.pending or self._retries)

    def _wait(self, now: float, seconds: float) -> bool:
        """Wait to be woken: true; or until it is time: false. Of all workers one keeps the time."""
        until = now + seconds
        if until < self._watched_until:
            self._watched_until = until
        else:
            seconds = IDLE
        self._idle += 1
        try:
            return self._turn.wait(min(seconds, threading.TIMEOUT_MAX))
        finally:
            self._idle -= 1
            if self._watched_until == until:
                self._watched_until = math.inf

    def _pause(self, now: float) -> float:
        """Seconds until something may be sent, or something is due: 0 or less if at once."""
        if self._is_waited_for:
            return self._until_later(now)
        until = max(self._breaker.until, self._pacing.until(self._bunch, now))
        if until > now:
            return min(until - now, self._until_later(now))
        return 0.0 if self._retries.due or self._outbox.waiting else self._until_later(now)

    @property
    def _bunch(self) -> int:
        """How many begin at once: of many in one thread some, since each round of libcurl's has a price of its own."""
        if self._many is None:
            return 1
        return max(1, min(self._many.width // 8, self._outbox.waiting + self._retries.due))

    @property
    def _is_waited_for(self) -> bool:
        """Whether everything waits for one attempt: a probe, or the first, which makes the sender that has a width."""
        return self._breaker.probing or (self._sender is None and bool(self._under_way))

    def _until_later(self, now: float) -> float:
        return self._retries.next_at - now if self._retries.next_at < math.inf else IDLE

    def _ripen(self, now: float) -> None:
        """What waited long enough is due, or has expired while nothing could be sent."""
        if self._retries.next_at > now:  # as nearly always
            return
        for entry in self._retries.ripe(now):
            if self._is_expired(entry):
                self._drop(entry, "expired")
            else:
                self._retries.add_due(entry)

    def _next(self, most: int) -> Sequence[Entry]:
        """What is due, or else was not tried yet."""
        while (entry := self._retries.take()) is not None:
            if not self._is_expired(entry):
                return [entry]
            self._drop(entry, "expired")
        return self._outbox.claim(most)

    def _sender_or_not(self) -> Sender | Answer:
        """The sender, made with the first attempt; or why there is none."""
        if self._sender is not None:
            return self._sender
        try:
            with self._making:
                if self._sender is None:
                    sender = self._make_sender()
                    # One thread for many requests, or one for each.
                    self._many = sender if isinstance(sender, ManySender) else None
                    self._width = min(self._settings.senders, sender.width) if self._many is None else 1
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

    def _settle(self, answered: Sequence[tuple[Entry, Answer]], cpu: float) -> None:
        """What becomes of entries that were answered; ``cpu``: seconds that they took together."""
        problems: list[Problem] = []  # said without the lock: a callback may be anything
        with self._turn:
            now = time.monotonic()
            self._pacing.ended(cpu, len(answered), now)
            for entry, answer in answered:
                try:
                    self._settle_one(entry, answer, now)
                except Exception as error:  # noqa: BLE001, PERF203 - a worker outlives whatever is wrong with one call
                    message = f"delivery met an error of its own ({type_name(error)})"
                    problems.append(Problem("delivery", message, "please report this to the authors of km_logging"))
            if self._is_to_say_unreachable(now):
                problems.append(unreachable(self._settings.endpoint, self._ledger.last_error or "no answer"))
        for problem in problems:
            self._report_problem(problem)

    def _is_to_say_unreachable(self, now: float) -> bool:
        """Whether nothing could be delivered for so long that it should be known; once a minute."""
        if self._closed or not self._breaker.has_failed:
            self._says_unreachable_at = math.inf
        elif self._says_unreachable_at == math.inf:
            self._says_unreachable_at = now + OUTAGE
        elif now >= self._says_unreachable_at:
            self._says_unreachable_at = now + EVERY
            return True
        return False

    def _settle_one(self, entry: Entry, answer: Answer, now: float) -> None:
        verdict = policy.verdict(answer)
        self._under_way.discard(entry)
        if self._closed:
            self._settle_late(entry, verdict)
            return
        if verdict is not Verdict.RETRY and self._breaker.has_failed:
            self._breaker = self._breaker.succeeded(now)
            self._turn.notify_all()
        if verdict is Verdict.DELIVERED:
            self._ledger.note_delivered(is_own=entry.is_own)
            self._outbox.settle(entry)
            self._marks.ended(entry)
            return
        self._ledger.last_error = str(answer)
        entry = entry._replace(tries=entry.tries + 1, refusals=entry.refusals + (verdict is Verdict.REJECT))
        if verdict is Verdict.RETRY:
            patience = policy.retry_after(answer.retry_after, time.time())
            now = time.monotonic()  # not before the clock that a date goes by
            self._breaker = self._breaker.failed(now, random.random(), patience)
        if entry.refusals >= policy.REJECT_AFTER:
            self._drop(entry, "rejected")
        else:
            self._again(entry, now)

    def _settle_late(self, entry: Entry, verdict: Verdict) -> None:
        """After the close."""
        if self._outbox.finish(entry, is_delivered=verdict is Verdict.DELIVERED):
            self._ledger.note_delivered(is_own=entry.is_own)
        if not self._under_way:
            self._ended()

    def _again(self, entry: Entry, now: float) -> None:
        """Try once more after a while, unless its time is over."""
        left = entry.accepted_at + self._settings.retry_for - time.time()
        if left <= 0:
            self._drop(entry, "expired")
            return
        pause = max(policy.backoff(entry.tries, random.random()), self._breaker.until - now)
        self._retries.add(entry, now + min(left, pause))

    def _is_expired(self, entry: Entry) -> bool:
        """Whether its time is over; each call gets one try at least."""
        return entry.tries > 0 and time.time() >= entry.accepted_at + self._settings.retry_for

    def _drop(self, entry: Entry, reason: str) -> None:
        if entry.is_own:
            self._ledger.dropped[reason].add()
        self._outbox.bury(entry) if reason == "rejected" else self._outbox.settle(entry)
        self._marks.ended(entry)
