"""One of those that deliver from a Redis outbox: what is in its hands, and what it takes over from the dead.

A consumer speaks for what it holds every `KEEP` seconds; what nobody has spoken for in `IDLE` seconds was a dead one's.
A thread of its own does so, since all others may wait for the tracking server, or for the outbox.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from km_logging.guard import THREAD_NAME, ours
from km_logging.outbox.line import Line

if TYPE_CHECKING:
    from km_logging.outbox.store import Row
    from km_logging.outbox.stream import Stream

__all__ = ["Consumer"]

#: Most calls that are read at once, and wait here for their turn.
FETCH = 100

#: How often a consumer speaks for what it holds; when it has not done so for too long; how often others look for that;
#: how long they wait with it after an outage, so that those that live can say so first; and for how long a consumer
#: speaks for one call, which another one might be able to deliver. In seconds.
KEEP = 3.0
IDLE = 10.0
SWEEP = 2.5
GRACE = 10.0
LONGEST = 300.0


class Consumer:
    """A member of the group, guarded by delivery's lock; but `keep` is called by its own thread, too.

    Args:
        line: to the server.
    """

    def __init__(self, line: Line) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._line = line
        self._mine: dict[int, float] = {}  # number of a call, and since when it is in these hands
        self._lost: deque[int] = deque()
        self._is_new = True
        self._begin = "0-0"
        self._sweep_at = 0.0
        self._kept_at = 0.0
        self._keeper: threading.Thread | None = None
        self._ended = threading.Event()

    def joined(self, stream: Stream) -> None:
        """There is a new connection."""
        stream.join()
        self._sweep_at = 0.0 if self._is_new else time.monotonic() + GRACE
        self._begin, self._is_new = "0-0", False
        self._kept_at = 0.0

    def read(self) -> tuple[list[Row], bool] | None:
        """Take what nobody has had yet, or some of it; whether it was all, too. None if that cannot be done now."""
        rows = self._line.ask(lambda stream: stream.read(self.name, FETCH))
        if rows is None:
            return None
        self._take(rows)
        return rows, len(rows) < FETCH

    @property
    def is_to_take_over(self) -> bool:
        """Whether it is time to look for what a dead one had."""
        return time.monotonic() >= self._sweep_at

    def take_over(self, but: Iterable[int]) -> list[Row]:
        """Take what was in the hands of one that is dead, or was given back.

        Args:
            but: numbers of calls that are in the hands of this process, and may have seemed to be a dead one's.
        """
        found: list[Row] = []
        is_over = False
        while not found and not is_over:
            answer = self._line.ask(lambda stream: stream.take_over(self.name, IDLE, self._begin, FETCH))
            if answer is None:
                return []
            self._begin, rows = answer
            is_over = self._begin == "0-0"
            found = [row for row in rows if row.number not in self._mine]
            self._take(found)
        if is_over:
            self._sweep_at = time.monotonic() + SWEEP
        known = set(but) if found else set()
        return [row for row in found if row.number not in known]

    def _take(self, rows: Sequence[Row]) -> None:
        now = time.monotonic()
        if not self._mine:
            self._kept_at = now
        self._mine.update((row.number, now) for row in rows)
        if rows and (self._keeper is None or not self._keeper.is_alive()):
            self._keeper = threading.Thread(target=self._keep, name=f"{THREAD_NAME}keeper", daemon=True)
            with suppress(RuntimeError):  # no thread can be started any more
                self._keeper.start()

    def _keep(self) -> None:
        ours.set(True)
        while self._mine and not self._ended.wait(KEEP):
            self.keep()

    def keep(self) -> None:
        """Speak for what is in these hands, if it is time to."""
        now = time.monotonic()
        if not self._mine or now - self._kept_at < KEEP:
            return
        mine = [number for number, since in list(self._mine.items()) if now - since < LONGEST]
        lost = self._line.ask(lambda stream: stream.keep(self.name, mine))
        if lost is not None:
            self._kept_at = now
            self._lost.extend(lost)

    @property
    def is_sure(self) -> bool:
        """Whether nobody can have taken what is in these hands for a dead one's; asks if that is in doubt."""
        if self._mine and time.monotonic() - self._kept_at >= IDLE:
            self.keep()
        return not self._mine or time.monotonic() - self._kept_at < IDLE

    def lost(self) -> set[int]:
        """Which calls were found to be in others' hands since this was asked last: they were not spoken for in time."""
        lost = {self._lost.popleft() for _ in range(len(self._lost))}
        self.forget(lost)
        return lost

    def forget(self, numbers: Iterable[int]) -> None:
        """These are in these hands no longer."""
        for number in numbers:
            self._mine.pop(number, None)

    def is_held_too_long(self, number: int) -> bool:
        """Whether a call should be left to others, who may be able to deliver it."""
        return number in self._mine and time.monotonic() - self._mine[number] >= LONGEST

    def give_back(self, numbers: Sequence[int]) -> bool:
        """Have others take these at once; whether that could be done."""
        if numbers and not self._line.do(lambda stream: stream.give_back(self.name, numbers)):
            return False
        self.forget(numbers)
        return True

    def give_back_all(self, but: Collection[int]) -> None:
        """The end: hold nothing any more but this."""
        self.give_back([number for number in self._mine if number not in but])

    @property
    def has_others(self) -> bool:
        """Whether others deliver, too."""
        return bool(self._line.ask(lambda stream: stream.has_others(self.name)))

    def leave(self) -> None:
        """Be no member of the group any more; if anything is still in these hands, others find it there."""
        self._ended.set()
        if not self._is_new and self._line.is_open:
            self._line.do(lambda stream: stream.leave(self.name))
