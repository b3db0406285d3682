"""The life of the process: its forks and its end. One hook each, for all trackers together.

* Fork: the child starts with nothing pending, its own books and no thread; what the parent had stays the parent's.
* End: an `atexit` hook of our own, since `logging.shutdown` knows nothing of handlers that `dictConfig` has closed, or
  of bare trackers. Children of `multiprocessing` run no `atexit`, but the finalisers of its `util`.
* One deadline for all: from the first hook on, every flush and close draws on the same `drain_timeout`.
* After the end: finalisers still run while the interpreter takes itself down. Nothing is started or waited for then.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from types import FrameType
from typing import Protocol

from km_logging import uwsgi
from km_logging.deadline import Deadline
from km_logging.guard import ours
from km_logging.importing import importing
from km_logging.ledger import Ledger
from km_logging.queueing import Mark
from km_logging.settings import Settings

__all__ = [
    "arm",
    "begin_end",
    "drain_now",
    "end",
    "end_announced",
    "exit_deadline",
    "flush",
    "is_too_late",
    "longest",
    "may_start",
    "running",
    "watch",
]


class Renewable(Protocol):
    """A tracker, as far as a fork concerns it."""

    def renew(self) -> None:
        """Start over, with nothing pending and new books."""


class Drainable(Protocol):
    """A pipeline, as far as the end of the process concerns it."""

    settings: Settings
    ledger: Ledger
    said_left: int

    @property
    def pending(self) -> int:
        """How many calls are still here."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is pending here, nor waits to be said."""

    @property
    def at_risk(self) -> int:
        """How many of them end with this process."""

    @property
    def is_held(self) -> bool:
        """Whether this thread is in the middle of something that those who deliver wait for."""

    def start(self) -> None:
        """Start the threads."""

    def begin_flush(self, *, hurry: bool) -> Mark:
        """Begin to wait for everything that was put before."""

    def end_flush(self, mark: Mark, deadline: Deadline) -> bool:
        """Wait until everything before the mark has ended, or for the deadline."""

    def keep_rest(self) -> None:
        """There is no more time: put into an outbox that lasts what is only in memory."""

    def before_fork(self) -> None:
        """Leave nothing open that a child must not inherit."""

    def after_fork(self) -> None:
        """In the parent: go on."""

    def abandon(self) -> None:
        """These calls are another process's."""


#: Trackers to renew in a forked child.
_trackers: weakref.WeakSet[Renewable] = weakref.WeakSet()

#: Pipelines that have threads, to drain at the end. Held strongly: a tracker that nobody holds is still drained.
running: set[Drainable] = set()

#: The process in which `arm` was called.
_armed: int | None = None

#: How long a fork waits for an import under way, in seconds.
IMPORT_TIMEOUT = 5.0

#: Between two handlers `logging.shutdown` takes no longer, nor an end after what announced it, in seconds.
AT_ONCE = 1.0

#: Whether a fork is under way, and holds the lock of imports; after a timeout it does not.
_is_forking = False
_holds_import = False

#: Held during a fork: two threads that fork at once would undo each other's preparations.
_fork = threading.RLock()

#: Pipelines that a fork under way has stopped.
_forking: list[Drainable] = []

#: Set when the process begins to end.
exit_deadline: Deadline | None = None

#: An end that was announced took all the time there is: if it comes before this moment, it is given no more.
_spent_until = -math.inf


def watch(tracker: Renewable) -> None:
    """Renew this tracker in a forked child."""
    _trackers.add(tracker)


def arm() -> None:
    """Register what ends this process if it is a child of `multiprocessing`. Called with the first call."""
    global _armed  # noqa: PLW0603 - there is one process
    if _armed == os.getpid():
        return
    _armed = os.getpid()
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, end, exitpriority=0)
    if uwsgi.is_loading():
        uwsgi.follow_forks(_in_child_of_uwsgi)


def may_start() -> bool:
    """Whether threads may be started now.

    Raises:
        RuntimeError: the interpreter takes itself down; Python 3.12 says so by itself.
    """
    if is_too_late():
        raise RuntimeError("the interpreter is ending")
    return exit_deadline is not None or not uwsgi.is_loading()


def is_too_late() -> bool:
    """Whether the interpreter takes itself down, after all exit functions.

    Our threads stand still for good then, whatever locks they hold, and no other one can be started: before Python 3.12
    whoever tries waits for ever.
    """
    return sys.is_finalizing()


def drain(deadline: Deadline) -> None:
    """Deliver what all trackers hold, within one deadline."""
    if is_too_late():
        return
    waiting = [(pipeline, pipeline.begin_flush(hurry=True)) for pipeline in list(running)]
    for pipeline, mark in waiting:
        pipeline.end_flush(mark, deadline)


def drain_now() -> None:
    """Deliver what can be delivered within `drain_timeout`, and say what is lost: the process is about to end.

    That is not certain: an application may live on in the same process, as in tests of it.
    """
    deadline = bounded(_time_of_end())
    drain(deadline)
    _note_spent(deadline)
    _say_rest()


def flush(timeout: float | None = None) -> bool:
    """Wait until nothing that any tracker accepted before is pending here, as `Tracker.flush` does for one.

    Args:
        timeout: seconds; None: `longest`.

    Returns:
        True; or False if the time is over, or in a callback of ours, where waiting is impossible.
    """
    unfinished = [pipeline for pipeline in list(running) if not pipeline.is_idle]
    if ours.get() or is_too_late():
        return not unfinished
    deadline = bounded(longest() if timeout is None else timeout)
    waiting = [(pipeline, pipeline.begin_flush(hurry=False)) for pipeline in unfinished]
    done = [pipeline.end_flush(mark, deadline) for pipeline, mark in waiting]
    return all(done)


