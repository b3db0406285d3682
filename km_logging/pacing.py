"""Politeness: our own threads take their share of a core, and no more of it, beside an application that computes."""

from __future__ import annotations

import math

from km_logging import policy
from km_logging.load import Load
from km_logging.policy import Throttle

__all__ = ["Pacing"]

#: While so many calls wait for delivery, the listener need not make more of them in a hurry: it takes this part of the
#: pace.
PLENTY = 1_000
LISTENER_SHARE = 1 / 8

#: An application computes if it takes so much of a core at least.
BUSY = 0.25


class Pacing:
    """When our threads may go on. The lock of `delivery` guards it; moments are of the monotonic clock, in seconds.

    Args:
        share: most of one core, such as 0.5.

    Attributes:
        waiters: how many wait for the calls to be gone; while anybody does, nothing is held back.
    """

    def __init__(self, share: float) -> None:
        self.waiters = 0
        self._share = share
        self._load = Load()
        self._throttle = Throttle()

    def _pace(self, now: float) -> float:
        return policy.pace(self._share, self._load.busy(now))

    def until(self, attempts: int, now: float) -> float:
        """The moment from which so many attempts may begin at once."""
        return -math.inf if self.waiters else self._throttle.lets(attempts, self._pace(now))

    def holds_back(self, now: float) -> bool:
        """Whether not even one attempt may begin now."""
        return not self.waiters and self._throttle.until > now

    def room(self, now: float) -> float:
        """How many attempts may begin now."""
        return math.inf if self.waiters else self._throttle.room(self._pace(now), now)

    def began(self, now: float) -> None:
        """An attempt has begun."""
        if not self.waiters:
            self._throttle = self._throttle.began(self._pace(now), now)

    def ended(self, cpu: float, attempts: int, now: float) -> None:
        """Attempts have ended; ``cpu``: what they took together, in seconds."""
        self._load.own += cpu
        if not self.waiters:
            self._throttle = self._throttle.ended(cpu, attempts, self._pace(now))

    def rest(self, cpu: float, backlog: int, now: float) -> float:
        """How many seconds the listener should rest for what it took; none unless the application computes.

        Args:
            cpu: CPU time, in seconds.
            backlog: how many calls wait for delivery.
            now: the moment.
        """
        self._load.own += cpu
        if self.waiters or self._load.busy(now) < BUSY:
            return 0.0
        pace = self._pace(now)
        self._throttle = self._throttle.worked(cpu, pace, now)
        ahead = cpu / pace / LISTENER_SHARE if backlog >= PLENTY else 0.0
        return max(ahead, self._throttle.until - now)

    def worked(self, cpu: float) -> None:
        """The listener has worked where it must not rest; ``cpu``: seconds."""
        self._load.own += cpu
