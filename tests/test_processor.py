"""The front end for structlog: what it returns, what it sends, and the lines it writes for a replay."""

from __future__ import annotations

import copy
import datetime as dt
import io
import json
import math
import os
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import km_logging as km
from km_logging import wire
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict
from km_logging.telling import tell
from support.event_dicts import NOON, Plan, event_dicts
from support.servers import Reply, TrackingServer

#: No wait of these tests is longer; what takes so long hangs.
HANG = 30.0

MakeProcessor = Callable[..., km.KissmetricsProcessor]
EventDict = dict[str, Any]


@pytest.fixture
def key() -> str:
    """An API key of this test's own: front ends with equal settings share a tracker, and ports come again."""
    return uuid.uuid4().hex


@pytest.fixture
def make_processor(key: str, server: TrackingServer) -> Iterator[MakeProcessor]:
    """Makes processors for this test's key and server; closes them at the end."""
    made: list[km.KissmetricsProcessor] = []

    def make(**settings: object) -> km.KissmetricsProcessor:
        processor = km.KissmetricsProcessor(**{"api_key": key, "endpoint": server.endpoint, **settings})
        made.append(processor)
        return processor

    yield make
    for processor in made:
        processor.close()


@pytest.fixture(autouse=True)
def _clean_context() -> Iterator[None]:
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def logger_of(*chain: Callable[..., object]) -> tuple[Any, io.StringIO]:
    """A structlog logger with this chain and then JSON, and the text that it prints."""
    printed = io.StringIO()
    renderer = structlog.processors.JSONRenderer()
    return structlog.wrap_logger(structlog.PrintLogger(printed), processors=[*chain, renderer]), printed


def sent(server: TrackingServer) -> list[dict[str, str]]:
    """The parameters of every request but the keys."""
    queries = [dict(query) for query in server.queries]
    for query in queries:
        del query["_k"]
    return queries


# The event dict.


@pytest.mark.parametrize(
    "event_dict",
    [
        {"event": "no call", "plan": "pro"},
        {"event": "driven", "km": 12.5, "person": "bob"},
        {"event": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "tags": ["a"], "geo": {"lat": 1}},
        {"event": "Signed Up", **km.event("bob", plan="pro")},
        {"event": "Refused", "km": "event"},
        {"event": "Refused", "km": "no such call", "person": "bob"},
        {"event": "", **km.alias("bob", "bob@bob.com")},
        {"event": "Left out", "km": "event", "person": "bob", "long": "x" * 1000},
    ],
    ids=str,
)
def test_the_event_dict_returned_equals_the_one_that_came_and_renders_alike(event_dict, make_processor):
    processor = make_processor()
    came = copy.copy(event_dict)
    returned = processor(None, "info", event_dict)
    assert returned is event_dict
    assert returned == came
    assert list(returned) == list(came)
    for render in (structlog.processors.JSONRenderer(), structlog.processors.KeyValueRenderer()):
        assert render(None, "info", dict(returned)) == render(None, "info", dict(came))


def test_the_event_dict_returned_equals_the_one_that_came_though_its_tag_is_no_dict(make_processor, server):
    processor = make_processor()
    tag = types.MappingProxyType({"call": "event", "person": "bob"})
    assert processor(None, "info", {"event": "Signed Up", "km": tag}) == {"event": "Signed Up", "km": tag}
    assert processor.flush(HANG)
    assert [query["_p"] for query in sent(server)] == ["bob"]


def test_an_untagged_event_starts_no_thread(make_processor, server):
    processor = make_processor()
    before = set(threading.enumerate())
    for number in range(100):
        processor(None, "info", {"event": "no call", "person": "bob", "number": number})
        processor(None, "info", {"event": "no call", "person": "bob", "km": number})
    assert set(threading.enumerate()) <= before
    assert server.connections == 0
    assert processor.stats().accepted == 0


def test_what_later_processors_change_changes_nothing(make_processor, server):
    processor = make_processor()
    geo = {"city": "Rome"}
    event_dict = {"event": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "geo": geo}
    returned = processor(None, "info", event_dict)
    returned["plan"] = "free"
    returned["person"] = "eve"
    geo["city"] = "Oslo"
    del returned["km"]
    assert processor.flush(HANG)
    (query,) = sent(server)
    assert (query["_p"], query["plan"], query["geo.city"]) == ("bob", "pro", "Rome")


