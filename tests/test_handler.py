"""The front end for the standard library's logging, from the log call to the request that a real server receives."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import enum
import io
import itertools
import json
import logging
import logging.handlers
import os
import pathlib
import queue
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
import requests
import requests.adapters
import requests.auth
import structlog

import km_logging as km
from support.ids import shown
from support.servers import Reply, TrackingServer, refused

NOON = 1_700_000_000

#: No wait of these tests is longer; what takes so long hangs.
HANG = 30.0

MakeHandler = Callable[..., km.KissmetricsHandler]


@pytest.fixture
def key() -> str:
    """An API key of this test's own: front ends with equal settings share a tracker, and ports come again."""
    return uuid.uuid4().hex


@pytest.fixture
def make_handler(key: str, request: pytest.FixtureRequest) -> Iterator[MakeHandler]:
    """Makes handlers for this test's key and, if the test has one, for its server; closes them at the end."""
    made: list[km.KissmetricsHandler] = []

    def make(**settings: object) -> km.KissmetricsHandler:
        if "server" in request.fixturenames and "endpoint" not in settings:
            settings["endpoint"] = request.getfixturevalue("server").endpoint
        handler = km.KissmetricsHandler(**{"api_key": key, **settings})
        made.append(handler)
        return handler

    yield make
    for handler in made:
        handler.close()


@pytest.fixture
def handler(make_handler: MakeHandler, logger: logging.Logger, server: TrackingServer) -> km.KissmetricsHandler:
    """A handler on this test's logger that sends to this test's server."""
    handler = make_handler()
    logger.addHandler(handler)
    return handler


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something to wait at; open at the end of the test, whatever happens."""
    gate = threading.Event()
    yield gate
    gate.set()


def params(target: str) -> dict[str, str]:
    """The parameters of a request but the key."""
    prepared = requests.utils.urlparse(target)
    pairs = dict(requests.compat.unquote(pair.replace("+", " ")).split("=", 1) for pair in prepared.query.split("&"))
    del pairs["_k"]
    return pairs


def run(code: str, **variables: str) -> str:
    """What a fresh Python prints that runs this code with warnings as errors."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KM_")} | variables
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Records that are no calls.


def test_untagged_records_start_no_thread(handler, logger, server):
    before = set(threading.enumerate())
    for number in range(100):
        logger.info("order %s placed", number, extra={"person": "bob", "plan": "pro"})
    assert set(threading.enumerate()) <= before
    assert server.connections == 0
    assert handler.stats().accepted == 0


def test_a_fresh_process_loads_neither_requests_nor_structlog_for_records_that_are_no_calls():
    """Also opens no file and no socket, and starts no thread."""
    loaded = run("""
        import json, logging, sys, threading
        heavy = {"requests", "urllib3", "structlog", "sqlite3", "fcntl"} - set(sys.modules)  # coverage has some
        import km_logging as km
        after_import = [name for name in heavy if name in sys.modules]
        opened = []
        watched = {"open", "socket"}
        sys.addaudithook(lambda event, args: opened.append(event) if event.split(".")[0] in watched else None)
        handler = km.KissmetricsHandler(api_key="key")
        logger = logging.getLogger("shop")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        for number in range(100):
            logger.info("order %s placed", number, extra={"person": "bob"})
            logger.info({"order": number})
        after_records = [name for name in heavy if name in sys.modules]
        print(json.dumps([after_import, after_records, opened, threading.active_count()]))
    """)
    assert json.loads(loaded) == [[], [], [], 1]


def test_the_first_tagged_record_starts_the_threads(handler, logger, server):
    """The opposite of the tests above, so that they prove something."""
    before = set(threading.enumerate())
    logger.info("Signed Up", extra=km.event("bob"))
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert any(name.startswith("km_logging") for name in started)
    server.wait(1)


@pytest.mark.parametrize("value", [12.5, 42, True, None, ["event"], ("event",), object()], ids=shown)
def test_a_field_km_that_is_neither_text_nor_a_mapping_passes_by(value, handler, logger, server):
    logger.info("driven", extra={"km": value, "person": "bob"})
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert [params(target)["_n"] for target in server.targets] == ["Signed Up"]
    assert handler.stats().refused == {}


def test_a_dict_as_the_message_that_is_not_tagged_passes_by(handler, logger, server):
    logger.info({"event": "Signed Up", "person": "bob"})
    logger.info({"event": "Signed Up", "person": "bob", "km": 12.5})
    assert handler.flush(HANG)
    assert handler.stats() == replace(handler.stats(), accepted=0, refused={})
    assert server.targets == []


# How a call is written.


def test_every_field_of_the_flat_form_is_a_property_in_the_order_given(handler, logger, server):
    extra = {
        "zip": "00100",
        "km": "event",
        "plan": "pro",
        "person": "bob",
        "_secret": 1,
        "km_timestamp": NOON,
        "km_name": "Signed Up",
        "identity": "kept, since only an alias has one",
        "amount": 5.0,
    }
    logger.info("not the name", extra=extra)
    server.wait(1)
    assert server.queries[0][1:] == [
        ("_p", "bob"),
        ("_n", "Signed Up"),
        ("zip", "00100"),
        ("plan", "pro"),
        ("identity", "kept, since only an alias has one"),
        ("amount", "5.0"),
        ("_t", str(NOON)),
        ("_d", "1"),
    ]


def test_no_attribute_of_the_record_is_ever_a_property(handler, logger, server):
    """Not even those that formatters and exceptions add before this handler sees the record."""
    early = logging.StreamHandler(io.StringIO())
    early.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.handlers.insert(0, early)
    try:
        _raise(RuntimeError())()
    except RuntimeError:
        logger.exception("Crashed", extra={"km": "event", "person": "bob"}, stack_info=True)
    server.wait(1)
    assert set(params(server.targets[0])) == {"_p", "_n", "_t", "_d"}


def test_the_name_is_the_message_not_formatted(handler, logger, server):
    logger.info("Order %s placed", 8123, extra={"km": "event", "person": "bob"})
    logger.info("Order %(number)s placed", {"number": 8123}, extra=km.event("bob"))
    server.wait(2)
    assert {params(target)["_n"] for target in server.targets} == {"Order %s placed", "Order %(number)s placed"}


def test_an_explicit_name_wins_over_the_message(handler, logger, server):
    logger.info("bob has signed up", extra=km.event("bob", "Signed Up", name="an ordinary property"))
    server.wait(1)
    assert params(server.targets[0])["_n"] == "Signed Up"
    assert params(server.targets[0])["name"] == "an ordinary property"


