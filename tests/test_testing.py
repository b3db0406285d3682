"""The test kit without pytest's fixtures: what is captured, from whom, and that nothing is sent meanwhile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import logging
import logging.config
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import LogCapture, capture_logs

import km_logging as km
from km_logging import wire
from km_logging.capturing import captures
from km_logging.testing import Calls, capture_calls, finish, written
from support import processes
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, eventually, people, tracker_for

NOON = 1_700_000_000
SIGNED_UP = km.Call("event", "bob", "Signed Up", timestamp=NOON, properties={"plan": "pro"})

MERGE = structlog.contextvars.merge_contextvars
JSON = structlog.processors.JSONRenderer()


@pytest.fixture(autouse=True)
def _clean_slate() -> Iterator[None]:
    """Nobody captures before a test, nor after it; structlog is as it was."""
    init, call = LogCapture.__init__, LogCapture.__call__
    assert captures == []
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    assert captures == []
    assert (LogCapture.__init__, LogCapture.__call__) == (init, call)


@pytest.fixture
def tracker(server: TrackingServer) -> Iterator[km.Tracker]:
    """A tracker of this test's own, for this test's server."""
    with tracker_for(server.endpoint, api_key=uuid.uuid4().hex) as tracker:
        yield tracker


def balanced(stats: km.Stats) -> bool:
    return stats.accepted == stats.delivered + stats.handed_over + stats.pending + sum(stats.dropped.values())


def say_everything(tracker: km.Tracker, logger: logging.Logger) -> None:
    """One call of each kind and way, some with a problem, all with a time of their own."""
    handler = km.KissmetricsHandler(tracker=tracker)
    logger.addHandler(handler)
    log: Any = structlog.wrap_logger(None, processors=[km.KissmetricsProcessor(tracker=tracker), lambda *_: ""])
    with km.identify("ann"):
        logger.info("Signed Up", extra=km.event(timestamp=NOON, plan="pro", seats=5))
    logger.info("Signed %s", "Up", extra={"km": "event", "person": 7, "km_timestamp": NOON, "tags": ["b", "a"]})
    logger.info("Bound", extra={"km": "event", "person": "bob", "km_timestamp": NOON, "bound": 1})
    logger.info("Profile saved", extra=km.set("bob", timestamp=NOON, properties={"favourite colour": "blue, or: é"}))
    logger.info("Accounts linked", extra=km.alias("bob", "bob@bob.com"))
    logger.info("Left out", extra=km.event("bob", timestamp=NOON, _k="no", long="x" * 600, fine="yes"))
    logger.info("Refused", extra=km.event("", timestamp=NOON))
    logger.info("Seen by nobody", extra={"km": 12.5})
    log.error("Broken", km="event", person=uuid.UUID(int=1), timestamp=NOON, why={"code": 3})
    log.error("Broken", **km.set("bob", timestamp=NOON, empty="", nothing=None))
    tracker.event("carl", "Subscribed", timestamp=NOON)
    logger.removeHandler(handler)


@pytest.mark.parametrize("kept", [{}, {"strict": False, "exclude": ["plan"], "properties": {"environment": "test"}}])
def test_captured_is_what_would_have_been_sent(kept, logger, server):
    """The same log calls, once sent and once captured, are the same calls, problems and books."""
    structlog.contextvars.bind_contextvars(bound=1)
    problems: list[km.Problem] = []
    with tracker_for(server.endpoint, on_problem=problems.append, **kept) as tracker:
        say_everything(tracker, logger)
        assert tracker.flush(GUARD)
        sent = tracker.stats()
    with tracker_for(server.endpoint, on_problem=problems.append, **kept) as tracker, capture_calls() as calls:
        said = problems.copy()
        say_everything(tracker, logger)
        captured = tracker.stats()
    arrived = [target.replace("_k=k3y-of%2Fthe+product&", "") for target in server.targets]
    assert sorted(map(wire.encode, calls)) == sorted(arrived)
    assert len(calls) == captured.accepted == captured.delivered == sent.accepted
    assert said
    assert calls.problems == said == problems[len(said) :]
    assert captured.refused == sent.refused
    assert balanced(captured)


def test_it_is_in_the_list_when_the_log_call_returns_and_no_thread_is_started(tracker, logger, server):
    before = set(threading.enumerate())
    handler = km.KissmetricsHandler(tracker=tracker)
    logger.addHandler(handler)
    with capture_calls() as calls:
        for number in range(3):
            logger.info("Signed Up", extra=km.event(f"bob-{number}"))
            assert [call.person for call in calls] == [f"bob-{before}" for before in range(number + 1)]
        logger.info("Refused", extra=km.event(""))
        assert tracker.flush(GUARD)
        assert set(threading.enumerate()) == before
    assert tracker.flush(GUARD)
    assert server.targets == []


@pytest.mark.parametrize("by", ["handler", "processor", "tracker"])
def test_before_and_afterwards_calls_are_sent(by, tracker, logger, server):
    """By a front end whose threads run already."""
    logger.addHandler(km.KissmetricsHandler(tracker=tracker))
    processor = km.KissmetricsProcessor(tracker=tracker)
    say = {
        "handler": lambda person: logger.info("Signed Up", extra=km.event(person)),
        "processor": lambda person: processor(None, "info", {"event": "Signed Up", **km.event(person)}),
        "tracker": lambda person: tracker.event(person, "Signed Up"),
    }[by]
    say("before")
    assert tracker.flush(GUARD)
    with capture_calls() as calls:
        say("inside")
    say("after")
    assert tracker.flush(GUARD)
    assert people(server) == ["before", "after"]
    assert [call.person for call in calls] == ["inside"]
    assert tracker.stats().delivered == 3


def test_what_was_pending_stays_pending_and_is_sent(tmp_path):
    """Also what is under way: the capture ends before the server answers."""
    gate = threading.Event()
    answer = lambda _number, _target: gate.wait(GUARD) and Reply()  # noqa: E731 - once the gate is open
    with TrackingServer(answer) as server, tracker_for(server.endpoint) as tracker:
        tracker.event("pending", "Signed Up")
        server.wait(1)
        with capture_calls() as calls:
            tracker.event("inside", "Signed Up")
            stats = tracker.stats()
            assert (stats.accepted, stats.delivered, stats.pending) == (2, 1, 1)
            assert not tracker.flush(0)
            gate.set()
            assert tracker.flush(GUARD)
        assert people(server) == ["pending"]
        assert [call.person for call in calls] == ["inside"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, None])
def test_it_ends_however_the_block_ends(exception, tracker, server):
    try:
        with capture_calls():
            if exception:
                raise exception
    except (ValueError, KeyboardInterrupt):
        pass
    tracker.event("bob", "Signed Up")
    assert tracker.flush(GUARD)
    assert people(server) == ["bob"]


def test_the_innermost_capture_gets_the_calls(tracker):
    """Two that hold the same, as at their beginning, are not taken for each other."""
    with capture_calls() as outer:
        with capture_calls() as empty:
            pass
        with capture_calls() as inner:
            tracker.event("inner", "Signed Up")
        tracker.event("outer", "Signed Up")
    assert [[call.person for call in calls] for calls in (outer, empty, inner)] == [["outer"], [], ["inner"]]


# Who is captured.


def test_a_front_end_made_inside_is_captured_too_and_needs_no_key(logger):
    with capture_calls() as calls:
        logger.addHandler(km.KissmetricsHandler())
        logger.info("Signed Up", extra=km.event("bob"))
        km.KissmetricsProcessor()(None, "info", {"event": "Signed Up", "km": "event", "person": "ann"})
        with km.Tracker() as tracker:
            assert tracker.event("carl", "Signed Up") is True
    assert [call.person for call in calls] == ["bob", "ann", "carl"]


@pytest.mark.parametrize("by", ["class", "()"])
def test_dictconfig_may_run_inside(by):
    """By its own path, without a key."""
    handler = {by: "km_logging.KissmetricsHandler", "properties": {"environment": "test"}}
    logger = {"level": "INFO", "handlers": ["kissmetrics"]}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": {"kissmetrics": handler}}
    with capture_calls() as calls:
        for _ in range(2):
            logging.config.dictConfig({**config, "loggers": {"test.kit": logger}})
            logging.getLogger("test.kit").info("Signed Up", extra={"km": "event", "person": "bob"})
    logging.getLogger("test.kit").handlers.clear()
    assert [(call.person, call.properties) for call in calls] == [("bob", {"environment": "test"})] * 2


def test_without_a_key_it_prints_from_then_on_and_sends_nothing(capsys):
    with capture_calls() as calls:
        tracker = km.Tracker()
        tracker.event("inside", "Signed Up")
    tracker.event("after", "Signed Up")
    tracker.close()
    assert [call.person for call in calls] == ["inside"]
    printed = capsys.readouterr().err
    assert 'event "Signed Up" person="after"' in printed
    assert "inside" not in printed


def test_outside_a_key_is_needed_as_ever():
    with capture_calls():
        km.Tracker().close()
    for make in (km.Tracker, km.KissmetricsHandler, km.KissmetricsProcessor):
        with pytest.raises(km.SettingsError, match="api_key is missing"):
            make()


@pytest.mark.parametrize("where", ["given", "environment"])
def test_with_a_key_a_front_end_made_inside_is_live_afterwards(where, server, monkeypatch):
    settings = {"endpoint": server.endpoint, "drain_timeout": GUARD}
    if where == "given":
        settings["api_key"] = "k3y"
    else:
        monkeypatch.setenv("KM_API_KEY", "k3y")
    with capture_calls() as calls:
        tracker = km.Tracker(**settings)
        tracker.event("inside", "Signed Up")
    tracker.event("after", "Signed Up")
    tracker.close()
    assert people(server) == ["after"]
    assert len(calls) == 1


def test_other_mistakes_in_the_settings_are_told_inside_as_ever():
    with capture_calls(), pytest.raises(km.SettingsError, match="did you mean 'strict'"):
        km.Tracker(strikt=True)


def test_off_stays_off(monkeypatch):
    monkeypatch.setenv("KM_MODE", "off")
    with capture_calls() as calls, km.Tracker() as tracker:
        assert tracker.event("bob", "Signed Up") is False
    assert calls == []


def test_print_is_captured_and_prints_nothing(capsys):
    with km.Tracker(mode="print") as tracker, capture_calls() as calls:
        tracker.event("bob", "Signed Up", timestamp=NOON, plan="pro")
    assert calls == [SIGNED_UP]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("settings", [{"durability": "immediate"}, {"deliver": False}, {"durability": "batched"}])
def test_an_outbox_in_a_file_is_not_opened(settings, tmp_path):
    with capture_calls() as calls, km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", **settings) as tracker:
        tracker.event("bob", "Signed Up", timestamp=NOON, plan="pro")
    assert calls == [SIGNED_UP]
    assert list(tmp_path.iterdir()) == []


def test_a_closed_tracker_is_closed_and_a_closed_handler_revives(logger, server):
    handler = km.KissmetricsHandler(api_key=uuid.uuid4().hex, endpoint=server.endpoint)
    logger.addHandler(handler)
    with capture_calls() as calls:
        tracker = km.Tracker()
        tracker.close()
        assert tracker.event("bob", "Signed Up") is False
        assert tracker.stats().dropped == {"closed": 1}
        handler.close()
        logger.info("Signed Up", extra=km.event("ann"))
    assert [call.person for call in calls] == ["ann"]


def test_other_threads_are_captured(tracker):
    with capture_calls() as calls, concurrent.futures.ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda number: tracker.event(f"bob-{number}", "Signed Up"), range(400)))
    assert all(accepted)
    assert sorted(call.person for call in calls) == sorted(f"bob-{number}" for number in range(400))
    assert tracker.stats().delivered == 400


def test_concurrent_tasks_are_captured_each_with_its_person(tracker):
    async def one(number: int) -> None:
        with km.identify(f"bob-{number}"):
            await asyncio.sleep(0)
            tracker.event(None, "Signed Up", number=number)

    async def everyone() -> None:
        await asyncio.gather(*map(one, range(50)))

    with capture_calls() as calls:
        asyncio.run(everyone())
    said = sorted((call.person, call.properties["number"]) for call in calls)
    assert said == sorted((f"bob-{number}", str(number)) for number in range(50))


def test_captures_that_end_in_another_order_than_they_began_leave_nothing_behind(tracker, server):
    """As where two threads capture; who gets the calls meanwhile is open."""
    one, other = capture_calls(), capture_calls()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    tracker.event("inside", "Signed Up")
    other.__exit__(None, None, None)
    tracker.event("after", "Signed Up")
    assert tracker.flush(GUARD)
    assert people(server) == ["after"]


def test_a_forked_child_is_captured_too_sends_nothing_and_ends(tmp_path, server):
    """The parent has a call pending and a thread that sends; the child, begun inside, flushes, closes and exits."""
    ended = processes.run(
        tmp_path,
        """
        from km_logging.testing import capture_calls
        tracker = km.Tracker(drain_timeout=20)
        tracker.event("before", "Signed Up")
        assert tracker.flush()
        with capture_calls() as calls:
            tracker.event("inside", "Signed Up")
            child = os.fork()
            if not child:
                tracker.event("child", "Signed Up")
                assert [call.person for call in calls] == ["inside", "child"]
                assert threading.active_count() == 1
                assert tracker.flush() and tracker.stats().delivered == 1
                tracker.close()
                sys.exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            assert [call.person for call in calls] == ["inside"]
        tracker.event("after", "Signed Up")
        """,
        server.endpoint,
    )
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
    assert sorted(people(server)) == ["after", "before"]


# What settings do.


def test_with_strict_a_problem_raises_at_the_log_call_and_is_in_the_list(logger):
    with capture_calls() as calls:
        logger.addHandler(km.KissmetricsHandler(strict=True))
        with pytest.raises(km.ProblemError, match="nobody is named"):
            logger.info("Signed Up", extra={"km": "event"})
        with pytest.raises(km.ProblemError, match="value_limit"):
            logger.info("Signed Up", extra=km.event("bob", timestamp=NOON, plan="pro", long="x" * 600))
    assert [problem.kind for problem in calls.problems] == ["no_person", "long_value"]
    assert calls == [SIGNED_UP]


def test_without_strict_problems_are_collected_counted_said_and_handed_over(caplog):
    handed: list[km.Problem] = []
    with capture_calls() as calls, km.Tracker(on_problem=handed.append) as tracker:
        assert tracker.event("", "Signed Up") is False
        (problem,) = calls.problems
        assert (problem.kind, handed) == ("bad_person", [problem])
        assert tracker.stats().refused == {"bad_person": 1}
        assert tracker.stats().accepted == 0
    assert str(problem) in caplog.text
    assert calls == []


def test_what_on_problem_logs_is_never_tracked(logger):
    """Not even where that is a problem again."""

    def on_problem(problem: km.Problem) -> None:
        handed.append(problem)
        logger.info("Refused", extra=km.event("bob"))
        logger.info("Refused", extra=km.event(""))

    handed: list[km.Problem] = []
    with capture_calls() as calls:
        logger.addHandler(km.KissmetricsHandler(on_problem=on_problem))
        logger.info("Signed Up", extra=km.event(""))
    assert (calls, handed) == ([], calls.problems)
    assert len(handed) == 1


def test_many_names_that_differ_only_in_digits_are_a_problem_here_too():
    with capture_calls() as calls, km.Tracker() as tracker:
        for number in range(25):
            tracker.event("bob", f"Order {number} placed")
    assert {problem.kind for problem in calls.problems} == {"formatted_name"}
    assert len(calls) == 25


@pytest.mark.parametrize("durability", ["batched", "immediate"])
def test_before_send_decides_what_is_captured(durability, tmp_path):
    """It changes, withholds, raises, or returns nonsense; what it logs itself is never tracked."""

    def before_send(call: km.Call) -> object:
        if call.person == "recursive":
            tracker.event("recursive", "Again")
        if call.person == "broken":
            raise ValueError
        answers = {"withheld": None, "nonsense": "no call"}
        changed = km.Call(call.kind, call.person, call.name, None, NOON, {**call.properties, "plan": "pro", "_k": "x"})
        return answers.get(call.person, changed)

    with capture_calls() as calls:
        outbox = {"outbox": f"sqlite:///{tmp_path}/km.db", "durability": durability}
        with km.Tracker(before_send=before_send, **outbox) as tracker:
            for person in ("bob", "withheld", "broken", "nonsense", "recursive"):
                tracker.event(person, "Signed Up")
            stats = tracker.stats()
    assert calls[0] == SIGNED_UP
    assert [call.person for call in calls] == ["bob", "recursive"]
    kinds = [problem.kind for problem in calls.problems]
    assert kinds == ["reserved_property", "callback", "callback", "reserved_property"]
    assert stats.dropped == {"withheld": 3}
    assert balanced(stats)


@pytest.mark.parametrize("way", [{"drop": True}, {"annotate": True}])
def test_drop_and_annotate_do_what_they_do(way):
    with capture_calls() as calls:
        processor = km.KissmetricsProcessor(**way)
        event_dict = {"event": "Signed Up", "km": "event", "person": "bob", "km_timestamp": NOON, "plan": "pro"}
        if "drop" in way:
            with pytest.raises(structlog.DropEvent):
                processor(None, "info", event_dict)
        else:
            assert processor(None, "info", event_dict.copy()) == event_dict
    assert calls == [SIGNED_UP]


# Beside structlog's capture_logs.


def configure(*chain: Callable[..., Any], **settings: object) -> Any:
    """A logger of the configured chain: these processors, ours, and a renderer."""
    processors = [*chain, km.KissmetricsProcessor(**{"mode": "print", **settings}), JSON]
    printed = io.StringIO()
    structlog.configure(processors=processors, logger_factory=structlog.PrintLoggerFactory(printed))
    return structlog.get_logger()


LINE = {"event": "Signed Up", "km": "event", "person": "bob", "km_timestamp": NOON, "plan": "pro", "log_level": "info"}


def say(log: Any) -> None:
    log.info("Signed Up", km="event", person="bob", km_timestamp=NOON, plan="pro")


def test_beside_capture_logs_both_capture():
    """What structlog captures is what it would have without us."""
    log = configure()
    with capture_calls() as calls, capture_logs() as logs:
        say(log)
        log.info("no call")
    assert calls == [SIGNED_UP]
    assert logs == [LINE, {"event": "no call", "log_level": "info"}]


def test_the_processors_before_ours_run_and_those_after_it_do_not():
    """The bound person and the stamped time are in the call; the last one of ours decides, and one line is one call."""

    def fail(*_: object) -> None:
        raise AssertionError

    structlog.contextvars.bind_contextvars(person="bob", request_id="4f1c")
    ours = km.KissmetricsProcessor(mode="print")
    stamp = lambda _logger, _name, event_dict: {**event_dict, "timestamp": NOON}  # noqa: E731 - as TimeStamper
    structlog.configure(processors=[MERGE, ours, stamp, ours, fail, JSON])
    with capture_calls() as calls, capture_logs() as logs:
        structlog.get_logger().info("Signed Up", km="event", plan="pro")
    assert [(call.person, call.properties) for call in calls] == [("bob", {"plan": "pro"})]
    assert logs == [{"event": "Signed Up", "km": "event", "plan": "pro", "log_level": "info"}]


def test_a_line_that_a_processor_before_ours_drops_is_no_call():
    def drop(*_: object) -> None:
        raise structlog.DropEvent

    log = configure(drop)
    with capture_calls() as calls, capture_logs() as logs:
        say(log)
    assert (calls, logs) == ([], [LINE])


def test_strict_raises_beside_capture_logs_too():
    log = configure(strict=True)
    with capture_calls(), capture_logs(), pytest.raises(km.ProblemError):
        log.info("Signed Up", km="event")


def test_without_our_processor_nothing_of_the_chain_runs():
    structlog.configure(processors=[lambda *_: 1 / 0, JSON])
    with capture_calls() as calls, capture_logs() as logs:
        say(structlog.get_logger())
    assert (calls, logs) == ([], [LINE])


def test_capture_logs_inside_capture_logs_still_knows_the_processors():
    log = configure()
    with capture_calls() as calls, capture_logs() as outer:
        with capture_logs() as inner:
            say(log)
        say(log)
    assert calls == [SIGNED_UP, SIGNED_UP]
    assert inner == outer == [LINE]


def test_inside_another_capture_one_line_is_still_one_call():
    log = configure()
    with capture_calls() as outer, capture_logs(), capture_calls() as inner:
        say(log)
        with capture_logs():
            say(log)
    assert (outer, inner) == ([], [SIGNED_UP, SIGNED_UP])


def test_the_processors_that_capture_logs_is_given_do_not_make_a_second_call():
    log = configure()
    ours = structlog.get_config()["processors"][0]
    try:
        capturing = capture_logs(processors=[ours])
    except TypeError:
        pytest.skip("this structlog's capture_logs takes no processors")
    with capture_calls() as calls, capturing as logs:
        say(log)
    assert (calls, logs) == ([SIGNED_UP], [LINE])


def test_a_log_capture_of_ones_own_is_seen_through_as_well():
    """As structlog's documentation has it in a fixture: made by a name that was imported long before."""
    configure()
    with capture_calls() as calls:
        own = LogCapture()
        structlog.configure(processors=[own])
        say(structlog.get_logger())
    assert calls == [SIGNED_UP]
    say(structlog.get_logger())
    assert calls == [SIGNED_UP]
    assert own.entries == [LINE, LINE]


