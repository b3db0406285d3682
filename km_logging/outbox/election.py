"""Who delivers: one process of all that share an outbox, elected by a lock of the operating system.

The kernel ends the lock with the process, however that ends, so there are no owners, no leases and no clocks. The lock
is on a file beside the outbox: SQLite has locks of its own on that one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from km_logging.errors import OutboxError
from km_logging.guard import THREAD_NAME

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Election", "is_won"]

#: Most threads that wait for a lock in one process; each that was withdrawn stays until it is its turn.
MOST_WAITING = 8

#: The descriptors that these threads wait with: a forked child has copies, which would keep a lock for ever.
_waiting: set[int] = set()


class Election:
    """The candidacy of one outbox.

    Args:
        path: of the outbox; the lock is on ``path-lock``.
        mode: permissions of the file, if it is not there yet.
    """

    def __init__(self, path: str, mode: int) -> None:
        if fcntl is None:
            raise OutboxError("this system has no file locks (flock)", "use outbox 'memory:' here")
        self._path = f"{path}-lock"
        self._descriptor: int | None = _opened(self._path, mode & 0o666)
        self._is_waiting = False

    def try_win(self) -> bool:
        """Whether this one delivers from now on, until `withdraw` or the end of the process."""
        if self._descriptor is None:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_there()

    def _is_there(self) -> bool:
        """Whether the lock is on the file that others find; whoever deleted that one can have had two winners."""
        try:
            here, there = os.fstat(self._descriptor), os.lstat(self._path)  # type: ignore[arg-type]
        except (OSError, TypeError):  # withdrawn
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    @property
    def is_over(self) -> bool:
        """Whether the file was deleted or replaced, so that there is another election now."""
        return not self._is_there()

    def wait(self, won: Callable[[], None]) -> None:
        """Have a thread wait until it is this one's turn; then ``won`` is called there, and `try_win` will be true.

        Where no thread can wait (gevent's would stop all others), nothing is called: `try_win` now and then.
        """
        if self._descriptor is None or self._is_waiting or len(_waiting) >= MOST_WAITING or _is_green():
            return
        copy = os.dup(self._descriptor)
        _waiting.add(copy)
        waiting = threading.Thread(target=self._wait, args=(copy, won), name=f"{THREAD_NAME}election", daemon=True)
        try:
            waiting.start()
            self._is_waiting = True
        except RuntimeError:  # no thread can be started any more
            _close(copy)

    def _wait(self, copy: int, won: Callable[[], None]) -> None:
        with suppress(OSError):
            fcntl.flock(copy, fcntl.LOCK_EX)
        is_standing = self._descriptor is not None
        _close(copy)  # the lock stays as long as the descriptor that this one is a copy of
        if is_standing:
            won()

    def withdraw(self) -> None:
        """Let another one win. In a forked child, whose descriptor is a copy, this leaves the parent's lock alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def _opened(path: str, mode: int) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    with suppress(FileExistsError):  # another process was faster
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(descriptor, mode)  # whoever may use the outbox may stand for election, whatever the umask
        return descriptor
    return os.open(path, flags)


def is_won(path: str) -> bool:
    """Whether any process delivers from the outbox at this path just now."""
    if not Path(f"{path}-lock").exists():
        return False
    try:
        election = Election(path, 0o600)
    except OSError:  # it cannot be looked at
        return False
    try:
        return not election.try_win()
    finally:
        election.withdraw()


def _close(copy: int) -> None:
    _waiting.discard(copy)
    with suppress(OSError):
        os.close(copy)


def _in_child() -> None:
    for copy in list(_waiting):
        _close(copy)


def _is_green() -> bool:
    """Whether a thread is a greenlet, so that waiting in a system call would stop all of them."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
