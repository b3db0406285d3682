"""The queue between the caller's thread and ours: bounded, re-entrant, in batches, and nobody waits for ever."""

from __future__ import annotations

import itertools
import queue
import signal
import sys
import threading
from collections import Counter, deque

import pytest

from km_logging import queueing
from km_logging.calls import Call, Problem
from km_logging.queueing import CallQueue, Mark
from km_logging.tagging import Snapshot

NEW_YEAR = 1_262_304_000  # 2010-01-01
HANG = 10  # seconds; only a test that fails waits so long
LONGER_THAN_A_TEST = 1_000


def a_call(name="Signed Up"):
    return Call("event", "bob", str(name), timestamp=NEW_YEAR)


def a_snapshot(moment=float(NEW_YEAR)):
    return Snapshot("event", "bob", "Signed Up", None, None, moment, {})


def a_problem():
    return Problem("bad_value", "message", "remedy")


def names(items):
    return [item.name for item in items if isinstance(item, Call)]


@pytest.fixture
def _no_linger(monkeypatch):
    """The listener takes what there is at once."""
    # Not LINGER = 0: up to 3.12, SimpleQueue.get() waits for ever once its timeout is over before it has looked twice.
    monkeypatch.setattr(CallQueue, "_linger", lambda _: None)


@pytest.fixture
def _long_linger(monkeypatch):
    """The listener, once awake, waits for more until it is told to hurry."""
    monkeypatch.setattr(queueing, "LINGER", LONGER_THAN_A_TEST)


class Consumer(threading.Thread):
    """Takes batches as the listener does, until the queue is closed and empty."""

    def __init__(self, calls):
        super().__init__(daemon=True)
        self.calls = calls
        self.batches = []
        self.start()

    def run(self):
        while (batch := self.calls.get()) is not None:
            self.batches.append(batch)

    def all_items(self):
        """Everything that came, once the queue was closed."""
        self.calls.close()
        self.join(HANG)
        assert not self.is_alive()
        return [item for batch in self.batches for item in batch]


def in_thread(function, *args):
    """Start a thread; its event is set once the function has returned."""
    done = threading.Event()

    def run():
        function(*args)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def watched(calls):
    """Replace the queue's bell by one that says when somebody sleeps on it."""
    sleeping = threading.Event()

    class Bell(queue.SimpleQueue):
        def get(self, block=True, timeout=None):  # noqa: FBT002 - the signature of a queue
            if block and timeout is None:
                sleeping.set()
            return super().get(block, timeout)

    calls._bell = Bell()
    return sleeping


# Bounded.


@pytest.mark.usefixtures("_no_linger")
def test_calls_that_left_the_queue_count_until_they_have_ended():
    calls = CallQueue(capacity=3)
    for name in "abc":
        assert not calls.is_full
        calls.put_nowait(a_call(name))
    assert calls.is_full
    assert len(calls) == 3
    assert names(calls.get()) == ["a", "b", "c"]
    assert len(calls) == 0
    assert calls.is_full
    calls.left()
    assert not calls.is_full
    calls.put_nowait(a_call("d"))
    assert calls.is_full
    calls.left(2)
    assert not calls.is_full


@pytest.mark.parametrize("item", [a_snapshot(), a_call()], ids=["snapshot", "call"])
@pytest.mark.usefixtures("_no_linger")
def test_snapshots_and_calls_count_alike(item):
    calls = CallQueue(capacity=1)
    calls.put_nowait(item)
    calls.get()
    assert calls.is_full


@pytest.mark.usefixtures("_no_linger")
def test_marks_and_problems_do_not_count_once_they_have_left():
    calls = CallQueue(capacity=1)
    calls.put_nowait(Mark())
    calls.put_nowait(a_problem())
    assert len(calls.get()) == 2
    assert not calls.is_full


def test_a_put_is_never_refused_and_never_blocks():
    """What to do with a full queue is decided before; a mark gets in whatever the capacity says."""
    calls = CallQueue(capacity=1)
    for number in range(10):
        calls.put_nowait(a_call(number))
    calls.put_nowait(Mark())
    assert len(calls) == 11