def test_capture_logs_that_outlasts_the_capture_sends_nothing(server):
    """Afterwards it is structlog's own again: nothing passes through the processors."""
    log = configure(mode="live", api_key="k3y", endpoint=server.endpoint)
    (ours, _renderer) = structlog.get_config()["processors"]
    with capture_calls() as calls:
        capturing = capture_logs()
        logs = capturing.__enter__()
    say(log)
    capturing.__exit__(None, None, None)
    assert (calls, logs, ours.stats().accepted) == ([], [LINE], 0)
    assert structlog.get_config()["processors"] == [ours, JSON]


# What is shown.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PROPERTIES = st.dictionaries(TEXTS.filter(lambda name: not name.startswith("_")), TEXTS, max_size=4)
CALLS = st.one_of(
    st.builds(km.Call, st.just("event"), TEXTS, TEXTS, st.none(), st.just(NOON), PROPERTIES),
    st.builds(km.Call, st.just("set"), TEXTS, st.none(), st.none(), st.just(NOON), PROPERTIES),
    st.tuples(TEXTS, TEXTS)
    .filter(lambda pair: pair[0] != pair[1])
    .map(lambda pair: km.Call("alias", pair[0], identity=pair[1])),
)


@example([km.Call("set", "bob", timestamp=NOON, properties={"\ufb00": "a ligature is two letters to Python"})])
@example([km.Call("set", "bob", timestamp=NOON, properties={"self": "1", "person": "2", "timestamp": "3"})])
@given(st.lists(CALLS, max_size=3))
def test_what_is_shown_of_calls_can_be_run_and_makes_the_same_calls(expected):
    """Each in one line, whatever its texts hold."""
    shown = repr(Calls(expected))
    assert shown.count("\n") == max(0, len(expected) - 1)
    with capture_calls() as calls, km.Tracker() as tracker:
        eval(shown, {"km": tracker})
        assert calls == expected


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (SIGNED_UP, f"km.event('bob', 'Signed Up', timestamp={NOON}, plan='pro')"),
        (km.Call("alias", "bob", identity="bob@bob.com"), "km.alias('bob', 'bob@bob.com')"),
        (
            km.Call("set", "bob", timestamp=NOON, properties={"a": "1", "class": "2"}),
            f"km.set('bob', timestamp={NOON}, properties={{'a': '1', 'class': '2'}})",
        ),
    ],
    ids=lambda it: getattr(it, "kind", ""),
)
def test_a_call_is_written_as_one_would_write_it(call, line):
    assert written(call) == line