def test_every_field_of_the_flat_form_is_a_property_in_the_order_given(make_processor, server):
    processor = make_processor()
    event_dict = {
        "zip": "00100",
        "event": "not the name",
        "km": "event",
        "plan": "pro",
        "person": "bob",
        "_record": object(),
        "km_timestamp": NOON,
        "km_name": "Signed Up",
        "identity": "kept, since only an alias has one",
    }
    processor(None, "info", event_dict)
    server.wait(1)
    assert server.queries[0][1:] == [
        ("_p", "bob"),
        ("_n", "Signed Up"),
        ("zip", "00100"),
        ("plan", "pro"),
        ("identity", "kept, since only an alias has one"),
        ("_t", str(NOON)),
        ("_d", "1"),
    ]


def _crash() -> None:
    raise RuntimeError


def test_what_structlogs_own_processors_add_is_never_a_property(km_calls):
    """Every processor of structlog that adds something under a name of its own, in one chain."""
    processors = structlog.processors
    logger = types.SimpleNamespace(name="shop")
    callsite = {one for one in processors.CallsiteParameter if one.name != "QUAL_NAME" or sys.version_info >= (3, 11)}
    chain = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_log_level_number,
        processors.TimeStamper(fmt="iso"),
        processors.StackInfoRenderer(),
        processors.CallsiteParameterAdder(callsite),
        processors.format_exc_info,
        km.KissmetricsProcessor(),
    ]
    event_dict: EventDict = {"event": "Crashed", "km": "event", "person": "bob", "stack_info": True, "exc_info": True}
    try:
        _crash()
    except RuntimeError:
        for processor in chain:
            event_dict = processor(logger, "error", event_dict)
    added = {"logger", "level", "level_number", "timestamp", "stack", "exception", *(one.value for one in callsite)}
    assert set(event_dict) == {"event", "km", "person"} | added
    assert [(call.name, call.properties) for call in km_calls] == [("Crashed", {})]


def test_exc_info_that_no_processor_has_formatted_is_no_property_either(km_calls):
    log, _printed = logger_of(km.KissmetricsProcessor(), structlog.processors.format_exc_info)
    try:
        _crash()
    except RuntimeError:
        log.exception("Crashed", km="event", person="bob", stack_info=False)
    assert [(call.name, call.properties) for call in km_calls] == [("Crashed", {})]


def test_a_problem_with_strict_reaches_the_log_call(make_processor, server):
    processor = make_processor(strict=True)
    log, printed = logger_of(processor)
    with pytest.raises(km.ProblemError) as refusal:
        log.info("Signed Up", km="event")
    assert refusal.value.problem.kind == "no_person"
    assert printed.getvalue() == ""
    log.info("Signed Up", km="event", person="bob")
    assert processor.flush(HANG)
    assert len(server.targets) == 1


def test_off_mode_returns_the_event_dict_untouched_whatever_it_is_asked_for():
    processor = km.KissmetricsProcessor(mode="off", drop=True, annotate=True, strict=True)
    event_dict = {"event": "Signed Up", "km": "event"}
    assert processor(None, "info", event_dict) == {"event": "Signed Up", "km": "event"}
    assert type(event_dict["km"]) is str
    assert processor.stats().accepted == 0


def test_a_closed_processor_revives_at_the_next_event(make_processor, server):
    processor = make_processor()
    log, _printed = logger_of(processor)
    for number in range(1, 4):
        log.info("Signed Up", km="event", person=number)
        processor.close()
        assert len(server.targets) == number
    assert processor.stats().dropped == {}


@pytest.mark.parametrize("settings", [{"annotate": True}, {"drop": True}], ids=str)
def test_a_problem_reaches_on_problem_also_after_a_close(settings, make_processor, server):
    problems: list[km.Problem] = []
    processor = make_processor(on_problem=problems.append, **settings)
    log, _printed = logger_of(processor)
    log.info("Signed Up", km="event", person="bob")
    processor.close()
    log.info("Signed Up", km="event", person="")
    assert processor.flush(HANG)
    assert [problem.kind for problem in problems] == ["bad_person"]