# Batches.


@pytest.mark.usefixtures("_no_linger")
def test_everything_that_has_come_is_taken_together_and_in_order():
    calls = CallQueue(capacity=10)
    items = [a_call("a"), a_problem(), a_snapshot(), Mark(), a_call("b")]
    for item in items:
        calls.put_nowait(item)
    assert calls.get() == items


@pytest.mark.usefixtures("_long_linger")
def test_a_batch_has_an_end_and_a_full_one_is_taken_without_lingering():
    calls = CallQueue(capacity=10_000)
    for number in range(2_000):
        calls.put_nowait(a_call(number))
    first, second = calls.get(), calls.get()
    assert [len(first), len(second)] == [1_000, 1_000]
    assert names(first + second) == [str(number) for number in range(2_000)]


@pytest.mark.usefixtures("_long_linger")
def test_the_listener_lets_calls_gather_until_it_is_told_to_hurry():
    calls = CallQueue(capacity=10)
    consumer = Consumer(calls)
    for name in "abc":
        calls.put_nowait(a_call(name))
    calls.hurry()
    assert names(consumer.all_items()) == ["a", "b", "c"]
    assert len(consumer.batches) == 1


@pytest.mark.usefixtures("_long_linger")
def test_hurry_before_the_listener_looks_is_not_lost():
    calls = CallQueue(capacity=10)
    calls.put_nowait(a_call("a"))
    calls.hurry()
    batches = []
    assert in_thread(lambda: batches.append(calls.get())).wait(HANG)
    assert names(batches[0]) == ["a"]


@pytest.mark.usefixtures("_long_linger")
def test_hurry_lasts_until_the_queue_is_empty():
    """A flush of more than one batch does not linger in between."""
    calls = CallQueue(capacity=10_000)
    for number in range(1_500):
        calls.put_nowait(a_call(number))
    calls.hurry()
    sizes = []
    assert in_thread(lambda: sizes.extend(len(calls.get()) for _ in range(2))).wait(HANG)
    assert sizes == [1_000, 500]


@pytest.mark.usefixtures("_no_linger")
def test_get_waits_for_the_first_item():
    calls = CallQueue(capacity=10)
    asleep = watched(calls)
    batches = []
    done = in_thread(lambda: batches.append(calls.get()))
    assert asleep.wait(HANG)
    assert not done.is_set()
    calls.put_nowait(a_call("a"))
    assert done.wait(HANG)
    assert names(batches[0]) == ["a"]


@pytest.mark.usefixtures("_no_linger")
def test_get_need_not_wait():
    calls = CallQueue(capacity=10)
    assert calls.get(block=False) == []
    calls.put_nowait(a_call("a"))
    assert names(calls.get(block=False)) == ["a"]


def test_a_put_that_nobody_waits_for_wakes_nobody():
    """Waking a thread is most of a log call's time, so only a listener that sleeps is woken, and once."""
    calls = CallQueue(capacity=10)
    for number in range(5):
        calls.put_nowait(a_call(number))
    assert calls._bell.qsize() == 0
    calls._asleep = True
    for number in range(5):
        calls.put_nowait(a_call(number))
    assert calls._bell.qsize() == 1


def test_lingering_ends_also_where_its_time_is_over_before_it_has_begun(monkeypatch):
    """As on a machine that was suspended: up to 3.12, `SimpleQueue.get` would wait for ever then, and no put ring."""
    monkeypatch.setattr(queueing, "LINGER", 1e-6)

    def linger():
        for _ in range(30_000):
            CallQueue(capacity=1)._linger()

    assert in_thread(linger).wait(6 * HANG)


# Closing.


@pytest.mark.usefixtures("_long_linger")
def test_a_closed_queue_gives_what_it_holds_and_then_nothing_for_ever():
    calls = CallQueue(capacity=10)
    calls.put_nowait(a_call("a"))
    calls.close()
    assert names(calls.get()) == ["a"]
    assert calls.get() is None
    assert calls.get() is None


