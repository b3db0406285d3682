"""The tracker: one per distinct settings in a process; what every front end puts its calls into.

It tells calls, counts them in, and hands them to its `Pipeline`. The pipeline comes and goes with forks, closes and
revivals; the tracker and, within a process, its books stay.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING

from km_logging import helpers, process, sigterm, uwsgi
from km_logging.calls import Call, Problem, brief, type_name
from km_logging.capturing import captures
from km_logging.errors import ProblemError
from km_logging.guard import ours
from km_logging.identity import answered, identified
from km_logging.ledger import Ledger, Stats
from km_logging.outbox import check_outbox
from km_logging.pipeline import Pipeline
from km_logging.problems import FormattedNames, Reporter
from km_logging.senders import check_transport, load_sender
from km_logging.settings import Settings, source
from km_logging.tagging import Rules, Snapshot, Taken, from_nested
from km_logging.telling import Told, tell

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Tracker", "shared"]

#: How long `stats` waits for the listener to look at what is in the queue, in seconds.
CATCH_UP = 0.5


class Tracker:
    """Delivers calls; for code without a logger, and what every handler and processor puts its calls into.

    Constructing starts no thread and opens nothing; the first call does. ``with`` closes it at the end.

    Args:
        **settings: see `km_logging.settings.SETTINGS`.

    Raises:
        SettingsError: a setting is unknown, wrong or missing; the message says what to write instead.

    Example::

        with km_logging.Tracker(api_key="...") as tracker:
            tracker.event("bob", "Signed Up", plan="pro")
    """

    def __init__(self, **settings: object) -> None:
        self._assemble(_resolved(settings))

    def _assemble(self, settings: Settings) -> None:
        check_transport(settings)
        check_outbox(settings)
        if uwsgi.is_host():
            load_sender(settings)
        self.settings = settings
        self.rules = Rules(settings)
        self.is_off = settings.mode == "off"
        #: Two front ends with the same address make one call of one record.
        #: It is in every tag that was taken, so it must not show the key.
        self.address = hash((settings.api_key, settings.endpoint, settings.mode))
        self._looks_later = not settings.strict and settings.durability == "batched"
        self._users = 0
        self._closed = False
        self.renew()
        process.watch(self)
        if settings.drain_on_sigterm:
            sigterm.catch()

    def renew(self) -> None:
        """Start over, with nothing pending and new books: at construction, and in a forked child."""
        self._ledger = Ledger()
        self._reporter = Reporter(self.settings.on_problem)
        self._names = FormattedNames()
        self._renewing = threading.RLock()  # guards the replacement of a closed pipeline
        self._pipeline = self._new_pipeline()
        self._closing: tuple[Pipeline, ...] = ()  # being closed, in other threads

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self.settings, self.rules, self._ledger, self._reporter, self._tell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.endpoint} mode={self.settings.mode}>"

    # Saying what happened.

    def event(
        self,
        person: object = None,
        name: str | None = None,
        /,
        *,
        timestamp: float | datetime | None = None,
        properties: Mapping[str, object] | None = None,
        **props: object,
    ) -> bool:
        """Somebody did something; arguments as for `km_logging.event`. True when accepted."""
        return self._say(helpers.event(person, name, timestamp=timestamp, properties=properties, **props))

    def set(
        self,
        person: object = None,
        /,
        *,
        timestamp: float | datetime | None = None,
        properties: Mapping[str, object] | None = None,
        **props: object,
    ) -> bool:
        """Somebody has these properties; arguments as for `km_logging.set`. True when accepted."""
        return self._say(helpers.set(person, timestamp=timestamp, properties=properties, **props))

    def alias(self, person: object, identity: object, /) -> bool:
        """Two identities are one person; arguments as for `km_logging.alias`. True when accepted."""
        return self._say(helpers.alias(person, identity))

    def _say(self, nested: Mapping[str, Mapping[str, object]]) -> bool:
        if self.is_off or ours.get():
            return False
        snapshot = from_nested(nested["km"], self.rules, identified(), None, time.time())
        return self.take_now(snapshot) is not None

    # For the front ends.

    def take(self, snapshot: Snapshot) -> None:
        """Take a call; told in the listener's thread, or here and now if it must be known (`strict`)."""
        if self.settings.strict:
            self.take_now(snapshot)
        else:
            self._admit(_named(snapshot))

    def take_as_is(self, taken: Taken) -> bool:
        """Take a call that is looked at in the listener's thread; false if this tracker must look at it here."""
        if not self._looks_later:
            return False
        pipeline = self._pipeline
        if captures or not pipeline.is_running or pipeline.is_closed:
            self._admit(taken)
            return True
        self._ledger.taken.add()  # first: it may be delivered in the next moment
        if not pipeline.calls.offer(taken):
            self._put(pipeline, taken)
        elif pipeline.is_over:
            pipeline.give_up_queue()  # it ended in between
        return True

    def take_now(self, snapshot: Snapshot) -> Call | None:
        """Tell a call in the caller's thread and take it; None if it is refused, or dropped on the spot.

        Raises:
            ProblemError: only with `strict`.
        """
        told = self._tell(_named(snapshot))
        for problem in told.problems:
            self._note(problem)
        accepted = told.call is not None and self._admit(told.call)
        if told.problems and self.settings.strict:
            raise ProblemError(told.problems[0])
        return told.call if accepted else None

    def _admit(self, item: Taken | Snapshot | Call) -> bool:
        self._ledger.taken.add()
        if (self._closed or not self._pipeline.is_fit) and not self._revived():
            self._ledger.dropped["closed"].add()
            return False
        return self._put(self._pipeline, item)

    def _put(self, pipeline: Pipeline, item: Taken | Snapshot | Call) -> bool:
        if pipeline.put(item):
            return True
        self._ledger.dropped["overflow"].add()
        return False

    def failed(self, error: BaseException) -> None:
        """A front end could not take a record at all: count it, and have it said."""
        message = f"a record could not be taken ({type_name(error)})"
        self._note(Problem("delivery", message, "please report this to the authors of km_logging"))

    def _note(self, problem: Problem) -> None:
        self._ledger.refused[problem.kind].add()
        if not self._pipeline.is_fit:
            self._revived()
        self._pipeline.put_problem(problem)

    def _tell(self, snapshot: Snapshot) -> Told:
        told = tell(snapshot, self.rules)
        if told.call is not None and told.call.name is not None and self._names.is_one(told.call.name):
            message = f"many event names differ only in digits, such as {brief(told.call.name)}"
            remedy = "log a constant text, and pass what differs as a property"
            return Told(told.call, (*told.problems, Problem("formatted_name", message, remedy, told.call)))
        return told

    # Knowing, waiting, ending.

    def stats(self) -> Stats:
        """What became of the calls of this process, since its start or fork."""
        self._pipeline.catch_up(CATCH_UP)
        return self._ledger.stats(self._pipeline.oldest)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until none of the calls accepted before is pending here.

        Args:
            timeout: seconds; None: `drain_timeout`.

        Returns:
            True; or False if the time is over, or if waiting is impossible here: in a callback of ours, under the lock
            of the logging module, which `dictConfig` holds while it closes handlers, or once the interpreter is ending.
        """
        if ours.get() or _holds_logging_lock() or process.is_too_late():
            return self._ledger.stats(None).pending == 0
        if self._ledger.stats(None).pending == 0:
            # There may be problems to say; but what a callback does with them holds up nobody.
            self._pipeline.catch_up(CATCH_UP if timeout is None else min(CATCH_UP, timeout))
            return True
        deadline = process.deadline(self.settings.drain_timeout) if timeout is None else process.bounded(timeout)
        waiting = [(pipeline, pipeline.begin_flush(hurry=False)) for pipeline in (*self._closing, self._pipeline)]
        done = [pipeline.end_flush(mark, deadline) for pipeline, mark in waiting]
        return all(done)

    async def aflush(self, timeout: float | None = None) -> bool:
        """As `flush`, without blocking the event loop."""
        import asyncio  # whoever awaits has loaded it; nobody else should

        return await asyncio.get_running_loop().run_in_executor(None, self.flush, timeout)

    def close(self) -> None:
        """Deliver what is pending within `drain_timeout`, and end. Later calls are dropped and count as ``closed``."""
        self._closed = True
        self._close_pipeline()

    def _close_pipeline(self) -> None:
        pipeline = self._pipeline
        self._closing = (*self._closing, pipeline)
        try:
            pipeline.close(process.deadline(self.settings.drain_timeout))
        finally:
            self._closing = tuple(other for other in self._closing if other is not pipeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sharing.

    def retain(self) -> None:
        """One more front end uses this tracker."""
        if process.is_too_late():
            return
        with self._renewing:
            self._users += 1

    def release(self) -> None:
        """A front end was closed: deliver what is pending, and if it was the last one, end until the next record.

        Under the logging module's lock nothing is waited for; what is pending is delivered in the background.
        """
        if process.is_too_late():
            return
        with self._renewing:
            self._users -= 1
        if _holds_logging_lock() or ours.get():
            return
        if self._users > 0 or self._closed:
            self.flush()
        else:
            self._close_pipeline()

    def _revived(self) -> bool:
        """Whether a pipeline that is not fit could be replaced: not once the tracker itself, or the process, ended."""
        if self._closed:
            return False
        if not self._renewing.acquire(blocking=not process.is_too_late()):
            return False
        try:
            if not self._pipeline.is_fit:
                self._pipeline = self._new_pipeline()
        except ImportError:
            if not process.is_too_late():
                raise
            return False  # the interpreter has let go of its modules
        finally:
            self._renewing.release()
        return True


def _named(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the person that had to be asked for, in the log call's own thread."""
    person = answered(snapshot.person)
    return snapshot if person is snapshot.person else snapshot._replace(person=person)


