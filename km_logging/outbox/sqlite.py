"""``sqlite:///km.db`` An outbox in a file: what waits there outlives the process, and any number of processes share it.

1. Every process puts. One delivers for all, the one that holds the lock of `election`; its own calls are pending with
   it, everybody else's are handed over to it with their commit.
2. The one that delivers goes through the file by number, once. A row is deleted when its own delivery is confirmed.
   When another one takes over, it begins at the first row that is left.
3. When the file cannot be used, calls are held in memory within `capacity`, delivered from there, and put into the
   file as soon as it can be used again.
4. A fork finds the connection closed: SQLite must not be carried across one, open or not.
"""

from __future__ import annotations

import math
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from km_logging.addresses import OutboxAddress
from km_logging.calls import Problem
from km_logging.ledger import Ledger, Tally
from km_logging.outbox import Entry
from km_logging.outbox.access import Access
from km_logging.outbox.database import CHUNK, FAULTS, Database
from km_logging.outbox.election import is_won
from km_logging.outbox.held import Held
from km_logging.outbox.store import Row

__all__ = ["SqliteOutbox"]

#: How often the one that delivers looks what others have put, in seconds.
POLL = 1.0

#: How many rows are read at once.
FETCH = 250

#: How many rows of a file that was deleted are saved.
MOST_SAVED = 10_000

#: What was delivered is deleted when it is so many calls, or so old, in seconds; if it cannot be, no more is delivered.
SETTLE = 100
SETTLE_AFTER = 0.05
MOST_SETTLED = 10 * SETTLE

#: How long to wait while another process writes, in seconds: behind the log call, and in it. There, as long again may
#: be spent waiting for this process's own threads.
PATIENCE = 0.5
PATIENCE_IMMEDIATE = 0.12

#: A process that goes on although its end was near delivers what others put again after so many seconds.
RESUME = 10.0

#: How long a fork waits for what is under way, in seconds.
FORK_PATIENCE = 2.0