class _Lazy:
    """Like a web framework's lazy user outside of a request: whatever is asked of it, even its class, it raises."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
def test_a_property_that_raises_whatever_is_asked_of_it_is_left_out_and_loses_nothing_else(
    form, make_processor, server
):
    processor = make_processor()
    forms = {
        "flat": {"km": "event", "person": "bob", "lazy": _Lazy(), "plan": "pro"},
        "nested": {"km": {"call": "event", "person": "bob", "properties": {"lazy": _Lazy(), "plan": "pro"}}},
        "helper": km.event("bob", lazy=_Lazy(), plan="pro"),
    }
    processor(None, "info", {"event": "Signed Up", **forms[form]})
    assert processor.flush(HANG)
    assert [query["plan"] for query in sent(server)] == ["pro"]
    assert processor.stats().refused == {"bad_value": 1}


@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
def test_a_person_that_raises_whatever_is_asked_of_it_is_no_person(form, make_processor, server):
    processor = make_processor()
    forms = {
        "flat": lambda: {"km": "event", "person": _Lazy()},
        "nested": lambda: {"km": {"call": "event", "person": _Lazy()}},
        "helper": lambda: km.event(_Lazy()),
    }
    processor(None, "info", {"event": "Signed Up", **forms[form]()})
    assert processor.flush(HANG)
    assert processor.stats().refused == {"bad_person": 1}
    assert server.targets == []


def test_two_processors_in_one_chain_make_one_call(make_processor, server):
    first, second = make_processor(), make_processor(exclude=["plan"])
    log, _printed = logger_of(first, second)
    log.info("Signed Up", km="event", person="bob", plan="pro")
    log.info("Signed In", **km.event("bob", plan="pro"))
    assert first.flush(HANG)
    assert second.flush(HANG)
    assert [query["plan"] for query in sent(server)] == ["pro", "pro"]
    assert second.stats().accepted == 0


def test_processor_and_handler_with_equal_settings_share_one_tracker_and_closing_one_leaves_the_other(
    make_processor, key, logger, server
):
    processor, handler = make_processor(), km.KissmetricsHandler(api_key=key, endpoint=server.endpoint)
    logger.addHandler(handler)
    log, _printed = logger_of(processor)
    log.info("Signed Up", km="event", person="bob")
    processor.close()
    before = set(threading.enumerate())
    logger.info("Signed In", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert {thread for thread in set(threading.enumerate()) - before if "listener" in thread.name} == set()
    assert handler.stats().delivered == processor.stats().delivered == 2


def test_a_logger_with_a_bound_call_makes_one_of_each_line(km_calls):
    log, _printed = logger_of(km.KissmetricsProcessor())
    bound = log.bind(**km.event("bob", plan="pro"))
    bound.info("Signed Up")
    bound.info("Signed In")
    flat = log.bind(km="event", person="eve")
    flat.info("Signed Up")
    flat.info("Signed In")
    calls = [(call.person, call.name) for call in km_calls]
    assert calls == [("bob", "Signed Up"), ("bob", "Signed In"), ("eve", "Signed Up"), ("eve", "Signed In")]


# Time.


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone of this process."""
    if not hasattr(time, "tzset"):
        pytest.skip("needs time.tzset()")
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


