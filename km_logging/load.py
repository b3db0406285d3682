"""How busy the application is, beside our own threads: what politeness goes by."""

from __future__ import annotations

import time

__all__ = ["Load"]

#: Over how many seconds it is measured.
WINDOW = 0.05


class Load:
    """What the application's own threads take of the core time that ours leave.

    Attributes:
        own: CPU time that our threads took, seconds; added to by whoever knows.
    """

    def __init__(self) -> None:
        self.own = 0.0
        self._busy = 0.0
        self._looked = self._clocks()

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return time.monotonic(), time.process_time()

    def busy(self, now: float) -> float:
        """From 0, idle, to 1: it takes a whole core, or all that ours leave of one.

        Args:
            now: by `time.monotonic`.
        """
        since, _ = self._looked
        if now - since >= WINDOW:
            (since, before), self._looked = self._looked, self._clocks()
            wall, cpu = self._looked[0] - since, self._looked[1] - before
            ours, self.own = self.own, 0.0
            self._busy = min(1.0, max(0.0, (cpu - ours) / max(wall - ours, WINDOW / 10)))
        return self._busy