class SqliteOutbox:
    """See the rules of the module; `km_logging.outbox.Outbox` says what each method does.

    Args:
        address: of the file.
        ledger: the books.
        left: is told how many calls no longer take up room in memory.
        report: says a problem.
        delivers: whether this process stands for election.
        api_key: to say when the file was filled under another one.
        is_immediate: whether log calls wait for `put_now`.
        is_relay: whether this process answers in its books for all calls, whoever put them, and makes no file.
    """

    lasts = True

    def __init__(
        self,
        address: OutboxAddress,
        *,
        ledger: Ledger,
        left: Callable[[int], None],
        report: Callable[[Problem], None],
        delivers: bool,
        api_key: str,
        is_immediate: bool = False,
        is_relay: bool = False,
    ) -> None:
        self._address = address
        self._ledger = ledger
        self._left = left
        self._report = report
        self._delivers = delivers
        self._is_relay = is_relay
        self._id = secrets.randbits(62) + 1
        #: The last number that is delivered; what comes after it is left for another time.
        self.end: float = math.inf
        self._resumes_at = math.inf  # then `end` is no more
        #: Is called when there may be something to do.
        self.wake: Callable[[], None] = lambda: None
        self._lock = threading.RLock()  # guards everything below; log calls take it with `put_now`
        self._access = Access(
            address,
            creates=not is_relay,
            patience=PATIENCE_IMMEDIATE if is_immediate else PATIENCE,
            stands=delivers,
            api_key=api_key,
            tell=self._tell,
            won=self._won,
        )
        self._held = Held()
        self._is_closed = False
        self._is_mending = False
        self._looked_at = 0.0
        # What is read of the file, and what is to be deleted there, while this one leads.
        self._cursor = -1
        self._may_have_more = False
        self._fetched: deque[Entry] = deque()
        self._settled: list[int] = []
        self._settled_since = 0.0
        self._buried: list[int] = []
        self._finishing: set[int] = set()  # under way when it was closed
        # Own calls in the file, while this one leads.
        self._own_put = Tally()  # log calls add to it, so also a signal handler in the middle of one
        self._own_ended = 0
        self._own_claimed = 0  # in the hands of delivery
        self._is_uncounted = False  # a log call was broken off between its commit and the books
        self.moves = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}>"

    @property
    def leads(self) -> bool:
        """Whether this one delivers for all."""
        return self._access.leads

    @property
    def has_others(self) -> bool:
        """Whether another one delivers, for all."""
        return not self.leads and is_won(self._address.path)

    # What comes in.

    def put(self, requests: Sequence[str], now: float) -> None:
        with self._lock:
            rest = list(requests)
            try:
                while rest and self._is_usable():
                    done = self._commit(rest, now)
                    self._left(done)
                    del rest[:done]
            except FAULTS as error:
                self._access.failed(error)
            for request in rest:
                self._held.add(Entry(request, now, 0))

    def put_now(self, request: str, now: float) -> bool:
        """Commit one call in the caller's thread; false if that cannot be done in time, whatever the reason.

        Re-entrant: a signal handler or a finaliser that comes in between commits its own call.
        """
        was_held = self.is_held
        try:
            # In here: a signal handler may raise as soon as the lock is taken.
            if not was_held and not self._lock.acquire(timeout=PATIENCE_IMMEDIATE):
                self._access.tell_unusable(
                    "the file is busy", "calls wait in memory; use durability 'batched' if this happens often"
                )
                return False
            # What takes longer is not done in a log call: to save what is in a file that was deleted, and to put into
            # the file what was held in memory.
            is_quick = not self._held and not self._access.is_lost
            is_usable = is_quick and self._is_usable()
            return is_usable and bool(self._commit([request], now))
        except FAULTS as error:
            self._access.failed(error)
            return False
        except BaseException:
            self._is_uncounted = True
            raise
        finally:
            if self.is_held and not was_held:
                self._lock.release()

    def _commit(self, requests: Sequence[str], now: float) -> int:
        """Put the first own calls into the file and the books; returns how many have ended up somewhere."""
        file = self._access.file
        if file is None:  # a signal handler that logs came in between, and failed
            return 0
        origin = self._id * self.leads
        added = file.add_some([(request, now, origin) for request in requests[:CHUNK]])
        if not added:  # there is no room for any
            self._ledger.dropped["overflow"].add_many(len(requests))
            return len(requests)
        self._count_in(added)
        return added

    def _count_in(self, own: int) -> None:
        """So many own calls were committed."""
        self._access.worked()
        self._may_have_more = self.leads
        if self.leads and not self._is_relay:
            self.end = math.inf
            self._own_put.add_many(own)
        else:  # a relay takes its calls anew when it reads them
            self._ledger.handed_over.add_many(own)

    # The file.

    def _is_usable(self) -> bool:
        """Whether the file can be used right now; opens it if need be, and moves into it what was held meanwhile."""
        # A signal handler in the middle of mending finds a file that cannot be used.
        if self._is_closed or self._is_mending or self._access.is_paused:
            return False
        if self._access.file is not None and not self._held and not self._access.is_lost:
            return True
        self._is_mending = True
        try:
            self._mend()
        except FAULTS as error:
            self._access.failed(error)
            return False
        finally:
            self._is_mending = False
        return True

    def _mend(self) -> None:
        file = self._access.file
        if file is not None and self._access.is_lost:
            self._lose(file.rows(self._cursor, MOST_SAVED) if self.leads else [])
        if self._access.file is None:
            if not self._access.open():
                self._lose([])
                self._access.open()
            self._stand()
        self._move()

    def _stand(self) -> None:
        """Stand for election; whoever wins begins at the first row."""
        if self._access.is_deposed:
            self._resign()
        if self._access.stand():
            self._cursor, self._may_have_more = -1, True

    def _won(self) -> None:
        """It is this one's turn; called in a thread of its own, so only worth a look."""
        self._looked_at = 0.0
        self._access.retry()
        self.wake()

    def _resign(self) -> None:
        """What is not in the hands of delivery yet is left to whoever leads now."""
        self._leave(self.lasting - self._own_claimed)
        self._fetched.clear()
        self._access.withdraw()

    def _leave(self, own: int) -> None:
        """So many own calls stay in the file for others to deliver."""
        self._ledger.handed_over.add_many(own)
        self._own_ended += own
        self.moves += 1

    def _tell(self, message: str, remedy: str) -> None:
        self._ledger.refused["outbox"].add()
        self._report(Problem("outbox", message, remedy))

    def _lose(self, rows: Sequence[Row]) -> None:
        """The file was taken away: what was read of it goes on in memory, the rest is left to whoever has it now.

        Args:
            rows: what could be read of it just now.
        """
        entries = [*self._fetched, *self._entries(rows)]
        own = sum(entry.is_own for entry in entries)
        self._leave(self.lasting - self._own_claimed - own)
        self._own_ended += own
        self._left(-own)  # they take up room in memory again
        for entry in entries:
            self._held.add(entry)
        self._fetched.clear()
        self._settled.clear()
        self._buried.clear()
        self._access.forget()
        self._access.tell_unusable("the file was deleted or replaced", "leave it alone while the application runs")

    def _move(self) -> None:
        """What was held in memory goes into the file, as far as that has room."""
        origin = self._id * self.leads
        while self._held and (file := self._access.file) is not None:
            some = self._held.first(CHUNK)
            added = file.add_some([(e.request, e.accepted_at, origin * e.is_own) for e in some])
            if not added:
                return
            own = self._held.drop(added)
            self._count_in(own)
            self._left(own)
            self.moves += 1

    # What goes out.

    @property
    def poll(self) -> float:
        return POLL if self._delivers or self._held else math.inf

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < POLL:
            return
        with self._lock:
            self._looked_at = now
            is_idle = self._access.file is None and not (self._held or self.lasting or self._delivers)
            if is_idle or not self._is_usable() or (file := self._access.file) is None:
                return
            try:
                self._stand()
                self._access.check_key()
                if self._is_uncounted:
                    self._count_anew(file)
            except FAULTS as error:
                self._access.failed(error)
                return
            if now >= self._resumes_at:
                self.end = self._resumes_at = math.inf
            self._may_have_more = self.leads
            self._sync_if_due()

    def _count_anew(self, file: Database) -> None:
        """What was committed by a log call that an exception of a signal handler broke off is in no book yet."""
        self.sync()
        if not self._settled and not self._buried:
            missing = file.count_of(self._id) - self.lasting
            self._own_put.add_many(missing) if missing > 0 else None
            self._is_uncounted = False

    def claim(self, limit: int) -> Sequence[Entry]:
        with self._lock:
            claimed: list[Entry] = []
            while len(claimed) < limit and self._held and self._delivers:
                claimed.append(self._held.take())
            while len(claimed) < limit and self._has_fetched():
                claimed.append(self._fetched.popleft())
                self._own_claimed += claimed[-1].is_own
            return claimed

    def _has_fetched(self) -> bool:
        """Whether there is a row at hand; reads some if there is none."""
        # Where what was delivered cannot be deleted, no more is: it would all be sent again.
        is_stuck = len(self._settled) >= MOST_SETTLED
        file = self._access.file
        if not self._fetched and self._may_have_more and self.leads and not is_stuck and file is not None:
            self._may_have_more = False
            try:
                last, rows = file.last(), file.rows(self._cursor, FETCH)
            except FAULTS as error:
                self._access.failed(error)
                return False
            rows = [row for row in rows if row.number <= self.end]
            if rows:
                self._cursor = rows[-1].number
                self._may_have_more = len(rows) == FETCH
            elif self.end == math.inf:
                self._cursor = max(self._cursor, last)  # what is dead is not looked at again
            self._fetched.extend(self._entries(rows))
        return bool(self._fetched)

    def _entries(self, rows: Sequence[Row]) -> list[Entry]:
        """What was read; a relay takes it into its books."""
        if self._is_relay:
            self._ledger.taken.add_many(len(rows))
            self._own_put.add_many(len(rows))
        entries = [Entry(it.request, it.accepted_at, it.number, is_own=self._answers_for(it)) for it in rows]
        for entry in entries:
            if not entry.request.isascii():
                self._tell(f"a call in {self._address.path} is damaged", "km-logging outbox purge --dead forgets it")
                self._ledger.dropped["rejected"].add_many(entry.is_own)
                self._own_claimed += entry.is_own
                self.bury(entry)
        return [entry for entry in entries if entry.request.isascii()]

    def _answers_for(self, row: Row) -> bool:
        return self._is_relay or row.origin == self._id

    def settle(self, entry: Entry) -> None:
        with self._lock:
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
        with self._lock:
            if entry.number < 0:
                self.settle(entry)
            else:
                self._end(entry)
                self._buried.append(entry.number)

    def _sync_if_due(self) -> None:
        if len(self._settled) >= SETTLE or time.monotonic() - self._settled_since >= SETTLE_AFTER:
            self.sync()

    def _end(self, entry: Entry) -> None:
        self._own_ended += entry.is_own
        self._own_claimed -= entry.is_own

    def sync(self) -> None:
        with self._lock:
            if not (self._settled or self._buried) or not self._is_usable() or (file := self._access.file) is None:
                return
            try:
                file.bury(self._buried)
                self._buried.clear()
                file.delete(self._settled)
                self._settled.clear()
            except FAULTS as error:
                self._access.failed(error)  # they stay to be deleted
            else:
                self._access.worked()

    def holds(self, entry: Entry) -> bool:
        return entry.number < 0 and entry.is_own

    def evict(self) -> Entry | None:
        with self._lock:
            entry = self._held.evict()
            if entry is not None:
                self._left(1)
            return entry

    # Ends.

    def close(self, under_way: Collection[Entry] = ()) -> None:
        with self._lock:
            self.sync()  # what was delivered since `keep_rest` must not come again
            self._is_closed = True
            in_memory = self._held.clear()
            self._ledger.dropped["closed"].add_many(in_memory)
            self._left(in_memory)
            self._fetched.clear()
            self._finishing = {entry.number for entry in under_way if entry.number > 0}
            self._leave(self.lasting - sum(entry.is_own for entry in under_way if entry.number > 0))
            if not self._finishing:
                self._shut()

    def finish(self, entry: Entry, *, is_delivered: bool) -> bool:
        with self._lock:
            if entry.number not in self._finishing:
                return False
            self._finishing.discard(entry.number)
            if is_delivered:
                self._end(entry)
                if self._access.file is not None:
                    with suppress(*FAULTS):
                        self._access.file.delete([entry.number])
            else:
                self._leave(entry.is_own)
            if not self._finishing:
                self._shut()
            return is_delivered

    def _shut(self) -> None:
        self._access.close()
        self._access.withdraw()

    def stop_at_last(self) -> None:
        with self._lock:
            self._looked_at = 0.0
            self.look()
            if self.leads and self._access.file is not None:
                with suppress(*FAULTS):
                    self.end = self._access.file.last()
                    self._resumes_at = time.monotonic() + RESUME

    def keep_rest(self) -> None:
        with self._lock:
            if self._held or self._settled or self._buried:
                self._access.retry()
                self._is_usable()
                self.sync()

    def before_fork(self) -> None:
        if self._lock.acquire(timeout=FORK_PATIENCE):
            if self._access.file is not None:
                self.sync()
            self._access.close()

    def after_fork(self) -> None:
        with suppress(RuntimeError):  # it was not acquired in time
            self._lock.release()

    def abandon(self) -> None:
        self._access.abandon()

    # What is here.

    @property
    def is_held(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - no public name for it

    @property
    def waiting(self) -> int:
        with self._lock:
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
        with self._lock:
            waiting = (entry.accepted_at for entry in (*self._held, *self._fetched) if entry.is_own)
            moments = [moment for moment in [next(waiting, None)] if moment is not None]
            if self._access.file is not None and self.leads and self.lasting:
                with suppress(*FAULTS):
                    moments += [row.accepted_at for row in self._access.file.rows(self._cursor, 1)]
            return min(moments, default=None)

    @property
    def span(self) -> range:
        with self._lock:
            last = sys.maxsize  # where it cannot be known, later ones are taken for earlier ones
            if self._is_usable() and self._access.file is not None:  # a fork may just have closed it
                with suppress(*FAULTS):
                    last = self._access.file.last()
            return range(self._held.last, last + 1)
