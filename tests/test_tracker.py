"""The tracker's promises to its callers: true when accepted, flush and close within their time, books that balance."""

from __future__ import annotations

import asyncio
import gc
import logging.config
import threading
import time
from collections import Counter

import pytest
import requests

import km_logging as km
from km_logging import process
from km_logging.tracker import shared
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, eventually, people, tracker_for


@pytest.fixture
def held():
    """What a request waits for; at the end of the test it is let go."""
    held = threading.Event()
    yield held
    held.set()


def _balances(stats: km.Stats) -> bool:
    return stats.accepted == stats.delivered + stats.handed_over + stats.pending + sum(stats.dropped.values())


# Saying what happened.


def test_every_kind_of_call_arrives_where_it_belongs(server):
    with tracker_for(server.endpoint) as tracker:
        assert tracker.event("bob", "Signed Up", timestamp=1262304000, plan="pro") is True
        assert tracker.set("bob", timestamp=1262304000, gender="male") is True
        assert tracker.alias("bob", "bob@bob.com") is True
        assert tracker.flush()
    assert sorted(server.targets) == [
        f"/a?_k={KEY_ON_THE_WIRE}&_p=bob&_n=bob%40bob.com",
        f"/e?_k={KEY_ON_THE_WIRE}&_p=bob&_n=Signed+Up&plan=pro&_t=1262304000&_d=1",
        f"/s?_k={KEY_ON_THE_WIRE}&_p=bob&gender=male&_t=1262304000&_d=1",
    ]


def test_what_is_refused_is_false_and_counts_nowhere_but_as_refused(server):
    with tracker_for(server.endpoint) as tracker:
        assert tracker.event("", "Signed Up") is False
        assert tracker.event(None, "Signed Up") is False
        assert tracker.event("bob") is False
        assert tracker.set("bob", timestamp=1) is False
        assert tracker.alias("bob", "bob") is False
        stats = tracker.stats()
    assert (stats.accepted, stats.pending, stats.dropped) == (0, 0, {})
    assert stats.refused == {"bad_person": 1, "no_person": 1, "bad_name": 1, "bad_timestamp": 1, "self_alias": 1}


def test_the_identified_person_is_meant_where_none_is_named(server):
    with tracker_for(server.endpoint) as tracker, km.identify("bob"):
        assert tracker.event(None, "Signed Up")
        assert tracker.flush()
    assert people(server) == ["bob"]


def test_constructing_starts_no_thread_and_opens_no_connection(server):
    before = set(threading.enumerate())
    tracker = tracker_for(server.endpoint)
    assert {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("km_logging-")} == set()
    assert tracker.flush()
    tracker.close()
    assert {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("km_logging-")} == set()
    assert server.connections == 0


def test_mode_off_takes_nothing_and_counts_nothing(server):
    with km.Tracker(mode="off", endpoint=server.endpoint) as tracker:
        assert tracker.event("bob", "Signed Up") is False
        assert tracker.event("", "") is False
        assert tracker.flush()
        stats = tracker.stats()
    assert (stats.accepted, stats.dropped, stats.refused) == (0, {}, {})
    assert server.targets == []


def test_mode_print_prints_and_sends_nothing(server, capsys):
    with km.Tracker(mode="print", endpoint=server.endpoint) as tracker:
        tracker.event("bob", "Signed Up", timestamp=1262304000, plan="pro")
        assert tracker.flush()
        assert tracker.stats().delivered == 1
    expected = 'km_logging: event "Signed Up" person="bob" plan="pro" at 2010-01-01T00:00:00+00:00\n'
    assert capsys.readouterr().err == expected
    assert server.targets == []


# Flush.


def test_flush_is_true_once_everything_before_it_is_delivered(server):
    with tracker_for(server.endpoint) as tracker:
        for number in range(100):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush() is True
        assert len(server.targets) == 100
        assert tracker.stats().pending == 0


def test_flush_is_true_at_once_when_nothing_was_ever_logged(server):
    with tracker_for(server.endpoint) as tracker:
        assert tracker.flush(0) is True


def test_flush_without_time_tells_whether_anything_is_pending(held):
    """False while something is; true afterwards, though it waits for nobody."""
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush(0) is False
        held.set()
        assert tracker.flush() is True
        assert tracker.flush(0) is True
        assert tracker.flush(-1) is True