class Color(enum.Enum):
    """An enum whose members have text as their value."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("as it is & so", {"v": "as it is & so"}),
        ("", {"v": ""}),
        ("żółć 🎉", {"v": "żółć 🎉"}),
        (True, {"v": "true"}),
        (False, {"v": "false"}),
        (0, {"v": "0"}),
        (5.0, {"v": "5.0"}),
        (1e22, {"v": "10000000000000000000000"}),
        (1e-7, {"v": "0.0000001"}),
        (Decimal("12.50"), {"v": "12.50"}),
        (Decimal("1E+3"), {"v": "1000"}),
        (dt.date(2024, 2, 29), {"v": "2024-02-29"}),
        (dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc), {"v": "2024-02-29T12:00:00+00:00"}),
        (Color.RED, {"v": "red"}),
        (uuid.UUID(int=5), {"v": "00000000-0000-0000-0000-000000000005"}),
        (pathlib.PurePosixPath("/a/b"), {"v": "/a/b"}),
        ("ü".encode(), {"v": "ü"}),
        ({"city": "Rome", "geo": {"lat": 41.9}}, {"v.city": "Rome", "v.geo.lat": "41.9"}),
        (["a", 1, True], {"v": "a, 1, true"}),
        (("a", "b"), {"v": "a, b"}),
        pytest.param({"b", "a", "c"}, {"v": "a, b, c"}, id="a set"),
        (None, {}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
def test_a_value_is_told_by_the_rules_in_every_form(form, value, expected, handler, logger, server):
    forms = {
        "flat": {"km": "event", "person": "bob", "v": value},
        "nested": {"km": {"call": "event", "person": "bob", "properties": {"v": value}}},
        "helper": km.event("bob", v=value),
    }
    logger.info("Signed Up", extra=forms[form])
    server.wait(1)
    assert {name: text for name, text in params(server.targets[0]).items() if name[0] == "v"} == expected
    assert handler.stats().refused == {}


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (NOON, NOON),
        (NOON + 0.999, NOON),
        (dt.datetime.fromtimestamp(NOON, dt.timezone.utc), NOON),
        (dt.datetime.fromtimestamp(NOON, dt.timezone(dt.timedelta(hours=-7))), NOON),
        (dt.datetime.fromtimestamp(NOON), NOON),  # noqa: DTZ006 - a naive one is local
        (1_230_768_000, 1_230_768_000),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
def test_an_explicit_time_is_rounded_down_to_a_second(form, timestamp, expected, handler, logger, server):
    forms = {
        "flat": {"km": "set", "person": "bob", "km_timestamp": timestamp},
        "nested": {"km": {"call": "set", "person": "bob", "timestamp": timestamp}},
        "helper": km.set("bob", timestamp=timestamp),
    }
    logger.info("", extra=forms[form])
    server.wait(1)
    assert params(server.targets[0]) == {"_p": "bob", "_t": str(expected), "_d": "1"}


def test_without_a_time_the_moment_of_logging_counts_not_that_of_sending(handler, logger, server):
    """As for a record that was kept in a QueueHandler for long."""
    record = logger.makeRecord(logger.name, logging.INFO, "f", 1, "Signed Up", (), None, extra=km.event("bob"))
    record.created = NOON + 0.75
    logger.handle(record)
    server.wait(1)
    assert params(server.targets[0])["_t"] == str(NOON)


@pytest.mark.parametrize(
    ("person", "expected"),
    [("bob", "bob"), (0, "0"), (12345, "12345"), (uuid.UUID(int=5), str(uuid.UUID(int=5))), ("x" * 255, "x" * 255)],
    ids=repr,
)
@pytest.mark.parametrize("form", ["flat", "nested", "helper", "identified"])
def test_a_person_is_text_or_a_number_or_a_uuid(form, person, expected, handler, logger, server):
    forms = {
        "flat": {"km": "event", "person": person},
        "nested": {"km": {"call": "event", "person": person}},
        "helper": km.event(person),
        "identified": {"km": "event"},
    }
    with km.identify(person if form == "identified" else "somebody else"):
        logger.info("Signed Up", extra=forms[form])
    server.wait(1)
    assert params(server.targets[0])["_p"] == expected


def test_an_alias_carries_neither_time_nor_properties(handler, logger, server):
    extra = {"km": "alias", "person": "bob", "identity": "bob@bob.com", "plan": "pro", "km_timestamp": NOON}
    logger.info("Accounts linked", extra=extra)
    server.wait(1)
    assert params(server.targets[0]) == {"_p": "bob", "_n": "bob@bob.com"}
    assert server.targets[0].startswith("/a?_k=")


def test_one_result_of_a_helper_logged_twice_is_two_calls(handler, logger, server):
    signed_up = km.event("bob", plan="pro")
    logger.info("Signed Up", extra=signed_up)
    logger.info("Signed Up again", extra=signed_up)
    assert handler.flush(HANG)
    assert sorted(params(target)["_n"] for target in server.targets) == ["Signed Up", "Signed Up again"]
    assert signed_up == {"km": {"call": "event", "person": "bob", "properties": {"plan": "pro"}}}


def test_a_logger_adapter_can_carry_the_whole_call(handler, logger, server):
    adapter = logging.LoggerAdapter(logger, {"km": "event", "person": "bob"})
    adapter.info("Signed Up")
    adapter.info("Signed In")
    assert handler.flush(HANG)
    assert sorted(params(target)["_n"] for target in server.targets) == ["Signed In", "Signed Up"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="merge_extra came with Python 3.13")
def test_a_logger_adapter_with_merge_extra_adds_the_person(handler, logger, server):
    adapter = logging.LoggerAdapter(logger, {"person": "bob"}, merge_extra=True)
    adapter.info("Signed Up", extra={"km": "event", "plan": "pro"})
    adapter.info("Signed In", extra=km.event(plan="pro"))
    assert handler.flush(HANG)
    assert {params(target)["_p"] for target in server.targets} == {"bob"}
    assert {params(target)["plan"] for target in server.targets} == {"pro"}
    assert len(server.targets) == 2


# What changes later changes nothing.


@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
def test_what_the_caller_changes_after_the_log_call_changes_nothing(form, make_handler, logger, server, gate):
    """The listener is held up meanwhile, so it cannot have looked before."""
    held = threading.Event()

    def before_send(call: km.Call) -> km.Call:
        held.set()
        gate.wait(HANG)
        return call

    handler = make_handler(before_send=before_send)
    logger.addHandler(handler)
    logger.info("First", extra=km.event("eve"))
    assert held.wait(HANG)
    tags, address, items = ["a", "b"], {"city": "Rome", "geo": {"lat": 1}}, {"x"}
    properties = {"tags": tags, "address": address, "items": items}
    extra = {
        "flat": {"km": "event", "person": "bob", **properties},
        "nested": {"km": {"call": "event", "person": "bob", "properties": properties}},
        "helper": km.event("bob", properties=properties),
    }[form]
    logger.info("Signed Up", extra=extra)
    tags.append("c")
    address["city"] = "Oslo"
    address["geo"]["lat"] = 2
    items.add("y")
    properties["late"] = "x"
    if isinstance(extra["km"], dict):
        extra["km"]["person"] = "eve"
        extra["km"]["properties"]["late"] = "y"
    extra["person"] = "eve"
    gate.set()
    (sent,) = [params(target) for target in server.wait(2) if params(target)["_n"] == "Signed Up"]
    del sent["_t"], sent["_d"]
    expected = {"tags": "a, b", "address.city": "Rome", "address.geo.lat": "1", "items": "x"}
    assert sent == {"_p": "bob", "_n": "Signed Up", **expected}


# Who is acting.


def test_identify_nests_and_none_hides_the_outer_person(handler, logger, server):
    with km.identify("bob"):
        logger.info("First", extra=km.event())
        with km.identify("eve"):
            logger.info("Second", extra=km.event())
            with km.identify(None):
                logger.info("Nobody's", extra=km.event())
        logger.info("Third", extra={"km": "event"})
        logger.info("Fourth", extra=km.event("ann"))
    logger.info("Nobody's either", extra=km.event())
    assert handler.flush(HANG)
    persons = {params(target)["_n"]: params(target)["_p"] for target in server.targets}
    assert persons == {"First": "bob", "Second": "eve", "Third": "bob", "Fourth": "ann"}
    assert handler.stats().refused == {"no_person": 2}


def test_threads_do_not_see_each_others_person(handler, logger, server):
    both_identified = threading.Barrier(2, timeout=HANG)

    def act(person: str) -> None:
        with km.identify(person):
            both_identified.wait()
            logger.info("Acted", extra=km.event(expected=person))

    threads = [threading.Thread(target=act, args=(person,)) for person in ("bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert handler.flush(HANG)
    assert {params(target)["_p"] for target in server.targets} == {"bob", "eve"}
    assert all(params(target)["_p"] == params(target)["expected"] for target in server.targets)


def test_asyncio_tasks_do_not_see_each_others_person(handler, logger, server):
    async def act(person: str, mine: asyncio.Event, others: asyncio.Event) -> None:
        with km.identify(person):
            mine.set()
            await others.wait()
            logger.info("Acted", extra=km.event(expected=person))

    async def main() -> None:
        bob, eve = asyncio.Event(), asyncio.Event()
        await asyncio.gather(act("bob", bob, eve), act("eve", eve, bob))

    asyncio.run(main())
    assert handler.flush(HANG)
    assert {params(target)["_p"] for target in server.targets} == {"bob", "eve"}
    assert all(params(target)["_p"] == params(target)["expected"] for target in server.targets)


def test_aflush_waits_without_blocking_the_event_loop(make_handler, logger, gate):
    """The answer is let go by the event loop itself, which a blocking flush would not let run."""

    def reply(_number: int, _target: str) -> Reply:
        gate.wait(HANG)
        return Reply()

    with TrackingServer(reply) as server:
        handler = make_handler(endpoint=server.endpoint)
        logger.addHandler(handler)

        async def main() -> bool:
            logger.info("Signed Up", extra=km.event("bob"))
            asyncio.get_running_loop().call_soon(gate.set)
            return await handler.aflush(HANG)

        assert asyncio.run(main())
        assert handler.stats().delivered == 1


# The settings that say what is told.


def test_person_field_renames_the_field_of_the_person(make_handler, logger, server):
    logger.addHandler(make_handler(person_field="user_id"))
    logger.info("Signed Up", extra={"km": "event", "user_id": 7, "person": "an ordinary property"})
    logger.info("Signed In", extra={**km.event(plan="pro"), "user_id": 7})
    server.wait(2)
    sent = {params(target)["_n"]: params(target) for target in server.targets}
    assert sent["Signed Up"]["_p"] == sent["Signed In"]["_p"] == "7"
    assert sent["Signed Up"]["person"] == "an ordinary property"
    assert "user_id" not in sent["Signed Up"]


def test_tag_renames_the_field_that_tags(make_handler, logger, server):
    handler = make_handler(tag="track")
    logger.addHandler(handler)
    logger.info("Signed Up", extra={"track": "event", "person": "bob", "km": 12.5})
    logger.info("Signed In", extra={"km": "event", "person": "bob"})
    assert handler.flush(HANG)
    (target,) = server.targets
    assert params(target)["_n"] == "Signed Up"
    assert params(target)["km"] == "12.5"


@pytest.mark.parametrize("form", ["flat", "nested", "helper"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"exclude": ["request", "address.zip"]}, {"plan": "pro", "address.city": "Rome"}),
        ({"exclude": ["address"]}, {"plan": "pro", "request": "GET"}),
        ({"include": ["plan"]}, {"plan": "pro"}),
        ({"include": ["address.city", "plan"], "exclude": ["plan"]}, {"address.city": "Rome"}),
        ({"include": []}, {}),
    ],
    ids=str,
)
def test_include_and_exclude_choose_the_properties(form, settings, expected, make_handler, logger, server):
    logger.addHandler(make_handler(**settings))
    properties = {"plan": "pro", "request": "GET", "address": {"city": "Rome", "zip": "00100"}}
    forms = {
        "flat": {"km": "set", "person": "bob", **properties},
        "nested": {"km": {"call": "set", "person": "bob", "properties": properties}},
        "helper": km.set("bob", properties=properties),
    }
    logger.info("", extra=forms[form])
    server.wait(1)
    sent = params(server.targets[0])
    del sent["_p"], sent["_t"], sent["_d"]
    assert sent == expected


@pytest.mark.parametrize("settings", [{"include": ["plan"]}, {"exclude": ["identity"]}, {"include": []}], ids=str)
def test_include_and_exclude_are_about_properties_so_a_flat_alias_keeps_its_identity(
    settings, make_handler, logger, server
):
    """The other identity of an alias is no property: only properties are chosen by these two."""
    handler = make_handler(**settings)
    logger.addHandler(handler)
    logger.info("Accounts linked", extra={"km": "alias", "person": "bob", "identity": "bob@bob.com"})
    assert handler.flush(HANG)
    assert handler.stats().refused == {}
    assert [params(target) for target in server.targets] == [{"_p": "bob", "_n": "bob@bob.com"}]


def test_value_limit_is_about_properties_so_a_flat_alias_keeps_its_identity(make_handler, logger, server):
    handler = make_handler(value_limit=10)
    logger.addHandler(handler)
    logger.info("Accounts linked", extra={"km": "alias", "person": uuid.UUID(int=1), "identity": uuid.UUID(int=2)})
    assert handler.flush(HANG)
    assert handler.stats().refused == {}
    assert [params(target)["_n"] for target in server.targets] == [str(uuid.UUID(int=2))]


def test_properties_are_carried_by_every_event_and_set_but_win_over_nothing(make_handler, logger, server):
    handler = make_handler(properties={"environment": "test", "plan": "free", "build": {"number": 7}})
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob", plan="pro"))
    logger.info("", extra={"km": "set", "person": "bob"})
    logger.info("", extra=km.alias("bob", "eve"))
    assert handler.flush(HANG)
    sent = {target.partition("?")[0]: params(target) for target in server.targets}
    assert sent["/e"].items() >= {"environment": "test", "plan": "pro", "build.number": "7"}.items()
    assert sent["/s"].items() >= {"environment": "test", "plan": "free", "build.number": "7"}.items()
    assert sent["/a"] == {"_p": "bob", "_n": "eve"}


def test_value_limit_leaves_longer_values_out_and_lets_longer_ones_in(make_handler, logger, server):
    handler = make_handler(value_limit=600)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob", fits="x" * 600, does_not="x" * 601))
    assert handler.flush(HANG)
    assert params(server.targets[0])["fits"] == "x" * 600
    assert "does_not" not in params(server.targets[0])
    assert handler.stats().refused == {"long_value": 1}


# Level and filters.


def test_the_level_of_the_handler_is_respected(make_handler, logger, server):
    handler = make_handler(level="WARNING")
    logger.addHandler(handler)
    logger.info("Below", extra=km.event("bob"))
    logger.warning("At", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert [params(target)["_n"] for target in server.targets] == ["At"]


def test_a_filter_of_the_handler_keeps_records_out_and_may_add_the_person(handler, logger, server):
    def only_signups(record: logging.LogRecord) -> bool:
        record.person = "bob"
        return "Signed Up" in record.getMessage()

    handler.addFilter(only_signups)
    logger.info("Signed In", extra={"km": "event"})
    logger.info("Signed Up", extra={"km": "event"})
    assert handler.flush(HANG)
    assert [(params(target)["_n"], params(target)["_p"]) for target in server.targets] == [("Signed Up", "bob")]
    assert handler.stats().accepted == 1


def test_a_filter_of_the_handler_may_tag_a_record(handler, logger, server):
    """As the logging cookbook imparts context: what a filter adds, the handler sees."""

    def tagging(record: logging.LogRecord) -> bool:
        if record.msg == "user_signed_up":
            record.km = km.event("bob", "Signed Up")["km"]
        return True

    handler.addFilter(tagging)
    logger.info("user_signed_up")
    assert handler.flush(HANG)
    assert [params(target)["_n"] for target in server.targets] == ["Signed Up"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters may replace a record from Python 3.12 on")
def test_a_filter_of_the_handler_may_replace_the_record(handler, logger, server):
    def redacting(record: logging.LogRecord) -> logging.LogRecord:
        redacted = copy.copy(record)
        redacted.email = "***"
        return redacted

    handler.addFilter(redacting)
    logger.info("Signed Up", extra={"km": "event", "person": "bob", "email": "bob@bob.com"})
    assert handler.flush(HANG)
    assert [params(target)["email"] for target in server.targets] == ["***"]


def test_a_filter_that_raises_reaches_the_caller_as_with_every_handler(handler, logger):
    """`logging` lets a filter's exception through; that is the application's own code, not tracking."""

    def broken(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    handler.addFilter(broken)
    with pytest.raises(ZeroDivisionError):
        logger.info("Signed Up", extra=km.event("bob"))
    handler.removeFilter(broken)


# One record, one call.


def test_a_record_that_propagates_to_a_second_handler_is_one_call(handler, make_handler, logger, server):
    child = logger.getChild("child")
    second = make_handler()
    child.addHandler(second)
    try:
        child.info("Flat", extra={"km": "event", "person": "bob"})
        child.info("Nested", extra=km.event("bob"))
        assert handler.flush(HANG)
        assert sorted(params(target)["_n"] for target in server.targets) == ["Flat", "Nested"]
        assert handler.stats().accepted == second.stats().accepted == 2
    finally:
        child.removeHandler(second)


def test_handlers_whose_settings_differ_but_not_in_where_they_send_make_one_call(make_handler, logger, server):
    first, second = make_handler(), make_handler(exclude=["plan"], capacity=7)
    logger.addHandler(first)
    logger.addHandler(second)
    logger.info("Signed Up", extra=km.event("bob"))
    assert first.flush(HANG)
    assert second.flush(HANG)
    assert first.stats().accepted + second.stats().accepted == 1
    assert len(server.targets) == 1


def test_handlers_with_two_keys_both_send(make_handler, logger, server):
    for key in ("first-key", "second-key"):
        logger.addHandler(make_handler(api_key=key))
    logger.info("Signed Up", extra=km.event("bob"))
    logger.info("Signed In", extra={"km": "event", "person": "bob"})
    keys = sorted(dict(query)["_k"] for query in server.wait(4) and server.queries)
    assert keys == ["first-key", "first-key", "second-key", "second-key"]


def test_handlers_with_two_endpoints_both_send(make_handler, logger, server):
    with TrackingServer() as other:
        handlers = [make_handler(), make_handler(endpoint=other.endpoint)]
        for handler in handlers:
            logger.addHandler(handler)
        logger.info("Signed Up", extra=km.event("bob"))
        assert all(handler.flush(HANG) for handler in handlers)
        assert len(server.targets) == len(other.targets) == 1


def test_handlers_with_equal_settings_share_one_tracker(make_handler, logger, server):
    first, second = make_handler(properties={"plan": "pro"}), make_handler(properties={"plan": "pro"})
    logger.addHandler(first)
    logger.info("Signed Up", extra=km.event("bob"))
    assert second.flush(HANG)
    assert second.stats().delivered == 1


def test_a_tracker_can_be_given_and_outlives_its_handlers(key, logger, server):
    with km.Tracker(api_key=key, endpoint=server.endpoint) as tracker:
        handler = km.KissmetricsHandler(tracker=tracker)
        logger.addHandler(handler)
        logger.info("Signed Up", extra=km.event("bob"))
        handler.close()
        assert tracker.event("bob", "Signed In")
        assert tracker.flush(HANG)
        assert tracker.stats().delivered == 2


def test_a_handler_of_a_tracker_that_was_closed_counts_its_calls_as_closed(key, logger, server):
    tracker = km.Tracker(api_key=key, endpoint=server.endpoint)
    handler = km.KissmetricsHandler(tracker=tracker)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    tracker.close()
    logger.info("Signed In", extra=km.event("bob"))
    assert handler.flush(HANG)
    stats = handler.stats()
    assert (stats.accepted, stats.delivered, stats.dropped) == (2, 1, {"closed": 1})
    assert len(server.targets) == 1


def test_a_tracker_and_settings_exclude_each_other(key):
    with (
        km.Tracker(api_key=key) as tracker,
        pytest.raises(km.SettingsError, match="tracker and settings exclude each other"),
    ):
        km.KissmetricsHandler(tracker=tracker, api_key=key)


@dataclass
class Queued:
    """An application's own QueueHandler, whose listener has this test's handler; not attached to a logger."""

    handler: logging.handlers.QueueHandler
    listener: logging.handlers.QueueListener

    def drain(self) -> None:
        """Wait until the listener has handled everything, and end it."""
        if self.listener._thread is not None:
            self.listener.stop()


@pytest.fixture
def queued(handler: km.KissmetricsHandler, logger: logging.Logger) -> Iterator[Queued]:
    logger.removeHandler(handler)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    queued = Queued(logging.handlers.QueueHandler(records), logging.handlers.QueueListener(records, handler))
    queued.listener.start()
    yield queued
    queued.drain()


def test_behind_an_applications_own_queue_handler_a_record_is_one_call(queued, handler, logger, server):
    logger.addHandler(queued.handler)
    logger.info("Signed Up", extra=km.event("bob", "Signed Up", plan="pro"))
    logger.info("Signed In", extra={"km": "event", "person": "bob", "km_name": "Signed In"})
    server.wait(2)
    queued.drain()
    assert handler.flush(HANG)
    assert sorted(params(target)["_n"] for target in server.targets) == ["Signed In", "Signed Up"]


def test_a_record_reaching_a_handler_directly_and_then_through_a_queue_is_one_call(queued, handler, logger, server):
    """A queue in front makes a copy of the record before it is marked: the README says to put the handler first."""
    logger.addHandler(handler)
    logger.addHandler(queued.handler)
    logger.info("Signed Up", extra=km.event("bob", "Signed Up", plan="pro"))
    queued.drain()
    assert handler.flush(HANG)
    assert len(server.targets) == 1
    assert handler.stats().accepted == 1


# The life of a handler.


def test_a_closed_handler_revives_at_the_next_record(handler, logger, server):
    for number in range(1, 4):
        logger.info("Signed Up", extra=km.event(number))
        handler.close()
        handler.close()
        assert len(server.targets) == number
    assert handler.stats().delivered == 3
    assert handler.stats().dropped == {}


def test_closing_a_handler_while_threads_log_loses_nothing_as_long_as_there_is_time(handler, logger, server):
    """Only what remains when `drain_timeout` is over may be given up; what is logged meanwhile revives the handler."""

    def log(name: str) -> None:
        for number in range(100):
            logger.info("Signed Up", extra=km.event(f"{name} {number}"))

    threads = [threading.Thread(target=log, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        handler.close()
    assert handler.flush(HANG)
    sent = [params(target)["_p"] for target in server.targets]
    assert len(sent) == len(set(sent))
    stats = handler.stats()
    assert (stats.accepted, stats.pending) == (300, 0)
    assert stats.delivered + sum(stats.dropped.values()) == 300
    assert stats.delivered <= len(sent)
    assert stats.dropped == {}


def test_flush_says_whether_everything_is_gone(make_handler, logger, gate):
    """None means `drain_timeout`, since `logging.shutdown` calls it so."""

    def reply(_number: int, _target: str) -> Reply:
        gate.wait(HANG)
        return Reply()

    with TrackingServer(reply) as server:
        handler = make_handler(endpoint=server.endpoint, drain_timeout=0.1)
        logger.addHandler(handler)
        assert handler.flush()
        logger.info("Signed Up", extra=km.event("bob"))
        server.wait(1)
        assert handler.flush() is False
        assert handler.flush(0) is False
        gate.set()
        assert handler.flush(HANG) is True


def test_close_ends_within_drain_timeout_and_says_on_stderr_what_is_lost(make_handler, logger, gate, capsys):
    def reply(_number: int, _target: str) -> Reply:
        gate.wait(HANG)
        return Reply()

    with TrackingServer(reply) as server:
        handler = make_handler(endpoint=server.endpoint, drain_timeout=0.1)
        logger.addHandler(handler)
        for number in range(3):
            logger.info("Signed Up", extra=km.event(number))
        server.wait(1)
        handler.close()
        assert handler.stats().dropped == {"closed": 3}
        assert handler.stats().pending == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert "3 calls" in line


# Modes.


def test_print_mode_writes_one_line_a_call_and_sends_nothing(make_handler, logger, server, key, capsys):
    handler = make_handler(mode="print")
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob", timestamp=1262304000, plan="pro", note="two\nlines"))
    logger.info("", extra=km.set("bob", timestamp=1262304000, gender="male"))
    logger.info("", extra=km.alias("bob", "bob@bob.com"))
    logger.info("no call")
    assert handler.flush(HANG)
    printed = capsys.readouterr()
    assert printed.out == ""
    alias, event, set_ = sorted(printed.err.splitlines())  # they may come in any order
    assert all(word in event for word in ("Signed Up", "bob", "plan", "pro", "2010-01-01"))
    assert all(word in set_ for word in ("bob", "gender", "male"))
    assert "bob@bob.com" in alias
    assert key not in printed.err
    assert handler.stats().delivered == 3
    assert server.connections == 0


def test_print_mode_needs_no_key(logger, capsys):
    handler = km.KissmetricsHandler(mode="print", properties={"run": uuid.uuid4().hex})
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_off_mode_needs_no_key_and_counts_nothing(logger):
    problems: list[km.Problem] = []
    handler = km.KissmetricsHandler(mode="off", on_problem=problems.append, strict=True)
    logger.addHandler(handler)
    before = set(threading.enumerate())
    logger.info("Signed Up", extra=km.event("bob"))
    logger.info("Signed Up", extra=km.event(""))
    logger.info("Signed Up", extra={"km": "no such call"})
    assert set(threading.enumerate()) <= before
    assert handler.flush(HANG)
    stats = handler.stats()
    assert (stats.accepted, stats.pending, stats.dropped, stats.refused) == (0, 0, {}, {})
    assert problems == []


def test_strict_raises_at_the_log_call(make_handler, logger, server):
    handler = make_handler(strict=True)
    logger.addHandler(handler)
    with pytest.raises(km.ProblemError, match="empty") as refusal:
        logger.info("Signed Up", extra=km.event(""))
    assert refusal.value.problem.kind == "bad_person"
    assert str(refusal.value).endswith(refusal.value.problem.remedy)
    with pytest.raises(km.ProblemError) as left_out:
        logger.info("Signed Up", extra=km.event("bob", plan=float("nan")))
    assert left_out.value.problem.kind == "bad_value"
    logger.info("Signed Up", extra=km.event("bob", plan="pro"))
    logger.info("no call", extra={"km": 12.5})
    assert handler.flush(HANG)
    assert handler.stats().refused == {"bad_person": 1, "bad_value": 1}
    assert {params(target).get("plan") for target in server.targets} >= {"pro"}


# Problems.


@dataclass(frozen=True)
class Case:
    """A log call with a problem: how it is written, the problem's kind, and what its remedy speaks of."""

    kind: str
    extra: dict[str, object]
    remedy: str
    message: object = "Signed Up"


