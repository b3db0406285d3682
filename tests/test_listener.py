"""The listener: nothing is lost between a log call and the outbox, whatever callbacks do."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace

import pytest

import km_logging as km
from km_logging import intake, listener
from km_logging.calls import Call, Problem
from km_logging.queueing import CallQueue
from support.tracking import GUARD, KEY, eventually, people, tracker_for


def _call(number: int) -> Call:
    return Call("set", f"p{number}", timestamp=1262304000)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_reader_survives_those_who_evict(count):
    """Between its look and its grasp, `drop_oldest` or `close` takes the last item from it; each is taken once."""
    calls, evicted, taken = CallQueue(10), [], []

    class Contested(deque):
        """Whoever sees that there is something finds, a moment later, that another thread was faster."""

        def __bool__(self) -> bool:
            seen = len(self) > 0
            if seen and threading.current_thread() is reader:
                rival = threading.Thread(target=lambda: evicted.append(calls.evict()))
                rival.start()
                rival.join(0.5)  # or, if it waits for the reader, later
            return seen

    def take() -> None:
        while (batch := calls.get()) is not None:
            taken.extend(batch)

    reader = threading.Thread(target=take)
    calls._items = Contested()
    for number in range(count):
        calls.put_nowait(_call(number))
    calls.close()
    reader.start()
    reader.join(GUARD)
    eventually(lambda: len(taken) + sum(evicted) == count, timeout=GUARD / 6)


def test_those_who_hurry_leave_nothing_behind():
    """However often somebody flushes while calls come in without a pause, what wakes the reader does not pile up."""
    calls = CallQueue(10)
    for number in range(1_000):
        calls.put_nowait(_call(number))
        calls.hurry()
        assert calls.get() == [_call(number)]
    assert calls._bell.qsize() <= 1


def test_a_call_is_told_in_the_listener_s_thread_with_what_the_log_call_saw(server, logger):
    """`before_send` runs there, once a call, and sees values as they were."""
    seen = []

    def before_send(call: Call) -> Call:
        seen.append((threading.current_thread().name, call))
        return call

    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint, before_send=before_send)
    logger.addHandler(handler)
    seats = [1, 2]
    logger.info("Signed Up", extra=km.event("bob", seats=seats, timestamp=1262304000))
    seats.append(3)
    assert handler.flush()
    assert seen == [
        ("km_logging-listener", Call("event", "bob", "Signed Up", None, 1262304000, {"seats": "1, 2"})),
    ]


def test_before_send_may_change_a_call(server):
    with tracker_for(server.endpoint, before_send=lambda call: replace(call, person="somebody")) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
    assert people(server) == ["somebody"]


def test_before_send_may_withhold_a_call(server):
    with tracker_for(server.endpoint, before_send=lambda call: call if call.person == "eve" else None) as tracker:
        tracker.event("bob", "Signed Up")
        tracker.event("eve", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["eve"]
    assert (stats.accepted, stats.delivered, stats.pending, stats.dropped) == (2, 1, 0, {"withheld": 1})


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
def test_before_send_that_raises_costs_its_own_call(server, error):
    """And a problem is said, without what it raised."""
    problems = []

    def before_send(call: Call) -> Call:
        if call.person == "bob":
            raise error(f"{KEY} {call.properties}")
        return call

    with tracker_for(server.endpoint, before_send=before_send, on_problem=problems.append) as tracker:
        for person in ["bob", "eve"]:
            tracker.event(person, "Signed Up", plan="secret-plan")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["eve"]
    assert (stats.accepted, stats.delivered, stats.dropped) == (2, 1, {"withheld": 1})
    assert stats.refused == {"callback": 1}
    assert [problem.kind for problem in problems] == ["callback"]
    assert "secret-plan" not in str(problems[0])
    assert KEY not in str(problems[0])


@pytest.mark.parametrize(
    "returned",
    [
        "bob",
        True,
        Call("event", "", "Signed Up", timestamp=1262304000),
        Call("event", "bob", "Signed Up", timestamp=1),
        Call("identify", "bob"),
        Call("set", b"bob", timestamp=1262304000),
    ],
)
def test_before_send_that_returns_no_sound_call_withholds_it(server, returned):
    problems = []
    with tracker_for(server.endpoint, before_send=lambda _: returned, on_problem=problems.append) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert server.targets == []
    assert stats.dropped == {"withheld": 1}
    assert [problem.kind for problem in problems] == ["callback"]


def test_before_send_that_makes_a_property_untellable_loses_that_property(server):
    problems = []

    def before_send(call: Call) -> Call:
        return replace(call, properties={"plan": "pro", "request": object(), "_k": "stolen"})

    with tracker_for(server.endpoint, before_send=before_send, on_problem=problems.append) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
    assert dict(server.queries[0])["plan"] == "pro"
    assert dict(server.queries[0])["_k"] == KEY
    assert "request" not in dict(server.queries[0])
    assert sorted(problem.kind for problem in problems) == ["bad_value", "reserved_property"]


def test_before_send_that_hangs_holds_up_neither_the_log_call_nor_close(server, capsys):
    asked, never = threading.Event(), threading.Event()

    def before_send(call: Call) -> Call:
        asked.set()
        never.wait(2 * GUARD)
        return call

    tracker = tracker_for(server.endpoint, before_send=before_send, drain_timeout=0.2)
    assert tracker.event("bob", "Signed Up")
    assert asked.wait(GUARD)
    assert tracker.event("eve", "Signed Up")
    assert not tracker.flush(0.1)
    assert tracker.stats().pending == 2
    tracker.close()
    assert "2 calls were not delivered" in capsys.readouterr().err
    never.set()
    eventually(lambda: tracker.stats().dropped == {"closed": 2})
    assert server.targets == []


def test_a_callback_that_tracks_is_not_tracked(server, logger):
    """Or one call would become endless many."""
    handler = km.KissmetricsHandler(
        api_key=KEY,
        endpoint=server.endpoint,
        before_send=lambda call: logger.info("Withheld", extra=km.event("bob")) or call,
        on_problem=lambda _: logger.info("Problem", extra=km.event("bob")),
    )
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob", request=object()))
    assert handler.flush()
    assert [dict(query)["_n"] for query in server.queries] == ["Signed Up"]
    assert handler.stats().accepted == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_on_problem_that_raises_costs_nothing(server, error):
    def on_problem(_: Problem) -> None:
        raise error

    with tracker_for(server.endpoint, on_problem=on_problem) as tracker:
        tracker.event("", "Signed Up")
        tracker.event("bob", "Signed Up", request=object())
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["bob"]
    assert (stats.accepted, stats.delivered) == (1, 1)
    assert stats.refused == {"bad_person": 1, "bad_value": 1}


def test_a_call_that_cannot_be_told_for_a_reason_of_ours_ends_no_thread(server, monkeypatch):
    """Should the library itself be wrong, it costs the call, and says so."""
    told = intake.wire.encode

    def encode(call: Call) -> str:
        if call.person == "bob":
            raise ZeroDivisionError
        return told(call)

    monkeypatch.setattr(intake.wire, "encode", encode)
    problems = []
    with tracker_for(server.endpoint, on_problem=problems.append) as tracker:
        tracker.event("bob", "Signed Up")
        tracker.event("eve", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["eve"]
    assert (stats.accepted, stats.delivered, stats.pending) == (1, 1, 0)
    assert [problem.kind for problem in problems] == ["delivery"]


def test_refused_calls_give_their_place_back(server, logger):
    """Records whose calls are refused in the listener's thread do not fill the capacity for ever."""
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint, capacity=5)
    logger.addHandler(handler)
    for _ in range(4):
        for _ in range(5):
            logger.info("Signed Up", extra=km.event(""))
        handler.flush()
    for number in range(5):
        logger.info("Signed Up", extra=km.event(f"p{number}"))
    assert handler.flush()
    stats = handler.stats()
    assert sorted(people(server)) == [f"p{number}" for number in range(5)]
    assert (stats.accepted, stats.dropped, stats.refused) == (5, {}, {"bad_person": 20})


