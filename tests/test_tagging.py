"""From a record or an event dict to a snapshot: what is taken, what is not, and that nothing changes it afterwards."""

from __future__ import annotations

import copy
import enum
import itertools
import json
import logging
import math
import pickle
import sys
import time
from collections import OrderedDict, UserDict, deque
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import PurePosixPath
from types import MappingProxyType

import pytest
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.processors import CallsiteParameter

import km_logging as km
from km_logging.identity import bound_by_structlog
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict, from_nested, from_record, is_marked, mark
from km_logging.telling import tell
from support.ids import shown

NEW_YEAR = 1_262_304_000  # 2010-01-01
LATER = NEW_YEAR + 1_000


class Kind(str, enum.Enum):
    """What people write who dislike string literals."""

    EVENT = "event"


class Field(str, enum.Enum):
    """Likewise for the names of properties."""

    PLAN = "plan"
    RESERVED = "_k"


def rules(**given):
    return Rules(Settings.resolve({"api_key": "key", **given}, {}))


RULES = rules()


def record_with(extra, msg="Signed Up", args=()):
    """A record as `Logger.info` makes it."""
    return logging.getLogger("app").makeRecord("app", logging.INFO, __file__, 1, msg, args, None, extra=extra)


def told_record(extra, msg="Signed Up", *, by=RULES, person=None, bound=dict):
    return tell(from_record(record_with(extra, msg), by, person, bound), by)


def told_dict(fields, *, by=RULES, person=None, bound=dict, moment=NEW_YEAR):
    return tell(from_event_dict(fields, by, person, bound, moment), by)


def properties_of(told):
    assert told.call is not None, told.problems
    return told.call.properties


# The forms of the contract's table all say the same.


@pytest.mark.parametrize(
    "extra",
    [
        km.event("bob", timestamp=NEW_YEAR, plan="pro"),
        {
            "km": {
                "call": "event",
                "person": "bob",
                "name": "Signed Up",
                "timestamp": 1262304000,
                "properties": {"plan": "pro"},
            }
        },
        {"km": "event", "person": "bob", "plan": "pro", "km_timestamp": NEW_YEAR},
    ],
    ids=["helper", "nested", "flat"],
)
def test_an_event_may_be_said_in_three_forms(extra):
    expected = km.Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro"})
    assert told_record(extra).call == expected
    assert told_dict({"event": "Signed Up", **extra}).call == expected


@pytest.mark.parametrize(
    "extra",
    [
        km.set("bob", timestamp=NEW_YEAR, gender="male"),
        {"km": {"call": "set", "person": "bob", "timestamp": NEW_YEAR, "properties": {"gender": "male"}}},
        {"km": "set", "person": "bob", "gender": "male", "km_timestamp": NEW_YEAR},
    ],
    ids=["helper", "nested", "flat"],
)
def test_properties_may_be_set_in_three_forms(extra):
    expected = km.Call("set", "bob", timestamp=NEW_YEAR, properties={"gender": "male"})
    assert told_record(extra, "Profile saved").call == expected
    assert told_dict({"event": "Profile saved", **extra}).call == expected


@pytest.mark.parametrize(
    "extra",
    [
        km.alias("bob", "bob@bob.com"),
        {"km": {"call": "alias", "person": "bob", "identity": "bob@bob.com"}},
        {"km": "alias", "person": "bob", "identity": "bob@bob.com"},
    ],
    ids=["helper", "nested", "flat"],
)
def test_people_may_be_aliased_in_three_forms(extra):
    for told in (told_record(extra, "Accounts linked"), told_dict({"event": "Accounts linked", **extra})):
        assert (told.call.kind, told.call.person, told.call.identity) == ("alias", "bob", "bob@bob.com")
        assert told.call.name is None
        assert told.call.properties == {}
        assert told.problems == ()


# The flat form: every extra field is a property, but for these.