@pytest.mark.parametrize(
    "stamper",
    [
        {"fmt": None},
        {"fmt": "iso", "utc": True},
        {"fmt": "iso", "utc": False},
        {"fmt": "%Y-%m-%dT%H:%M:%S%z", "utc": True},
        {"fmt": "%Y-%m-%dT%H:%M:%S%z", "utc": False},
        {"fmt": "%Y-%m-%d %H:%M:%S", "utc": False},
        {"fmt": "%Y-%m-%d %H:%M:%S", "utc": True},
        {"fmt": "%Y-%m-%d", "utc": True},
        {"fmt": "%H:%M:%S", "utc": True},
        {"fmt": "%d.%m.%Y %H:%M:%S", "utc": False},
        {"fmt": "%Y%m%d%H%M%S", "utc": True},
        {"fmt": "%s"},
        {"fmt": "a word"},
        {"fmt": "iso", "key": "at"},
    ],
    ids=str,
)
def test_whatever_a_time_stamper_before_us_writes_the_call_is_told_the_time_it_happened(stamper, time_zone, km_calls):
    """To the second, in every time zone: a stamp that does not say so is worth less than the clock."""
    processor = km.KissmetricsProcessor(exclude=["at"])
    log, printed = logger_of(structlog.processors.TimeStamper(**stamper), processor)
    before = math.floor(time.time())
    log.info("Signed Up", km="event", person="bob")
    after = math.floor(time.time())
    [call] = km_calls
    assert before <= call.timestamp <= after, printed.getvalue()
    assert call.properties == {}


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2023-11-14T22:13:20Z", NOON),
        ("2023-11-14T22:13:20.999999Z", NOON),
        ("2023-11-14T22:13:20+00:00", NOON),
        ("2023-11-15T07:13:20+09:00", NOON),
        (NOON, NOON),
        (NOON + 0.999, NOON),
    ],
    ids=str,
)
def test_the_time_that_a_time_stamper_put_there_counts_not_the_moment_of_the_call(stamp, expected, time_zone, km_calls):
    log, _printed = logger_of(structlog.processors.MaybeTimeStamper(fmt="iso"), km.KissmetricsProcessor())
    log.info("Signed Up", km="event", person="bob", timestamp=stamp)
    assert [call.timestamp for call in km_calls] == [expected]


def test_a_local_iso_stamp_without_offset_is_local_time(time_zone, km_calls):
    log, _printed = logger_of(km.KissmetricsProcessor())
    stamp = dt.datetime.fromtimestamp(NOON).isoformat()  # noqa: DTZ006 - as TimeStamper(fmt="iso", utc=False) does
    log.info("Signed Up", km="event", person="bob", timestamp=stamp)
    assert [call.timestamp for call in km_calls] == [NOON]


def test_an_explicit_time_wins_over_a_time_stamper(km_calls):
    log, _printed = logger_of(structlog.processors.TimeStamper(fmt="iso"), km.KissmetricsProcessor())
    log.info("Signed Up", km="event", person="bob", km_timestamp=NOON)
    log.info("Signed Up", **km.event("bob", timestamp=NOON))
    assert [call.timestamp for call in km_calls] == [NOON, NOON]


@pytest.mark.parametrize("stamp", ["yesterday", "", None, True, [1], math.nan, math.inf, 10**400, "9" * 5000], ids=repr)
def test_a_stamp_that_is_no_time_is_passed_over(stamp, km_calls):
    log, _printed = logger_of(km.KissmetricsProcessor())
    before = math.floor(time.time())
    log.info("Signed Up", km="event", person="bob", timestamp=stamp)
    after = math.floor(time.time())
    [call] = km_calls
    assert before <= call.timestamp <= after
    assert km_calls.problems == []


# drop.


def test_drop_keeps_an_accepted_call_out_of_the_log(km_calls):
    log, printed = logger_of(km.KissmetricsProcessor(drop=True))
    log.info("Signed Up", km="event", person="bob")
    log.info("Signed In", **km.event("bob"))
    log.info("no call")
    log.info("driven", km=12.5)
    assert [json.loads(line)["event"] for line in printed.getvalue().splitlines()] == ["no call", "driven"]
    assert [call.name for call in km_calls] == ["Signed Up", "Signed In"]


def test_drop_raises_structlogs_drop_event(make_processor):
    with pytest.raises(structlog.DropEvent):
        make_processor(drop=True)(None, "info", {"event": "Signed Up", "km": "event", "person": "bob"})


def test_drop_lets_a_refused_call_pass_through(make_processor):
    processor = make_processor(drop=True)
    log, printed = logger_of(processor)
    log.info("Nobody's", km="event")
    log.info("Unknown", km="no such call", person="bob")
    log.info("Left out", km="event", person="bob", bad=math.nan)
    assert [json.loads(line)["event"] for line in printed.getvalue().splitlines()] == ["Nobody's", "Unknown"]
    assert processor.stats().refused == {"no_person": 1, "unknown_call": 1, "bad_value": 1}