@pytest.mark.usefixtures("_long_linger")
def test_closing_wakes_a_listener_that_sleeps():
    calls = CallQueue(capacity=10)
    asleep = watched(calls)
    consumer = Consumer(calls)
    assert asleep.wait(HANG)
    assert consumer.all_items() == []


@pytest.mark.usefixtures("_long_linger")
def test_closing_ends_lingering():
    calls = CallQueue(capacity=10)
    consumer = Consumer(calls)
    calls.put_nowait(a_call("a"))
    assert names(consumer.all_items()) == ["a"]


@pytest.mark.usefixtures("_long_linger")
def test_an_abandoned_queue_forgets_everything_and_lets_its_listener_go():
    """In a forked child: the calls in it are the parent's."""
    calls = CallQueue(capacity=10)
    calls.put_nowait(a_call())
    calls.abandon()
    assert len(calls) == 0
    assert calls.get() is None


# Evicting.


@pytest.mark.usefixtures("_no_linger")
def test_the_oldest_call_is_evicted_and_marks_and_problems_stay_in_their_places():
    calls = CallQueue(capacity=10)
    mark, problem, second = Mark(), a_problem(), Mark()
    for item in (mark, problem, a_call("a"), second, a_call("b")):
        calls.put_nowait(item)
    assert calls.evict()
    batch = calls.get()
    assert batch[:3] == [mark, problem, second]
    assert names(batch[3:]) == ["b"]


@pytest.mark.parametrize("item", [a_snapshot(), a_call()], ids=["snapshot", "call"])
def test_snapshots_and_calls_may_be_evicted(item):
    calls = CallQueue(capacity=10)
    calls.put_nowait(item)
    assert calls.evict()
    assert len(calls) == 0


def test_where_there_is_no_call_there_is_nothing_to_evict():
    calls = CallQueue(capacity=10)
    assert not calls.evict()
    calls.put_nowait(Mark())
    calls.put_nowait(a_problem())
    assert not calls.evict()
    assert len(calls) == 2


def test_an_evicted_call_makes_room_at_once():
    calls = CallQueue(capacity=2)
    calls.put_nowait(a_call("a"))
    calls.put_nowait(a_call("b"))
    calls.evict()
    assert not calls.is_full


@pytest.mark.usefixtures("_no_linger")
def test_a_mark_put_back_while_the_listener_fell_asleep_is_seen():
    """Else a flush would wait until the next log call."""
    calls = CallQueue(capacity=10)
    asleep = watched(calls)
    batches = []

    class Slow(deque):
        """Between taking the mark out and putting it back, the listener finds nothing and goes to sleep."""

        def extendleft(self, items):
            self.done = in_thread(lambda: batches.append(calls.get()))
            assert asleep.wait(HANG)
            super().extendleft(items)

    calls._items = Slow()
    mark = Mark()
    calls.put_nowait(mark)
    assert not calls.evict()
    assert calls._items.done.wait(HANG)
    assert batches == [[mark]]


# Waiting for room.


def test_where_there_is_room_nobody_waits():
    CallQueue(capacity=1).wait_for_room(LONGER_THAN_A_TEST)


def test_waiting_for_room_ends_with_the_time():
    calls = CallQueue(capacity=1)
    calls.put_nowait(a_call())
    calls.wait_for_room(0.001)
    assert calls.is_full


class Waiters(deque):
    """The queue's own list of waiters, that says how many have come."""

    def __init__(self, expected):
        super().__init__()
        self.expected = expected
        self.complete = threading.Event()

    def append(self, gate):
        super().append(gate)
        if len(self) >= self.expected:
            self.complete.set()


def full_queue(waiters=1):
    """A queue that is full for good: more calls are pending than it may hold."""
    calls = CallQueue(capacity=1)
    for number in range(20):
        calls.put_nowait(a_call(number))
    calls.hurry()
    assert len(calls.get()) == 20
    calls._waiters = Waiters(waiters)
    return calls


def test_who_waits_for_room_is_woken_by_a_call_that_has_ended():
    calls = full_queue()
    done = in_thread(calls.wait_for_room, LONGER_THAN_A_TEST)
    assert calls._waiters.complete.wait(HANG)
    assert not done.is_set()
    calls.left()
    assert done.wait(HANG)