def test_every_extra_field_is_a_property_in_the_order_given():
    extra = {"zeta": 1, "km": "event", "alpha": True, "person": "bob", "mid": {"b": 1, "a": 2}, "beta": "x"}
    expected = {"zeta": "1", "alpha": "true", "mid.b": "1", "mid.a": "2", "beta": "x"}
    for told in (told_record(extra), told_dict({"event": "Signed Up", **extra})):
        assert list(properties_of(told).items()) == list(expected.items())


@pytest.mark.parametrize("field", ["km_name", "km_timestamp", "_private", "__dunder__", "_k", "_"])
def test_fields_about_the_call_and_private_fields_are_no_properties(field):
    value = {"km_name": "Signed Up", "km_timestamp": NEW_YEAR}.get(field, "secret")
    for told in (
        told_record({"km": "event", "person": "bob", field: value}),
        told_dict({"event": "Signed Up", "km": "event", "person": "bob", field: value}),
    ):
        assert properties_of(told) == {}
        assert told.problems == ()


def test_identity_is_a_property_of_events_but_not_of_aliases():
    fields = {"person": "bob", "identity": "eve"}
    assert properties_of(told_record({"km": "event", **fields})) == {"identity": "eve"}
    assert properties_of(told_record({"km": "set", **fields})) == {"identity": "eve"}
    assert properties_of(told_record({"km": "alias", **fields})) == {}


@pytest.mark.parametrize("identity", [["eve"], b"eve", 5.5, {"a": "eve"}, math.nan, object(), None, True], ids=shown)
def test_an_identity_follows_the_rules_of_a_person_in_every_form(identity):
    """It is no property, so it is not converted as one."""
    flat = told_record({"km": "alias", "person": "bob", "identity": identity})
    nested = told_record({"km": {"call": "alias", "person": "bob", "identity": identity}})
    assert [problem.kind for problem in flat.problems] == ["bad_identity"]
    assert [problem.kind for problem in nested.problems] == ["bad_identity"]


#: What a record holds on this Python by itself, formatted and with everything in it.
def own_attributes():
    record = record_with({"km": "event", "person": "bob"})
    logging.Formatter("%(asctime)s %(message)s").format(record)
    return sorted(set(record.__dict__) - {"km", "person"})


@pytest.mark.parametrize("attribute", own_attributes())
def test_no_attribute_of_a_record_on_this_python_is_a_property(attribute):
    record = record_with({"km": "event", "person": "bob", "plan": "pro"})
    logging.Formatter("%(asctime)s %(message)s").format(record)
    if attribute not in {"created", "msg"}:  # these say something about the call itself
        record.__dict__[attribute] = "secret"
    assert properties_of(tell(from_record(record, RULES, None, dict), RULES)) == {"plan": "pro"}


@pytest.mark.parametrize("attribute", ["taskName", "message", "asctime", "exc_text", "stack_info", "processName"])
def test_the_list_of_record_attributes_is_the_same_on_all_pythons(attribute):
    """So that a call does not gain a property where an application is moved to another Python."""
    record = logging.makeLogRecord({"msg": "Signed Up", "km": "event", "person": "bob", attribute: "secret"})
    assert properties_of(tell(from_record(record, RULES, None, dict), RULES)) == {}


def test_the_arguments_of_a_record_are_no_properties():
    record = record_with({"km": "event", "person": "bob"}, "Signed Up", ({"secret": "x"},))
    assert properties_of(tell(from_record(record, RULES, None, dict), RULES)) == {}


@pytest.mark.parametrize("name", ["event", "level", "logger", "timestamp", "exception", "stack", "thread_name"])
def test_structlogs_names_are_ordinary_properties_of_a_record(name):
    assert properties_of(told_record({"km": "event", "person": "bob", name: "x"})) == {name: "x"}