def test_a_call_itself_shows_no_value_still():
    with capture_calls() as calls, km.Tracker() as tracker:
        tracker.event("bob@bob.com", "Signed Up", plan="pro")
    assert "pro" in repr(calls)
    assert "pro" not in repr(calls[0])
    assert "bob" not in repr(calls[0])


# The end of a server.


def test_finish_delivers_what_is_left_ends_the_threads_and_the_next_call_starts_them_again(server):
    """Of the trackers of this endpoint only, also of one that nobody holds any more."""
    before = set(threading.enumerate())
    tracker_for(server.endpoint, api_key=uuid.uuid4().hex).event("forgotten", "Signed Up")
    with TrackingServer() as other, tracker_for(other.endpoint) as elsewhere, tracker_for(server.endpoint) as tracker:
        elsewhere.event("bob", "Signed Up")
        tracker.event("ann", "Signed Up")
        elsewhere.flush(GUARD)
        finish(server.endpoint)
        assert sorted(people(server)) == ["ann", "forgotten"]
        assert elsewhere._pipeline.is_running
        assert not tracker._pipeline.is_running
        tracker.event("carl", "Signed Up")
        assert tracker.flush(GUARD)
        assert len(server.targets) == 3
    finish(server.endpoint)
    left = lambda: {thread.name for thread in set(threading.enumerate()) - before}  # noqa: E731 - asked again
    eventually(lambda: not any(name.startswith("km_logging") for name in left()), "the end of the threads")


def test_finish_waits_no_longer_than_drain_timeout(capsys):
    """For a server that is not there."""
    with TrackingServer() as server:
        endpoint = server.endpoint
    with tracker_for(endpoint, drain_timeout=0.01) as tracker:
        tracker.event("bob", "Signed Up")
        finish(endpoint)
        assert tracker.stats().dropped == {"closed": 1}
    assert "1 call was not delivered" in capsys.readouterr().err


def test_it_needs_no_pytest(tmp_path: Path, server):
    """A process that could not even import pytest captures all the same."""
    ended = processes.run(
        tmp_path,
        """
        sys.modules["pytest"] = None
        from km_logging.testing import capture_calls
        with capture_calls() as calls, km.Tracker() as tracker:
            tracker.event("bob", "Signed Up", timestamp=1700000000)
        print(calls)
        """,
        server.endpoint,
    )
    assert ended.out == "[km.event('bob', 'Signed Up', timestamp=1700000000)]\n", ended.err
    assert server.targets == []