def test_flush_is_true_when_nothing_is_pending_though_a_callback_hangs(server):
    """It concerns calls: `on_problem` may take its time over one that was refused."""
    said, never = threading.Event(), threading.Event()
    with tracker_for(server.endpoint, on_problem=lambda _: said.set() or never.wait(2 * GUARD)) as tracker:
        tracker.event("", "Signed Up")
        assert said.wait(GUARD)
        assert tracker.stats().pending == 0
        assert tracker.flush(0) is True
        assert tracker.flush(0.05) is True
        never.set()


def test_flush_is_false_when_its_time_is_over(held):
    """And what was pending still is, and is delivered later."""
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush(0.1) is False
        assert tracker.stats().pending == 1
        held.set()
        assert tracker.flush() is True
        assert tracker.stats().delivered == 1


def test_flush_without_an_argument_waits_for_drain_timeout(held):
    with (
        TrackingServer(Answers(held)) as server,
        tracker_for(server.endpoint, drain_timeout=0.1, timeout=2 * GUARD) as tracker,
    ):
        tracker.event("bob", "Signed Up")
        began = time.monotonic()
        assert tracker.flush() is False
        assert 0.1 <= time.monotonic() - began < GUARD
        held.set()


def test_flush_may_be_told_to_wait_as_long_as_it_takes(server):
    with tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush(float("inf")) is True
    assert people(server) == ["bob"]


def test_several_threads_may_flush_at_once(held):
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        results = []
        threads = [threading.Thread(target=lambda: results.append(tracker.flush(GUARD))) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: tracker._pipeline._delivery._pacing.waiters == 4)
        assert results == []
        held.set()
        for thread in threads:
            thread.join(GUARD)
    assert results == [True] * 4


def test_calls_accepted_after_flush_began_do_not_prolong_it():
    early, late = threading.Event(), threading.Event()
    with TrackingServer(Answers(early=[early], late=[late])) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("early", "Signed Up")
        results = []
        flush = threading.Thread(target=lambda: results.append(tracker.flush(GUARD)))
        flush.start()
        eventually(lambda: tracker._pipeline._delivery._marks._marks)
        tracker.event("late", "Signed Up")
        server.wait(2)
        early.set()
        flush.join(GUARD)
        assert results == [True]
        assert tracker.stats().pending == 1
        late.set()


def test_flush_covers_what_was_logged_just_before_by_any_thread(server):
    """Each thread flushes right after its call, and the call has arrived."""
    missing = []
    with tracker_for(server.endpoint) as tracker:

        def work(thread: int) -> None:
            for number in range(25):
                person = f"{thread}-{number}"
                tracker.event(person, "Signed Up")
                if not tracker.flush(GUARD) or person not in people(server):
                    missing.append(person)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        assert tracker.stats().delivered == 100
    assert missing == []


def test_dropped_calls_are_not_waited_for(held):
    """A flush that waits for a call ends when the call is dropped to make room."""
    with (
        TrackingServer(Answers(p0=[held])) as server,
        tracker_for(server.endpoint, senders=1, capacity=2, overflow="drop_oldest") as tracker,
    ):
        tracker.event("p0", "Signed Up")
        server.wait(1)
        for number in range(1, 5):
            tracker.event(f"p{number}", "Signed Up")
            tracker.stats()
        results = []
        flush = threading.Thread(target=lambda: results.append(tracker.flush(GUARD)))
        flush.start()
        eventually(lambda: tracker._pipeline._delivery._marks._marks)
        held.set()
        flush.join(GUARD)
    assert results == [True]
    assert people(server) == ["p0", "p4"]


def test_aflush_leaves_the_event_loop_free(held):
    """Another task of the same loop lets go what the flush waits for."""

    async def main(tracker: km.Tracker) -> bool:
        flush = asyncio.create_task(tracker.aflush(GUARD))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, held.set)
        return await flush

    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert asyncio.run(main(tracker)) is True
        assert tracker.stats().delivered == 1


def test_aflush_is_false_when_its_time_is_over(held):
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        assert asyncio.run(tracker.aflush(0.05)) is False
        held.set()


# Close.


def test_close_delivers_what_is_pending():
    with TrackingServer(Answers(Reply(delay=0.01))) as server:
        tracker = tracker_for(server.endpoint)
        for number in range(50):
            tracker.event(f"p{number}", "Signed Up")
        tracker.close()
        assert len(server.targets) == 50
    stats = tracker.stats()
    assert (stats.delivered, stats.pending, stats.dropped) == (50, 0, {})