@pytest.mark.parametrize("name", ["name", "args", "msg", "created", "funcName", "threadName", "taskName", "asctime"])
def test_a_records_names_are_ordinary_properties_of_an_event_dict(name):
    told = told_dict({"event": "Signed Up", "km": "event", "person": "bob", name: "x"})
    assert properties_of(told) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "event",
        "level",
        "logger",
        "timestamp",
        "exc_info",
        "exception",
        "stack_info",
        "stack",
        *(parameter.value for parameter in CallsiteParameter),
    ],
)
def test_no_name_that_structlogs_processors_add_is_a_property(name):
    fields = {"event": "Signed Up", "km": "event", "person": "bob", "plan": "pro"}
    assert properties_of(told_dict({name: "Signed Up", **fields})) == {"plan": "pro"}


def test_nothing_that_a_full_chain_of_structlog_adds_is_a_property():
    """The processors themselves, on the version at hand, with an exception and a stack to show."""
    seen = []

    def capture(_, __, event_dict):
        seen.append(dict(event_dict))
        raise structlog.DropEvent

    parameters = {it for it in CallsiteParameter if it.value != "qual_name" or sys.version_info >= (3, 11)}
    chain = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_log_level_number,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.CallsiteParameterAdder(parameters),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        capture,
    ]
    logger = structlog.wrap_logger(
        logging.getLogger("app"), processors=chain, wrapper_class=structlog.stdlib.BoundLogger
    )
    try:
        int("secret")
    except ValueError:
        logger.exception("Signed Up", km="event", person="bob", plan="pro", stack_info=True)
    (event_dict,) = seen
    assert {"level", "logger", "timestamp", "exception", "stack", "func_name"} <= set(event_dict)
    assert properties_of(told_dict(event_dict)) == {"plan": "pro"}


@pytest.mark.parametrize("positional", [("bob",), ({"secret": 1},)], ids=["tuple", "dict"])
def test_positional_arguments_of_structlog_are_no_properties(positional):
    fields = {"event": "Signed Up", "km": "event", "person": "bob", "positional_args": positional}
    assert properties_of(told_dict(fields)) == {}


# A request's context is not handed to a third party.


def context_event(**fields):
    """An event dict after `merge_contextvars`, as structlog makes it."""
    return merge_contextvars(None, "info", {"event": "Signed Up", "km": "event", **fields})


@pytest.mark.parametrize("value", ["r1", 5, ["a"], {"a": 1}, None, object()], ids=shown)
def test_what_contextvars_bind_is_no_property(value):
    with bound_contextvars(request=value):
        told = told_dict(context_event(person="bob", plan="pro"), bound=bound_by_structlog)
    assert properties_of(told) == {"plan": "pro"}
    assert told.problems == ()


def test_what_contextvars_bind_is_no_property_of_a_record_either():
    """`render_to_log_kwargs` hands the merged event dict on as `extra`."""
    with bound_contextvars(request_id=object()):
        extra = context_event(person="bob", plan="pro")
        told = told_record(extra | {"event": "Signed Up"}, bound=bound_by_structlog)
    assert properties_of(told) == {"event": "Signed Up", "plan": "pro"}


def test_a_person_bound_by_contextvars_counts():
    with bound_contextvars(person="bob"):
        assert told_dict(context_event(), bound=bound_by_structlog).call.person == "bob"


def test_a_person_field_of_another_name_bound_by_contextvars_counts():
    renamed = rules(person_field="user_id")
    with bound_contextvars(user_id="bob", person="eve"):
        call = told_dict(context_event(), by=renamed, bound=bound_by_structlog).call
    assert (call.person, call.properties) == ("bob", {})


def test_what_include_names_passes_although_contextvars_bind_it():
    including = rules(include=["request_id", "plan"])
    with bound_contextvars(request_id="r1", session="secret"):
        fields = context_event(person="bob", plan="pro", seats=5)
        told = told_dict(fields, by=including, bound=bound_by_structlog)
    assert properties_of(told) == {"request_id": "r1", "plan": "pro"}


def test_a_value_said_in_the_call_is_a_property_although_contextvars_bind_the_name():
    with bound_contextvars(plan="free"):
        told = told_dict(context_event(person="bob", plan="pro"), bound=bound_by_structlog)
    assert properties_of(told) == {"plan": "pro"}


