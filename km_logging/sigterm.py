"""SIGTERM, where `drain_on_sigterm` asks for it: drain, then do what the handler before did."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from km_logging import process

__all__ = ["catch"]

#: Where SIGTERM comes at a bad moment, or was not heard, it comes again after so many seconds.
AGAIN = 0.005

#: The longest pause before SIGTERM is sent again to a main thread that does not hear it, in seconds.
LONGEST_PAUSE = 1.0


def catch() -> bool:
    """Drain when SIGTERM comes, then do what the handler before did; false if not, since only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return isinstance(signal.getsignal(signal.SIGTERM), _DrainOnSigterm)
    before = signal.getsignal(signal.SIGTERM)
    if before is not None and not isinstance(before, _DrainOnSigterm):
        signal.signal(signal.SIGTERM, _DrainOnSigterm(before))
    return True


class _DrainOnSigterm:
    """Has a thread drain, which then sends the signal again; only then does what the handler before did.

    The signal may have interrupted the main thread in the middle of anything, also where it holds a lock that those who
    deliver need. So nothing is waited for here: the main thread goes on meanwhile. A second signal ends the waiting.
    """

    def __init__(self, before: Callable[[int, FrameType | None], object] | int) -> None:
        self._before = before
        self._draining = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if process.is_too_late():
            self._go_on(number, frame)
            return
        if not self._draining:
            self._draining, self._telling = True, threading.Lock()
            self._thread = threading.Thread(target=self._drain, args=(number,), name="km_logging-sigterm", daemon=True)
            with suppress(RuntimeError):  # without a thread there is no draining
                self._thread.start()
                return
        if any(pipeline.is_held for pipeline in list(process.running)):
            with suppress(RuntimeError):  # it will let go in a moment
                again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
                again.daemon = True
                again.start()
                return
        if not self._telling.acquire(blocking=False) and self._thread.is_alive():
            return  # it is sending it again just now
        self._draining = False
        self._telling.release()
        self._go_on(number, frame)

    def _drain(self, number: int) -> None:
        """Drain, and send the signal until it is heard.

        Python's handlers run between two instructions of the main thread. Where it has just let go of the interpreter
        to wait in C, say for a semaphore, a signal does not end that wait any more, and nobody hears of it.
        """
        process.begin_end()
        pause = AGAIN
        while self._tell(number):
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell(self, number: int) -> bool:
        """Send the signal, unless it has been heard; true if it was sent. Never once more than it is heard."""
        with self._telling:
            if self._draining:
                os.kill(os.getpid(), number)
            return self._draining

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        if self._before == signal.SIG_DFL:
            process.end()  # what the main thread has logged meanwhile; nothing else will be asked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif callable(self._before):
            self._before(number, frame)  # may end the process, which draws on the same deadline
        process.end_announced()
