"""``redis://host:6379/0?stream=km`` An outbox in a stream of Redis: what waits there outlives processes and machines.

1. Every process puts. Those that deliver, on any machine, are consumers of one group, which hands each call to one of
   them. Where a process only fills the stream, its calls are handed over once they are there. Where it delivers, too,
   they are pending until they are delivered here, or seen to be in another's hands.
2. When Redis cannot be used, calls are held in memory within `capacity`, delivered from there by whoever delivers, and
   put into the stream as soon as it can be used again.
3. What is delivered is deleted. What a consumer has not begun with when it ends, it gives back; what a dead one had in
   its hands, others take over: see `consumer`.
4. A fork finds no connection open; the child, whose outbox is another one, makes its own.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from km_logging.addresses import StreamAddress
from km_logging.calls import Problem
from km_logging.ledger import Ledger, Tally
from km_logging.outbox import Entry
from km_logging.outbox.consumer import FETCH, Consumer
from km_logging.outbox.held import Held
from km_logging.outbox.line import LAST_PATIENCE, Line
from km_logging.outbox.unread import Unread

if TYPE_CHECKING:
    from km_logging.outbox.store import Row
    from km_logging.outbox.stream import Added, Stream

__all__ = ["RedisOutbox"]

#: How often one that delivers looks what others have put, in seconds.
POLL = 0.5

#: Most calls that are added at once.
CHUNK = 500

#: What was delivered is deleted when it is so many calls, or so old, in seconds; if it cannot be, no more is delivered.
SETTLE = 100
SETTLE_AFTER = 0.05
MOST_SETTLED = 10 * SETTLE

#: A process that goes on although its end was near delivers what others put again after so many seconds.
RESUME = 10.0


class RedisOutbox:
    """See the rules of the module; `km_logging.outbox.Outbox` says what each method does.

    Args:
        address: of the stream.
        ledger: the books.
        left: is told how many calls no longer take up room in memory.
        report: says a problem.
        delivers: whether this process is one of those that deliver.
        api_key: to say when the stream's calls went to another one.
        is_relay: whether this process answers in its books for all calls that it reads, whoever put them.
    """

    lasts = True

    def __init__(
        self,
        address: StreamAddress,
        *,
        ledger: Ledger,
        left: Callable[[int], None],
        report: Callable[[Problem], None],
        delivers: bool,
        api_key: str,
        is_relay: bool = False,
    ) -> None:
        self._address = address
        self._ledger = ledger
        self._left = left
        self._report = report
        self._delivers = delivers
        self._api_key = api_key
        self._is_relay = is_relay
        #: The last number that is delivered; what comes after it is left for another time, but for what comes with it.
        self.end: float = math.inf
        self._resumes_at = math.inf  # then `end` is no more
        #: Is called when there may be something to do.
        self.wake: Callable[[], None] = lambda: None
        self.moves = 0
        meanwhile = "nothing is delivered from it" if is_relay else "calls wait in memory"
        self._line = Line(address, opened=self._opened, tell=self._tell, meanwhile=meanwhile)
        self._is_checked = False
        self._consumer = Consumer(self._line)
        self._held = Held()
        self._looked_at = 0.0
        # What was read: waits, is in the hands of delivery, is to be deleted, or was under way when this was closed.
        self._fetched: deque[Entry] = deque()
        self._claimed: set[int] = set()
        self._settled: list[int] = []
        self._settled_since = 0.0
        self._buried: list[int] = []
        self._finishing: set[int] = set()
        self._may_have_more = delivers
        self._read_to = 0.0
        # Own calls in the stream, while this one delivers.
        self._own_put = Tally()
        self._own_ended = 0
        self._own_last = 0
        self._unread = Unread()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}>"

    @property
    def leads(self) -> bool:
        """Whether this one delivers, as far as it can use the stream."""
        return self._delivers and self._line.is_open

    @property
    def has_others(self) -> bool:
        """Whether others deliver, too."""
        return self._consumer.has_others

    def _opened(self, stream: Stream) -> None:
        if self._delivers:
            self._consumer.joined(stream)
        if self._is_checked:
            return
        if stream.may_be_evicted:
            message = f"the server of {self._address} throws the calls away when its memory is full"
            self._tell(message, "set its maxmemory-policy to noeviction")
        if self._delivers and self._api_key and not stream.is_key_known(self._api_key):
            message = f"what was in {self._address} went to another api_key before"
            self._tell(message, "what is in it goes to this key now: use one stream for each product")
        self._is_checked = True

    def _tell(self, message: str, remedy: str) -> None:
        self._ledger.refused["outbox"].add()
        self._report(Problem("outbox", message, remedy))

    # What comes in.

    def put(self, requests: Sequence[str], now: float) -> None:
        self._move()
        calls = [(request, now) for request in requests]
        while calls and (added := self._add(calls[:CHUNK])) is not None:
            tried = min(CHUNK, len(calls))
            self._ledger.dropped["overflow"].add_many(tried - added.done)  # to be full may take long
            self._left(tried)
            del calls[:tried]
        for request, _ in calls:
            self._held.add(Entry(request, now, 0))

    def _move(self) -> None:
        """What was held in memory goes into the stream, as far as that has room."""
        while self._held:
            added = self._add([(entry.request, entry.accepted_at) for entry in self._held.first(CHUNK)])
            if added is None or not added.done:
                return
            self._left(self._held.drop(added.done))
            self.moves += 1

    def _add(self, calls: Sequence[tuple[str, float]]) -> Added | None:
        """Put the first of these own calls into the stream and the books; None if it cannot be used."""
        added = self._line.ask(lambda stream: stream.add(calls))
        if added is None or not added.done:
            return added
        if self._delivers and not self._is_relay:
            self.end = math.inf
            self._may_have_more = True
            self._own_put.add_many(added.done)
            self._own_last = added.last
            self._unread.add(added, calls[0][1])
        else:
            self._ledger.handed_over.add_many(added.done)
        return added

    # What goes out.

    @property
    def poll(self) -> float:
        return POLL if self._delivers or self._held else math.inf

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < POLL:
            return
        self._looked_at = now
        self._move()
        self._sync_if_due()
        if not self._delivers:
            return
        self._line.do(lambda _: None)  # so that one that has nothing else to ask comes back, too
        self._consumer.keep()
        if self._fetched and self._consumer.is_held_too_long(self._fetched[0].number):
            self._give_back()
        if now >= self._resumes_at:
            self.end = self._resumes_at = math.inf
        self._may_have_more = self._read_to < self.end

    def claim(self, limit: int) -> Sequence[Entry]:
        claimed: list[Entry] = []
        while len(claimed) < limit and self._held and self._delivers:
            claimed.append(self._held.take())
        while len(claimed) < limit and self._has_fetched():
            claimed.append(self._fetched.popleft())
            self._claimed.add(claimed[-1].number)
        return claimed

    def _has_fetched(self) -> bool:
        """Whether there is a call at hand; fetches some if there is none."""
        is_sure = self._consumer.is_sure
        if lost := self._consumer.lost():  # what is just being sent is not asked back
            self._give_up(lost)
        if not is_sure:  # it may all be in another's hands
            return False
        # Where what was delivered cannot be deleted, no more is: it would all be sent again.
        if self._delivers and len(self._settled) < MOST_SETTLED:
            if len(self._fetched) < FETCH and self._consumer.is_to_take_over:  # in time, however slow it goes here
                self._fetch(self._consumer.take_over({*self._claimed, *self._settled, *self._buried}))
            if not self._fetched and self._may_have_more:
                self._read()
        return bool(self._fetched)

    def _read(self) -> None:
        self._may_have_more = False
        found = self._consumer.read()
        if found is None:
            return
        rows, is_all = found
        reached = [row.number for row in rows[-1:]] + [self.end] * (is_all and self.end < math.inf)
        self._read_to = max([self._read_to, *reached])
        self._may_have_more = not is_all and self._read_to < self.end
        own, passed = self._unread.read(rows, is_all=is_all)
        self._leave(passed)
        self._fetch(rows, own)

    def _fetch(self, rows: Sequence[Row], own: Collection[int] = ()) -> None:
        """Have what was read wait for its turn; a relay takes it into its books."""
        if self._is_relay and rows:
            self._ledger.taken.add_many(len(rows))
            self._own_put.add_many(len(rows))
            self._own_last = max(self._own_last, *(row.number for row in rows))
        for row in rows:
            is_own = self._is_relay or row.number in own
            entry = Entry(row.request, row.accepted_at, row.number, is_own=is_own)
            if row.request.isascii():
                self._fetched.append(entry)
            else:
                self._tell(f"a call in {self._address} is damaged", "km-logging outbox purge --dead forgets it")
                self._ledger.dropped["rejected"].add_many(is_own)
                self.bury(entry)

    def settle(self, entry: Entry) -> None:
        if entry.number < 0:
            self._held.end(entry)
            self._left(entry.is_own)
            return
        self._end(entry)
        if not self._settled:
            self._settled_since = time.monotonic()
        self._settled.append(entry.number)
        self._sync_if_due()

    def bury(self, entry: Entry) -> None:
        if entry.number < 0:
            self.settle(entry)
        else:
            self._end(entry)
            self._buried.append(entry.number)

    def _end(self, entry: Entry) -> None:
        self._own_ended += entry.is_own
        self._claimed.discard(entry.number)

    def _sync_if_due(self) -> None:
        if len(self._settled) >= SETTLE or time.monotonic() - self._settled_since >= SETTLE_AFTER:
            self.sync()

    def sync(self) -> None:
        if (settled := list(self._settled)) and self._line.do(lambda stream: stream.delete(settled)):
            del self._settled[: len(settled)]
            self._consumer.forget(settled)
        # After that has made room: where the server's memory is full, to bury is refused.
        if (buried := list(self._buried)) and self._line.do(lambda stream: stream.bury(buried)):
            del self._buried[: len(buried)]
            self._consumer.forget(buried)

    def holds(self, entry: Entry) -> bool:
        return entry.number < 0

    def evict(self) -> Entry | None:
        entry = self._held.evict()
        if entry is not None:
            self._left(1)
        return entry

    def _give_back(self) -> None:
        """What could not be sent for long, another one may be able to send."""
        numbers = [entry.number for entry in self._fetched]
        if self._consumer.give_back(numbers):
            self._give_up({*numbers})

    def _give_up(self, numbers: Collection[int]) -> None:
        self._leave(sum(entry.is_own for entry in self._fetched if entry.number in numbers))
        self._fetched = deque(entry for entry in self._fetched if entry.number not in numbers)

    def _leave(self, own: int) -> None:
        """So many own calls are left to others to deliver."""
        if own:
            self._ledger.handed_over.add_many(own)
            self._own_ended += own
            self.moves += 1

    # Ends.

    def stop_at_last(self) -> None:
        self._looked_at = 0.0
        self.look()
        self.end = self._own_last
        self._may_have_more = self._read_to < self.end
        self._resumes_at = time.monotonic() + RESUME

    def keep_rest(self) -> None:
        if self._held or self._settled or self._buried:
            self._line.retry(LAST_PATIENCE)
            self._move()
            self.sync()

    def close(self, under_way: Collection[Entry] = ()) -> None:
        self.sync()  # what was delivered since `keep_rest` must not come again
        in_memory = self._held.clear()
        self._ledger.dropped["closed"].add_many(in_memory)
        self._left(in_memory)
        self._finishing = {entry.number for entry in under_way if entry.number > 0}
        self._leave(self.lasting - sum(entry.is_own for entry in under_way if entry.number > 0))
        self._consumer.give_back_all(but=self._finishing)
        self._fetched.clear()
        self._unread.clear()
        self._delivers = False
        if not self._finishing:
            self._shut()

    def finish(self, entry: Entry, *, is_delivered: bool) -> bool:
        if entry.number not in self._finishing:
            return False
        self._finishing.discard(entry.number)
        if is_delivered:
            self._end(entry)
            self._line.do(lambda stream: stream.delete([entry.number]))
        else:
            self._leave(entry.is_own)
            self._consumer.give_back([entry.number])
        if not self._finishing:
            self._shut()
        return is_delivered

    def _shut(self) -> None:
        self._consumer.leave()
        self._line.shut()

    def before_fork(self) -> None:
        self._line.before_fork()

    def after_fork(self) -> None:
        self._line.after_fork()

    def abandon(self) -> None:
        """There is no connection open here: see `Line.before_fork`."""

    # What is here.

    @property
    def is_held(self) -> bool:
        return self._line.is_held

    @property
    def waiting(self) -> int:
        held = len(self._held) if self._delivers else 0
        return held + (len(self._fetched) if self._has_fetched() else 0)

    @property
    def pending(self) -> int:
        return self.lasting + self._held.own

    @property
    def lasting(self) -> int:
        return self._own_put.value - self._own_ended

    @property
    def oldest(self) -> float | None:
        moments = [entry.accepted_at for entry in (*self._held, *self._fetched) if entry.is_own]
        return min([*moments, *self._unread.moments], default=None)

    @property
    def span(self) -> range:
        return range(self._held.last, self._own_last + 1)