@pytest.mark.parametrize("ended", [1, 2, 3])
def test_as_many_are_woken_as_calls_have_ended(ended):
    calls = full_queue(waiters=3)
    waiting = [in_thread(calls.wait_for_room, LONGER_THAN_A_TEST) for _ in range(3)]
    assert calls._waiters.complete.wait(HANG)
    calls.left(ended)
    assert len(calls._waiters) == 3 - ended
    calls.left(3 - ended)
    assert all(done.wait(HANG) for done in waiting)


def test_who_gave_up_waiting_takes_nobody_elses_room():
    """A waiter whose time is over is not woken in place of one that still waits."""
    calls = full_queue()
    calls.wait_for_room(0.001)
    calls._waiters.complete.clear()
    done = in_thread(calls.wait_for_room, LONGER_THAN_A_TEST)
    assert calls._waiters.complete.wait(HANG)
    calls.left()
    assert done.wait(HANG)


def test_who_gave_up_waiting_leaves_nothing_behind():
    """During an outage each blocked log call gives up; they must not pile up in memory."""
    calls = full_queue()
    for _ in range(100):
        calls.wait_for_room(0.0)
    assert len(calls._waiters) <= 1


def test_a_signal_handler_may_wait_for_room_while_its_thread_does():
    calls = full_queue(waiters=1)
    outer, entered, inner_done = calls._waiters.complete, threading.Event(), threading.Event()

    def handle(number, frame):
        if not entered.is_set():
            calls._waiters.expected, calls._waiters.complete = 2, threading.Event()
            entered.set()
            calls.wait_for_room(LONGER_THAN_A_TEST)
            inner_done.set()

    def interrupt_and_end_two_calls():
        outer.wait(HANG)  # the main thread waits, or is just about to: then one signal may come too early
        while not entered.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        calls._waiters.complete.wait(HANG)  # now its handler waits, too
        calls.left(2)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        ended = in_thread(interrupt_and_end_two_calls)
        calls.wait_for_room(LONGER_THAN_A_TEST)
        assert inner_done.is_set()
        assert ended.wait(HANG)
    finally:
        signal.signal(signal.SIGUSR1, before)


# What a flush and the statistics ask.


def test_a_new_mark_is_neither_seen_nor_done():
    mark = Mark()
    assert not mark.seen.is_set()
    assert not mark.done.is_set()
    assert (mark.span, mark.left) == (range(0), 0)


@pytest.mark.usefixtures("_no_linger")
def test_a_mark_comes_after_everything_that_was_put_before_it():
    calls = CallQueue(capacity=10)
    consumer = Consumer(calls)
    mark = Mark()
    for name in "abc":
        calls.put_nowait(a_call(name))
    calls.put_nowait(mark)
    calls.put_nowait(a_call("d"))
    items = consumer.all_items()
    assert names(items[: items.index(mark)]) == ["a", "b", "c"]
    assert names(items[items.index(mark) :]) == ["d"]


@pytest.mark.usefixtures("_no_linger")
def test_the_listener_is_done_once_it_comes_back_for_more_and_finds_nothing():
    """Not while calls are in the queue, and not while it has them in hand."""
    calls = CallQueue(capacity=10)
    calls.put_nowait(a_call())
    assert not calls.is_done
    calls.get()
    assert not calls.is_done
    asleep = watched(calls)
    consumer = Consumer(calls)
    assert asleep.wait(HANG)
    assert calls.is_done
    consumer.all_items()


def test_the_moment_is_that_of_the_oldest_snapshot():
    calls = CallQueue(capacity=10)
    assert calls.moment is None
    calls.put_nowait(a_snapshot(5.0))
    calls.put_nowait(a_snapshot(6.0))
    assert calls.moment == 5.0
    calls.evict()
    assert calls.moment == 6.0


