"""The store: bounded, for many threads, and waited for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from km_logging.sandbox import Store
from km_logging.sandbox.checks import Received, receive


def call(person: str) -> Received:
    return receive("set", f"_k=key&_p={person}&plan=pro&_t=1262304000&_d=1".encode(), 1_700_000_000.0)


def people(calls: list[Received]) -> list[str]:
    return [call.person for call in calls]


def test_calls_are_held_in_the_order_received_with_ids() -> None:
    store = Store()
    added = [store.add(call(person)) for person in ("ann", "bob")]
    assert store.calls() == added
    assert [(call.person, call.id) for call in added] == [("ann", 1), ("bob", 2)]


def test_calls_after_an_id_are_the_newer_ones() -> None:
    store = Store()
    for person in ("ann", "bob", "eve"):
        store.add(call(person))
    assert people(store.calls(after=1)) == ["bob", "eve"]
    assert store.calls(after=3) == []


def test_a_duplicate_is_marked() -> None:
    store = Store()
    assert [store.add(call(person)).duplicate for person in ("bob", "bob", "ann")] == [False, True, False]


def test_the_oldest_calls_go_when_there_are_too_many() -> None:
    store = Store(capacity=2)
    for person in ("ann", "bob", "eve"):
        store.add(call(person))
    assert people(store.calls()) == ["bob", "eve"]
    assert (store.capacity, store.forgotten, store.last_id) == (2, 1, 3)


def test_a_call_is_no_duplicate_of_one_that_is_gone() -> None:
    store = Store(capacity=1)
    for person in ("bob", "ann"):
        store.add(call(person))
    assert not store.add(call("bob")).duplicate


def test_ten_thousand_calls_are_held_unless_told_otherwise() -> None:
    assert Store().capacity == 10_000


def test_clear_forgets_everything_but_the_ids() -> None:
    store = Store(capacity=1)
    for person in ("ann", "bob"):
        store.add(call(person))
    store.clear()
    assert (store.calls(), store.forgotten, store.wait(1, timeout=0)) == ([], 0, [])
    again = store.add(call("bob"))
    assert (again.duplicate, again.id) == (False, 3)


def test_many_threads_add_without_losing_a_call_or_an_id() -> None:
    store = Store()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.add(call(f"p{number}")), range(400)))
    assert [call.id for call in store.calls()] == list(range(1, 401))
    assert set(people(store.calls())) == {f"p{number}" for number in range(400)}


def test_wait_returns_when_enough_calls_have_come() -> None:
    store = Store()
    with ThreadPoolExecutor(1) as threads:
        waited = threads.submit(store.wait, 2, 60)
        store.add(call("ann"))
        store.add(call("bob"))
        assert people(waited.result(timeout=60)) == ["ann", "bob"]


def test_wait_returns_what_is_there_when_the_time_is_over() -> None:
    store = Store()
    store.add(call("ann"))
    assert people(store.wait(2, timeout=0)) == ["ann"]


def test_wait_counts_calls_that_are_gone() -> None:
    store = Store(capacity=1)
    store.add(call("ann"))
    store.add(call("bob"))
    assert people(store.wait(2, timeout=None)) == ["bob"]


def test_close_ends_waiting_and_keeps_the_calls() -> None:
    store = Store()
    store.add(call("ann"))
    with ThreadPoolExecutor(1) as threads:
        waited = threads.submit(store.wait, 2, 60)
        store.close()
        assert people(waited.result(timeout=60)) == ["ann"]
    assert store.closed
    assert people(store.calls()) == ["ann"]


def test_a_watcher_is_told_of_calls_of_clearing_and_of_the_end_while_it_watches() -> None:
    store = Store()
    told: list[int] = []
    with store.watched(lambda: told.append(store.last_id)):
        store.add(call("ann"))
        store.add(call("bob"))
        store.clear()
        store.close()
    store.add(call("eve"))
    assert told == [1, 2, 2, 2]


def test_a_reader_begins_where_it_was() -> None:
    """A new one at the end; one from before a restart at the beginning, and what it knows is cleared."""
    store = Store()
    store.add(call("ann"))
    news = [store.news(store.resumed(after)) for after in (None, 0, 1, 2)]
    assert [people(it.calls) for it in news] == [[], ["ann"], [], ["ann"]]
    assert [it.cleared for it in news] == [None, None, None, 0]


def test_a_reader_that_may_know_cleared_calls_is_told() -> None:
    """With what came since, in one moment; once it knows, not again."""
    store = Store()
    positions = [store.resumed(None)]
    for person in ("ann", "bob"):
        store.add(call(person))
        positions.append(store.resumed(None))
    store.clear()
    positions += [store.resumed(0), store.resumed(2)]
    store.add(call("eve"))
    for position in positions:
        cleared, calls, after = store.news(position)
        assert (cleared, people(calls)) == (2, ["eve"])
        assert store.news(after) == (None, [], after)
    assert store.news(store.resumed(3)).cleared is None


def test_the_status_says_how_full_the_store_is() -> None:
    store = Store(capacity=2)
    for person in ("ann", "bob", "eve"):
        store.add(call(person))
    told = {"started_at": store._started_at, "held": 2, "capacity": 2, "forgotten": 1, "last_id": 3, "db": None}
    assert store.status() == told
    assert Store().status()["started_at"] != store._started_at
    store.clear()
    assert store.status() == told | {"held": 0, "forgotten": 0}


def test_a_watcher_is_let_go_when_its_block_raises() -> None:
    store = Store()
    told = threading.Event()
    with pytest.raises(ZeroDivisionError), store.watched(told.set):
        raise ZeroDivisionError
    store.add(call("ann"))
    assert not told.is_set()