LONG = "x" * 256
_CYCLE: dict[str, object] = {}
_CYCLE["self"] = _CYCLE


def _flat(**fields: object) -> dict[str, object]:
    return {"km": "event", "person": "bob", **fields}


def _nested(**fields: object) -> dict[str, object]:
    return {"km": {"call": "event", "person": "bob", **fields}}


REFUSED = {
    "no person, flat": Case("no_person", {"km": "event"}, "identify"),
    "no person, nested": Case("no_person", {"km": {"call": "set"}}, "identify"),
    "no person, helper": Case("no_person", km.set(gender="male"), "identify"),
    "no person, alias": Case("no_person", {"km": "alias", "identity": "bob"}, "identify"),
    "empty person, flat": Case("bad_person", _flat(person=""), "id"),
    "empty person, nested": Case("bad_person", _nested(person=""), "id"),
    "empty person, helper": Case("bad_person", km.event(""), "id"),
    "long person": Case("bad_person", km.event(LONG), "id"),
    "long number as person": Case("bad_person", km.event(10**255), "id"),
    "boolean as person": Case("bad_person", km.event(True), "id"),
    "float as person": Case("bad_person", _flat(person=1.5), "id"),
    "object as person": Case("bad_person", _flat(person=object()), "id"),
    "bytes as person": Case("bad_person", km.event(b"bob"), "text"),
    "unencodable person": Case("bad_person", _flat(person="\ud800"), "id"),
    "empty name": Case("bad_name", _flat(), "constant text", message=""),
    "empty explicit name": Case("bad_name", _nested(name=""), "constant text"),
    "long name": Case("bad_name", km.event("bob"), "constant text", message=LONG),
    "exception as name": Case("bad_name", _flat(), "constant text", message=ValueError("x")),
    "no second identity": Case("bad_identity", {"km": "alias", "person": "bob"}, "other id"),
    "empty identity": Case("bad_identity", km.alias("bob", ""), "other id"),
    "long identity": Case("bad_identity", km.alias("bob", LONG), "other id"),
    "long identity, flat": Case("bad_identity", {"km": "alias", "person": "bob", "identity": LONG}, "other id"),
    "alias to itself": Case("self_alias", km.alias("bob", "bob"), "two different"),
    "alias to itself, as a number": Case("self_alias", {"km": "alias", "person": 5, "identity": "5"}, "two different"),
    "time 0": Case("bad_timestamp", km.event("bob", timestamp=0), "seconds"),
    "time before 2009": Case("bad_timestamp", _flat(km_timestamp=1_230_767_999), "seconds"),
    "time in milliseconds": Case("bad_timestamp", _nested(timestamp=1_262_304_000_000), "1,000"),
    "time that is text": Case("bad_timestamp", _flat(km_timestamp="yesterday"), "seconds"),
    "time that is NaN": Case("bad_timestamp", _flat(km_timestamp=float("nan")), "seconds"),
    "time that is a boolean": Case("bad_timestamp", _flat(km_timestamp=True), "seconds"),
    "unknown tag": Case("unknown_call", _flat(km="purchase"), "'event', 'set' or 'alias'"),
    "unknown tag, another case": Case("unknown_call", _flat(km="Event"), "'event', 'set' or 'alias'"),
    "empty tag": Case("unknown_call", _flat(km=""), "'event', 'set' or 'alias'"),
    "unknown call": Case("unknown_call", _nested(call="evnt"), "'event', 'set' or 'alias'"),
    "call of another type": Case("unknown_call", _nested(call=5), "'event', 'set' or 'alias'"),
    "empty mapping": Case("unknown_call", {"km": {}}, "'event', 'set' or 'alias'"),
}