@pytest.mark.parametrize("first", [Mark(), a_problem()], ids=["mark", "problem"])
def test_what_is_no_call_does_not_hide_the_moment_of_the_oldest_snapshot(first):
    """`oldest_pending_s` is the age of a call that waits, whatever else waits before it."""
    calls = CallQueue(capacity=10)
    calls.put_nowait(first)
    calls.put_nowait(a_snapshot(5.0))
    assert calls.moment == 5.0


# Nothing lost, nothing twice, whoever puts.


@pytest.fixture
def _restless():
    """Threads change places as often as Python allows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_no_linger", "_restless")
def test_many_threads_put_and_one_takes():
    """Each call arrives once, and each thread's in the order it put them."""
    calls = CallQueue(capacity=10)
    consumer = Consumer(calls)

    def put(thread):
        for number in range(1_000):
            calls.put_nowait(a_call(f"{thread} {number}"))

    threads = [in_thread(put, thread) for thread in range(8)]
    assert all(done.wait(HANG) for done in threads)
    arrived = names(consumer.all_items())
    assert Counter(arrived) == Counter(f"{thread} {number}" for thread in range(8) for number in range(1_000))
    for thread in range(8):
        own = [name for name in arrived if name.startswith(f"{thread} ")]
        assert own == [f"{thread} {number}" for number in range(1_000)]


@pytest.mark.usefixtures("_no_linger", "_restless")
def test_calls_that_end_in_many_threads_are_all_counted_off():
    calls = CallQueue(capacity=1)
    for number in range(8_000):
        calls.put_nowait(a_call(number))
    while len(calls):
        calls.get(block=False)
    threads = [in_thread(lambda: [calls.left() for _ in range(1_000)]) for _ in range(8)]
    assert all(done.wait(HANG) for done in threads)
    assert calls._behind == 0
    assert not calls.is_full


class Hammer:
    """Interrupts the main thread by a signal again and again, and calls a function there; it may interrupt itself."""

    def __init__(self, function):
        self.function = function
        self.numbers = itertools.count()
        self.done = []

    @property
    def blows(self):
        return len(self.done)

    def __enter__(self):
        self.before = signal.signal(signal.SIGVTALRM, self)
        # Of CPU time, so that the handler comes in the middle of something; pytest-timeout uses the other timer.
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)
        return self

    def __call__(self, number, frame):
        blow = next(self.numbers)
        self.function(blow)
        self.done.append(blow)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self.before)


@pytest.mark.usefixtures("_no_linger")
def test_a_signal_handler_may_put_while_its_thread_puts():
    """Between any two instructions; nothing is lost, and nothing deadlocks."""
    calls = CallQueue(capacity=10)
    consumer = Consumer(calls)
    put = 0
    with Hammer(lambda blow: calls.put_nowait(a_call(f"handler {blow}"))) as hammer:
        while hammer.blows < 50:
            calls.put_nowait(a_call(f"main {put}"))
            put += 1
    arrived = names(consumer.all_items())
    expected = [f"handler {blow}" for blow in range(hammer.blows)] + [f"main {number}" for number in range(put)]
    assert sorted(arrived) == sorted(expected)


@pytest.mark.usefixtures("_no_linger")
def test_a_signal_handler_may_evict_and_put_while_its_thread_does():
    """As with `overflow="drop_oldest"`: every call is taken, evicted, or still there."""
    calls = CallQueue(capacity=5)
    evicted = []

    def make_room_and_put(name):
        if calls.is_full and calls.evict():
            evicted.append(name)
        calls.put_nowait(a_call(name))

    mark = Mark()
    calls.put_nowait(mark)
    put = 0
    with Hammer(make_room_and_put) as hammer:
        while hammer.blows < 50:
            make_room_and_put(put)
            put += 1
    left = calls.get()
    assert left.count(mark) == 1
    assert put + hammer.blows == len(evicted) + len(names(left))


def test_a_signal_handler_may_count_calls_off_while_its_thread_does():
    """The lock of that count may be held by the very code that was interrupted."""
    calls = CallQueue(capacity=1)
    ended = 0
    with Hammer(lambda _: calls.left()) as hammer:
        while hammer.blows < 50:
            calls.left()
            ended += 1
    assert calls._behind == -(ended + hammer.blows)
