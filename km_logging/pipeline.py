"""What runs behind a tracker: queue, listener, outbox, delivery; put together here, and taken down.

A pipeline begins at a tracker's construction, fork or revival, and ends with its close. It starts its threads with
the first call. A forked child gets a new one; in the old one, nothing may be sent any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from km_logging import process, sigterm, uwsgi, wire
from km_logging.calls import Call, Problem
from km_logging.capturing import captures
from km_logging.deadline import Deadline
from km_logging.delivery import Delivery
from km_logging.guard import as_ours, ours
from km_logging.intake import Intake
from km_logging.ledger import Ledger
from km_logging.listener import Listener
from km_logging.outbox import make_outbox
from km_logging.problems import Reporter, insecure
from km_logging.queueing import CallQueue, Committed, Mark
from km_logging.senders import make_sender, unfit_for_curl
from km_logging.settings import Settings
from km_logging.tagging import Rules, Snapshot, Taken
from km_logging.telling import Told

__all__ = ["Pipeline"]

#: So many problems may wait in the queue to be said, beside the calls.
PROBLEMS = 1_000

_NO_THREADS = Problem(
    "delivery",
    "uWSGI runs no threads here, so nothing is sent between requests",
    "start it with --enable-threads; or fill an outbox that lasts, with deliver=False, and have a relay send",
)


class Pipeline:
    """The way of the calls of one tracker.

    Args:
        settings: of the tracker.
        rules: the same, prepared for tagging.
        ledger: the books, which outlive the pipeline.
        reporter: says problems, and remembers which it has said.
        tell: tells the call of a snapshot.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        ledger: Ledger,
        reporter: Reporter,
        tell: Callable[[Snapshot], Told],
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.is_running = False
        self.is_closed = False
        self.is_over = False
        self.said_left = 0
        self._is_threadless = False  # the last try to start the threads has failed
        self._starting = threading.Lock()  # only ever tried, never waited for: a log call may come in between
        self.calls = CallQueue(settings.capacity)
        self._reporter = reporter
        self._outbox = make_outbox(settings, ledger=ledger, left=self.calls.left, report=self.calls.put_nowait)
        # Of an outbox that has it, what waits for the commit in the log call.
        self._put_now = getattr(self._outbox, "put_now", None) if settings.durability == "immediate" else None
        self._intake = Intake(tell=tell, before_send=settings.before_send, ledger=ledger, rules=rules)
        self._delivery = Delivery(
            settings,
            outbox=self._outbox,
            make_sender=lambda: make_sender(settings),
            ledger=ledger,
            left=self.calls.left,
            report=reporter.report,
        )
        self._listener = Listener(
            self.calls,
            intake=self._intake,
            keep=self._delivery.put,
            wake=self._delivery.wake,
            rest=self._delivery.rest,
            reached=self._delivery.reached,
            lasts=self._outbox.lasts,
            ledger=ledger,
            reporter=reporter,
        )

    @property
    def pending(self) -> int:
        """How many calls are still here."""
        return self.calls.pending + self._outbox.lasting

    @property
    def is_idle(self) -> bool:
        """Whether nothing is pending here, nor waits to be said."""
        return self.calls.is_done and not self.pending

    @property
    def at_risk(self) -> int:
        """How many of them end with this process."""
        return self.calls.pending

    @property
    def oldest(self) -> float | None:
        """When the oldest pending call was accepted, Unix time; None if none is pending."""
        in_outbox = None if process.is_too_late() else self._delivery.oldest
        return self.calls.moment if in_outbox is None else in_outbox

    @property
    def is_held(self) -> bool:
        """Whether this thread is in the middle of something that those who deliver wait for."""
        return self._delivery.is_held

    @property
    def is_fit(self) -> bool:
        """Whether this can take calls: it is not closed, nor made before gevent patched `threading`.

        gunicorn does so in workers that it has forked from a process with the application. Whoever waits for a lock of
        before stops all greenlets.
        """
        return not self.is_closed and (self.is_running or type(self._starting) is type(threading.Lock()))

    # In the caller's thread.

    def put(self, item: Taken | Snapshot | Call) -> bool:
        """Take a call; false if there is no room for it."""
        if captures:
            return self._capture(item)
        if self._put_now is None or self._intake.is_deep or uwsgi.is_loading():
            return self._enqueue(item)
        return self._commit(item, self._put_now)

    def _commit(self, item: Taken | Snapshot | Call, put_now: Callable[[str, float], bool]) -> bool:
        request = self._intake.request(item, self.put_problem)
        if request is None:
            return True
        if not self.is_running:
            self.start()  # first: a fork in another thread must know of the file that is opened here
        if not put_now(request, time.time()):
            return self._enqueue(request)
        if not self.calls.is_full:  # it only wakes those who deliver, and helps an estimate
            self.calls.put_nowait(Committed(request))
        return True

    def _enqueue(self, item: Taken | Snapshot | Call | str) -> bool:
        if not self.calls.offer(item):
            if not self._make_room():
                return False
            self.calls.put_nowait(item)
        if self.is_over:
            self.give_up_queue()  # it ended in between
        elif not self.is_running:
            self.start()
        return True

    def put_problem(self, problem: Problem) -> None:
        """Have the listener say a problem, so that no callback runs in the caller's thread."""
        if captures:
            self._capture_problem(problem)
            return
        if len(self.calls) < self.settings.capacity + PROBLEMS and not self.is_over:
            self.calls.put_nowait(problem)
            if not self.is_running:
                self.start()

    # The same while a test captures calls: everything happens here and now, and no thread is started.

    def _capture(self, item: Taken | Snapshot | Call) -> bool:
        with as_ours():  # as in the listener's thread: what a callback logs is never tracked
            request = self._intake.request(item, self._capture_problem)
        if request is not None:
            self.ledger.note_delivered()
            for capture in captures[-1:]:  # it may have ended just now
                capture.calls.append(wire.decode(request))
        return True

    def _capture_problem(self, problem: Problem) -> None:
        for capture in captures[-1:]:
            capture.problems.append(problem)
        with as_ours():
            self._reporter.report(problem)

    def _make_room(self) -> bool:
        if process.is_too_late():
            return False
        overflow = self.settings.overflow
        if overflow == "drop_oldest" and (self._delivery.evict() or self.calls.evict()):
            self.ledger.dropped["overflow"].add()
            return True
        if overflow == "block" and not ours.get():
            deadline = Deadline(self.settings.block_timeout)
            while self.calls.is_full and deadline.left:
                self.calls.wait_for_room(deadline.left)
        return not self.calls.is_full

    def start(self) -> None:
        """Start the threads, if nobody is just doing so. Never raises: without them, calls wait for the next try."""
        if not self.is_over:
            process.running.add(self)
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self.is_running or self.is_over:
                return
            process.arm()
            if not process.may_start():
                return
            if uwsgi.runs_no_threads():
                self._reporter.report(_NO_THREADS)  # in this thread: there runs no other one
            if self.settings.drain_on_sigterm and not sigterm.catch():
                message = "drain_on_sigterm could not be set up outside the main thread"
                self.calls.put_nowait(Problem("delivery", message, "configure tracking in the main thread"))
            self._delivery.start()
            self._listener.start()
            self.is_running, self._is_threadless = True, False
            if unfit := unfit_for_curl(self.settings):
                message = f"transport 'curl' cannot be used: {unfit}; requests serves"
                self.calls.put_nowait(Problem("delivery", message, "leave transport out"))
            if self.settings.mode == "live" and not self.settings.endpoint.is_private:
                self.calls.put_nowait(insecure(self.settings.endpoint))
        except RuntimeError as error:
            self._is_threadless = True
            message = self.ledger.last_error = f"no thread could be started ({error})"
            self._reporter.report(
                Problem("delivery", message, "allow threads, and log before the end; calls wait until then")
            )
        finally:
            self._starting.release()

    # Waiting.

    def catch_up(self, timeout: float) -> None:
        """Wait until the listener has looked at everything that is in the queue now, at most ``timeout`` seconds."""
        if self.is_running and not self.calls.is_done and not ours.get() and not process.is_too_late():
            mark = Mark()
            self.calls.put_nowait(mark)
            self.calls.nudge()
            mark.seen.wait(timeout)

    def begin_flush(self, *, hurry: bool) -> Mark:
        """Begin to wait for everything that was put before; ``hurry`` as in `Delivery.drain`."""
        mark = Mark()
        mark.is_last = hurry
        if self.pending and not self.is_running:
            self.start()
        self.calls.put_nowait(mark)
        self.calls.hurry()
        self._delivery.drain(hurry=hurry)
        if self._is_threadless:
            self._listen_here()
        if self.is_over:  # nobody will come to the mark
            mark.seen.set()
            mark.done.set()
        return mark

    def _listen_here(self) -> None:
        """Where no thread can be had: what outlasts the process can hold the calls, and others deliver them."""
        while batch := self.calls.get(block=False):
            self._listener.handle(batch)

    @property
    def _is_deaf(self) -> bool:
        """Whether to wait is in vain."""
        return self._is_threadless and not self._delivery.has_workers

    def end_flush(self, mark: Mark, deadline: Deadline) -> bool:
        """Wait until everything before the mark has ended: true; or for the deadline: false."""
        try:
            done = mark.done.wait(0 if self._is_deaf else deadline.left)
            if mark.is_last and not self._is_deaf:
                self._delivery.finish_others(deadline)
            return done
        finally:
            self._delivery.relax()

    def close(self, deadline: Deadline) -> None:
        """Deliver what there is within the deadline, give up the rest and say so, end the threads."""
        self.is_closed = True  # first: who comes now makes a new pipeline, and does not prolong the end of this one
        if process.is_too_late():
            process.say_left(self.at_risk, [self])
            return
        if self.pending:
            self.end_flush(self.begin_flush(hurry=True), deadline)
        elif self.is_running:
            self._delivery.finish_others(deadline)
        self.keep_rest()
        if left := self.at_risk:
            process.say_left(left, [self])
        self.is_over = True
        # Until nothing is under way, there is still something that a fork must not carry over.
        self._delivery.close(lambda: process.running.discard(self))
        self._listener.stop()
        self.give_up_queue()
        self.is_running = False

    def keep_rest(self) -> None:
        """There is no more time: put into an outbox that lasts what is only in memory, if that is possible at all."""
        self._delivery.keep_rest()

    def before_fork(self) -> None:
        """Leave nothing open that a child must not inherit."""
        self._outbox.before_fork()

    def after_fork(self) -> None:
        """In the parent: go on."""
        self._outbox.after_fork()

    def give_up_queue(self) -> None:
        """Drop what is in the queue: nobody will come for it."""
        while self.calls.evict():
            self.ledger.dropped["closed"].add()

    def abandon(self) -> None:
        """In a forked child: these calls are the parent's."""
        self.is_closed = True
        self._delivery.abandon()
        self.calls.abandon()