LEFT_OUT = {
    "reserved, nested": Case("reserved_property", _nested(properties={"_k": "x", "kept": 1}), "rename"),
    "reserved, helper": Case("reserved_property", km.event("bob", _p="eve", kept=1), "rename"),
    "empty property name": Case("bad_property_name", km.event("bob", properties={"": "x", "kept": 1}), "name it"),
    "long property name": Case("bad_property_name", _flat(**{LONG: "x"}, kept=1), "shorten"),
    "property name of another type": Case("bad_property_name", _nested(properties={5: "x", "kept": 1}), "text"),
    "unencodable property name": Case("bad_property_name", _flat(**{"\ud800": "x"}, kept=1), "decode"),
    "NaN": Case("bad_value", _flat(v=float("nan"), kept=1), "text"),
    "infinity, helper": Case("bad_value", km.event("bob", v=float("inf"), kept=1), "text"),
    "Decimal NaN": Case("bad_value", _flat(v=Decimal("NaN"), kept=1), "text"),
    "cycle": Case("bad_value", _flat(v=_CYCLE, kept=1), "properties"),
    "nested sequence": Case("bad_value", _flat(v=[1, [2]], kept=1), "flatten"),
    "unencodable text": Case("bad_value", _flat(v="\udcff", kept=1), "decode"),
    "bytes that are not UTF-8": Case("bad_value", _flat(v=b"\xff", kept=1), "base64"),
    "an object, flat": Case("bad_value", _flat(v=object(), kept=1), "id"),
    "an object, nested": Case("bad_value", _nested(properties={"v": object(), "kept": 1}), "id"),
    "an object, helper": Case("bad_value", km.event("bob", v=object(), kept=1), "id"),
    "long value": Case("long_value", _flat(v="x" * 513, kept=1), "value_limit"),
    "long value, helper": Case("long_value", km.event("bob", v="x" * 513, kept=1), "value_limit"),
    "properties that are no mapping": Case("bad_value", _nested(properties=["plan"]), "dict"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_call_that_is_refused_is_one_clear_line_and_loses_nothing_else(case, make_handler, logger, server, caplog):
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append)
    logger.addHandler(handler)
    logger.info("Before", extra=km.event("ann"))
    logger.info(case.message, extra=case.extra)
    logger.info("After", extra=km.event("ann"))
    assert handler.flush(HANG)
    assert sorted(params(target)["_n"] for target in server.targets) == ["After", "Before"]
    stats = handler.stats()
    assert (stats.accepted, stats.delivered, stats.refused) == (2, 2, {case.kind: 1})
    (problem,) = problems
    assert (problem.kind, problem.call) == (case.kind, None)
    _assert_said(caplog, problem, case.remedy)


@pytest.mark.parametrize("case", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_a_property_that_is_left_out_is_one_clear_line_and_loses_nothing_else(
    case, make_handler, logger, server, caplog
):
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append)
    logger.addHandler(handler)
    logger.info(case.message, extra=case.extra)
    assert handler.flush(HANG)
    (target,) = server.targets
    sent = params(target)
    assert (sent["_p"], sent["_n"]) == ("bob", "Signed Up")
    assert set(sent) - {"_p", "_n", "_t", "_d"} <= {"kept"}
    if "no mapping" not in str(problems[0]):
        assert sent["kept"] == "1"
    stats = handler.stats()
    assert (stats.accepted, stats.delivered, stats.refused) == (1, 1, {case.kind: 1})
    (problem,) = problems
    assert problem.kind == case.kind
    assert problem.call is not None
    assert (problem.call.person, problem.call.name) == ("bob", "Signed Up")
    _assert_said(caplog, problem, case.remedy)


def _assert_said(caplog: pytest.LogCaptureFixture, problem: km.Problem, remedy: str) -> None:
    (record,) = [record for record in caplog.records if record.name == "km_logging"]
    said = record.getMessage()
    assert record.levelno == logging.WARNING
    assert problem.message in said
    assert problem.remedy in said
    assert remedy in problem.remedy
    assert said.isprintable()


def test_only_the_properties_that_no_longer_fit_8000_bytes_are_left_out(make_handler, logger, server):
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append)
    logger.addHandler(handler)
    values = {f"v{number:02}": "ü" * 200 for number in range(10)}
    logger.info("Signed Up", extra=km.event("bob", properties=values, last="x"))
    assert handler.flush(HANG)
    (target,) = server.targets
    left_out = set(values) - set(params(target))
    assert len(target) <= 8_000
    assert left_out == {"v06", "v07", "v08", "v09"}
    assert params(target)["last"] == "x"
    assert handler.stats().refused == {"no_room": 4}
    assert {problem.kind for problem in problems} == {"no_room"}