def test_with_closes_at_the_end_even_after_an_exception(server):
    with pytest.raises(ZeroDivisionError), tracker_for(server.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
        raise ZeroDivisionError
    assert people(server) == ["bob"]
    assert tracker.event("eve", "Signed Up") is False


def test_close_ends_all_threads(server):
    before = set(threading.enumerate())
    tracker = tracker_for(server.endpoint)
    for number in range(20):
        tracker.event(f"p{number}", "Signed Up")
    assert tracker.flush()
    ours = [it for it in set(threading.enumerate()) - before if it.name.startswith("km_logging")]
    assert ours
    tracker.close()
    for thread in ours:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert tracker._pipeline not in process.running


def test_a_closed_tracker_counts_what_comes_as_closed(server):
    tracker = tracker_for(server.endpoint)
    tracker.event("bob", "Signed Up")
    tracker.close()
    assert tracker.event("eve", "Signed Up") is False
    assert tracker.set("eve", plan="pro") is False
    assert tracker.alias("eve", "eve@example.com") is False
    stats = tracker.stats()
    assert (stats.accepted, stats.delivered, stats.pending, stats.dropped) == (4, 1, 0, {"closed": 3})
    assert tracker.flush(0) is True
    assert people(server) == ["bob"]


def test_a_handler_on_a_closed_tracker_counts_closed_too(server, logger):
    tracker = tracker_for(server.endpoint)
    logger.addHandler(km.KissmetricsHandler(tracker=tracker))
    tracker.close()
    logger.info("Signed Up", extra=km.event("bob"))
    assert tracker.stats().dropped == {"closed": 1}
    assert server.targets == []


def test_close_is_idempotent(server, capsys):
    tracker = tracker_for(server.endpoint)
    tracker.event("bob", "Signed Up")
    for _ in range(3):
        tracker.close()
    assert people(server) == ["bob"]
    assert tracker.stats().dropped == {}
    assert capsys.readouterr().err == ""


def test_close_from_several_threads_at_once_counts_each_call_once(held, capsys):
    with TrackingServer(Answers(held)) as server:
        tracker = tracker_for(server.endpoint, drain_timeout=0.2)
        for number in range(10):
            tracker.event(f"p{number}", "Signed Up")
        threads = [threading.Thread(target=tracker.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        stats = tracker.stats()
        held.set()
    assert (stats.accepted, stats.pending, stats.dropped) == (10, 0, {"closed": 10})
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("endpoint", ["hangs", "refuses"])
def test_close_gives_up_after_drain_timeout_and_says_so(held, capsys, endpoint):
    """The rest is counted, and said in one line that shows nothing of it."""
    with TrackingServer(Answers(held)) as server, refused() as nobody:
        tracker = tracker_for(
            {"hangs": server.endpoint, "refuses": nobody}[endpoint], drain_timeout=0.3, timeout=2 * GUARD
        )
        for number in range(30):
            tracker.event(f"bob-{number}", "Signed Up", plan="secret-plan")
        began = time.monotonic()
        tracker.close()
        assert time.monotonic() - began < GUARD
        stats = tracker.stats()
        held.set()
    assert (stats.accepted, stats.delivered, stats.pending, stats.dropped) == (30, 0, 0, {"closed": 30})
    said = capsys.readouterr().err
    assert said.startswith("km_logging: 30 calls were not delivered")
    assert said.count("\n") == 1
    assert not [it for it in [KEY, KEY_ON_THE_WIRE, "bob", "secret-plan", "Signed"] if it in said]


def test_close_says_nothing_without_stderr(held, monkeypatch):
    """As under pythonw and some services."""
    monkeypatch.setattr("sys.stderr", None)
    with TrackingServer(Answers(held)) as server:
        tracker = tracker_for(server.endpoint, drain_timeout=0.05)
        tracker.event("bob", "Signed Up")
        tracker.close()
        held.set()
    assert tracker.stats().dropped == {"closed": 1}


def test_close_ends_a_pause_of_our_own(monkeypatch):
    """There will be no later: a call that waits for its next try has it now."""
    monkeypatch.setattr("km_logging.policy.FIRST_DELAY", 10_000.0)
    monkeypatch.setattr("km_logging.policy.LONGEST_DELAY", 10_000.0)
    monkeypatch.setattr("km_logging.delivery.random.random", lambda: 1.0)
    with TrackingServer(Answers(bob=[Reply(503)])) as server:
        tracker = tracker_for(server.endpoint)
        tracker.event("bob", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        assert tracker.flush(0.05) is False
        tracker.close()
    assert people(server) == ["bob", "bob"]
    assert tracker.stats().delivered == 1


def test_flush_and_close_may_meet(server):
    """However they interleave, a flush that finds the tracker closed does not wait for what will never come."""
    for _ in range(30):
        tracker = tracker_for(server.endpoint)
        tracker.event("bob", "Signed Up")
        results = []
        threads = [
            threading.Thread(target=lambda it=tracker, to=results: to.append(it.flush(GUARD / 3))) for _ in range(3)
        ]
        threads.insert(1, threading.Thread(target=tracker.close))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        assert results == [True] * 3
        assert tracker.stats().delivered == 1


def test_a_flush_that_close_overtakes_ends(server):
    """Right before its mark is put, another thread closes the tracker, and the listener ends."""
    tracker = tracker_for(server.endpoint)
    tracker.event("bob", "Signed Up")
    assert tracker.flush()
    pipeline, listener = tracker._pipeline, tracker._pipeline._listener._thread
    put = pipeline.calls.put_nowait

    def overtaken(mark) -> None:
        pipeline.calls.put_nowait = put
        tracker.close()
        listener.join(GUARD)
        put(mark)

    pipeline.calls.put_nowait = overtaken
    assert pipeline.begin_flush(hurry=False).done.wait(GUARD / 6)


def test_flush_waits_for_the_calls_of_a_handler_that_is_just_being_closed(held, logger):
    """One thread closes the handler and waits; another logs, which revives it, and flushes: all calls are meant."""
    with TrackingServer(Answers(old=[held])) as server:
        handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint, drain_timeout=GUARD)
        logger.addHandler(handler)
        logger.info("Signed Up", extra=km.event("old"))
        server.wait(1)
        pipeline = handler._tracker._pipeline
        close = threading.Thread(target=handler.close)
        close.start()
        eventually(lambda: pipeline.is_closed)
        logger.info("Signed Up", extra=km.event("new"))
        server.wait(2)
        assert handler.flush(0.1) is False
        assert handler.stats().pending == 1
        held.set()
        assert handler.flush() is True
        close.join(GUARD)
        assert handler.stats().delivered == 2


def test_stats_on_a_closing_tracker_does_not_wait(server):
    tracker = tracker_for(server.endpoint)
    tracker.event("bob", "Signed Up")
    tracker.close()
    assert tracker.stats().delivered == 1


# Reviving.


def test_a_closed_handler_revives_at_the_next_record(server, logger):
    """As often as it is closed; nothing is lost, and the books go on."""
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint)
    logger.addHandler(handler)
    for number in range(5):
        logger.info("Signed Up", extra=km.event(f"p{number}"))
        handler.close()
    stats = handler.stats()
    assert people(server) == [f"p{number}" for number in range(5)]
    assert (stats.accepted, stats.delivered, stats.dropped) == (5, 5, {})


@pytest.mark.parametrize("strict", [False, True])
def test_a_problem_of_the_record_that_revives_a_handler_is_said(server, logger, strict):
    problems = []
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint, on_problem=problems.append, strict=strict)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    handler.close()
    try:
        logger.info("Signed Up", extra=km.event("bob", request=object()))
    except km.ProblemError:
        assert strict
    handler.flush()
    assert handler.stats().refused == {"bad_value": 1}
    eventually(lambda: [problem.kind for problem in problems] == ["bad_value"], timeout=GUARD / 6)


def test_a_revived_handler_does_not_say_that_its_new_calls_are_lost(server, logger, capsys):
    """While one thread closes, another logs: what it logged is delivered, and nobody is told otherwise."""
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("before"))
    assert handler.flush()
    closing, revived = handler._tracker._pipeline, []

    class Pending(type(closing)):
        """Another thread logs right after the pipeline is marked as closed."""

        @property
        def is_closed(self) -> bool:
            return self.__dict__["is_closed"]

        @is_closed.setter
        def is_closed(self, value: bool) -> None:
            self.__dict__["is_closed"] = value
            if value and not revived:
                revived.append(True)
                thread = threading.Thread(target=logger.info, args=("Signed Up",), kwargs={"extra": km.event("after")})
                thread.start()
                thread.join(GUARD)

    closing.__class__ = Pending
    handler.close()
    handler.flush()
    assert people(server) == ["before", "after"]
    assert handler.stats().dropped == {}
    assert capsys.readouterr().err == ""


