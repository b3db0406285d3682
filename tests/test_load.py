"""Politeness: how busy the application is, and that the listener rests for it, and for nothing else."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from km_logging import load
from km_logging.delivery import IDLE
from km_logging.load import WINDOW, Load
from km_logging.pacing import BUSY, PLENTY
from km_logging.queueing import CallQueue
from support.servers import TrackingServer
from support.tracking import tracker_for


class _Clocks(SimpleNamespace):
    wall, cpu = 100.0, 5.0

    def monotonic(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu


@pytest.mark.parametrize(
    ("cpu", "own", "busy"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 1.0),
        (0.5, 0.0, 0.5),
        (0.5, 0.5, 0.0),  # all of it was ours
        (1.0, 0.4, 1.0),  # it had all that ours left of the core
        (0.7, 0.4, 0.5),
        (3.0, 0.0, 1.0),  # several threads on several cores
        (0.3, 0.4, 0.0),  # told a moment later than the clock
    ],
)
def test_an_application_is_as_busy_as_its_own_threads_are_in_the_time_that_ours_leave(monkeypatch, cpu, own, busy):
    clocks = _Clocks()
    monkeypatch.setattr(load, "time", clocks)
    measured = Load()
    measured.own += own
    clocks.wall, clocks.cpu = clocks.wall + 1, clocks.cpu + cpu
    assert measured.busy(clocks.wall) == pytest.approx(busy)
    assert measured.own == 0  # and is counted anew


def test_it_is_measured_over_a_while(monkeypatch):
    clocks = _Clocks()
    monkeypatch.setattr(load, "time", clocks)
    measured = Load()
    clocks.wall, clocks.cpu = clocks.wall + WINDOW / 2, clocks.cpu + WINDOW
    assert measured.busy(clocks.wall) == 0
    clocks.wall += WINDOW
    assert measured.busy(clocks.wall) == pytest.approx(2 / 3)


@pytest.mark.parametrize("busy", [0.0, BUSY * 0.9, BUSY, 1.0])
@pytest.mark.parametrize("somebody_waits", [False, True])
@pytest.mark.parametrize("lasts", [False, True])
def test_the_listener_rests_beside_an_application_that_computes(tmp_path, monkeypatch, busy, somebody_waits, lasts):
    outbox = f"sqlite:///{tmp_path}/km.db" if lasts else "memory:"
    with TrackingServer() as server, tracker_for(server.endpoint, outbox=outbox) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        delivery = tracker._pipeline._delivery
        monkeypatch.setattr(delivery._pacing._load, "busy", lambda _: busy)
        delivery._pacing.waiters += somebody_waits
        pause = delivery.rest(1.0)
        delivery._pacing.waiters -= somebody_waits
        assert (pause > 1) == (busy >= BUSY and not somebody_waits and not lasts)


def test_it_rests_longer_where_the_senders_have_plenty_to_do(monkeypatch):
    with TrackingServer() as server, tracker_for(server.endpoint, cpu_share=1) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        delivery = tracker._pipeline._delivery
        monkeypatch.setattr(delivery._pacing._load, "busy", lambda _: 1.0)
        usual = delivery.rest(0.001)
        monkeypatch.setattr(type(delivery._outbox), "waiting", PLENTY)
        assert delivery.rest(0.001) == pytest.approx(0.016)  # an eighth of the half that is delivery's
        assert usual < 0.016
        monkeypatch.undo()


def test_whoever_flushes_ends_the_rest_of_the_listener():
    calls = CallQueue(10)
    calls.hurry()
    calls.rest(60)  # returns at once: somebody waits


def test_of_many_workers_one_keeps_the_time(monkeypatch):
    """The others sleep until they are woken: they need not all look at the same moment."""
    waits = []
    with TrackingServer() as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        delivery = tracker._pipeline._delivery
        now = time.monotonic()

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 1:
                delivery._wait(now, 2.0)  # a second worker, for a later moment
            if len(waits) == 2:
                delivery._wait(now, 0.5)  # a third, for an earlier one
            return False

        with delivery._turn, monkeypatch.context() as patched:
            patched.setattr(delivery, "_watched_until", float("inf"))
            patched.setattr(delivery._turn, "wait", wait)
            delivery._wait(now, 1.0)
            assert delivery._watched_until == float("inf")
    assert waits == [1.0, IDLE, 0.5]