def test_many_names_that_differ_only_in_digits_are_a_problem_but_are_sent(make_handler, logger, server):
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append)
    logger.addHandler(handler)
    for number in range(50):
        logger.info(f"Order {number} placed", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert len(server.targets) == 50
    assert {problem.kind for problem in problems} == {"formatted_name"}
    assert "constant text" in problems[0].remedy


def test_a_kind_of_problem_is_said_once_a_minute_though_each_is_counted_and_handed_over(
    make_handler, logger, server, caplog
):
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append)
    logger.addHandler(handler)
    for _ in range(20):
        logger.info("Signed Up", extra=km.event(""))
        logger.info("", extra=km.event("bob"))
    assert handler.flush(HANG)
    said = [record.getMessage() for record in caplog.records if record.name == "km_logging"]
    assert len(said) == 2
    assert len(problems) == 40
    assert handler.stats().refused == {"bad_person": 20, "bad_name": 20}


def test_a_problem_is_said_once_a_minute_also_across_a_revival(handler, logger, server, caplog):
    for _ in range(3):
        logger.info("Signed Up", extra=km.event(""))
        assert handler.flush(HANG)
        handler.close()
    assert len([record for record in caplog.records if record.name == "km_logging"]) == 1


@pytest.mark.parametrize("settings", [{}, {"strict": True}], ids=["by the listener", "strict"])
def test_a_problem_reaches_on_problem_also_after_a_close(settings, make_handler, logger, server):
    """A handler revives at the next record, sound or not."""
    problems: list[km.Problem] = []
    handler = make_handler(on_problem=problems.append, **settings)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    handler.close()
    try:
        logger.info("Signed Up", extra=km.event(""))
    except km.ProblemError:
        assert settings
    assert handler.flush(HANG)
    assert [problem.kind for problem in problems] == ["bad_person"]
    assert handler.stats().refused == {"bad_person": 1}