# Sharing.


def test_front_ends_with_equal_settings_share_one_tracker(server):
    settings = {"api_key": KEY, "endpoint": server.endpoint}
    assert shared(settings) is shared(dict(settings)) is not shared({**settings, "senders": 3})


def test_a_shared_tracker_lives_until_the_last_front_end_is_closed(server, logger):
    settings = {"api_key": KEY, "endpoint": server.endpoint}
    one, other = km.KissmetricsHandler(**settings), km.KissmetricsHandler(**settings)
    logger.addHandler(one)
    logger.info("Signed Up", extra=km.event("bob"))
    pipeline = one._tracker._pipeline
    other.close()
    assert people(server) == ["bob"]
    assert pipeline.is_running
    one.close()
    assert not pipeline.is_running


def test_a_given_tracker_outlives_the_handlers_that_use_it(server, logger):
    with tracker_for(server.endpoint) as tracker:
        handler = km.KissmetricsHandler(tracker=tracker)
        logger.addHandler(handler)
        logger.info("Signed Up", extra=km.event("bob"))
        handler.close()
        assert people(server) == ["bob"]
        assert tracker.event("eve", "Signed Up")
    assert people(server) == ["bob", "eve"]


def test_a_tracker_that_nobody_holds_still_delivers(server):
    tracker_for(server.endpoint).event("bob", "Signed Up")
    gc.collect()
    assert server.wait(1)


