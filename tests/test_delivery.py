"""What becomes of calls on their way to a real server: every answer, outages, pauses, threads, capacity, closing."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from email.utils import formatdate
from types import SimpleNamespace

import pytest
import requests
import requests.adapters

from km_logging import delivery, policy
from km_logging.policy import Answer, Breaker
from support.raw import RawServer
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, Meeting, eventually, people, tracker_for

PAGE = b"<!DOCTYPE html><title>Sign in to the network</title>"


@pytest.fixture
def quick(monkeypatch):
    """Another try comes after a hundredth of a second, not half of one."""
    monkeypatch.setattr(policy, "FIRST_DELAY", 0.01)


@pytest.fixture
def patient(monkeypatch):
    """Once it has tripped, the breaker stays open for longer than any test."""
    monkeypatch.setattr(policy, "LONGEST_DELAY", 10_000.0)
    monkeypatch.setattr(policy, "FIRST_DELAY", 10_000.0)
    monkeypatch.setattr(delivery.random, "random", lambda: 1.0)


@pytest.fixture
def held():
    """What a request waits for; at the end of the test it is let go."""
    held = threading.Event()
    yield held
    held.set()


# Every row of the table of answers.

RETRIED = {
    "no answer": Reply(hang_up=True),
    "301": Reply(301, {"Location": "/elsewhere"}),
    "302": Reply(302, {"Location": "/elsewhere"}),
    "307": Reply(307, {"Location": "/e?_p=elsewhere"}),
    "308": Reply(308, {"Location": "/elsewhere"}),
    "401": Reply(401),
    "403": Reply(403),
    "404": Reply(404),
    "407": Reply(407),
    "408": Reply(408),
    "425": Reply(425),
    "429": Reply(429),
    "429 with Retry-After": Reply(429, {"Retry-After": "0"}),
    "429 with a Retry-After without sense": Reply(429, {"Retry-After": "soon"}),
    "500": Reply(500),
    "502": Reply(502),
    "503": Reply(503),
    "503 with Retry-After": Reply(503, {"Retry-After": "0"}),
    "504": Reply(504),
    "a page of type text/html": Reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"please pay"),
    "a page without a type": Reply(200, {}, PAGE),
}


@pytest.mark.parametrize("reply", RETRIED.values(), ids=RETRIED)
def test_an_answer_that_speaks_of_the_path_is_followed_by_another_try(quick, reply):
    """The same request, byte for byte, arrives once more, and the call is delivered."""
    with TrackingServer(Answers(bob=[reply])) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up", plan="pro")
        assert tracker.flush()
        stats = tracker.stats()
    assert len(server.targets) == 2
    assert server.targets[0] == server.targets[1]
    assert (stats.accepted, stats.delivered, stats.retried, stats.dropped) == (1, 1, 1, {})
    assert stats.last_error


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: 43\r\n\r\nGIF89a",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2b\r\nGIF89a",
        b"HTTP/1.1 20",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["body cut off", "chunk cut off", "status cut off", "not HTTP", "nothing"],
)
def test_an_answer_that_is_cut_off_is_followed_by_another_try(quick, answer):
    with RawServer(answer) as server, tracker_for(server.url) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert len(server.requests) == 2
    assert (stats.delivered, stats.retried) == (1, 1)


def test_a_server_that_takes_longer_than_the_read_timeout_is_asked_again(quick, held):
    with (
        TrackingServer(Answers(bob=[held])) as server,
        tracker_for(server.endpoint, timeout=[GUARD, 0.2], drain_timeout=0) as tracker,
    ):
        tracker.event("bob", "Signed Up")
        assert tracker.flush(GUARD / 3)
        stats = tracker.stats()
    assert people(server) == ["bob", "bob"]
    assert (stats.delivered, stats.retried) == (1, 1)
    assert "imeout" in stats.last_error


def test_an_answer_may_take_longer_than_the_connect_timeout():
    """The first number of `timeout` is for connecting only."""
    with (
        TrackingServer(Answers(Reply(delay=0.6))) as server,
        tracker_for(server.endpoint, timeout=[0.2, GUARD], drain_timeout=0) as tracker,
    ):
        tracker.event("bob", "Signed Up")
        assert tracker.flush(GUARD / 3)
        assert (tracker.stats().delivered, tracker.stats().retried) == (1, 0)
    assert people(server) == ["bob"]


def test_a_refused_connection_is_followed_by_another_try(quick):
    """The call waits until something listens."""
    with refused() as endpoint:
        tracker = tracker_for(endpoint)
        tracker.event("bob", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        assert tracker.stats().pending == 1
    with TrackingServer(port=int(endpoint.rpartition(":")[2])) as server, tracker:
        assert tracker.flush()
    assert people(server) == ["bob"]
    assert "refused" in tracker.stats().last_error


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_other_2xx_is_a_delivery(status):
    body = b"" if status == 204 else b"fine"
    with TrackingServer(Answers(Reply(status, {}, body))) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["bob"]
    assert (stats.delivered, stats.retried, stats.last_error) == (1, 0, None)
    assert time.time() - GUARD < stats.last_delivered <= time.time()


@pytest.mark.parametrize("status", [400, 413, 414, 431])
def test_a_call_refused_for_its_own_sake_is_tried_three_times_and_holds_up_nothing(quick, status):
    """Not even with a single sender."""
    with (
        TrackingServer(Answers(bad=[Reply(status)] * 9)) as server,
        tracker_for(server.endpoint, senders=1) as tracker,
    ):
        for person in ["bad", "good", "better"]:
            tracker.event(person, "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert Counter(people(server)) == {"bad": 3, "good": 1, "better": 1}
    assert (stats.accepted, stats.delivered, stats.retried, stats.dropped) == (3, 2, 2, {"rejected": 1})
    assert stats.last_error == f"HTTP {status}"


def test_many_rejected_calls_do_not_open_the_breaker(patient):
    """With a breaker that, once open, stays open for longer than the test, a good call still passes."""
    with (
        TrackingServer(Answers(bad=[Reply(400)] * 99)) as server,
        tracker_for(server.endpoint, senders=1) as tracker,
    ):
        for _ in range(10):
            tracker.event("bad", "Signed Up")
        tracker.event("good", "Signed Up")
        eventually(lambda: "good" in people(server))
        tracker._pipeline._delivery.close()


# Expiry.


def test_a_call_expires_after_retry_for(quick):
    with TrackingServer(Answers(Reply(503))) as server, tracker_for(server.endpoint, retry_for=0.2) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert len(server.targets) >= 2
    assert (stats.delivered, stats.pending, stats.dropped) == (0, 0, {"expired": 1})
    assert stats.retried == len(server.targets) - 1


@pytest.mark.parametrize("reply", [Reply(503), Reply(400)], ids=["503", "400"])
def test_every_call_gets_one_try_at_least(reply):
    """However late it is when its turn comes."""
    with (
        TrackingServer(Answers(reply)) as server,
        tracker_for(server.endpoint, retry_for=0, senders=1) as tracker,
    ):
        for person in ["bob", "eve"]:
            tracker.event(person, "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["bob", "eve"]
    assert stats.dropped == {"expired": 2}


# Outages.


def test_a_server_that_goes_away_and_comes_back_misses_nothing(quick):
    closing = Reply(headers={"Content-Type": "image/gif", "Connection": "close"})
    with TrackingServer(Answers(closing)) as before:
        tracker = tracker_for(before.endpoint)
        tracker.event("first", "Signed Up")
        assert tracker.flush()
    for number in range(50):
        tracker.event(f"meanwhile-{number}", "Signed Up")
    eventually(lambda: tracker.stats().last_error)
    with TrackingServer(port=before.port) as after, tracker:
        assert tracker.flush()
        stats = tracker.stats()
    assert people(before) == ["first"]
    assert Counter(people(after)) == Counter(f"meanwhile-{number}" for number in range(50))
    assert (stats.accepted, stats.delivered, stats.dropped) == (51, 51, {})


def test_while_the_server_is_down_all_senders_pause(patient):
    """After three failures nothing is sent but what was under way."""
    with (
        TrackingServer(Answers(Reply(503))) as server,
        tracker_for(server.endpoint, senders=8, drain_timeout=0) as tracker,
    ):
        for number in range(200):
            tracker.event(f"p{number}", "Signed Up")
        server.wait(policy.TRIPS_AT)
        assert not tracker.flush(0.5)
        assert policy.TRIPS_AT <= len(server.targets) <= policy.TRIPS_AT + 7
        assert tracker.stats().pending == 200


def test_after_a_pause_one_call_goes_ahead(patient, held):
    """The others wait for its answer, and then go together."""
    answers = Answers(**{f"p{number}": [Reply(503), held] for number in range(3)})
    with TrackingServer(answers) as server, tracker_for(server.endpoint, senders=1) as tracker:
        for number in range(3):
            tracker.event(f"p{number}", "Signed Up")
        eventually(lambda: tracker._pipeline._delivery._breaker.until > 0)
        tracker._pipeline._delivery._width = 8  # from one sender, so that exactly three failed, to several
        for number in range(3, 20):
            tracker.event(f"p{number}", "Signed Up")
        end = threading.Thread(target=tracker.close)  # which ends the breaker's pause
        end.start()
        server.wait(4)
        assert tracker._pipeline._delivery._breaker.probing
        assert len(server.targets) == 4
        held.set()
        end.join(GUARD)
        stats = tracker.stats()
    assert stats.delivered == 20


def _in_two_seconds():
    return formatdate(math.ceil(time.time()) + 1, usegmt=True)


@pytest.mark.parametrize("retry_after", [lambda: "1", _in_two_seconds], ids=["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503, 301])
def test_no_sender_asks_before_retry_after(status, retry_after):
    def answer(number: int, _target: str) -> Reply:
        return Reply(status, {"Retry-After": retry_after(), "Location": "/"}) if number == 0 else Reply()

    with TrackingServer(answer) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("first", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        for number in range(10):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush()
    assert len(server.targets) == 12
    assert min(server.arrivals[1:]) - server.arrivals[0] >= 0.99


def test_an_answer_that_was_under_way_does_not_end_the_pause_that_the_server_asked_for(held):
    """One call is answered 429 with Retry-After, and then another, sent before it, with 200."""
    answers = Answers(slow=[held], busy=[Reply(429, {"Retry-After": "2"})])
    with TrackingServer(answers) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("slow", "Signed Up")
        server.wait(1)
        tracker.event("busy", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        held.set()
        eventually(lambda: tracker.stats().delivered)
        tracker.event("next", "Signed Up")
        assert tracker.flush()
    assert min(server.arrivals[2:]) - server.arrivals[1] >= 1.99


def test_a_retry_that_is_due_waits_for_no_other_answer(monkeypatch, held):
    """While the only sender so far waits for a server that hangs, another sender takes up what is due."""
    monkeypatch.setattr(delivery.random, "random", lambda: 1.0)  # so that `hangs` is under way before `again` is due
    answers = Answers(again=[Reply(503)], hangs=[held])
    with TrackingServer(answers) as server, tracker_for(server.endpoint, timeout=GUARD * 2) as tracker:
        tracker.event("again", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        tracker.event("hangs", "Signed Up")
        server.wait(2)
        try:
            eventually(lambda: people(server).count("again") == 2, "the second try", timeout=GUARD / 3)
        finally:
            held.set()


# Senders.


def test_so_many_requests_as_senders_are_under_way_at_once():
    """Sixteen requests wait for each other at the server."""
    with TrackingServer(Meeting(16)) as server, tracker_for(server.endpoint) as tracker:
        for number in range(48):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush()
        assert tracker.stats().retried == 0
    assert len(server.targets) == 48


@pytest.mark.parametrize("senders", [1, 3])
def test_no_more_requests_than_senders_are_under_way(senders):
    answers = Answers(Reply(delay=0.005))
    with TrackingServer(answers) as server, tracker_for(server.endpoint, senders=senders) as tracker:
        for number in range(40):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush()
    assert len(server.targets) == 40
    assert answers.most <= senders


def test_connections_are_kept(server):
    with tracker_for(server.endpoint, senders=4) as tracker:
        for number in range(300):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush()
    assert len(server.targets) == 300
    assert 1 <= server.connections <= 4


def _our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("km_logging-sender")}


def test_threads_grow_with_the_backlog_and_go_when_idle(monkeypatch, held):
    """One sender for one call at a time, more while calls wait, none once there is nothing to do."""
    monkeypatch.setattr(delivery, "IDLE", 0.05)
    monkeypatch.setattr(delivery, "KEEPS_WORKERS", False)
    before = _our_threads()
    answers = Answers(**{f"p{number}": [held] for number in range(10)})
    with TrackingServer(answers) as server, tracker_for(server.endpoint, senders=5) as tracker:
        tracker.event("alone", "Signed Up")
        assert tracker.flush()
        assert len(_our_threads() - before) <= 1
        for number in range(10):
            tracker.event(f"p{number}", "Signed Up")
        server.wait(6)
        threads = _our_threads() - before
        assert len(threads) == 5
        held.set()
        assert tracker.flush()
        for thread in threads:
            thread.join(GUARD)
            assert not thread.is_alive()
        tracker.event("afterwards", "Signed Up")
        assert tracker.flush()
    assert Counter(people(server)) == Counter(["alone", *(f"p{number}" for number in range(10)), "afterwards"])


def test_a_thread_that_goes_leaves_its_work_to_another(monkeypatch, server):
    """There are more threads than the session keeps connections; those that are too many go when they are woken."""
    monkeypatch.setattr(delivery, "KEEPS_WORKERS", True)
    monkeypatch.setattr(delivery, "IDLE", 10 * GUARD)

    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=2))
        return session

    with tracker_for(server.endpoint, session=session, senders=6, drain_timeout=0) as tracker:
        for number in range(8):
            tracker.event(f"p{number}", "Signed Up")
            eventually(lambda: len(server.targets) > number, timeout=GUARD / 3)  # noqa: B023 - called here and now


def test_a_server_that_answers_wrongly_ends_no_thread(quick):
    """After an answer of every sort, calls are still delivered."""
    answers = [*RETRIED.values(), Reply(400), Reply(414)]
    scripts = {f"p{number}": [answer] for number, answer in enumerate(answers)}
    with TrackingServer(Answers(**scripts)) as server, tracker_for(server.endpoint, senders=2) as tracker:
        for person in scripts:
            tracker.event(person, "Signed Up")
        assert tracker.flush()
        assert tracker.stats().delivered == len(scripts)
    assert Counter(people(server)) == dict.fromkeys(scripts, 2)


def test_cpu_share_pauses_delivery_but_not_while_somebody_waits(monkeypatch):
    """An attempt that took 100 s of CPU time is followed by a pause; flush lifts it, and nothing else does."""
    spent = iter(range(0, 100_000, 100))
    clocks = SimpleNamespace(time=time.time, monotonic=time.monotonic, thread_time=lambda: next(spent))
    monkeypatch.setattr(delivery, "time", clocks)
    with TrackingServer() as server, tracker_for(server.endpoint, senders=1, cpu_share=0.5) as tracker:
        worker = tracker._pipeline._delivery
        tracker.event("first", "Signed Up")
        eventually(lambda: tracker.stats().delivered)
        assert worker._pacing._throttle.until - time.monotonic() > 100
        tracker.event("second", "Signed Up")
        eventually(lambda: worker._outbox.waiting and worker._idle == worker._workers)
        assert people(server) == ["first"]
        assert tracker.flush()
        assert people(server) == ["first", "second"]


def test_cpu_share_is_what_the_throttle_is_told(server, monkeypatch):
    shares = []

    def pace(share, busy):
        shares.append(share)
        return share

    monkeypatch.setattr(policy, "pace", pace)
    with tracker_for(server.endpoint, cpu_share=0.25) as tracker:
        tracker.event("bob", "Signed Up")
        eventually(lambda: tracker.stats().delivered)
    assert set(shares) == {0.25}


# What is said.


def test_an_outage_that_lasts_is_said_once_and_what_is_dropped_then_too(quick, monkeypatch):
    """Not at once: who is away for a moment need not be spoken of."""
    monkeypatch.setattr(delivery, "OUTAGE", 0.05)
    problems = []
    with (
        refused() as endpoint,
        tracker_for(endpoint, retry_for=0.3, on_problem=problems.append, drain_timeout=0) as tracker,
    ):
        tracker.event("bob@example.com", "Signed Up", plan="secret-plan")
        eventually(lambda: tracker.stats().dropped)
        assert [problem.kind for problem in problems] == ["unreachable"]
        tracker.event("eve", "Signed Up")
        eventually(lambda: problems[1:])
    unreachable, dropped = map(str, problems)
    assert endpoint in unreachable
    assert "ConnectionRefusedError" in unreachable
    assert dropped.startswith("calls were dropped: 1 expired (last error: ")
    assert tracker.stats().refused == {}
    for secret in [KEY, KEY_ON_THE_WIRE, "bob", "secret-plan"]:
        assert secret not in unreachable + dropped


def test_an_outage_is_over_with_the_first_answer_that_speaks_well_of_the_path(quick, monkeypatch):
    monkeypatch.setattr(delivery, "OUTAGE", 1000.0)
    answers = Answers(bob=[Reply(503)] * 3)
    with TrackingServer(answers) as server, tracker_for(server.endpoint) as tracker:
        worker = tracker._pipeline._delivery
        tracker.event("bob", "Signed Up")
        server.wait(1)
        eventually(lambda: worker._says_unreachable_at < math.inf)
        assert tracker.flush()
        assert worker._says_unreachable_at == math.inf


def test_what_does_not_fit_is_said(held):
    problems = []
    with (
        TrackingServer(Answers(p0=[held])) as server,
        tracker_for(server.endpoint, senders=1, capacity=2, on_problem=problems.append) as tracker,
    ):
        assert _fill(tracker, server, 4) == [True, True, False, False]
        held.set()
        assert tracker.flush()
        eventually(lambda: problems)
    assert [problem.message for problem in problems] == ["calls were dropped: 2 overflow"]


# Capacity.


def _fill(tracker, server, count: int) -> list[bool]:
    """One call that the server holds, and then so many more, each seen by the listener before the next."""
    accepted = [tracker.event("p0", "Signed Up")]
    server.wait(1)
    for number in range(1, count):
        accepted.append(tracker.event(f"p{number}", "Signed Up"))
        tracker.stats()
    return accepted


def test_drop_newest_refuses_what_comes_when_there_is_no_room(held):
    """What is under way counts, too."""
    with (
        TrackingServer(Answers(p0=[held])) as server,
        tracker_for(server.endpoint, senders=1, capacity=4) as tracker,
    ):
        assert _fill(tracker, server, 10) == [True] * 4 + [False] * 6
        full = tracker.stats()
        held.set()
        assert tracker.flush()
        stats = tracker.stats()
    assert (full.accepted, full.pending, full.dropped) == (10, 4, {"overflow": 6})
    assert people(server) == ["p0", "p1", "p2", "p3"]
    assert (stats.delivered, stats.pending) == (4, 0)


def test_drop_oldest_makes_room_for_what_comes(held):
    """What is under way cannot be dropped any more."""
    with (
        TrackingServer(Answers(p0=[held])) as server,
        tracker_for(server.endpoint, senders=1, capacity=4, overflow="drop_oldest") as tracker,
    ):
        assert _fill(tracker, server, 10) == [True] * 10
        full = tracker.stats()
        held.set()
        assert tracker.flush()
    assert (full.accepted, full.pending, full.dropped) == (10, 4, {"overflow": 6})
    assert people(server) == ["p0", "p7", "p8", "p9"]


def test_drop_oldest_refuses_what_comes_when_everything_is_under_way(held):
    with (
        TrackingServer(Answers(held)) as server,
        tracker_for(server.endpoint, senders=2, capacity=2, overflow="drop_oldest") as tracker,
    ):
        assert tracker.event("p0", "Signed Up")
        assert tracker.event("p1", "Signed Up")
        server.wait(2)
        assert not tracker.event("p2", "Signed Up")
        held.set()
        assert tracker.flush()
    assert sorted(people(server)) == ["p0", "p1"]


def test_block_waits_for_room():
    """Of many more calls than there is room for, none is dropped."""
    with (
        TrackingServer(Answers(Reply(delay=0.002))) as server,
        tracker_for(server.endpoint, senders=1, capacity=2, overflow="block", block_timeout=GUARD) as tracker,
    ):
        assert all(tracker.event(f"p{number}", "Signed Up") for number in range(40))
        assert tracker.flush()
        assert tracker.stats().dropped == {}
    assert sorted(people(server)) == sorted(f"p{number}" for number in range(40))


def test_block_waits_for_block_timeout_at_most(held):
    with (
        TrackingServer(Answers(held)) as server,
        tracker_for(server.endpoint, senders=1, capacity=2, overflow="block", block_timeout=0.05) as tracker,
    ):
        assert _fill(tracker, server, 4) == [True, True, False, False]
        assert tracker.stats().dropped == {"overflow": 2}
        held.set()


def test_block_lets_everybody_through_who_waits(held):
    """Eight threads wait for one place; as calls end, each of them gets it."""
    with (
        TrackingServer(Answers(p0=[held])) as server,
        tracker_for(server.endpoint, senders=1, capacity=1, overflow="block", block_timeout=GUARD) as tracker,
    ):
        _fill(tracker, server, 1)
        threads = [threading.Thread(target=tracker.event, args=(f"t{it}", "Signed Up")) for it in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(tracker._pipeline.calls._waiters) == 8)
        held.set()
        for thread in threads:
            thread.join(GUARD)
        assert tracker.flush()
        assert tracker.stats().dropped == {}
    assert sorted(people(server)) == ["p0", *(f"t{it}" for it in range(8))]


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_the_bound_holds_under_many_threads(held, overflow):
    """However many threads log, no more calls are pending than there may be; each that was dropped is counted.

    But for one a thread: between its look whether there is room and its put, another may have put as well.
    """
    threads, each, capacity = 8, 400, 50
    with (
        TrackingServer(Answers(held)) as server,
        tracker_for(server.endpoint, senders=2, capacity=capacity, overflow=overflow, block_timeout=0.0001) as tracker,
    ):

        def log(thread: int) -> None:
            for number in range(each):
                tracker.event(f"{thread}-{number}", "Signed Up")

        running = [threading.Thread(target=log, args=(thread,)) for thread in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(GUARD)
        full = tracker.stats()
        held.set()
        assert tracker.flush()
        stats = tracker.stats()
    assert full.pending < capacity + threads
    assert full.accepted == threads * each == full.pending + full.dropped["overflow"]
    assert stats.delivered == full.pending == len(set(people(server))) == len(server.targets)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_full_queue_that_moves_loses_nothing_uncounted(server, overflow):
    """Threads log faster than calls are delivered: what arrived and what was dropped is all there was."""
    threads, each = 8, 400 if overflow != "block" else 50
    with tracker_for(server.endpoint, capacity=20, overflow=overflow, block_timeout=GUARD) as tracker:

        def log(thread: int) -> None:
            for number in range(each):
                tracker.event(f"{thread}-{number}", "Signed Up")

        running = [threading.Thread(target=log, args=(thread,)) for thread in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(GUARD)
        assert tracker.flush()
        stats = tracker.stats()
    assert max(Counter(people(server)).values()) == 1
    assert (stats.accepted, stats.pending) == (threads * each, 0)
    assert stats.delivered == len(server.targets)
    assert stats.delivered + stats.dropped["overflow"] == stats.accepted
    if overflow == "block":
        assert stats.dropped == {}


# The machinery, where no server can show it.


@pytest.fixture
def machinery():
    """A `Delivery` that is never started, and the list of what it said ended."""

    def make(**settings):
        tracker = tracker_for("http://127.0.0.1:9", **settings)
        return tracker._pipeline._delivery, tracker

    return make


def test_a_closed_delivery_gives_nothing_to_evict(machinery):
    """What was given up as closed is not dropped for overflow as well."""
    worker, tracker = machinery()
    worker._workers = worker._width  # nobody is there to send
    worker.put(["/e?_p=bob", "/e?_p=eve"])
    worker.close()
    assert not worker.evict()
    assert worker._outbox.pending == 0
    assert tracker._ledger.dropped["closed"].value == 2


def test_a_signal_handler_that_evicts_in_the_middle_of_an_eviction_evicts_another_call(machinery):
    """Each of the two drops a call of its own, and each call that is left is still pending."""
    worker, _ = machinery()
    worker._workers = worker._width  # nobody is there to send
    worker.put([f"/e?_p={person}" for person in ["bob", "eve", "zoe"]])
    evicted = []

    class Interrupted(list):
        """What waits for another try; a signal comes when it has been looked at."""

        def __iter__(self):
            yield from list.__iter__(self)
            if not evicted:
                evicted.append(None)
                evicted[0] = worker.evict()

    worker._retries._later = Interrupted((math.inf, entry.number, entry) for entry in worker._outbox.claim(3))
    evicted.append(worker.evict())
    left = len(worker._retries) + worker._outbox.waiting
    assert worker._outbox.pending == left == 3 - sum(evicted)


def test_a_success_after_the_pause_closes_the_breaker():
    breaker = Breaker().failed(0.0, 1.0, patience=5.0).began().succeeded(5.0)
    assert breaker == Breaker()


@pytest.mark.parametrize("answer", [Answer(None, error="ConnectionError"), Answer(503), Answer(200, is_html=True)])
def test_last_error_shows_neither_key_nor_query(answer):
    assert "_k" not in str(answer)


def test_a_last_error_shows_neither_key_nor_person(quick):
    with refused() as endpoint, tracker_for(endpoint, drain_timeout=0) as tracker:
        tracker.event("bob@example.com", "Signed Up", plan="secret-plan")
        eventually(lambda: tracker.stats().last_error)
        text = repr(tracker.stats())
    for secret in [KEY, KEY_ON_THE_WIRE, "bob", "example.com", "secret-plan", "_p="]:
        assert secret not in text