def test_http_beyond_loopback_is_said_once(make_handler, logger, server, caplog):
    """The calls go through a proxy here, so nothing leaves this machine."""

    def session() -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.proxies = {"http": server.endpoint}
        return session

    problems: list[km.Problem] = []
    handler = make_handler(endpoint="http://trk.example.com", session=session, on_problem=problems.append)
    logger.addHandler(handler)
    for number in range(1, 4):
        logger.info("Signed Up", extra=km.event(number))
        assert handler.flush(HANG)
        handler.close()
        assert len(server.targets) == number
    assert [problem.kind for problem in problems] == ["insecure_endpoint"]
    assert len([record for record in caplog.records if record.name == "km_logging"]) == 1


def test_http_on_loopback_is_no_problem(handler, logger, server, caplog):
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert [record for record in caplog.records if record.name == "km_logging"] == []


# Callbacks.


def test_before_send_changes_a_call_once_before_any_try(make_handler, logger):
    seen: list[km.Call] = []

    def redact(call: km.Call) -> km.Call:
        seen.append(call)
        return replace(call, properties={**call.properties, "email": "***"})

    with TrackingServer(lambda number, _: Reply(503 if number < 2 else 200)) as server:
        handler = make_handler(endpoint=server.endpoint, before_send=redact)
        logger.addHandler(handler)
        extra = km.event("bob", timestamp=NOON, email="bob@bob.com", plan="pro")
        logger.info("Signed Up", extra=extra)
        assert handler.flush(HANG)
        assert len(server.targets) == 3
        assert {params(target)["email"] for target in server.targets} == {"***"}
        assert handler.stats().retried == 2
    properties = {"email": "bob@bob.com", "plan": "pro"}
    assert seen == [km.Call("event", "bob", "Signed Up", timestamp=NOON, properties=properties)]


def test_before_send_withholds_a_call_by_none(make_handler, logger, server):
    handler = make_handler(before_send=lambda call: None if call.person == "eve" else call)
    logger.addHandler(handler)
    for person in ("eve", "bob", "eve"):
        logger.info("Signed Up", extra=km.event(person))
    assert handler.flush(HANG)
    assert [params(target)["_p"] for target in server.targets] == ["bob"]
    stats = handler.stats()
    assert (stats.accepted, stats.delivered, stats.dropped) == (3, 1, {"withheld": 2})
    assert stats.refused == {}


def _raise(error: BaseException) -> Callable[[object], object]:
    def callback(_argument: object = None) -> object:
        raise error

    return callback


@pytest.mark.parametrize(
    "callback",
    [
        _raise(ValueError("secret")),
        _raise(SystemExit(1)),
        lambda _call: "no call",
        lambda call: replace(call, person=""),
        lambda call: call.no_such_attribute,
    ],
    ids=["raises", "raises SystemExit", "returns text", "returns an unsound call", "has a mistake"],
)
def test_a_before_send_that_fails_costs_its_own_call_only(callback, make_handler, logger, server, caplog):
    handler = make_handler(before_send=lambda call: callback(call) if call.person == "eve" else call)
    logger.addHandler(handler)
    for person in ("bob", "eve", "ann"):
        logger.info("Signed Up", extra=km.event(person))
    assert handler.flush(HANG)
    assert sorted(params(target)["_p"] for target in server.targets) == ["ann", "bob"]
    stats = handler.stats()
    assert (stats.accepted, stats.dropped, stats.refused) == (3, {"withheld": 1}, {"callback": 1})
    (record,) = [record for record in caplog.records if record.name == "km_logging"]
    assert "before_send" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_what_before_send_puts_into_the_properties_is_told_by_the_same_rules(make_handler, logger, server):
    def before_send(call: km.Call) -> km.Call:
        call.properties.update(seats=5, bad=float("nan"))
        return call

    handler = make_handler(before_send=before_send)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert params(server.targets[0])["seats"] == "5"
    assert "bad" not in params(server.targets[0])
    assert handler.stats().refused == {"bad_value": 1}


@pytest.mark.parametrize("error", [ValueError(), SystemExit()], ids=repr)
def test_an_on_problem_that_raises_costs_nothing_and_is_said(error, make_handler, logger, server, caplog):
    handler = make_handler(on_problem=_raise(error))
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event(""))
    logger.info("Signed Up", extra=km.event("bob", bad=float("nan")))
    assert handler.flush(HANG)
    assert [params(target)["_p"] for target in server.targets] == ["bob"]
    said = [record.getMessage() for record in caplog.records if record.name == "km_logging"]
    assert len([text for text in said if "on_problem raised" in text]) == 1