def test_equal_events_are_counted_as_merged_and_sent_all_the_same(server):
    with tracker_for(server.endpoint) as tracker:
        for _ in range(3):
            tracker.event("bob", "Signed Up", timestamp=1262304000, plan="pro")
        tracker.event("bob", "Signed Up", timestamp=1262304001, plan="pro")
        tracker.event("bob", "Signed Up", timestamp=1262304000, plan="free")
        for _ in range(2):
            tracker.set("bob", timestamp=1262304000, plan="pro")
        assert tracker.flush()
        stats = tracker.stats()
    assert len(server.targets) == 7
    assert (stats.delivered, stats.merged) == (7, 2)


def test_merging_is_estimated_over_the_last_events_only(server, monkeypatch):
    monkeypatch.setattr(listener, "REMEMBERED", 3)
    with tracker_for(server.endpoint) as tracker:
        for name in ["a", "b", "c", "d", "a", "d"]:
            tracker.event("bob", name, timestamp=1262304000)
        assert tracker.flush()
        assert tracker.stats().merged == 1


def test_a_problem_is_said_once_a_minute_on_the_logger(server, caplog):
    caplog.set_level(logging.WARNING)
    with tracker_for(server.endpoint) as tracker:
        for _ in range(5):
            tracker.event("", "Signed Up")
        tracker.flush()
        assert tracker.stats().refused == {"bad_person": 5}
    said = [record for record in caplog.records if record.name == "km_logging"]
    assert len(said) == 1
    assert said[0].levelno == logging.WARNING


def test_the_thread_is_named_and_a_daemon(server):
    with tracker_for(server.endpoint) as tracker:
        assert tracker._pipeline._listener._thread is None
        tracker.event("bob", "Signed Up")
        thread = tracker._pipeline._listener._thread
        assert (thread.name, thread.daemon) == ("km_logging-listener", True)
    thread.join(GUARD)
    assert not thread.is_alive()
