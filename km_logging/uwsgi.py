"""uWSGI embeds Python in ways of its own; here is what to know of them. Nothing here imports uWSGI.

1. It forks without Python's hooks, and without Python's lock: a thread of the process that loads the application may
   hold that lock at the moment of the fork, and the worker would wait for it for ever. So there, no thread is started;
   what is logged there is the first worker's.
2. It has libraries that were loaded with the application cleaned up after Python has ended, and those that were loaded
   later before that: OpenSSL would be gone when the last calls are sent. So the sender is loaded with the application.
3. Up to version 2.0.27 it runs no threads unless it is told to: others than the one that answers a request get their
   turn only while that one waits.
4. With its loop for gevent it ends without Python's exit functions: what waits in memory then is lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["follow_forks", "inherits", "is_forking", "is_host", "is_loading", "runs_no_threads"]

#: Shared with all processes that are forked of this one: whether a worker has taken what was logged before.
_is_taken: mmap | None = None

#: The process that loads the application, if anything was logged there.
_loader: int | None = None


def _host() -> ModuleType | None:
    """The module that is there without an import, and only where uWSGI is the host."""
    return sys.modules.get("uwsgi")


def is_host() -> bool:
    """Whether this process is one of uWSGI's."""
    return _host() is not None


def is_loading() -> bool:
    """Whether this is the process that loads the application and forks the workers."""
    host = _host()
    return host is not None and not (host.worker_id() or host.mule_id() or host.i_am_the_spooler())


def runs_no_threads() -> bool:
    """Whether uWSGI leaves threads no time between requests."""
    return not getattr(_host(), "has_threads", True)


def follow_forks(hook: Callable[[], None]) -> None:
    """Have uWSGI call ``hook`` in each process that it forks from now on, beside what it calls there already."""
    global _is_taken, _loader
    from mmap import mmap  # only here

    _is_taken, _loader = mmap(-1, 1), os.getpid()
    host = sys.modules["uwsgi"]
    before = getattr(host, "post_fork_hook", None)
    if before is None or "uwsgidecorators" in sys.modules:
        # Who imported uWSGI's own decorators later would else have theirs called instead of ours.
        with suppress(Exception):  # they may not be installed, and demand a master process
            from uwsgidecorators import postfork

            postfork(hook)
            return

    def both() -> None:
        hook()
        if before is not None:
            before()

    host.post_fork_hook = both  # type: ignore[attr-defined]


def is_forking() -> bool:
    """Asked by a hook of Python's, in a child: whether uWSGI has forked it, which then calls its own hook, too."""
    return os.getppid() == _loader


def inherits() -> bool:
    """Whether this process takes over what was logged while the application was loaded; true once."""
    if sys.modules["uwsgi"].worker_id() != 1 or _is_taken is None or _is_taken[0]:
        return False
    _is_taken[0] = 1
    return True