def test_a_session_callback_that_raises_delays_calls_and_is_said(make_handler, logger, server, caplog):
    problems: list[km.Problem] = []
    sessions = iter([_raise(ValueError("secret")), requests.Session])

    def session() -> object:
        return next(sessions)()

    handler = make_handler(session=session, on_problem=problems.append)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert [params(target)["_p"] for target in server.targets] == ["bob"]
    assert [problem.kind for problem in problems] == ["callback"]
    said = [record.getMessage() for record in caplog.records if record.name == "km_logging"]
    assert len(said) == 1
    assert "session" in said[0]
    assert "secret" not in said[0]


def test_a_before_send_that_hangs_stalls_neither_the_log_call_nor_close(make_handler, logger, server, gate, capsys):
    entered = threading.Event()

    def before_send(call: km.Call) -> km.Call:
        entered.set()
        gate.wait(HANG)
        return call

    handler = make_handler(before_send=before_send, drain_timeout=0.1)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    assert entered.wait(HANG)
    for number in range(100):
        logger.info("Signed Up", extra=km.event(number))
    assert handler.flush() is False
    began = time.monotonic()
    handler.close()
    assert time.monotonic() - began < HANG / 2
    assert not gate.is_set()
    assert "101 calls" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["handler", "processor", "tracker", "behind a queue"])
def test_what_is_logged_in_a_callback_is_never_tracked(way, make_handler, logger, server):
    """Five times each at most, so that a test that fails ends."""
    said: list[str] = []

    def say(where: str) -> None:
        if said.count(where) < 5:
            said.append(where)
            if way == "tracker":
                assert tracker.event("eve", where) is False
            elif way == "processor":
                log.info(where, km="event", person="eve")
            else:
                logger.info(where, extra=km.event("eve"))

    def before_send(call: km.Call) -> km.Call:
        say("before_send")
        return call

    def session() -> requests.Session:
        say("session")
        return requests.Session()

    settings = {"before_send": before_send, "session": session, "on_problem": lambda _: say("on_problem")}
    handler = make_handler(**settings)
    tracker = handler._tracker
    chain = [km.KissmetricsProcessor(tracker=tracker), structlog.processors.JSONRenderer()]
    log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=chain)
    listener = None
    if way == "behind a queue":
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(records, handler)
        listener.start()
        logger.addHandler(logging.handlers.QueueHandler(records))
    else:
        logger.addHandler(handler)
    try:
        logger.info("Signed Up", extra=km.event("bob"))
        logger.info("Signed Up", extra=km.event(""))
        server.wait(1)
        assert handler.flush(HANG)
    finally:
        if listener is not None:
            listener.stop()
    assert handler.flush(HANG)
    assert set(said) == {"before_send", "session", "on_problem"}
    assert [params(target)["_p"] for target in server.targets] == ["bob"]
    assert handler.stats().accepted == 1


# The books.


class Checker(threading.Thread):
    """Looks at the books all the time, against what the server saw and what was logged so far."""

    def __init__(self, handler: km.KissmetricsHandler, server: TrackingServer) -> None:
        super().__init__()
        self.handler = handler
        self.server = server
        self.logged = itertools.count()
        self.done = threading.Event()
        self.checks = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        delivered = withheld = 0
        try:
            while not self.done.is_set():
                stats = self.handler.stats()
                self.check(stats)
                assert stats.delivered >= delivered
                assert stats.dropped["withheld"] >= withheld
                delivered, withheld = stats.delivered, stats.dropped["withheld"]
                self.checks += 1
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failure = error

    def check(self, stats: km.Stats) -> None:
        arrived, logged = len(self.server.targets), int(repr(self.logged)[6:-1])
        assert stats.accepted == stats.delivered + stats.handed_over + stats.pending + sum(stats.dropped.values())
        assert 0 <= stats.pending <= stats.accepted <= logged
        assert stats.delivered <= arrived
        assert stats.accepted + sum(stats.refused.values()) <= logged

    def end(self) -> None:
        self.done.set()
        self.join(HANG)
        if self.failure is not None:
            raise self.failure


def test_the_stats_equation_holds_at_every_moment_while_threads_log(make_handler, logger, server):
    handler = make_handler(before_send=lambda call: None if call.person == "eve" else call)
    logger.addHandler(handler)
    checker = Checker(handler, server)

    def log(name: str) -> None:
        for number in range(150):
            person = ("", "eve", *[f"{name} {number}"] * 3)[number % 5]
            next(checker.logged)
            logger.info("Signed Up", extra=km.event(person))

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in [checker, *threads]:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert handler.flush(HANG)
    checker.end()
    assert checker.checks > 5
    stats = handler.stats()
    assert stats.refused == {"bad_person": 120}
    assert (stats.accepted, stats.delivered, stats.pending) == (480, 360, 0)
    assert stats.dropped == {"withheld": 120}
    assert len(server.targets) == 360


def test_overflow_is_counted_and_the_equation_holds(make_handler, logger, server, gate):
    def before_send(call: km.Call) -> km.Call:
        gate.wait(HANG)
        return call

    handler = make_handler(before_send=before_send, capacity=10)
    logger.addHandler(handler)
    for number in range(25):
        logger.info("Signed Up", extra=km.event(number))
    gate.set()
    assert handler.flush(HANG)
    stats = handler.stats()
    assert (stats.accepted, stats.delivered, stats.dropped) == (25, 10, {"overflow": 15})
    assert sorted(int(params(target)["_p"]) for target in server.targets) == list(range(10))


def test_merged_counts_events_that_kissmetrics_will_count_as_one_and_sends_them_all_the_same(handler, logger, server):
    def log(**changes: object) -> None:
        extra = {"person": "bob", "km_timestamp": NOON, "plan": "pro", "km": "event", **changes}
        logger.info("Signed Up", extra=extra)

    log()
    log()
    log(km_timestamp=NOON + 0.5)
    log(km_timestamp=NOON + 1)
    log(person="eve")
    log(plan="free")
    log(km_name="Signed In")
    log(km="set")
    log(km="set")
    assert handler.flush(HANG)
    assert handler.stats().merged == 2
    assert len(server.targets) == 9


def test_stats_tell_age_and_last_error_of_what_is_pending(make_handler, logger, gate):
    def reply(number: int, _target: str) -> Reply:
        if number:
            gate.wait(HANG)
        return Reply(503 if number == 0 else 200)

    with TrackingServer(reply) as server:
        handler = make_handler(endpoint=server.endpoint)
        logger.addHandler(handler)
        assert handler.stats().oldest_pending_s is None
        assert handler.stats().last_delivered is None
        began = time.time()
        logger.info("Signed Up", extra=km.event("bob"))
        server.wait(2)
        stats = handler.stats()
        assert (stats.accepted, stats.pending, stats.delivered) == (1, 1, 0)
        assert stats.oldest_pending_s is not None
        assert 0 <= stats.oldest_pending_s <= time.time() - began
        assert stats.last_error == "HTTP 503"
        gate.set()
        assert handler.flush(HANG)
        stats = handler.stats()
        assert stats.oldest_pending_s is None
        assert stats.last_delivered is not None
        assert began - 1 <= stats.last_delivered <= time.time() + 1
        assert stats.retried == 1


# What no record and no repr may show.

SECRET = "s3cret-value"


@dataclass
class Capture:
    """Every record that reaches the root logger, formatted, with everything that stands in it."""

    text: str = ""

    def handler(self) -> logging.Handler:
        capture = self

        class Capturing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                capture.text += f"{record.name}: {logging.Formatter().format(record)}\n{vars(record)!r}\n"

        return Capturing(logging.DEBUG)


@pytest.fixture
def captured(logger: logging.Logger) -> Iterator[Capture]:
    """All records at DEBUG level but the application's own, which say what they say."""
    logger.propagate = False
    capture = Capture()
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level, capturing = root.level, capture.handler()
    root.setLevel(logging.DEBUG)
    root.addHandler(capturing)
    yield capture
    root.removeHandler(capturing)
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


def _say_everything(logger: logging.Logger) -> None:
    logger.info("Signed Up", extra=km.event("bob", plan=SECRET, nan=float("nan")))
    logger.info("", extra={"km": "set", "person": "bob", "plan": SECRET, "long": SECRET * 100})
    logger.info("Signed Up", extra=km.event("", plan=SECRET))
    logger.info("Signed Up", extra={"km": "no such call", "plan": SECRET})