# Settings.


def test_exclude_takes_properties_out_by_name_or_by_the_mapping_they_came_from():
    excluding = rules(exclude=["card", "address.street", "user"])
    extra = {
        "km": "event",
        "person": "bob",
        "card": "secret",
        "address": {"street": "secret", "city": "Berlin"},
        "user": {"name": "secret"},
        "plan": "pro",
    }
    assert properties_of(told_record(extra, by=excluding)) == {"address.city": "Berlin", "plan": "pro"}


def test_exclude_makes_no_problem_of_what_it_takes_out():
    told = told_record({"km": "event", "person": "bob", "request": object()}, by=rules(exclude=["request"]))
    assert told.problems == ()


@pytest.mark.parametrize(
    ("include", "properties"),
    [
        ([], {}),
        (["plan"], {"plan": "pro"}),
        (["address"], {"address.city": "Berlin", "address.zip": "10115"}),
        (["address.city"], {"address.city": "Berlin"}),
        (["address.city", "plan"], {"address.city": "Berlin", "plan": "pro"}),
        (["nothing"], {}),
    ],
    ids=str,
)
def test_include_is_the_whole_list_of_properties_allowed(include, properties):
    """A property is named as it is sent: that of a mapping's member holds a dot."""
    extra = {
        "km": "event",
        "person": "bob",
        "address": {"city": "Berlin", "zip": "10115"},
        "plan": "pro",
        "other": object(),
    }
    told = told_record(extra, by=rules(include=include))
    assert properties_of(told) == properties
    assert told.problems == ()


@pytest.mark.parametrize("given", [{"include": ["address.city"]}, {"exclude": ["address.door"]}], ids=str)
def test_what_is_not_allowed_is_no_problem_in_any_form(given):
    """A value without a text is nobody's business where it would not be sent anyway."""
    by, address = rules(**given), {"city": "Berlin", "door": object()}
    for extra in (
        {"km": "event", "person": "bob", "address": address},
        {"km": {"call": "event", "person": "bob", "properties": {"address": address}}},
        km.event("bob", address=address),
    ):
        told = told_record(extra, by=by)
        assert properties_of(told) == {"address.city": "Berlin"}
        assert told.problems == ()


def test_exclude_wins_over_include():
    both = rules(include=["plan", "card"], exclude=["card"])
    assert properties_of(told_record({"km": "event", "person": "bob", "plan": "pro", "card": "secret"}, by=both)) == {
        "plan": "pro"
    }


@pytest.mark.parametrize(
    "given", [{"include": []}, {"include": ["plan"]}, {"exclude": ["identity", "person"]}], ids=str
)
def test_include_and_exclude_speak_of_properties_not_of_person_and_identity(given):
    told = told_record({"km": "alias", "person": "bob", "identity": "eve"}, by=rules(**given))
    assert told.call is not None, told.problems
    assert (told.call.person, told.call.identity) == ("bob", "eve")


def test_the_fields_may_be_renamed_and_the_usual_names_are_properties_then():
    renamed = rules(tag="track", person_field="user_id")
    extra = {"track": "event", "user_id": "bob", "km": "12.5 km", "person": "Bob B."}
    for told in (told_record(extra, by=renamed), told_dict({"event": "Signed Up", **extra}, by=renamed)):
        assert told.call.person == "bob"
        assert told.call.properties == {"km": "12.5 km", "person": "Bob B."}


def test_renaming_the_tag_renames_it_in_the_nested_form():
    renamed = rules(tag="track")
    assert told_record({"track": km.event("bob", plan="pro")["km"]}, by=renamed).call.properties == {"plan": "pro"}


def test_value_limit_bounds_every_value():
    short = rules(value_limit=5)
    told = told_record(
        {"km": "event", "person": "robert@example.com", "a": "12345", "b": "123456", "c": 123456}, by=short
    )
    assert (told.call.person, told.call.properties) == ("robert@example.com", {"a": "12345"})
    assert [problem.kind for problem in told.problems] == ["long_value", "long_value"]