def test_drop_lets_a_call_pass_through_that_another_front_end_took(make_processor, server):
    """It was accepted, but not by this one; the log is the wrong place to lose something in doubt."""
    first, second = make_processor(), make_processor(drop=True)
    log, printed = logger_of(first, second)
    log.info("Signed Up", km="event", person="bob")
    assert first.flush(HANG)
    assert len(printed.getvalue().splitlines()) == 1
    assert len(server.targets) == 1


def test_drop_lets_a_call_pass_through_for_which_there_is_no_room(key):
    """Accepted means taken: what is dropped on the spot still appears in the log."""
    gate = threading.Event()

    def reply(_number: int, _target: str) -> Reply:
        gate.wait(HANG)
        return Reply()

    with TrackingServer(reply) as server:
        processor = km.KissmetricsProcessor(drop=True, api_key=key, endpoint=server.endpoint, capacity=2)
        log, printed = logger_of(processor)
        for number in range(4):
            log.info("Signed Up", km="event", person=number)
        assert [json.loads(line)["person"] for line in printed.getvalue().splitlines()] == [2, 3]
        gate.set()
        assert processor.flush(HANG)
        assert processor.stats().dropped == {"overflow": 2}
        processor.close()


# annotate.

#: When the lines are read again: long after, so that no time can come from the clock.
REPLAYED_AT = 1_900_000_000.0


def read_again(line: str, rules: Rules) -> tuple[km.Call | None, tuple[km.Problem, ...]]:
    """What tagging makes of a rendered line, in a process that knows nothing of the first one."""
    told = tell(from_event_dict(json.loads(line), rules, None, dict, REPLAYED_AT), rules)
    return told.call, told.problems


def assert_reads_as(call: km.Call, line: str, rules: Rules) -> None:
    """Compared by what is sent: an alias's time is not, and the order of properties means nothing."""
    again, problems = read_again(line, rules)
    assert again is not None, line
    assert wire.decode(wire.encode(again)) == wire.decode(wire.encode(call)), line
    assert problems == ()


class _Told:
    """A tracker that tells no server; the calls it told, and a processor that annotates."""

    def __init__(self, **given: object) -> None:
        self.calls: list[km.Call] = []
        self.given = {"api_key": "key", "endpoint": "http://127.0.0.1:9", **given}
        self.tracker = km.Tracker(before_send=self._withhold, **self.given)
        self.rules = Rules(Settings.resolve(self.given, {}))
        self.processor = km.KissmetricsProcessor(tracker=self.tracker, annotate=True)

    def _withhold(self, call: km.Call) -> None:
        self.calls.append(call)

    def log(self, event_dict: EventDict, *before: Callable[..., EventDict]) -> tuple[km.Call | None, str, EventDict]:
        """The call, the line that is rendered, and the annotated event dict."""
        self.calls.clear()
        for processor in [*before, self.processor]:
            event_dict = processor(None, "info", event_dict)
        assert self.tracker.flush(HANG)
        line = structlog.processors.JSONRenderer()(None, "info", dict(event_dict))
        assert isinstance(line, str)
        return (self.calls[0] if self.calls else None), line, event_dict

    def assert_reads_again(self, event_dict: EventDict, *before: Callable[..., EventDict]) -> None:
        call, line, _ = self.log(event_dict, *before)
        assert call is not None
        assert_reads_as(call, line, self.rules)


@pytest.fixture
def told() -> Iterator[Callable[..., _Told]]:
    made: list[_Told] = []

    def make(**given: object) -> _Told:
        made.append(_Told(**given))
        return made[-1]

    yield make
    for one in made:
        one.tracker.close()


def test_annotate_writes_person_time_and_converted_values(told):
    event_dict = {
        "event": "Signed Up",
        "km": "event",
        "seats": 5,
        "price": Decimal("12.50"),
        "since": dt.date(2024, 2, 29),
        "tags": ["a", "b"],
        "paid": True,
        "nothing": None,
        "timestamp": "2023-11-14T22:13:20.500000Z",
    }
    with km.identify(uuid.UUID(int=5)):
        _call, line, annotated = told().log(event_dict)
    assert annotated["person"] == "00000000-0000-0000-0000-000000000005"
    assert annotated["km_timestamp"] == NOON
    converted = {"seats": "5", "price": "12.50", "since": "2024-02-29", "tags": "a, b", "paid": "true"}
    assert annotated.items() >= converted.items()
    assert annotated["event"] == "Signed Up"
    assert annotated["nothing"] is None
    assert json.loads(line)["price"] == "12.50"


