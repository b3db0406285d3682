"""The books: counters that lose nothing, and the equation that holds at any moment."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from km_logging import ledger as module
from km_logging.calls import PROBLEMS
from km_logging.ledger import DROPPED, Counts, Ledger, Stats, Tally

patiently = settings(deadline=None)


def balance(stats):
    return stats.delivered + stats.handed_over + stats.pending + sum(stats.dropped.values())


# Tally.


def test_a_tally_says_how_often_it_was_added_to():
    tally = Tally()
    assert tally.value == 0
    for count in range(1, 101):
        tally.add()
        assert tally.value == count
    assert tally.value == 100  # asking does not count


def test_a_tally_counts_further_than_a_machine_word():
    tally = Tally()
    tally._count = module.itertools.count(2**64)
    tally.add = tally._count.__next__
    tally.add()
    assert tally.value == 2**64 + 1


def test_a_tally_loses_nothing_under_many_threads():
    tally, start = Tally(), threading.Barrier(16)

    def work():
        start.wait(timeout=30)
        for _ in range(5_000):
            tally.add()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads are interrupted nearly anywhere
    try:
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    finally:
        sys.setswitchinterval(interval)
    assert tally.value == 16 * 5_000


def test_a_tally_loses_nothing_to_a_signal_handler_that_adds_as_well():
    """The handler runs between any two instructions of the main thread, which adds all the time."""
    tally, by_handler, by_main = Tally(), [], 0

    def handle(number, frame):
        tally.add()
        by_handler.append(number)  # one step, since a handler may be interrupted by itself

    before = signal.signal(signal.SIGVTALRM, handle)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)  # of CPU time, so it ends however slow the machine is
    try:
        while len(by_handler) < 50:
            tally.add()
            by_main += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert tally.value == by_main + len(by_handler)


# Stats.


def test_new_books_are_empty():
    stats = Ledger().stats(None)
    assert stats == Stats(
        accepted=0,
        delivered=0,
        handed_over=0,
        pending=0,
        retried=0,
        dropped={},
        refused={},
        merged=0,
        oldest_pending_s=None,
        last_delivered=None,
        last_error=None,
    )


def test_the_stats_are_those_of_the_contract():
    assert [field.name for field in dataclasses.fields(Stats)] == [
        "accepted",
        "delivered",
        "handed_over",
        "pending",
        "retried",
        "dropped",
        "refused",
        "merged",
        "oldest_pending_s",
        "last_delivered",
        "last_error",
    ]
    assert set(DROPPED) == {"overflow", "expired", "rejected", "withheld", "closed"}
    assert all(DROPPED.values())


def test_stats_are_a_frozen_snapshot():
    ledger = Ledger()
    stats = ledger.stats(None)
    ledger.taken.add()
    ledger.dropped["overflow"].add()
    ledger.refused["bad_value"].add()
    assert (stats.accepted, dict(stats.dropped), dict(stats.refused)) == (0, {}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.accepted = 5


def test_what_did_not_occur_is_not_listed_and_reads_as_0():
    ledger = Ledger()
    ledger.dropped["expired"].add()
    ledger.refused["no_person"].add()
    ledger.refused["no_person"].add()
    stats = ledger.stats(None)
    assert stats.dropped == {"expired": 1}
    assert stats.refused == {"no_person": 2}
    assert stats.dropped["overflow"] == stats.refused["bad_value"] == stats.refused["nonsense"] == 0
    assert "overflow" not in stats.dropped  # reading adds nothing


def test_counts_compare_and_sum_as_dicts():
    assert Counts({"a": 1}) == {"a": 1}
    assert sum(Counts({"a": 1, "b": 2}).values()) == 3
    assert Counts({"a": 1}).get("b") is None


@pytest.mark.parametrize("reason", DROPPED)
def test_every_reason_counts_in_its_own_column(reason):
    ledger = Ledger()
    ledger.taken.add()
    ledger.dropped[reason].add()
    stats = ledger.stats(None)
    assert (stats.accepted, stats.pending, stats.dropped) == (1, 0, {reason: 1})


def test_every_kind_of_problem_has_a_counter():
    ledger = Ledger()
    for kind in PROBLEMS:
        ledger.refused[kind].add()
    assert ledger.stats(None).refused == dict.fromkeys(PROBLEMS, 1)


def test_what_is_turned_away_when_it_is_told_was_not_accepted():
    """Accepted are sound calls; a snapshot counts as one until it is told."""
    ledger = Ledger()
    ledger.taken.add()
    ledger.taken.add()
    assert ledger.stats(None).accepted == 2
    ledger.turned_away.add()
    stats = ledger.stats(None)
    assert (stats.accepted, stats.pending) == (1, 1)


ENDS = ["delivered", "handed_over", "turned_away", *DROPPED]


@patiently
@given(steps=st.lists(st.sampled_from(["taken", "retried", "merged", *ENDS])))
def test_the_equation_holds_after_every_step(steps):
    """All accepted == delivered + handed_over + pending + all that was dropped; nothing is negative."""
    ledger, expected = Ledger(), dict.fromkeys(["taken", "retried", "merged", *ENDS], 0)
    for step in steps:
        if step in ENDS and expected["taken"] <= sum(expected[end] for end in ENDS):
            continue  # nothing is here to end
        expected[step] += 1
        (ledger.dropped[step] if step in DROPPED else getattr(ledger, step)).add()
        stats = ledger.stats(None)
        assert stats.accepted == balance(stats) == expected["taken"] - expected["turned_away"]
        assert stats.pending == expected["taken"] - sum(expected[end] for end in ENDS)
        assert (stats.delivered, stats.handed_over) == (expected["delivered"], expected["handed_over"])
        assert stats.dropped == {reason: expected[reason] for reason in DROPPED if expected[reason]}
        assert (stats.retried, stats.merged) == (expected["retried"], expected["merged"])


def test_the_equation_holds_while_other_threads_write_the_books():
    """What moves in between can only seem to be pending still, never the other way round."""
    ledger, stop = Ledger(), threading.Event()
    endings = [ledger.delivered, ledger.handed_over, ledger.dropped["expired"], ledger.turned_away]

    def work(ending):
        while not stop.is_set():
            ledger.taken.add()
            ending.add()

    threads = [threading.Thread(target=work, args=[ending]) for ending in endings]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(2_000):
            stats = ledger.stats(None)
            assert stats.accepted == balance(stats)
            assert stats.pending >= 0
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join(timeout=60)
    stats = ledger.stats(None)
    assert (stats.pending, stats.accepted) == (0, ledger.taken.value - ledger.turned_away.value)


# Times.


def test_a_delivery_is_counted_with_its_time(monkeypatch):
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 1_262_304_000.5))
    ledger = Ledger()
    ledger.taken.add()
    ledger.note_delivered()
    stats = ledger.stats(None)
    assert (stats.delivered, stats.pending, stats.last_delivered) == (1, 0, 1_262_304_000.5)


@pytest.mark.parametrize(
    ("pending", "oldest", "age"),
    [(1, 1_262_304_000.0, 10.0), (1, None, None), (0, 1_262_304_000.0, None), (1, 1_262_304_060.0, 0.0)],
    ids=["pending", "not known", "none pending", "clock set back"],
)
def test_the_age_of_the_oldest_pending_call(pending, oldest, age, monkeypatch):
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 1_262_304_010.0))
    ledger = Ledger()
    for _ in range(pending):
        ledger.taken.add()
    assert ledger.stats(oldest).oldest_pending_s == age


def test_the_last_error_is_the_one_noted():
    ledger = Ledger()
    ledger.last_error = "HTTP 503"
    assert ledger.stats(None).last_error == "HTTP 503"