@pytest.mark.parametrize("extra", [{"km": "event", "person": "bob"}, km.event("bob"), km.set("bob")], ids=str)
def test_every_event_and_set_carries_the_settings_properties(extra):
    carrying = rules(properties={"environment": "production", "release": {"number": 5}})
    told = told_record(extra, by=carrying)
    assert properties_of(told) == {"environment": "production", "release.number": "5"}


def test_an_alias_carries_no_properties():
    carrying = rules(properties={"environment": "production"})
    assert properties_of(told_record(km.alias("bob", "eve"), by=carrying)) == {}


def test_what_a_call_says_wins_over_the_settings_properties():
    carrying = rules(properties={"environment": "production"})
    assert properties_of(told_record(km.event("bob", environment="test"), by=carrying)) == {"environment": "test"}


# Person, name, time.


def test_the_person_of_the_record_wins_over_the_one_identified():
    assert told_record({"km": "event", "person": "bob"}, person="eve").call.person == "bob"
    assert told_record({"km": "event", "person": None}, person="eve").call.person == "eve"
    assert told_record({"km": "event"}, person="eve").call.person == "eve"
    assert told_record(km.event("bob"), person="eve").call.person == "bob"
    assert told_record(km.event(), person="eve").call.person == "eve"
    assert told_record({"km": "event", "person": 0}, person="eve").call.person == "0"


def test_the_name_is_the_message_as_the_front_end_sees_it():
    """Not formatted, since Kissmetrics keeps every name for ever."""
    record = record_with({"km": "event", "person": "bob"}, "Order %s placed", (8123,))
    assert from_record(record, RULES, None, dict).name == "Order %s placed"
    assert told_dict({"event": "Order placed", "km": "event", "person": "bob"}).call.name == "Order placed"


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"km": "event", "person": "bob", "km_name": "Explicit"}, "Explicit"),
        ({"km": "event", "person": "bob", "km_name": None}, "Signed Up"),
        (km.event("bob", "Explicit"), "Explicit"),
        (km.event("bob"), "Signed Up"),
    ],
    ids=str,
)
def test_an_explicit_name_wins_over_the_message(extra, name):
    assert told_record(extra).call.name == name
    assert told_dict({"event": "Signed Up", **extra}).call.name == name


def test_the_time_of_a_record_is_its_own():
    record = record_with({"km": "event", "person": "bob"})
    record.created = NEW_YEAR + 0.999
    assert tell(from_record(record, RULES, None, dict), RULES).call.timestamp == NEW_YEAR


def test_the_time_of_an_event_dict_is_the_moment_given():
    assert told_dict({"event": "x", "km": "event", "person": "bob"}, moment=LATER + 0.9).call.timestamp == LATER