# Under the lock of the logging module.

CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"km": {"class": "km_logging.KissmetricsHandler", "api_key": KEY}},
}


@pytest.fixture
def restored_root():
    """Handlers that a configuration put on the root logger are taken off again."""
    before = logging.root.handlers[:]
    yield
    for handler in logging.root.handlers[:]:
        if handler not in before:
            logging.root.removeHandler(handler)
            handler.close()
    logging.root.handlers[:] = before


def test_dict_config_waits_for_nothing_and_loses_nothing(held, logger, restored_root):
    """Called again while the server hangs, it returns; what was pending is delivered once the server answers."""
    with TrackingServer(Answers(held)) as server:
        config = {**CONFIG, "loggers": {logger.name: {"handlers": ["km"]}}}
        config["handlers"] = {"km": {**CONFIG["handlers"]["km"], "endpoint": server.endpoint, "drain_timeout": GUARD}}
        for number in range(3):
            logging.config.dictConfig(config)
            logger.info("Signed Up", extra=km.event(f"p{number}"))
        began = time.monotonic()
        logging.config.dictConfig(config)
        assert time.monotonic() - began < GUARD / 3
        handler = logger.handlers[0]
        assert handler.stats().pending == 3
        held.set()
        assert handler.flush()
        stats = handler.stats()
    assert Counter(people(server)) == {"p0": 1, "p1": 1, "p2": 1}
    assert (stats.accepted, stats.delivered, stats.dropped) == (3, 3, {})


def test_nobody_waits_for_a_thread_that_needs_the_logging_lock(server, logger):
    """Under that lock flush and close return at once, and what is pending is delivered once it is given back."""
    entered, logged = threading.Event(), threading.Event()

    def before_send(call: km.Call) -> km.Call:
        entered.set()
        logging.getLogger(f"{logger.name}.never.asked.for.before").info("needs the lock")
        logged.set()
        return call

    handler = km.KissmetricsHandler(
        api_key=KEY, endpoint=server.endpoint, before_send=before_send, drain_timeout=4 * GUARD
    )
    logger.addHandler(handler)
    gc.collect()  # a handler of another test that is collected in a thread that is just started needs that lock, too
    with logging._lock:
        handler._tracker.event("bob", "Signed Up")
        assert entered.wait(GUARD)
        assert handler.flush() is False
        handler.close()
        assert not logged.is_set()
    assert logged.wait(GUARD)
    assert handler.flush()
    assert people(server) == ["bob"]


# The books.