class _Shared:
    """The trackers that front ends share by having equal settings."""

    def __init__(self) -> None:
        self._trackers: dict[Settings, Tracker] = {}
        self.renew()
        process.watch(self)

    def renew(self) -> None:
        """In a forked child: whoever held the lock is not there."""
        self._lock = threading.RLock()  # guards the dict; a signal handler may configure logging

    def tracker(self, settings: Settings) -> Tracker:
        """The one for these settings, made if there is none."""
        with self._lock:
            try:
                tracker = self._trackers.get(settings)
            except TypeError:
                # A callback that cannot be hashed cannot be compared with another either: a tracker of its own.
                return _tracker_of(settings)
            if tracker is None:
                tracker = self._trackers.setdefault(settings, _tracker_of(settings))
            return tracker


_shared = _Shared()


def shared(given: Mapping[str, object]) -> Tracker:
    """The tracker for these settings, which all front ends with equal settings share.

    Raises:
        SettingsError: as for `Tracker`.
    """
    return _shared.tracker(_resolved(given))


def _resolved(given: Mapping[str, object]) -> Settings:
    """The settings. While a test captures calls none is sent, so no key is needed; without one, `mode` is ``print``."""
    if not captures or source("api_key", given, os.environ) != "default":
        return Settings.resolve(given, os.environ)
    settings = Settings.resolve({**given, "api_key": "none"}, os.environ)
    needs_key = settings.mode == "live" and settings.deliver
    return replace(settings, api_key=None, mode="print" if needs_key else settings.mode)


def _tracker_of(settings: Settings) -> Tracker:
    tracker = Tracker.__new__(Tracker)
    tracker._assemble(settings)  # noqa: SLF001 - the constructor, for settings that are resolved
    return tracker


def _holds_logging_lock() -> bool:
    """Whether this thread is inside `dictConfig` or the like, which hold the logging module's lock meanwhile.

    To wait there would stall every thread that needs that lock, the one that delivers included. The lock is private,
    and has been there under this name since Python 2; without it, waiting is only bounded.
    """
    is_owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return is_owned is not None and is_owned()