@pytest.fixture
def _five_hours_west(monkeypatch):
    """A local time that is not UTC."""
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_five_hours_west")
@pytest.mark.parametrize(
    ("stamp", "timestamp"),
    [
        ("2010-01-01T00:00:00Z", NEW_YEAR),  # TimeStamper(fmt="iso")
        ("2010-01-01T00:00:00.999999Z", NEW_YEAR),
        ("2010-01-01T00:00:00+00:00", NEW_YEAR),
        ("2010-01-01T02:00:00.500000+02:00", NEW_YEAR),
        ("2009-12-31T19:00:00", NEW_YEAR),  # TimeStamper(fmt="iso", utc=False)
        ("2009-12-31T19:00:00.123456", NEW_YEAR),
        (float(NEW_YEAR) + 0.9, NEW_YEAR),  # TimeStamper(), Unix time
        (NEW_YEAR, NEW_YEAR),
        ("Fri Jan  1 00:00:00 2010", LATER),  # whatever else is there says nothing
        ("12:30:00", LATER),
        ("", LATER),
        ("Z", LATER),
        ("\ud800\0", LATER),
        ("9" * 10_000, LATER),
        (math.nan, LATER),
        (math.inf, LATER),
        (True, LATER),
        (None, LATER),
        (["2010-01-01"], LATER),
        (object(), LATER),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_what_time_stamper_put_there_is_the_time_of_an_event_dict(stamp, timestamp):
    fields = {"event": "Signed Up", "km": "event", "person": "bob", "timestamp": stamp}
    assert told_dict(fields, moment=LATER).call.timestamp == timestamp
    assert (
        told_dict({**km.event("bob"), "event": "Signed Up", "timestamp": stamp}, moment=LATER).call.timestamp
        == timestamp
    )


@pytest.mark.usefixtures("_five_hours_west")
@pytest.mark.parametrize(("fmt", "utc"), [("iso", True), ("iso", False), (None, True)])
def test_time_stamper_itself_is_understood(fmt, utc):
    """Whatever it writes on the version at hand, it is now."""
    stamped = structlog.processors.TimeStamper(fmt=fmt, utc=utc)(
        None, "info", {"event": "x", "km": "set", "person": "bob"}
    )
    assert abs(told_dict(stamped, moment=NEW_YEAR).call.timestamp - time.time()) < 3_600


def test_an_integer_of_400_digits_where_time_stamper_writes_is_no_time():
    fields = {"event": "Signed Up", "km": "event", "person": "bob", "timestamp": 10**400}
    assert told_dict(fields, moment=LATER).call.timestamp == LATER


def test_an_explicit_time_wins_over_time_stampers():
    fields = {"event": "Signed Up", "timestamp": "2020-01-01T00:00:00Z"}
    assert told_dict({**fields, "km": "event", "person": "bob", "km_timestamp": NEW_YEAR}).call.timestamp == NEW_YEAR
    assert told_dict({**fields, **km.event("bob", timestamp=NEW_YEAR)}).call.timestamp == NEW_YEAR


@pytest.mark.usefixtures("_five_hours_west")
@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (NEW_YEAR, NEW_YEAR),
        (NEW_YEAR + 0.999_999, NEW_YEAR),
        (datetime(2010, 1, 1, tzinfo=timezone.utc), NEW_YEAR),
        (datetime(2010, 1, 1, 0, 0, 0, 999_999, tzinfo=timezone.utc), NEW_YEAR),
        (datetime(2009, 12, 31, 19), NEW_YEAR),  # noqa: DTZ001 - a naive one is local
    ],
    ids=str,
)
def test_an_explicit_time_is_seconds_or_a_datetime_and_is_rounded_down(timestamp, seconds):
    assert told_record({"km": "event", "person": "bob", "km_timestamp": timestamp}).call.timestamp == seconds
    assert told_record(km.event("bob", timestamp=timestamp)).call.timestamp == seconds
    nested = {"km": {"call": "set", "person": "bob", "timestamp": timestamp}}
    assert told_record(nested).call.timestamp == seconds


# What the caller does afterwards changes nothing.


def test_a_snapshot_is_beyond_the_callers_reach():
    """Flat: every mutable kind of value, and the record itself."""
    inner, values, members, raw, queue = {"city": "Berlin"}, ["a"], {"m"}, bytearray(b"raw"), deque(["q"])
    extra = {
        "km": "event",
        "person": "bob",
        "address": inner,
        "list": values,
        "set": members,
        "raw": raw,
        "deque": queue,
    }
    record = record_with(extra)
    snapshot = from_record(record, RULES, None, dict)
    inner["city"] = inner["more"] = "secret"
    values.append("secret")
    members.add("secret")
    raw.extend(b"secret")
    queue.append("secret")
    record.msg = record.km = record.person = "secret"
    record.created = 5
    record.__dict__.clear()
    call = tell(snapshot, RULES).call
    assert (call.kind, call.person, call.name) == ("event", "bob", "Signed Up")
    assert call.properties == {"address.city": "Berlin", "list": "a", "set": "m", "raw": "raw", "deque": "q"}