def test_the_books_balance_at_every_moment(monkeypatch):
    """While threads log, flush and read, over answers of all sorts."""
    monkeypatch.setattr("km_logging.policy.FIRST_DELAY", 0.001)
    replies = [Reply(), Reply(), Reply(503), Reply(400), Reply(hang_up=True)]
    unbalanced = []
    with (
        TrackingServer(lambda number, _: replies[number % 5]) as server,
        tracker_for(
            server.endpoint, capacity=60, retry_for=2, before_send=lambda call: call if call.person != "p7" else None
        ) as tracker,
    ):
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                stats = tracker.stats()
                if not _balances(stats) or stats.pending < 0:
                    unbalanced.append(stats)

        def log() -> None:
            for number in range(150):
                tracker.event(f"p{number % 20}", "Signed Up")

        watcher = threading.Thread(target=watch)
        watcher.start()
        threads = [threading.Thread(target=log) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        assert tracker.flush()
        stop.set()
        watcher.join(GUARD)
        stats = tracker.stats()
    assert unbalanced == []
    assert (stats.accepted, stats.pending) == (600, 0)
    assert stats.delivered <= len(server.targets)


def test_the_age_of_the_oldest_pending_call_is_known(held):
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        assert tracker.stats().oldest_pending_s is None
        tracker.event("bob", "Signed Up")
        server.wait(1)
        first = tracker.stats().oldest_pending_s
        eventually(lambda: tracker.stats().oldest_pending_s > first)
        held.set()
        assert tracker.flush()
        assert tracker.stats().oldest_pending_s is None
    assert 0 <= first < GUARD


def test_the_age_is_known_of_a_call_that_no_callback_lets_through(server):
    """`before_send` hangs, so the call has not reached the outbox."""
    asked, never = threading.Event(), threading.Event()
    with tracker_for(
        server.endpoint, before_send=lambda call: asked.set() or (never.wait(2 * GUARD) and call), drain_timeout=0
    ) as tracker:
        tracker.event("bob", "Signed Up")
        assert asked.wait(GUARD)
        stats = tracker.stats()
        never.set()
    assert stats.pending == 1
    assert stats.oldest_pending_s is not None


def test_neither_repr_nor_settings_show_the_key(server):
    tracker = tracker_for(server.endpoint)
    handler = km.KissmetricsHandler(tracker=tracker)
    text = f"{tracker!r} {tracker} {handler!r} {tracker.settings!r} {tracker.stats()!r}"
    assert KEY not in text
    assert KEY_ON_THE_WIRE not in text
    assert server.endpoint in text


# Which transport.


def test_curl_has_more_under_way_unless_it_is_told_otherwise():
    """The default of `senders` goes by the transport."""
    assert km.Tracker(api_key=KEY, transport="curl").settings.senders == 64
    assert km.Tracker(api_key=KEY, transport="curl", senders=3).settings.senders == 3


def test_without_the_extra_curl_is_refused_with_the_remedy(monkeypatch):
    """At construction, where somebody sees it."""
    monkeypatch.setattr("km_logging.senders.find_spec", lambda name: None)
    with pytest.raises(km.MissingExtraError, match=r"pip install 'km_logging\[curl\]'"):
        km.Tracker(api_key=KEY, transport="curl")


def test_with_a_session_requests_serves_and_that_is_said(server):
    """What the session is for, such as a proxy, is not left out silently."""
    problems = []
    settings = {"transport": "curl", "session": requests.Session, "on_problem": problems.append}
    with tracker_for(server.endpoint, **settings) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        assert tracker.stats().delivered == 1
    assert "python-requests" in server.headers[0]["User-Agent"]
    assert [problem.kind for problem in problems] == ["delivery"]
    assert "requests serves" in problems[0].message


@pytest.mark.parametrize("outbox", ["memory:", "sqlite:///{}/km.db"])
def test_curl_delivers_from_every_outbox_in_one_thread(server, tmp_path, outbox):
    """What comes while it waits for answers as well; each call once."""
    before = set(threading.enumerate())
    with tracker_for(server.endpoint, transport="curl", outbox=outbox.format(tmp_path)) as tracker:
        for number in range(300):
            tracker.event(f"p{number}", "Signed Up")
        server.wait(10)
        tracker.event("late", "Signed Up")
        assert tracker.flush()
        names = [thread.name for thread in set(threading.enumerate()) - before]
        assert sum(name.startswith("km_logging-sender") for name in names) == 1
    assert sorted(people(server)) == sorted([*(f"p{number}" for number in range(300)), "late"])


def test_calls_wait_for_an_answer_of_curl_at_the_close_and_count():
    """The close waits for what is under way, as with requests."""
    with TrackingServer(Answers(Reply(delay=0.2))) as slow:
        tracker = tracker_for(slow.endpoint, transport="curl")
        for number in range(5):
            tracker.event(f"p{number}", "Signed Up")
        tracker.close()
    assert tracker.stats().delivered == 5