def _assert_shows_nothing(text: str, key: str) -> None:
    assert key not in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "reply",
    [Reply(), Reply(503), Reply(400), Reply(302, {"Location": "/x"}), Reply(hang_up=True)],
    ids=["200", "503", "400", "302", "hangs up"],
)
def test_no_record_at_debug_level_shows_key_or_values_on_the_fast_path(reply, make_handler, logger, captured, key):
    with TrackingServer(lambda number, _: reply if number < 4 else Reply()) as server:
        handler = make_handler(endpoint=server.endpoint)
        logger.addHandler(handler)
        _say_everything(logger)
        server.wait(2)
        assert handler.flush(HANG)
        assert key in server.targets[0]
        assert SECRET in server.targets[0]
    assert "urllib3.connectionpool" in captured.text
    assert '"GET /e' in captured.text or reply.hang_up
    assert "km_logging: " in captured.text
    _assert_shows_nothing(captured.text + str(handler.stats()), key)


def test_no_record_shows_key_or_values_when_nobody_answers(make_handler, logger, captured, key, capsys):
    with refused() as endpoint:
        handler = make_handler(endpoint=endpoint, retry_for=0, drain_timeout=HANG)
        logger.addHandler(handler)
        _say_everything(logger)
        assert handler.flush(HANG)
        stats = handler.stats()
    assert stats.dropped == {"expired": 2}
    assert stats.last_error is not None
    assert "urllib3.connectionpool" in captured.text
    _assert_shows_nothing(captured.text + str(stats) + capsys.readouterr().err, key)


class _LoggingAuth(requests.auth.AuthBase):
    """Signs a request, and logs it carelessly."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        logging.getLogger("shop.auth").debug("signing %s", request.url)
        logging.getLogger("shop.auth").debug("signing %(url)s", {"url": request.path_url})
        request.headers["X-Signature"] = "signed"
        return request


class _LoggingAdapter(requests.adapters.HTTPAdapter):
    """Logs each request, and what goes wrong with a traceback that holds the URL."""

    def send(self, request: requests.PreparedRequest, *args: object, **options: object) -> requests.Response:
        log = logging.getLogger("shop.adapter")
        log.info("sending %r", request.url)
        try:
            _raise(ValueError(f"something about {request.url}"))()
        except ValueError:
            log.exception("trouble with %s", request.path_url, stack_info=True)
        try:
            return super().send(request, *args, **options)
        except requests.ConnectionError:
            log.exception("cannot send")
            raise


def _with_auth() -> requests.Session:
    session = requests.Session()
    session.auth = _LoggingAuth()
    return session


def _with_adapter() -> requests.Session:
    session = requests.Session()
    session.mount("http://", _LoggingAdapter())
    return session


def _with_retries() -> requests.Session:
    """urllib3 warns of each try of its own, with the whole path."""
    session = _with_auth()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=2))
    return session


@pytest.mark.parametrize("session", [_with_auth, _with_adapter, _with_retries])
def test_no_record_at_debug_level_shows_key_or_values_with_a_session_of_the_users(
    session, make_handler, logger, server, captured, key
):
    handler = make_handler(session=session)
    logger.addHandler(handler)
    _say_everything(logger)
    assert handler.flush(HANG)
    assert len(server.targets) == 2
    assert SECRET in server.targets[0]
    assert "shop." in captured.text
    assert '"GET /e' in captured.text
    _assert_shows_nothing(captured.text, key)


@pytest.mark.parametrize("session", [_with_auth, _with_adapter, _with_retries])
def test_no_record_shows_key_or_values_with_a_session_of_the_users_when_nobody_answers(
    session, make_handler, logger, captured, key, capsys
):
    with refused() as endpoint:
        handler = make_handler(endpoint=endpoint, session=session, retry_for=0, drain_timeout=HANG)
        logger.addHandler(handler)
        _say_everything(logger)
        assert handler.flush(HANG)
        stats = handler.stats()
    assert stats.dropped == {"expired": 2}
    assert "shop." in captured.text
    _assert_shows_nothing(captured.text + str(stats) + capsys.readouterr().err, key)


def test_no_record_shows_the_key_in_its_extra_fields_either(make_handler, logger, server, captured, key):
    """A JSON formatter writes every field of a record, not the message only."""

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: object, **options: object) -> requests.Response:
            logging.getLogger("shop.adapter").info("sending", extra={"url": request.url})
            return super().send(request, *args, **options)

    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", Adapter())
        return session

    handler = make_handler(session=session)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob", plan=SECRET))
    assert handler.flush(HANG)
    assert len(server.targets) == 1
    assert "shop.adapter" in captured.text
    _assert_shows_nothing(captured.text, key)


def test_a_key_that_must_be_encoded_is_masked_in_both_forms(make_handler, logger, server, captured):
    key = "k/ey+ü&1"
    handler = make_handler(api_key=key, session=_with_adapter)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert "_k=k%2Fey%2B%C3%BC%261&" in server.targets[0]
    assert dict(server.queries[0])["_k"] == key
    assert "shop." in captured.text
    assert "k%2Fey" not in captured.text
    assert "k/ey" not in captured.text


def test_no_repr_shows_key_or_values(key):
    settings = {"api_key": key, "properties": {"plan": SECRET}}
    with km.Tracker(**settings) as tracker:
        handler = km.KissmetricsHandler(tracker=tracker)
        processor = km.KissmetricsProcessor(tracker=tracker)
        for thing in (handler, processor, tracker, tracker.settings, tracker.stats(), [handler, processor]):
            assert type(thing).__name__ in f"{thing!r}{thing}" or isinstance(thing, list)
            _assert_shows_nothing(f"{thing!r}{thing}", key)
        handler.close()
        processor.close()


def test_no_error_shows_key_or_values(key, make_handler, logger):
    with pytest.raises(km.SettingsError) as unknown:
        km.KissmetricsHandler(api_key=key, properties={"plan": SECRET}, capcity=5)
    with pytest.raises(km.SettingsError) as wrong:
        km.KissmetricsHandler(api_key=f"{key}\n\n{key}", properties={"plan": SECRET})
    with pytest.raises(km.SettingsError) as bad_properties:
        km.KissmetricsHandler(api_key=key, properties={"plan": [SECRET, object()]})
    handler = make_handler(endpoint="http://127.0.0.1:9", strict=True, value_limit=20)
    logger.addHandler(handler)
    with pytest.raises(km.ProblemError) as problem:
        logger.info("Signed Up", extra=km.event("", plan=SECRET))
    with pytest.raises(km.ProblemError) as unsent:
        logger.info("Signed Up", extra={"km": "no such call", "plan": SECRET})
    for error in (unknown, wrong, bad_properties, problem, unsent):
        _assert_shows_nothing(f"{error.value!r}{error.value}", key)


# The log call never raises.


class _Nasty:
    """Raises whatever is done with it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError


class _NastyDict(dict):
    """A mapping that cannot be read."""

    def __getitem__(self, name: str) -> object:
        raise RuntimeError(name)

    items = keys = values = get = __iter__ = __getitem__


@pytest.mark.parametrize(
    "extra",
    [
        {"km": "event", "person": _Nasty()},
        {"km": "event", "person": "bob", "km_timestamp": _Nasty()},
        {"km": "event", "person": "bob", "km_name": _Nasty()},
        {"km": "alias", "person": "bob", "identity": _Nasty()},
        {"km": {"call": _Nasty()}},
        {"km": {"call": "event", "person": "bob", "properties": _Nasty()}},
        {"km": _NastyDict(call="event")},
        {"km": {"call": "event", "person": "bob", "properties": _NastyDict(plan="pro")}},
        {"km": {5: 5, None: None, "call": "event"}},
    ],
    ids=lambda extra: "-".join(map(str, extra)),
)
def test_whatever_stands_in_a_record_the_log_call_does_not_raise(extra, handler, logger, server):
    logger.info("Signed Up", extra=extra)
    logger.info("After", extra=km.event("ann"))
    assert handler.flush(HANG)
    assert "After" in [params(target).get("_n") for target in server.targets]
    assert sum(handler.stats().refused.values()) == 1