def test_a_snapshot_of_the_nested_form_is_beyond_the_callers_reach():
    properties = {"address": {"city": "Berlin"}, "list": ["a"]}
    nested = {"call": "event", "person": "bob", "name": "Signed Up", "timestamp": NEW_YEAR, "properties": properties}
    fields = {"event": "x", "km": nested}
    snapshot = from_event_dict(fields, RULES, None, dict, LATER)
    properties["address"]["city"] = properties["new"] = "secret"
    properties["list"].append("secret")
    nested.update(call="set", person="secret", name="secret", timestamp=LATER, other="secret")
    fields.clear()
    call = tell(snapshot, RULES).call
    assert call == km.Call(
        "event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"address.city": "Berlin", "list": "a"}
    )


def test_taking_a_snapshot_changes_nothing():
    extra = {"km": "event", "person": "bob", "address": {"city": "Berlin"}, "values": ["a", {1, 2}], "x": object()}
    record = record_with(extra)
    before = dict(record.__dict__)
    from_record(record, RULES, None, dict)
    fields = {"event": "Signed Up", **extra}
    fields_before = dict(fields)
    from_event_dict(fields, RULES, None, dict, NEW_YEAR)
    assert record.__dict__ == before
    assert fields == fields_before


# The nested form.


def test_a_key_that_the_nested_form_does_not_know_is_a_problem_and_the_call_is_sound():
    told = told_record({"km": {"call": "event", "person": "bob", "propertys": {"plan": "secret"}}})
    assert told.call.person == "bob"
    (problem,) = told.problems
    assert problem.kind == "unknown_field"
    assert "propertys" in problem.message
    assert "properties" in problem.remedy
    assert "secret" not in str(problem)


@pytest.mark.parametrize("mapping", [OrderedDict, UserDict, MappingProxyType])
def test_the_tag_and_its_properties_may_be_any_mapping(mapping):
    nested = mapping({"call": "event", "person": "bob", "properties": mapping({"plan": "pro"})})
    assert properties_of(told_record({"km": nested})) == {"plan": "pro"}


class Endless(Mapping):
    """A mapping of the user's own that never comes to an end, such as one over a stream."""

    def __len__(self):
        return 3

    def __iter__(self):
        return map(str, itertools.count())

    def __getitem__(self, key):
        return "x"


@pytest.mark.timeout(30)
def test_a_tag_or_properties_without_end_are_not_walked_to_it():
    for extra in (
        {"km": Endless()},
        {"km": {"call": "event", "person": "bob", "properties": Endless()}},
        km.event("bob", properties=Endless()),
        km.set("bob", endless=Endless()),
    ):
        told = told_record(extra)
        assert told.problems
        assert len(told.problems) < 10_000
    tagged = Endless()
    assert mark(tagged, "address") is tagged


def test_from_nested_serves_a_caller_without_a_record():
    snapshot = from_nested(km.event("bob", "Signed Up", plan="pro")["km"], RULES, None, None, NEW_YEAR)
    assert tell(snapshot, RULES).call == km.Call(
        "event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro"}
    )


# Names and tags that are texts of another type.


def test_a_property_named_by_an_enum_has_the_enums_value_as_its_name():
    """As everywhere; `Field.PLAN` is what str() would make of it."""
    for extra in ({"km": "event", "person": "bob", Field.PLAN: "pro"}, km.event("bob", properties={Field.PLAN: "pro"})):
        (name,) = properties_of(told_record(extra))
        assert name == "plan"
        assert type(name) is str


def test_a_reserved_property_named_by_an_enum_is_left_out():
    told = told_record({"km": {"call": "event", "person": "bob", "properties": {Field.RESERVED: "secret"}}})
    assert properties_of(told) == {}
    assert [problem.kind for problem in told.problems] == ["reserved_property"]


def test_a_call_named_by_an_enum_is_that_call():
    for extra in ({"km": Kind.EVENT, "person": "bob"}, {"km": {"call": Kind.EVENT, "person": "bob"}}):
        kind = told_record(extra).call.kind
        assert kind == "event"
        assert type(kind) is str