def test_annotate_writes_the_person_under_person_field(told):
    with km.identify("bob"):
        _call, _line, annotated = told(person_field="user_id").log({"event": "Signed Up", "km": "event"})
    assert annotated["user_id"] == "bob"
    assert "person" not in annotated


def test_what_the_settings_withheld_stays_withheld_whoever_reads_the_line(told):
    """The line holds it, but a reader who does not know `include` must not take it for a part of the call."""
    for withholding in ({"include": ["plan"]}, {"exclude": ["pw"]}, {"value_limit": 5}):
        call, line, _annotated = told(**withholding).log({**EVENT, "plan": "pro", "pw": "hunter2"})
        assert call is not None
        assert call.properties == {"plan": "pro"}
        assert_reads_as(call, line, Rules(Settings.resolve({"api_key": "key"}, {})))


def test_annotate_leaves_alone_what_is_no_call_or_is_refused(told):
    one = told()
    for event_dict in (
        {"event": "no call", "seats": 5},
        {"event": "driven", "km": 12.5, "person": "bob"},
        {"event": "Nobody's", "km": "event", "seats": 5},
    ):
        came = dict(event_dict)
        call, _line, annotated = one.log(event_dict)
        assert call is None
        assert annotated == came
        assert list(annotated) == list(came)


BOUND = {"request_id": "r-1", "path": "/signup"}

EVENT: EventDict = {"event": "Signed Up", "km": "event", "person": "bob"}
SET: EventDict = {"event": "Profile saved", "km": "set", "person": 7}
MEMBERS = {"a": Plan.PRO, "b": {"x", "y"}, "c": b"c", "d": dt.date(2024, 2, 29), "e": uuid.UUID(int=1), "f": None}
LOCAL_NOON = dt.datetime.fromtimestamp(NOON + 0.5)  # noqa: DTZ006 - a naive one is local

FORMS: dict[str, EventDict] = {
    "flat": {**EVENT, "plan": "pro"},
    "flat, explicit": {**EVENT, "km_name": "Signed In", "km_timestamp": NOON + 0.5},
    "flat, a datetime": {**SET, "km_timestamp": LOCAL_NOON},
    "flat, values": {**SET, "v": 5.0, "w": [1, 2], "x": {"b"}, "y": b"y", "z": Plan.PRO},
    "flat, a mapping": {**SET, "geo": {"city": "Rome", "at": {"lat": 41.9}}},
    "flat, a mapping of values": {**SET, "geo": {"size": Decimal("1.50")}},
    "flat, a mapping of more values": {**SET, "m": MEMBERS},
    "flat, keys that are numbers": {**SET, "m": {1: "a", 2: {3: "b"}}},
    "flat, an alias": {"event": "x", "km": "alias", "person": uuid.UUID(int=1), "identity": uuid.UUID(int=2)},
    "flat, an event's identity": {**EVENT, "identity": uuid.UUID(int=2)},
    "nested": {"event": "Signed Up", "km": {"call": "event", "person": "bob", "properties": {"plan": "pro"}}},
    "nested, person outside": {"event": "Signed Up", "km": {"call": "event"}, "person": "bob"},
    "nested, a time": {"event": "", "km": {"call": "set", "person": "bob", "timestamp": NOON + 0.5}},
    "nested, values": {"event": "", "km": {"call": "set", "person": 5, "properties": {"m": MEMBERS, **MEMBERS}}},
    "helper": {"event": "Signed Up", **km.event("bob", plan="pro")},
    "helper, a name": {"event": "x", **km.event("bob", "Signed Up", timestamp=NOON)},
    "helper, values": {"event": "x", **km.set("bob", price=Decimal("1.50"), geo={"city": "Rome"}, tags=["a", "b"])},
    "helper, an alias": {"event": "x", **km.alias(5, uuid.UUID(int=2))},
    "untellable values": {**EVENT, "bad": math.nan, "o": object(), "plan": "pro"},
    "untellable members": {**EVENT, "m": {"bad": math.inf, "good": 1}, "_private": 1},
    "a long value": {**EVENT, "long": "x" * 513, "plan": "pro"},
    "reserved names": {"event": "x", "km": {"call": "set", "person": "bob", "properties": {"_k": "x", "plan": "pro"}}},
    "no room": {**SET, **{f"v{number:02}": "ü" * 200 for number in range(10)}},
}


