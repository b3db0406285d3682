"""A server with every fault there is, and then a healthy one: what arrives, how often, and what the books say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import km_logging as km
from km_logging import policy
from support.faults import MODES, FaultServer
from support.servers import TrackingServer
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, eventually, tracker_for

#: Kinds of outbox, and transports, that all of this holds for.
WAYS = [("memory:", "requests"), ("sqlite:", "requests"), ("memory:", "curl")]

PEOPLE = [f"p{number}" for number in range(5)]

#: Mode to what the books give as the reason for another try.
RETRIED = {
    "refuses": "refused",
    "resets before reading": "",  # at which point a client notices is a race
    "resets after reading": "reset",
    "hangs": "imeout",
    "drips its status": "imeout",
    "drips its headers": "imeout",
    "drips its body": "imeout",
    "status cut off": "BadStatusLine",
    "body cut off": "IncompleteRead",
    "301": "HTTP 301",
    "403": "HTTP 403",
    "408": "HTTP 408",
    "425": "HTTP 425",
    "429": "HTTP 429",
    "429 for seconds": "HTTP 429",
    "429 until a date": "HTTP 429",
    "500": "HTTP 500",
    "502": "HTTP 502",
    "503": "HTTP 503",
    "503 for seconds": "HTTP 503",
    "a page": "HTTP 200 with a page",
}

#: Modes that ask for patience.
PATIENT = [mode for mode in RETRIED if MODES[mode].patience]

#: Modes that nobody answers in; the read timeout is short for them.
SILENT = [mode for mode in RETRIED if MODES[mode].drip or MODES[mode].instead == "hang"]

#: How far the clock of dates and that of pauses may drift apart meanwhile, in seconds.
CLOCKS = 0.05

#: Modes in which no request is read.
UNREAD = ["refuses", "resets before reading"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Another try comes after a hundredth of a second, or a few, unless the server asks for patience."""
    monkeypatch.setattr(policy, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(policy, "LONGEST_DELAY", 0.05)


@pytest.fixture(params=WAYS, ids=" ".join)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings for one of them, with a new outbox."""
    outbox, transport = request.param
    return {"outbox": outbox if outbox == "memory:" else f"{outbox}///{tmp_path}/km.db", "transport": transport}


@pytest.fixture
def log(logger, way):
    """Attaches a handler to a logger, and returns it with a function that logs one event of each person."""

    def log(endpoint: str, mode: str, **settings: object):
        timeout = [1.0, 0.5] if mode in SILENT else [GUARD, GUARD]
        given = {"api_key": KEY, "endpoint": endpoint, "timeout": timeout, **way, **settings}
        handler = km.KissmetricsHandler(**given, drain_timeout=GUARD)
        logger.addHandler(handler)

        def events(*people: str) -> None:
            for person in people:
                logger.info("Signed Up", extra=km.event(person, plan="pro"))

        return handler, events

    return log


def _books(stats: km.Stats) -> tuple[int, int, dict[str, int]]:
    """What was accepted, delivered and dropped, once the books are found to balance and to tell no secret."""
    assert stats.accepted == stats.delivered + stats.handed_over + stats.pending + sum(stats.dropped.values())
    assert KEY not in repr(stats)
    assert KEY_ON_THE_WIRE not in repr(stats)
    return stats.accepted, stats.delivered, stats.dropped


def test_every_mode_is_in_a_table():
    """No fault of the server goes untested."""
    assert {*RETRIED, *ONCE, *REJECTED, "good"} == set(MODES)


@pytest.mark.parametrize("mode", RETRIED)
def test_a_fault_of_the_path_costs_nothing_but_time(log, way, mode):
    """Whatever the server did before it was well again, each call is then told to it exactly once."""
    with TrackingServer() as elsewhere, FaultServer(mode, elsewhere.endpoint) as server:
        handler, events = log(server.endpoint, mode, senders=1 if mode in PATIENT else 2)
        events(*PEOPLE)
        eventually(lambda: handler.stats().last_error, "a failure")
        assert _books(handler.stats()) == (5, 0, {})
        server.become("good")
        assert handler.flush()
        stats = handler.stats()
    assert server.people("good") == Counter(PEOPLE)
    assert bool(server.people(mode)) is (mode not in UNREAD)
    assert _books(stats) == (5, 5, {})
    assert stats.pending == 0
    # libcurl has names of its own for what an HTTP client meets, and tries once more by itself on a connection that the
    # server has just closed.
    assert RETRIED[mode] in stats.last_error or (way["transport"] == "curl" and "CURLE_" in stats.last_error)
    if mode == "refuses" or (way["transport"] == "curl" and "CURLE_" in stats.last_error):
        assert stats.retried > 0
    else:
        assert stats.retried == server.met[mode]
    assert all(seen.at >= seen.wanted - CLOCKS for seen in server.seen)
    assert any(seen.wanted for seen in server.seen) is (mode in PATIENT)
    assert elsewhere.targets == []


#: Modes whose first answer is the last.
ONCE = ["204", "slow"]


@pytest.mark.parametrize("mode", ONCE)
def test_an_answer_that_is_one_is_enough(log, mode):
    """No call is told twice, however little or slowly the server answers."""
    with FaultServer(mode) as server:
        handler, events = log(server.endpoint, mode)
        events(*PEOPLE)
        assert handler.flush()
        stats = handler.stats()
    assert server.people(mode) == Counter(PEOPLE)
    assert _books(stats) == (5, 5, {})
    assert (stats.retried, stats.last_error) == (0, None)


REJECTED = ["400", "413"]


@pytest.mark.parametrize("mode", REJECTED)
def test_a_call_that_the_server_does_not_want_is_told_three_times(log, mode):
    """Not more often while the server stays as it is, and a call after that goes through."""
    with FaultServer(mode) as server:
        handler, events = log(server.endpoint, mode, senders=2)
        events(*PEOPLE)
        assert handler.flush()
        assert _books(handler.stats()) == (5, 0, {"rejected": 5})
        server.become("good")
        events("late")
        assert handler.flush()
        stats = handler.stats()
    assert server.people(mode) == Counter(PEOPLE * 3)
    assert server.people("good") == Counter(["late"])
    assert _books(stats) == (6, 1, {"rejected": 5})
    assert (stats.retried, stats.last_error) == (10, f"HTTP {mode}")


def test_a_server_goes_away_and_comes_back(log):
    """On the same port, twice; each call is told once, by connections old and new."""
    with FaultServer() as server:
        handler, events = log(server.endpoint, "good", senders=2)
        for turn in range(2):
            events(f"before-{turn}")
            assert handler.flush()
            server.become("refuses")
            events(*[f"{person}-{turn}" for person in PEOPLE])
            eventually(lambda: "refused" in (handler.stats().last_error or ""), "a refusal")
            assert _books(handler.stats()) == (6 * (turn + 1), 6 * turn + 1, {})
            server.become("good")
            assert handler.flush()
        stats = handler.stats()
    told = [f"{person}-{turn}" for person in ["before", *PEOPLE] for turn in range(2)]
    assert server.people("good") == Counter(told)
    assert _books(stats) == (12, 12, {})


def test_a_server_has_one_fault_after_another(way):
    """Calls that come during all of them, and are still told exactly once to the server when it is well."""
    told = []
    with (
        FaultServer() as server,
        tracker_for(server.endpoint, **way, senders=4, timeout=[1.0, 0.5]) as tracker,
    ):
        for mode in [mode for mode in RETRIED if mode not in {*PATIENT, "refuses"}]:
            server.become(mode)
            told += [f"{mode} {number}" for number in range(3)]
            for person in told[-3:]:
                assert tracker.event(person, "Signed Up")
            eventually(lambda mode=mode: server.met[mode], f"somebody who meets a server that is '{mode}'")
            assert _books(tracker.stats()) == (len(told), 0, {})
        server.become("good")
        assert tracker.flush()
        stats = tracker.stats()
    assert server.people("good") == Counter(told)
    assert _books(stats) == (len(told), len(told), {})
    assert stats.retried == sum(server.met.values()) - len(told)
