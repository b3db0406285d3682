"""The queue between the caller's thread and ours.

The log call must never wait, and may come from a signal handler or a finaliser in the middle of anything. So `put` is
one append to a deque, and a token for the listener only if that one sleeps; both are single C calls. The listener,
once woken, lingers for a moment and then takes everything that has come, so a thousand calls a second wake it twenty
times.

What comes through the queue, in order: snapshots, calls that were told in the caller's thread, requests that could not
be committed there, notes of those that were (`Committed`), problems found there, and marks (`Mark`) that tell a waiting
`flush` how far the listener has come.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from km_logging.calls import Call, Problem
from km_logging.tagging import Snapshot, Taken

__all__ = ["Batch", "CallQueue", "Committed", "Mark"]

#: How long the listener lets calls gather once it is awake, in seconds; `CallQueue.hurry` cuts it short.
LINGER = 0.05

#: Longest pause of the listener for the sake of the application, in seconds.
LONGEST_REST = 1.0

#: Most items of one batch.
BATCH = 1_000


class Mark:
    """A place in the stream of calls.

    Attributes:
        seen: set once the listener has looked at everything before the mark.
        done: set once no call before the mark is pending.
        span: the numbers of the entries before the mark; set by delivery, as `left` is.
        left: how many entries before the mark are pending.
        is_last: whether the pipeline or the process ends after it.
    """

    __slots__ = ("done", "is_last", "left", "seen", "span")

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.done = threading.Event()
        self.span = range(0)
        self.left = 0
        self.is_last = False


class Committed(NamedTuple):
    """A call that is in the outbox already.

    Attributes:
        request: as `km_logging.wire.encode` makes it.
    """

    request: str


Item = Taken | Snapshot | Call | str | Committed | Problem | Mark
Batch = list[Item]


class CallQueue:
    """A bounded, re-entrant queue that takes single items and gives batches.

    Calls that have left the queue but are pending still count against its capacity, until `left` is told.

    Args:
        capacity: most calls that may be pending.

    Attributes:
        is_abandoned: whether this is a forked child, and the calls were the parent's.
    """

    def __init__(self, capacity: int) -> None:
        self.is_abandoned = False
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._in_hand: Batch = []
        self._in_hand_since = 0.0
        self._busy = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._impatience = threading.Lock()  # held, until somebody is in a hurry
        self._impatience.acquire()
        self._asleep = False
        self._hurried = False
        self._closed = False
        self._behind = 0
        self._behind_lock = threading.RLock()  # guards _behind, which a log call only reads (unless it evicts)
        self._waiters: deque[threading.Lock] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def pending(self) -> int:
        """How many calls are in the queue, or have left it and not ended."""
        return sum(map(_is_call, list(self._items))) + self._behind

    @property
    def is_full(self) -> bool:
        """Whether as many calls are pending as may be."""
        return len(self._items) + self._behind >= self._capacity

    @property
    def is_done(self) -> bool:
        """Whether the listener has looked at everything that was put."""
        return not self._items and not self._busy  # in this order: it is busy before it takes

    @property
    def is_unhurried(self) -> bool:
        """Whether nobody waits for the listener."""
        return not (self._hurried or self._closed)

    @property
    def moment(self) -> float | None:
        """When the oldest snapshot that the listener has not done with was logged, Unix time, or None."""
        items = [*self._in_hand, *list(self._items)]
        since = self._in_hand_since if self._in_hand else None
        return next((_moment(item) for item in items if _is_call(item) and not isinstance(item, Call | str)), since)

    def offer(self, item: Item) -> bool:
        """Append, if there is room; false if not. Re-entrant; never blocks."""
        if len(self._items) + self._behind >= self._capacity:
            return False
        self._items.append(item)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)
        return True

    def put_nowait(self, item: Item) -> None:
        """Append, whatever the capacity says. Re-entrant; never blocks."""
        self._items.append(item)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def get(self, block: bool = True) -> Batch | None:  # noqa: FBT001, FBT002 - the signature of a queue
        """Wait for items, let more gather, and take them all; None once the queue is closed and empty."""
        # Between these two lines nothing is lost: a put that comes before the look is seen, one that comes after rings.
        self._busy, self._in_hand = False, []
        self._asleep = block
        if block and not self._items and not self._closed:
            self._bell.get()
        self._asleep = False
        if self.is_unhurried and len(self._items) < BATCH:
            self._linger()
        self._busy = True
        batch = self._in_hand = self._take()
        self._in_hand_since = time.time()
        if not self._items:
            self._hurried = False
        return None if self._closed and not batch else batch

    def _linger(self) -> None:
        # Not the bell: up to Python 3.12, SimpleQueue.get() waits for ever if its time is over before it has begun.
        self._impatience.acquire(timeout=LINGER)

    def _take(self) -> Batch:
        batch: Batch = []
        # One who evicts may be faster: the deque may be empty although it was not a moment ago.
        with suppress(IndexError):
            while len(batch) < BATCH:
                with self._behind_lock:
                    item = self._items.popleft()
                    self._behind += _is_call(item)
                batch.append(item)
        return batch

    def evict(self) -> bool:
        """Drop the oldest call in the queue; false if there is none to drop."""
        spared: Batch = []
        evicted = False
        with suppress(IndexError):
            while not evicted:
                item = self._items.popleft()
                evicted = _is_call(item)
                if not evicted:
                    spared.append(item)
        if spared:
            self._items.extendleft(reversed(spared))
            self._bell.put(None)  # the listener may have looked meanwhile, and found nothing
        return evicted

    def left(self, calls: int = 1) -> None:
        """So many calls that had left the queue are no longer pending."""
        with self._behind_lock:
            self._behind -= calls
        if self._waiters:
            with suppress(IndexError):
                for _ in range(calls):
                    self._waiters.popleft().release()

    def wait_for_room(self, timeout: float) -> None:
        """Wait until a call has ended, at most ``timeout`` seconds. Each waiter has a lock of its own: re-entrant."""
        gate = threading.Lock()
        gate.acquire()
        self._waiters.append(gate)
        if self.is_full and gate.acquire(timeout=timeout):
            return
        try:
            self._waiters.remove(gate)
        except ValueError:  # the call came after all: it is another's
            with suppress(IndexError):
                self._waiters.popleft().release()

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, in the listener's thread, unless somebody is in a hurry."""
        if self.is_unhurried:
            self._impatience.acquire(timeout=min(seconds, LONGEST_REST))

    def hurry(self) -> None:
        """Have the listener take everything that there is, without a pause."""
        self._hurried = True
        self._wake()

    def nudge(self) -> None:
        """Have the listener go on at once, if it is just in a pause."""
        self._wake()

    def close(self) -> None:
        """No more lingering: `get` returns None once the queue is empty."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.put(None)
        with suppress(RuntimeError):  # it is released already
            self._impatience.release()

    def abandon(self) -> None:
        """Forget everything, in a forked child."""
        self.is_abandoned = self._closed = True
        self._items.clear()


def _is_call(item: Item) -> bool:
    return type(item) is tuple or isinstance(item, Snapshot | Call | str)


def _moment(item: Any) -> float:
    return float(item[2] if type(item) is tuple else item.moment)