STAMPERS = [None, {"fmt": "iso"}, {"fmt": "iso", "utc": False}, {"fmt": None}, {"fmt": "%H:%M"}]


@pytest.mark.parametrize("stamper", STAMPERS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_an_annotated_line_reads_again_as_the_very_same_call(form, stamper, told):
    """Whatever form it has, with the same settings, by somebody who has neither the context nor the clock."""
    before = [] if stamper is None else [structlog.processors.TimeStamper(**stamper)]
    with km.identify("eve"):
        told().assert_reads_again(copy.deepcopy(FORMS[form]), *before)


@pytest.mark.parametrize(
    "given",
    [
        {"include": ["plan", "geo"]},
        {"include": []},
        {"exclude": ["plan"]},
        {"properties": {"environment": "test", "plan": "free", "path": "/"}},
        {"tag": "track", "person_field": "user_id"},
        {"value_limit": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", FORMS)
def test_an_annotated_line_reads_again_alike_with_other_settings(form, given, told):
    renamed = {"km": given.get("tag", "km"), "person": given.get("person_field", "person")}
    event_dict = {renamed.get(name, name): value for name, value in copy.deepcopy(FORMS[form]).items()}
    told(**given).assert_reads_again(event_dict)


@pytest.mark.parametrize("form", FORMS)
def test_an_annotated_line_reads_again_alike_without_what_contextvars_had_bound(form, told):
    """Bound values stand in the line, but were no properties, and must not become some."""
    with structlog.contextvars.bound_contextvars(**BOUND, plan=object()):
        event_dict = copy.deepcopy(FORMS[form])
        one = told()
        call, line, annotated = one.log(event_dict, structlog.contextvars.merge_contextvars)
        assert call is not None
        assert not set(BOUND) & set(call.properties)
        assert annotated["request_id"] == "r-1"
    assert_reads_as(call, line, one.rules)


@pytest.fixture(scope="module")
def long_lived() -> Iterator[_Told]:
    one = _Told(properties={"plan": "free"}, exclude=["geo.city"])
    yield one
    one.tracker.close()


@given(event_dict=event_dicts(), is_bound=st.booleans())
@example(event_dict={"event": "x", "km": "set", "person": "bob", "geo": {"size": Decimal("1.5")}}, is_bound=False)
@example(event_dict={"event": "x", **km.event("bob")}, is_bound=False)
@example(
    event_dict={"event": "x", "km": "set", "person": "bob", "geo": {"on": dt.date(2000, 1, 1)}, "plan": None},
    is_bound=False,
)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_annotated_line_reads_again_as_the_very_same_call(long_lived, event_dict, is_bound):
    """A property test of all of the above; who is identified, and what is bound, is gone when the line is read."""
    before = [structlog.contextvars.merge_contextvars] if is_bound else []
    bound = {"request_id": "r-1", "plan": "bound", "geo": {"city": "Rome"}} if is_bound else {}
    with structlog.contextvars.bound_contextvars(**bound), km.identify("eve"):
        call, line, _ = long_lived.log(event_dict, *before)
    assert call is not None
    assert_reads_as(call, line, long_lived.rules)


def test_annotate_and_drop_together_drop_what_is_accepted(make_processor, server):
    processor = make_processor(drop=True, annotate=True)
    log, printed = logger_of(processor)
    log.info("Signed Up", km="event", person="bob")
    log.info("Nobody's", km="event")
    assert [json.loads(line)["event"] for line in printed.getvalue().splitlines()] == ["Nobody's"]
    server.wait(1)