# Marks: the same record reaching two front ends is one call.

TAGS = {
    "text": "event",
    "any text": "\ud800 anything\0",
    "enum": Kind.EVENT,
    "helper": km.event("bob", plan="pro", bad=object())["km"],
    "dict": {"call": "event", "person": "bob", "properties": {"plan": ["pro", {"a": 1}]}},
    "empty": {},
    "OrderedDict": OrderedDict(call="event", person="bob"),
}


@pytest.mark.parametrize("name", TAGS)
def test_a_mark_is_equal_to_what_it_marks_and_written_alike(name):
    """By JSON, by a formatter's repr, by str and format; a hash where there is one."""
    tagged = TAGS[name]
    marked = mark(tagged, "address")
    assert marked == tagged
    assert tagged == marked
    assert json.dumps(marked) == json.dumps(tagged)
    assert isinstance(marked, str) == isinstance(tagged, str)
    if type(tagged) in {str, dict}:
        assert repr(marked) == repr(tagged)
        assert str(marked) == str(tagged)
        assert f"{marked}" == f"{tagged}"
    if isinstance(tagged, str):
        assert hash(marked) == hash(tagged)


@pytest.mark.parametrize("name", TAGS)
def test_a_marked_tag_is_read_as_the_original(name):
    fields = {"event": "Signed Up", "person": "bob", "km": TAGS[name]}
    marked = {**fields, "km": mark(TAGS[name], "address")}
    assert from_event_dict(marked, RULES, None, dict, NEW_YEAR) == from_event_dict(fields, RULES, None, dict, NEW_YEAR)


@pytest.mark.parametrize("tagged", ["event", {"call": "event", "properties": {"plan": "pro"}}], ids=["text", "mapping"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_marked_tag_leaves_the_process_as_a_plain_one(tagged, protocol):
    """Unpickled, it is of a type that every Python knows, and no longer marked: another process may take it."""
    pickled = pickle.dumps(mark(tagged, "address"), protocol)
    assert b"km_logging" not in pickled
    unpickled = pickle.loads(pickled)
    assert unpickled == tagged
    assert type(unpickled) is type(tagged)
    assert not is_marked(unpickled, "address")


@pytest.mark.parametrize("tagged", ["event", {"call": "event"}], ids=["text", "mapping"])
def test_a_mark_is_for_one_address(tagged):
    """Two front ends that send to two products make a call each."""
    assert not is_marked(tagged, "one")
    once = mark(tagged, "one")
    assert is_marked(once, "one")
    assert not is_marked(once, "other")
    twice = mark(once, "other")
    assert is_marked(twice, "one")
    assert is_marked(twice, "other")
    assert not is_marked(once, "other")


def test_marking_leaves_the_original_alone():
    tagged = {"call": "event", "properties": {}}
    before = copy.deepcopy(tagged)
    marked = mark(tagged, "address")
    marked["call"] = "set"
    assert tagged == before
    assert not is_marked(tagged, "address")


def test_a_tag_that_cannot_be_marked_comes_back_as_it_was():
    class Unreadable(UserDict):
        def __iter__(self):
            raise RuntimeError

    tagged = Unreadable({"call": "event"})
    assert mark(tagged, "address") is tagged
    assert not is_marked(tagged, "address")


@pytest.mark.parametrize("value", [12.5, None, [], object(), PurePosixPath("a")], ids=shown)
def test_nothing_but_texts_and_mappings_is_ever_marked(value):
    assert not is_marked(value, "address")


def test_a_datetime_in_an_event_dict_is_its_time():
    moment = datetime(2010, 1, 1, 0, 0, 5, tzinfo=timezone.utc)
    fields = {"event": "Signed Up", "km": "event", "person": "bob", "timestamp": moment}
    assert tell(from_event_dict(fields, RULES, None, dict, 5.0), RULES).call.timestamp == 1_262_304_005
