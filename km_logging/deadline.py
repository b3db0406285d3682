"""One budget of time, shared by the steps of a flush, of a close, or of the end of the process."""

from __future__ import annotations

import threading
import time

__all__ = ["Deadline"]


class Deadline:
    """A moment on the monotonic clock.

    Args:
        seconds: from now.
    """

    __slots__ = ("_moment",)

    def __init__(self, seconds: float) -> None:
        self._moment = time.monotonic() + min(seconds, threading.TIMEOUT_MAX)

    @property
    def left(self) -> float:
        """Seconds left, 0 at least, and no more than can be waited for."""
        return min(max(0.0, self._moment - time.monotonic()), threading.TIMEOUT_MAX)
