"""From a snapshot to the call: what is refused, what is left out, and that nothing whatever raises."""

from __future__ import annotations

import dataclasses
import enum
import logging
import math
from collections import UserDict
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import km_logging as km
from km_logging import wire
from km_logging.calls import PROBLEMS, Call
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict, from_nested, from_record
from km_logging.telling import nested_form, recheck, tell
from support.ids import shown

NEW_YEAR = 1_262_304_000  # 2010-01-01
FIRST_SECOND = 1_230_768_000  # 2009-01-01
SOMEBODY = UUID("12345678-1234-5678-1234-567812345678")


class Level(enum.IntEnum):
    """An integer of another type."""

    HIGH = 3


class Shouting(str):
    """A text whose str() is another one."""

    __slots__ = ()

    def __str__(self):
        return "not me"


def rules(**given):
    return Rules(Settings.resolve({"api_key": "key", **given}, {}))


RULES = rules()


def outcome(fields, msg="Signed Up", *, by=RULES, person=None):
    """What becomes of an event dict with these fields."""
    return tell(from_event_dict({"event": msg, **fields}, by, person, dict, NEW_YEAR), by)


def kinds(told):
    return [problem.kind for problem in told.problems]


# Person and name.


@pytest.mark.parametrize(
    ("person", "text"),
    [
        ("bob", "bob"),
        (" ", " "),
        ("é漢🎉\0", "é漢🎉\0"),
        ("x" * 255, "x" * 255),
        (5, "5"),
        (0, "0"),
        (-5, "-5"),
        (10**254, "1" + "0" * 254),
        (SOMEBODY, str(SOMEBODY)),
        (Shouting("me"), "me"),
        (Level.HIGH, "3"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_person_is_text_an_integer_or_a_uuid(person, text):
    for told in (
        outcome({"km": "event", "person": person}),
        outcome({"km": {"call": "set", "person": person}}),
        outcome({"km": "set"}, person=person),
        outcome({"km": "alias", "person": person, "identity": "another"}),
    ):
        assert told.call.person == text
        assert type(told.call.person) is str
    assert outcome({"km": "alias", "person": "another", "identity": person}).call.identity == text


@pytest.mark.parametrize(
    "person",
    [
        "",
        "x" * 256,
        "\ud800",
        10**255,
        10**9_999,
        -(10**9_999),
        True,
        False,
        5.0,
        math.nan,
        b"bob",
        ["bob"],
        {"id": 5},
        object(),
    ],
    ids=["empty", "long", "surrogate", "256 digits", "huge", "hugely negative", *map(str, range(8))],
)
def test_anything_else_is_no_person(person):
    assert kinds(outcome({"km": "event", "person": person})) == ["bad_person"]
    assert kinds(outcome({"km": {"call": "event", "person": person}})) == ["bad_person"]
    assert kinds(outcome({"km": "event"}, person=person)) == ["bad_person"]


@pytest.mark.parametrize(
    "msg", ["x", "x" * 255, "Order %s placed", "🎉\0", Shouting("me")], ids=lambda m: ascii(m)[:20]
)
def test_an_event_name_is_text(msg):
    name = outcome({"km": "event", "person": "bob"}, msg).call.name
    assert name == msg
    assert type(name) is str


def test_only_events_have_a_name():
    assert outcome({"km": "set", "person": "bob"}, object()).call.name is None
    assert outcome({"km": "alias", "person": "bob", "identity": "eve"}, "x" * 256).call.name is None


# Refused whole, with exactly one problem.

SECRET = "eulav-TERCES"[::-1]  # reversed, since Hypothesis also tries texts that it finds in the source
BOB = {"person": "bob", "plan": SECRET, "seats": [SECRET]}

REFUSED = {
    "nobody": ({"km": "event", "plan": SECRET}, "no_person"),
    "nobody, set": ({"km": "set", "plan": SECRET}, "no_person"),
    "nobody, alias": ({"km": "alias", "identity": "eve", "plan": SECRET}, "no_person"),
    "nobody, nested": ({"km": {"call": "event", "properties": {"plan": SECRET}}}, "no_person"),
    "nobody, helper": (km.event(plan=SECRET), "no_person"),
    "empty person": ({"km": "event", **BOB, "person": ""}, "bad_person"),
    "long person": ({"km": "event", **BOB, "person": "x" * 256}, "bad_person"),
    "person that is none": ({"km": "event", **BOB, "person": [SECRET]}, "bad_person"),
    "person that is none, helper": (km.event([SECRET], plan=SECRET), "bad_person"),
    "empty name": ({"km": "event", **BOB, "km_name": ""}, "bad_name"),
    "long name": ({"km": "event", **BOB, "km_name": "x" * 256}, "bad_name"),
    "name that is none": ({"km": "event", **BOB, "km_name": 5}, "bad_name"),
    "name with a lone surrogate": ({"km": "event", **BOB, "km_name": "\ud800"}, "bad_name"),
    "message that is no text": ({"event": [SECRET], "km": "event", **BOB}, "bad_name"),
    "no message": ({"event": None, "km": "event", **BOB}, "bad_name"),
    "no identity": ({"km": "alias", **BOB}, "bad_identity"),
    "empty identity": ({"km": "alias", **BOB, "identity": ""}, "bad_identity"),
    "long identity": ({"km": "alias", **BOB, "identity": "x" * 256}, "bad_identity"),
    "alias to oneself": ({"km": "alias", **BOB, "identity": "bob"}, "self_alias"),
    "alias to oneself, integers": ({"km": "alias", "person": 5, "identity": "5", "plan": SECRET}, "self_alias"),
    "alias to oneself, uuid": (km.alias(SOMEBODY, str(SOMEBODY)), "self_alias"),
    "before 2009": ({"km": "event", **BOB, "km_timestamp": FIRST_SECOND - 1}, "bad_timestamp"),
    "just before 2009": ({"km": "set", **BOB, "km_timestamp": FIRST_SECOND - 0.001}, "bad_timestamp"),
    "zero": ({"km": "event", **BOB, "km_timestamp": 0}, "bad_timestamp"),
    "negative": ({"km": "event", **BOB, "km_timestamp": -NEW_YEAR}, "bad_timestamp"),
    "hugely negative": ({"km": "event", **BOB, "km_timestamp": -(10**9_999)}, "bad_timestamp"),
    "milliseconds": ({"km": "event", **BOB, "km_timestamp": NEW_YEAR * 1_000}, "bad_timestamp"),
    "milliseconds, set": ({"km": "set", **BOB, "km_timestamp": NEW_YEAR * 1_000.0}, "bad_timestamp"),
    "huge": ({"km": "event", **BOB, "km_timestamp": 10**9_999}, "bad_timestamp"),
    "huge float": ({"km": "event", **BOB, "km_timestamp": 1e300}, "bad_timestamp"),
    "NaN": ({"km": "event", **BOB, "km_timestamp": math.nan}, "bad_timestamp"),
    "infinity": ({"km": "event", **BOB, "km_timestamp": math.inf}, "bad_timestamp"),
    "time that is true": ({"km": "event", **BOB, "km_timestamp": True}, "bad_timestamp"),
    "time that is text": ({"km": "event", **BOB, "km_timestamp": "2010-01-01"}, "bad_timestamp"),
    "time that is a date": ({"km": "event", **BOB, "km_timestamp": date(2010, 1, 1)}, "bad_timestamp"),
    "datetime before 2009": (km.set("bob", timestamp=datetime(2008, 12, 31, tzinfo=timezone.utc)), "bad_timestamp"),
    "first datetime": ({"km": "event", **BOB, "km_timestamp": datetime.min}, "bad_timestamp"),  # noqa: DTZ901
    "last datetime": ({"km": "event", **BOB, "km_timestamp": datetime.max}, "bad_timestamp"),  # noqa: DTZ901
    "unknown tag": ({"km": "events", **BOB}, "unknown_call"),
    "empty tag": ({"km": "", **BOB}, "unknown_call"),
    "tag in capitals": ({"km": "EVENT", **BOB}, "unknown_call"),
    "tag with a lone surrogate": ({"km": "\ud800", **BOB}, "unknown_call"),
    "long tag": ({"km": "event" * 1_000, **BOB}, "unknown_call"),
    "unknown call": ({"km": {"call": "record", "person": "bob", "properties": {"plan": SECRET}}}, "unknown_call"),
    "no call": ({"km": {"person": "bob", "properties": {"plan": SECRET}}}, "unknown_call"),
    "empty mapping": ({"km": {}, **BOB}, "unknown_call"),
    "call that is no text": ({"km": {"call": [SECRET], "person": "bob"}}, "unknown_call"),
    "nobody and no time": ({"km": "event", "plan": SECRET, "km_timestamp": "x"}, None),
    "everything wrong": ({"km": "event", "person": "", "km_name": "", "km_timestamp": 0, "plan": SECRET}, None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_that_is_refused_gives_one_problem_with_a_remedy_and_no_value(name):
    extra, kind = REFUSED[name]
    told = outcome(extra, extra.get("event", "Signed Up"))
    assert told.call is None
    (problem,) = told.problems
    assert problem.kind == kind or (kind is None and problem.kind in PROBLEMS)
    assert problem.call is None
    assert problem.message
    assert problem.remedy
    assert SECRET not in str(problem) + repr(problem)


@pytest.mark.parametrize("timestamp", [FIRST_SECOND, FIRST_SECOND + 0.999, 100_000_000_000, 100_000_000_000.9])
def test_the_first_and_last_times_that_are_seconds_are_taken(timestamp):
    assert outcome({"km": "event", "person": "bob", "km_timestamp": timestamp}).call.timestamp == math.floor(timestamp)


def test_an_alias_needs_no_time():
    """It carries none on the wire."""
    for timestamp in (0, NEW_YEAR * 1_000, "never"):
        told = outcome({"km": "alias", "person": "bob", "identity": "eve", "km_timestamp": timestamp})
        assert wire.encode(told.call) == "/a?_p=bob&_n=eve"


# Left out of a sound call.

LEFT_OUT = {
    **{name: (name, SECRET, "reserved_property") for name in ("_k", "_p", "_n", "_t", "_d")},
    "empty name": ("", SECRET, "bad_property_name"),
    "long name": ("x" * 256, SECRET, "bad_property_name"),
    "name of 10 kB": ("x" * 10_000, SECRET, "bad_property_name"),
    "long name of a member": ("x" * 200, {"y" * 60: SECRET}, "bad_property_name"),
    "lone surrogate in the name": ("\ud800", SECRET, "bad_property_name"),
    "name that is a number": (5, SECRET, "bad_property_name"),
    "name that is None": (None, SECRET, "bad_property_name"),
    "name that is a tuple": ((1, 2), SECRET, "bad_property_name"),
    "long value": ("x", SECRET * 100, "long_value"),
    "huge integer": ("x", 10**9_999, "long_value"),
    "NaN": ("x", math.nan, "bad_value"),
    "object": ("x", object(), "bad_value"),
    "request": ("request", MagicMock(), "bad_value"),
    "nested list": ("x", [[SECRET]], "bad_value"),
    "lone surrogate": ("x", SECRET + "\ud800", "bad_value"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_property_that_cannot_be_told_is_left_out_of_a_sound_call(name):
    """With exactly one problem, which has a remedy, shows no value, and holds the call as it is sent."""
    key, value, kind = LEFT_OUT[name]
    told = outcome({"km": {"call": "event", "person": "bob", "properties": {"plan": "pro", key: value, "seats": 5}}})
    assert told.call == Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro", "seats": "5"})
    (problem,) = told.problems
    assert problem.kind == kind
    assert problem.call == told.call
    assert problem.message
    assert problem.remedy
    assert len(str(problem)) < 1_000
    assert SECRET not in str(problem) + repr(problem)


def test_the_problem_of_a_property_names_it_and_its_event():
    (problem,) = outcome({"km": "event", "person": "bob", "request": object()}).problems
    assert "request" in problem.message
    assert "Signed Up" in problem.message


@pytest.mark.parametrize(
    "key", ["x" * 255, "🎉" * 255, "a b", "Plan", "a.b", "k", "nul\0"], ids=lambda key: ascii(key)[:10]
)
def test_any_other_name_is_sent_as_it_is(key):
    assert outcome({"km": "set", "person": "bob", key: "x"}).call.properties == {key: "x"}


def test_each_property_that_is_left_out_is_a_problem_of_its_own():
    told = outcome({"km": "event", "person": "bob", "a": object(), "b": math.nan, "c": "x" * 513, "d": 1})
    assert kinds(told) == ["bad_value", "bad_value", "long_value"]
    assert told.call.properties == {"d": "1"}


def test_a_property_of_none_is_left_out_without_a_problem():
    told = outcome({"km": "event", "person": "bob", "plan": None, "address": {"city": None}})
    assert told.call.properties == {}
    assert told.problems == ()


@pytest.mark.parametrize("base", ["", "/proxy"])
@pytest.mark.parametrize("api_key", ["key", "k&y é"])
@pytest.mark.parametrize("kind", ["event", "set"])
def test_a_request_target_of_8000_bytes_is_full_to_the_last_byte(kind, api_key, base):
    by = rules(api_key=api_key, endpoint=f"https://localhost{base}", value_limit=8_000)

    def target_of(text):
        told = outcome({"km": kind, "person": "bob", "fill": text}, by=by)
        return wire.target(wire.encode(told.call), api_key, base), told

    target, _ = target_of("")
    exact, told = target_of("x" * (8_000 - len(target)))
    assert told.problems == ()
    assert len(exact) == 8_000
    _, told = target_of("x" * (8_001 - len(target)))
    assert kinds(told) == ["no_room"]
    assert told.call.properties == {}


def test_of_1000_properties_those_that_no_longer_fit_are_left_out_and_said():
    told = outcome({"km": "event", "person": "bob", **{f"property {n}": SECRET for n in range(1_000)}})
    names = list(told.call.properties)
    assert names == [f"property {n}" for n in range(len(names))]
    assert 100 < len(names) < 1_000
    assert kinds(told) == ["no_room"] * (1_000 - len(names))
    assert "8,000" in told.problems[0].remedy
    assert SECRET not in str(told.problems[0])
    assert {problem.call == told.call for problem in told.problems} == {True}


def test_properties_of_the_settings_leave_room_to_those_of_the_call():
    """The first ones stay, and the call's own come first."""
    by = rules(properties={"default": "d" * 5_000}, value_limit=8_000)
    told = outcome({"km": "event", "person": "bob", "own": "o" * 5_000}, by=by)
    assert list(told.call.properties) == ["own"]
    assert kinds(told) == ["no_room"]


# What `before_send` returned is looked at once more.

SOUND = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro"})


def test_a_call_that_came_back_unchanged_is_the_same_call():
    assert recheck(SOUND, RULES) == tell(from_nested(nested_form(SOUND), RULES, None, None, 0.0), RULES)
    assert recheck(SOUND, RULES).call == SOUND


@pytest.mark.parametrize(
    ("properties", "texts", "problems"),
    [
        ({"a": 5, "b": None, "c": [1, 2], "d": True}, {"a": "5", "c": "1, 2", "d": "true"}, []),
        ({"a": "x" * 513, "b": "y"}, {"b": "y"}, ["long_value"]),
        ({"_p": "x", "": "x", "b": "y"}, {"b": "y"}, ["reserved_property", "bad_property_name"]),
        ({5: "x", "b": "y"}, {"b": "y"}, ["bad_property_name"]),
        ({None: "x", "b": "y"}, {"b": "y"}, ["bad_property_name"]),
        ({("x",): "x", "b": "y"}, {"b": "y"}, ["bad_property_name"]),
        ({"a": object(), "b": "y"}, {"b": "y"}, ["bad_value"]),
    ],
    ids=lambda value: shown(value)[:30],
)
def test_properties_that_before_send_put_in_are_told_as_any_others(properties, texts, problems):
    told = recheck(dataclasses.replace(SOUND, properties=properties), RULES)
    assert told.call == dataclasses.replace(SOUND, properties=texts)
    assert kinds(told) == problems


def test_what_before_send_lets_grow_too_large_is_cut_to_fit():
    grown = dataclasses.replace(SOUND, properties={f"p{n}": "x" * 500 for n in range(100)})
    told = recheck(grown, RULES)
    assert 0 < len(told.call.properties) < 100
    assert len(wire.target(wire.encode(told.call), "key")) <= 8_000
    assert set(kinds(told)) == {"no_room"}


# The whole way, whatever it is given.


class _HostileMeta(type):
    @property
    def __name__(cls):
        raise RuntimeError


class _HostileType(metaclass=_HostileMeta):
    pass


class _HostileError(Exception, metaclass=_HostileMeta):
    pass


class _HostileClass:
    @property
    def __class__(self):
        raise RuntimeError


class _HostileZone(tzinfo):
    def utcoffset(self, when):
        raise RuntimeError


def _raising(*names, base=object, error=RuntimeError):
    def raising(*_):
        raise error

    return type("Raising", (base,), dict.fromkeys(names, raising))


def _recursive_dict():
    recursive = {"a": 1}
    recursive["self"] = recursive
    return recursive


def _recursive_list():
    recursive = [1]
    recursive.append(recursive)
    return recursive


HOSTILE = {
    "__str__": _raising("__str__", "__repr__", "__format__"),
    "__eq__": _raising("__eq__", "__ne__", "__hash__", "__bool__", "__lt__"),
    "__class__": _HostileClass,
    "__getattribute__": _raising("__getattribute__"),
    "type": _HostileType,
    "iterable": _raising("__iter__", "__len__", "__next__"),
    "mapping, items": lambda: _raising("items", base=dict)(a=1),
    "mapping, keys": lambda: _raising("keys", "__iter__", base=UserDict)(a=1),
    "mapping, hostile error": lambda: _raising("items", "__iter__", base=UserDict, error=_HostileError)(a=1),
    "mapping, __getitem__": lambda: _raising("__getitem__", "get", base=UserDict)(call="event"),
    "recursive dict": _recursive_dict,
    "recursive list": _recursive_list,
    "deep dict": lambda: {"a": {"a": {"a": _recursive_dict()}}},
    "integer of 10,000 digits": lambda: 10**9_999,
    "negative integer of 10,000 digits": lambda: -(10**9_999),
    "decimal": lambda: Decimal("1e999999"),
    "list of 10,000": lambda: ["x"] * 10_000,
    "dict of 1,000": lambda: {f"key {n}": n for n in range(1_000)},
    "text of 10 kB": lambda: "x" * 10_000,
    "datetime": lambda: _raising("timestamp", "isoformat", base=datetime)(2010, 1, 1),
    "time zone": lambda: datetime(2010, 1, 1, tzinfo=_HostileZone()),
    "last datetime": lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    "uuid": lambda: _raising("__str__", base=UUID)(int=5),
    "path": lambda: _raising("__str__", base=PurePosixPath)("a"),
    "text": lambda: _raising("__str__", "__len__", "__iter__", "encode", "isascii", base=str)("event"),
    "text, __eq__": lambda: _raising("__eq__", base=str)("event"),
    "integer": lambda: _raising("__repr__", "bit_length", "__floor__", "__abs__", base=int)(5),
    "float": lambda: _raising("__repr__", "__float__", "__floor__", base=float)(5.5),
    "mock": MagicMock,
    "mock of str": lambda: MagicMock(spec=str),
    "mock of date": lambda: MagicMock(spec=date),
    "mock of dict": lambda: MagicMock(spec=dict),
    "problem": lambda: km.event("bob", bad=object())["km"]["properties"]["bad"],
}


class Stand(NamedTuple):
    """Stands for something hostile until the test itself makes it: Hypothesis looks at what it generates."""

    name: str


def built(recipe):
    if type(recipe) is Stand:
        return HOSTILE[recipe.name]()
    if type(recipe) is dict:
        return {key: built(value) for key, value in recipe.items()}
    return [built(value) for value in recipe] if type(recipe) is list else recipe


ANY_TEXT = st.text(alphabet=st.characters() | st.sampled_from("\ud800\udfff\0.,"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ANY_TEXT,
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([Level.HIGH, Shouting("me"), range(3), range(10**20)]),
)
HOSTILES = st.sampled_from([*HOSTILE]).map(Stand)
HASHABLE = st.one_of(
    st.none(), st.booleans(), st.integers(), ANY_TEXT, st.tuples(st.integers()), st.binary(), st.dates()
)


def values_of(scalars):
    """Every other one hostile, since among all others they would hardly ever come up."""
    containers = st.recursive(
        scalars,
        lambda values: st.lists(values, max_size=4) | st.dictionaries(HASHABLE, values | HOSTILES, max_size=4),
        max_leaves=6,
    )
    return HOSTILES | containers


ANYTHING = values_of(SCALARS)
VALUES = values_of(SCALARS | st.sampled_from([SECRET, SECRET * 90, SECRET + "\ud800"]))  # only where properties are
NAMES = st.one_of(
    ANY_TEXT,
    st.sampled_from(
        ["_k", "_p", "_n", "_t", "_d", "", "x" * 10_000, "🎉" * 255, "identity", "address.city", "timestamp"]
    ),
    st.sampled_from(
        ["msg", "created", "args", "message", "event", "level", "name", 5, None, (1, 2), b"x", Shouting("y")]
    ),
)
PROPERTIES = st.dictionaries(NAMES, VALUES, max_size=6)
PERSONS = st.sampled_from(["bob", 0, SOMEBODY, "é", "x" * 255]) | ANYTHING
TIMES = st.sampled_from([NEW_YEAR, NEW_YEAR + 0.5, None, datetime(2010, 1, 1, tzinfo=timezone.utc)]) | ANYTHING
CALL_NAMES = st.sampled_from([None, "Signed Up", "x" * 255]) | ANYTHING
NESTED = st.builds(
    lambda known, more: {**more, **known},
    st.fixed_dictionaries(
        {"call": st.sampled_from(["event", "set", "alias"]) | ANYTHING},
        optional={
            "person": PERSONS,
            "name": CALL_NAMES,
            "identity": PERSONS,
            "timestamp": TIMES,
            "properties": PROPERTIES | VALUES,
        },
    ),
    st.dictionaries(NAMES, ANYTHING, max_size=2),
)
HOSTILE_TAGS = ["text", "text, __eq__", *(name for name in HOSTILE if name.startswith(("mapping", "recursive d")))]
TAGS = st.one_of(st.sampled_from(["event", "set", "alias"]), NESTED, ANY_TEXT, st.sampled_from(HOSTILE_TAGS).map(Stand))
FIELDS = st.builds(
    lambda known, more, many: {**more, **known, **({f"p{n}": n for n in range(1_000)} if many == 20 else {})},
    st.fixed_dictionaries(
        {"km": TAGS},
        optional={"person": PERSONS, "identity": PERSONS, "km_name": CALL_NAMES, "km_timestamp": TIMES},
    ),
    PROPERTIES,
    st.integers(0, 20),
)
SETTINGS = {
    "none": {},
    "include": {"include": ["address", "a", "identity"]},
    "exclude": {"exclude": ["address", "a", "identity"]},
    "limit": {"value_limit": 8_000},
    "properties": {"properties": {"environment": "production", "release": {"a": 5}}},
    "fields": {"person_field": "identity"},
}
ALL_RULES = {name: rules(**given) for name, given in SETTINGS.items()}

thoroughly = settings(
    deadline=None,
    max_examples=300,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_sound(told, fields, by, secret=SECRET):
    """Whatever came in: a call that survives the wire and says only what was given, or one documented problem."""
    for problem in told.problems:
        assert problem.kind in PROBLEMS
        assert problem.message
        assert problem.remedy
        assert secret is None or secret not in str(problem)
    if told.call is None:
        assert len(told.problems) == 1
        return
    call = told.call
    expected = dataclasses.replace(call, timestamp=0) if call.kind == "alias" else call
    assert wire.decode(wire.encode(call)) == expected
    assert len(wire.target(wire.encode(call), "key")) <= 8_000
    assert {type(text) for text in (call.kind, call.person, *call.properties, *call.properties.values())} == {str}
    assert type(call.timestamp) is int
    given = given_properties(fields) | dict(by.defaults)
    for name, text in call.properties.items():
        roots = (str.__add__(root, ".") for root in given if isinstance(root, str))
        assert name in given or name.startswith(tuple(roots)), name
        if type(given.get(name)) in {str, bool, int}:
            value = given[name]
            assert text == (str(value).lower() if type(value) is bool else str(value))


def given_properties(fields):
    """What the caller wrote as properties; from the recipe, so that looking at it is harmless."""
    tagged = fields["km"]
    if type(tagged) is dict:
        properties = tagged.get("properties")
        if type(properties) is Stand:  # by hand what those that tell at all are made of
            return dict.fromkeys(["a", "self", *(f"key {n}" for n in range(1_000))])
        return properties if type(properties) is dict else {}
    return fields if type(tagged) is not Stand or tagged.name.startswith("text") else {"a": None}


@thoroughly
@given(fields=FIELDS, settings_name=st.sampled_from([*SETTINGS]), identified=PERSONS)
def test_any_record_is_told_or_refused_and_nothing_raises(fields, settings_name, identified):
    """Made by `Logger.makeRecord` from `extra`, as a log call does."""
    by = ALL_RULES[settings_name]
    own = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}  # those logging itself refuses
    fields = {name: value for name, value in fields.items() if name not in own}
    record = logging.getLogger("app").makeRecord("app", 20, __file__, 1, "Signed Up", (), None, extra=built(fields))
    assert_sound(tell(from_record(record, by, built(identified), dict), by), fields, by)


@thoroughly
@given(fields=FIELDS, settings_name=st.sampled_from([*SETTINGS]), identified=PERSONS)
def test_any_made_up_record_is_told_or_refused_and_nothing_raises(fields, settings_name, identified):
    """Made by `logging.makeLogRecord`, as a socket server does: even message, time and arguments may be anything."""
    by = ALL_RULES[settings_name]
    record = logging.makeLogRecord(built(fields))
    told = tell(from_record(record, by, built(identified), dict), by)
    assert_sound(told, fields, by, secret=None)  # it may be the message, and so the event's name


@thoroughly
@given(fields=FIELDS, message=CALL_NAMES, settings_name=st.sampled_from([*SETTINGS]), identified=PERSONS)
def test_any_event_dict_is_told_or_refused_and_nothing_raises(fields, message, settings_name, identified):
    by = ALL_RULES[settings_name]
    event_dict = {**built(fields), "event": built(message)}
    assert_sound(tell(from_event_dict(event_dict, by, built(identified), dict, NEW_YEAR), by), fields, by)


@thoroughly
@given(nested=NESTED, identified=PERSONS)
def test_any_nested_form_is_told_or_refused_and_nothing_raises(nested, identified):
    snapshot = from_nested(built(nested), RULES, built(identified), None, NEW_YEAR)
    assert_sound(tell(snapshot, RULES), {"km": nested}, RULES)
    assert tell(snapshot, RULES) == tell(snapshot, RULES)


@thoroughly
@given(properties=PROPERTIES)
def test_any_properties_of_before_send_are_told_or_left_out_and_nothing_raises(properties):
    told = recheck(dataclasses.replace(SOUND, properties=built(properties)), RULES)
    assert_sound(told, {"km": {"properties": properties}}, RULES)
    assert told.call is not None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_costs_itself_only(name):
    """In either form, the call around it is sound, and the other properties are there."""
    for extra in (
        {"km": "event", "person": "bob", "a": "1", "bad": HOSTILE[name](), "b": 2},
        {"km": {"call": "event", "person": "bob", "properties": {"a": "1", "bad": HOSTILE[name](), "b": 2}}},
        km.event("bob", a="1", bad=HOSTILE[name](), b=2),
    ):
        told = outcome(extra)
        assert told.call is not None, told.problems
        assert told.call.properties.items() >= {"a": "1"}.items()
        assert "b" in told.call.properties or "no_room" in kinds(told)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_person_name_or_time_is_refused_or_told(name):
    sound = {"km": "event", "person": "bob"}
    for extra in (
        {**sound, "person": HOSTILE[name]()},
        {**sound, "km_name": HOSTILE[name]()},
        {**sound, "km_timestamp": HOSTILE[name]()},
        {**sound, "timestamp": HOSTILE[name]()},
        {"km": "alias", "person": "bob", "identity": HOSTILE[name]()},
        {"km": {"call": HOSTILE[name](), "person": "bob"}},
        {"km": {"call": "event", "person": HOSTILE[name]()}},
        {"km": {"call": "event", "person": "bob", "properties": HOSTILE[name]()}},
        {"km": {"call": "event", "person": "bob", "unknown": HOSTILE[name]()}},
    ):
        told = outcome(extra)
        assert (told.call is None) == (len(told.problems) == 1 and told.problems[0].call is None)
        assert {problem.kind for problem in told.problems} <= set(PROBLEMS)
    told = outcome(sound, HOSTILE[name]())
    assert told.call is not None or kinds(told) == ["bad_name"]
    told = outcome({"km": "event"}, person=HOSTILE[name]())
    assert told.call is not None or kinds(told) in (["bad_person"], ["no_person"])


# And back: a call as the nested form, as it is written into a log.

SOUND_TEXT = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=20)
SOUND_NAMES = SOUND_TEXT.filter(lambda name: name not in {"_k", "_p", "_n", "_t", "_d"})
SECONDS = st.integers(FIRST_SECOND, 100_000_000_000)
SOUND_PROPERTIES = st.dictionaries(SOUND_NAMES, st.text(alphabet=st.characters(codec="utf-8"), max_size=20), max_size=5)


@settings(deadline=None)
@given(
    call=st.one_of(
        st.builds(Call, st.just("event"), SOUND_TEXT, SOUND_TEXT, timestamp=SECONDS, properties=SOUND_PROPERTIES),
        st.builds(Call, st.just("set"), SOUND_TEXT, timestamp=SECONDS, properties=SOUND_PROPERTIES),
        st.builds(Call, st.just("alias"), SOUND_TEXT.map("a".__add__), identity=SOUND_TEXT.map("b".__add__)),
    )
)
@example(Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"a.b": "1", "a": "", "call": "x"}))
def test_the_nested_form_of_a_call_reads_as_that_call_again(call):
    told = tell(from_nested(nested_form(call), RULES, None, "another message", NEW_YEAR + 5), RULES)
    assert told.call == call
    assert told.problems == ()


def test_the_nested_form_of_a_call_is_the_one_that_people_write():
    assert nested_form(SOUND) == {
        "call": "event",
        "person": "bob",
        "name": "Signed Up",
        "timestamp": NEW_YEAR,
        "properties": {"plan": "pro"},
    }
    assert set(nested_form(Call("alias", "bob", identity="eve"))) >= {"call", "person", "identity"}