def longest() -> float:
    """The longest `drain_timeout` of the trackers in use, in seconds; 0 if there is none."""
    return max((pipeline.settings.drain_timeout for pipeline in list(running)), default=0.0)


def _time_of_end() -> float:
    """How long the end of the process may take, in seconds."""
    return 0.0 if time.monotonic() < _spent_until else longest()


def _note_spent(deadline: Deadline) -> None:
    global _spent_until  # noqa: PLW0603 - there is one process
    if not deadline.left:
        _spent_until = time.monotonic() + AT_ONCE


def begin_end() -> None:
    """Deliver what can be delivered within the one deadline of the process."""
    global exit_deadline  # noqa: PLW0603 - there is one process
    if exit_deadline is None and running:
        exit_deadline = Deadline(_time_of_end())
    if exit_deadline is not None and not is_too_late():
        drain(exit_deadline)
        for pipeline in list(running):
            pipeline.keep_rest()


def end_announced() -> None:
    """Whoever else wants to know of the end was told: they may end the process soon, as web servers do; or never."""
    global exit_deadline  # noqa: PLW0603 - there is one process
    if exit_deadline is not None:
        _note_spent(exit_deadline)
    exit_deadline = None


def end() -> None:
    """The process ends now: deliver what can be delivered, and say what is lost. For ends that run no `atexit`, too."""
    begin_end()
    _say_rest()


def _say_rest() -> None:
    unfinished = [pipeline for pipeline in list(running) if pipeline.at_risk]
    say_left(sum(pipeline.at_risk for pipeline in unfinished), unfinished)


def bounded(seconds: float) -> Deadline:
    """A deadline in so many seconds, or when the process must have ended."""
    return Deadline(seconds if exit_deadline is None else min(seconds, exit_deadline.left))


class _Shutdown(threading.local):
    """The call of `logging.shutdown` under way in this thread."""

    frame = 0
    began = -math.inf
    last_asked = -math.inf


_shutdown = _Shutdown()


def deadline(seconds: float) -> Deadline:
    """The deadline of a flush or close that was not told how long it may take.

    `logging.shutdown` flushes and closes one handler after the other, and gives no time: all of them share one.

    Args:
        seconds: the tracker's `drain_timeout`.
    """
    if exit_deadline is not None:
        return bounded(seconds)
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no public name for it
    while frame is not None and frame.f_code is not logging.shutdown.__code__:
        frame = frame.f_back
    if frame is None:
        return Deadline(seconds)
    now = time.monotonic()
    if _shutdown.frame != id(frame) or now - _shutdown.last_asked > seconds + AT_ONCE:
        _shutdown.frame, _shutdown.began = id(frame), now
    _shutdown.last_asked = now
    return Deadline(max(0.0, seconds - (now - _shutdown.began)))


def say_left(left: int, pipelines: list[Drainable]) -> None:
    """Say on stderr, in one line, that calls are lost; unless these have been said already."""
    if left <= sum(pipeline.said_left for pipeline in pipelines):
        return
    for pipeline in pipelines:
        pipeline.said_left = pipeline.at_risk
    errors = sorted({pipeline.ledger.last_error for pipeline in pipelines if pipeline.ledger.last_error})
    why = f" (last error: {'; '.join(errors)})" if errors else ""
    said = "1 call was" if left == 1 else f"{left} calls were"
    lost = f"{said} not delivered within drain_timeout and {'is' if left == 1 else 'are'} lost{why}"
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # no stderr any more, or in the middle of a write
        sys.stderr.write(f"km_logging: {lost}: check endpoint and network, or have an outbox that lasts keep them\n")


def _before_fork() -> None:
    global _is_forking, _holds_import, _forking  # noqa: PLW0603 - there is one process
    _fork.acquire()
    _is_forking = True
    _holds_import = importing.acquire(timeout=IMPORT_TIMEOUT)
    _forking = list(running)
    for pipeline in _forking:
        pipeline.before_fork()


def _after_fork() -> None:
    global _is_forking  # noqa: PLW0603 - there is one process
    if not _is_forking:
        return  # uWSGI may call hooks of children only
    if _holds_import:
        importing.release()
    _is_forking = False
    _fork.release()


def _in_parent() -> None:
    for pipeline in _forking:
        pipeline.after_fork()
    _forking.clear()
    _after_fork()


def _in_child() -> None:
    if uwsgi.is_forking():
        _in_parent()  # undo what was prepared; what else is to be done, its own hook knows
    else:
        _after_fork()
        _renew()


def _renew() -> None:
    global exit_deadline, _spent_until
    exit_deadline, _spent_until = None, -math.inf
    _forking.clear()
    for pipeline in running:
        pipeline.abandon()
    running.clear()
    for tracker in list(_trackers):
        tracker.renew()


def _in_child_of_uwsgi() -> None:
    """Also in the process that loaded, where it becomes the first worker itself."""
    if not uwsgi.inherits():
        _renew()
    for pipeline in list(running):
        pipeline.start()


# Functions run in reverse order: registered with the import, this one comes after those of the application, which may
# log, and before logging.shutdown. A forked child inherits it.
atexit.register(end)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
