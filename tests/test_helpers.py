"""The helpers: what exactly they return, that JSON can carry it, and what becomes of what cannot be told."""

from __future__ import annotations

import copy
import enum
import inspect
import json
import logging
import math
import pickle
from collections import UserDict
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import pytest
import structlog
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import km_logging as km
from km_logging.calls import PROBLEMS
from km_logging.helpers import Unsaid
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict, from_record
from km_logging.telling import tell
from support.ids import shown

NEW_YEAR = 1_262_304_000  # 2010-01-01
SOMEBODY = UUID("12345678-1234-5678-1234-567812345678")
RULES = Rules(Settings.resolve({"api_key": "key"}, {}))


class Level(enum.IntEnum):
    """An integer of another type."""

    HIGH = 3


class Plan(str, enum.Enum):
    """A text of another type, whose str() is another text."""

    PRO = "pro"


class Seconds(float):
    """A float of another type, as numpy's are."""


def outcome(fields, msg="Signed Up"):
    """What becomes of an event dict with these fields."""
    return tell(from_event_dict({"event": msg, **fields}, RULES, None, dict, NEW_YEAR), RULES)


def problem_kinds(told):
    return [problem.kind for problem in told.problems]


# What they return.


@pytest.mark.parametrize(
    ("returned", "nested"),
    [
        (
            km.event("bob", plan="pro"),
            {"call": "event", "person": "bob", "properties": {"plan": "pro"}},
        ),
        (
            km.event("bob", "Signed Up", timestamp=NEW_YEAR, plan="pro"),
            {
                "call": "event",
                "person": "bob",
                "name": "Signed Up",
                "timestamp": NEW_YEAR,
                "properties": {"plan": "pro"},
            },
        ),
        (km.event(), {"call": "event", "properties": {}}),
        (km.event(None, "Signed Up"), {"call": "event", "name": "Signed Up", "properties": {}}),
        (km.event(5), {"call": "event", "person": 5, "properties": {}}),
        (km.event(0), {"call": "event", "person": 0, "properties": {}}),
        (km.event(SOMEBODY), {"call": "event", "person": str(SOMEBODY), "properties": {}}),
        (km.event("bob", timestamp=0), {"call": "event", "person": "bob", "timestamp": 0, "properties": {}}),
        (
            km.event("bob", timestamp=datetime(2010, 1, 1, tzinfo=timezone.utc)),
            {"call": "event", "person": "bob", "timestamp": NEW_YEAR, "properties": {}},
        ),
        (km.set("bob", gender="male"), {"call": "set", "person": "bob", "properties": {"gender": "male"}}),
        (
            km.set("bob", timestamp=NEW_YEAR + 0.5, properties={"last seen": "today"}),
            {"call": "set", "person": "bob", "timestamp": NEW_YEAR + 0.5, "properties": {"last seen": "today"}},
        ),
        (km.set(), {"call": "set", "properties": {}}),
        (km.alias("bob", "bob@bob.com"), {"call": "alias", "person": "bob", "identity": "bob@bob.com"}),
        (km.alias(5, SOMEBODY), {"call": "alias", "person": 5, "identity": str(SOMEBODY)}),
    ],
)
def test_the_nested_form_is_the_one_of_the_contract(returned, nested):
    assert returned == {"km": nested}


@pytest.mark.parametrize("returned", [km.event("bob", a=1), km.set("bob", a=1), km.alias("bob", "eve")])
def test_the_nested_form_is_made_of_plain_dicts(returned):
    nested = returned["km"]
    assert type(returned) is type(nested) is type(nested.get("properties", {})) is dict


def test_a_helper_returns_the_order_of_the_properties_as_given():
    nested = km.event("bob", properties={"c": 1, "a": 2}, b=3)["km"]
    assert list(nested["properties"]) == ["c", "a", "b"]


def test_keyword_properties_win_over_those_in_the_mapping():
    assert km.event("bob", properties={"a": 1, "b": 2}, a=3)["km"]["properties"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    "mapping", [{"a": 1}, UserDict(a=1), MappingProxyType({"a": 1})], ids=lambda m: type(m).__name__
)
def test_properties_may_be_any_mapping(mapping):
    assert km.set("bob", properties=mapping)["km"]["properties"] == {"a": 1}


@pytest.mark.parametrize(
    ("helper", "signature"),
    [
        (km.event, "(person, name, /, *, timestamp, properties, **props)"),
        (km.set, "(person, /, *, timestamp, properties, **props)"),
        (km.alias, "(person, identity, /)"),
    ],
)
def test_the_signatures_are_those_of_the_contract(helper, signature):
    parameters = inspect.signature(helper).parameters.values()
    bare = [parameter.replace(annotation=parameter.empty, default=parameter.empty) for parameter in parameters]
    assert str(inspect.Signature(bare)) == signature
    optional = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    assert helper is km.alias or all(parameter.default is None for parameter in optional)


@pytest.mark.parametrize("name", ["name", "person", "identity", "call", "km", "event", "self"])
def test_the_names_of_positional_parameters_are_ordinary_properties(name):
    assert km.event("bob", "Signed Up", **{name: "x"})["km"] == {
        "call": "event",
        "person": "bob",
        "name": "Signed Up",
        "properties": {name: "x"},
    }
    assert km.set("bob", **{name: "x"})["km"] == {"call": "set", "person": "bob", "properties": {name: "x"}}


def test_the_call_also_carries_a_property_called_name():
    call = outcome(km.event("bob", "Signed Up", name="Bob", person="robert")).call
    assert (call.person, call.name, call.properties) == ("bob", "Signed Up", {"name": "Bob", "person": "robert"})


def test_the_parameters_of_an_alias_are_positional_only_and_required():
    with pytest.raises(TypeError):
        km.alias(person="bob", identity="eve")
    with pytest.raises(TypeError):
        km.alias("bob")


def test_timestamp_and_properties_are_keywords_of_the_helpers_not_properties():
    nested = km.event("bob", timestamp=NEW_YEAR, properties={"timestamp": 1, "properties": 2})["km"]
    assert nested["timestamp"] == NEW_YEAR
    assert nested["properties"] == {"timestamp": 1, "properties": 2}


# How it is used.


def test_the_result_serves_as_extra_of_the_standard_library(caplog):
    """`Logger.makeRecord` takes it, and the record becomes the call."""
    logger = logging.getLogger("test_helpers")
    with caplog.at_level(logging.INFO, "test_helpers"):
        logger.info("Signed Up", extra=km.event("bob", plan="pro"))
    (record,) = caplog.records
    call = tell(from_record(record, RULES, None, dict), RULES).call
    assert (call.kind, call.person, call.name, call.properties) == ("event", "bob", "Signed Up", {"plan": "pro"})


def test_the_result_serves_as_keywords_of_structlog():
    with structlog.testing.capture_logs() as logs:
        structlog.get_logger().info("Signed Up", **km.event("bob", plan="pro"))
    (event_dict,) = logs
    call = tell(from_event_dict(event_dict, RULES, None, dict, NEW_YEAR), RULES).call
    assert (call.kind, call.person, call.name, call.properties) == ("event", "bob", "Signed Up", {"plan": "pro"})


def test_nothing_else_of_the_record_leaks_into_a_helpers_call():
    call = outcome({**km.event("bob", plan="pro"), "request": "secret", "user": "secret", "km_name": "secret"}).call
    assert (call.name, call.properties) == ("Signed Up", {"plan": "pro"})


# What cannot be told.


@pytest.mark.parametrize("person", ["", "x" * 256, True, 5.5, b"bob", ["bob"], object(), "\ud800"], ids=shown)
def test_a_person_that_is_none_is_a_problem_at_tagging(person):
    """Never is the stand-in of what cannot be told sent as if it were a person."""
    assert problem_kinds(outcome(km.event(person))) == ["bad_person"]
    assert problem_kinds(outcome(km.set(person))) == ["bad_person"]
    assert problem_kinds(outcome(km.alias(person, "eve"))) == ["bad_person"]


@pytest.mark.parametrize("identity", ["", "x" * 256, None, True, 5.5, b"bob", ["bob"], object()], ids=shown)
def test_an_identity_that_is_none_is_a_problem_at_tagging(identity):
    assert problem_kinds(outcome(km.alias("bob", identity))) == ["bad_identity"]


@pytest.mark.parametrize("name", ["", "x" * 256, 5, b"Signed Up", ["Signed Up"], object()], ids=shown)
def test_an_event_name_that_is_none_is_a_problem_at_tagging(name):
    assert problem_kinds(outcome(km.event("bob", name))) == ["bad_name"]


@pytest.mark.parametrize("timestamp", [math.nan, math.inf, "today", Decimal(5), [1], True, object(), 0], ids=shown)
def test_a_time_that_is_none_is_a_problem_at_tagging(timestamp):
    assert problem_kinds(outcome(km.event("bob", timestamp=timestamp))) == ["bad_timestamp"]


@pytest.mark.parametrize("helper", [km.event, km.set])
@pytest.mark.parametrize("value", [math.nan, object(), [[1]], b"\xff", "\ud800", 1j, "x" * 513], ids=shown)
def test_a_value_that_has_no_text_is_left_out_at_tagging(helper, value):
    """The call is sound without it, and the problem says so."""
    told = outcome(helper("bob", plan="pro", bad=value))
    assert told.call.properties == {"plan": "pro"}
    (problem,) = told.problems
    assert problem.kind in {"bad_value", "long_value"}
    assert problem.call == told.call
    assert problem.remedy


@pytest.mark.parametrize("properties", [5, "plan", ["plan"], object()], ids=shown)
def test_properties_that_are_no_mapping_are_a_problem_at_tagging(properties):
    told = outcome(km.set("bob", properties=properties, a=1))
    assert told.call.person == "bob"
    assert problem_kinds(told) == ["bad_value"]


@pytest.mark.parametrize("name", [5, (1, 2), b"plan", None, 1.5, object()], ids=lambda name: type(name).__name__)
def test_a_property_name_that_is_no_text_is_a_problem_at_tagging(name):
    returned = km.event("bob", properties={name: "secret", "plan": "pro"})
    told = outcome(returned)
    json.dumps(returned, allow_nan=False)
    assert told.call.properties == {"plan": "pro"}
    assert problem_kinds(told) == ["bad_property_name"]
    assert "secret" not in str(told.problems[0])


def test_an_unsaid_is_a_text_for_every_formatter_and_says_why_after_a_copy():
    unsaid = km.event("bob", bad=object())["km"]["properties"]["bad"]
    assert isinstance(unsaid, Unsaid)
    assert json.loads(json.dumps(unsaid)) == str(unsaid) == f"{unsaid}"
    assert unsaid.why.kind == "bad_value"
    assert copy.deepcopy(unsaid).why == pickle.loads(pickle.dumps(unsaid)).why == unsaid.why


# The same is true in whatever form it is said.


@pytest.mark.parametrize(
    "person",
    ["bob", Plan.PRO, 5, 0, -1, Level.HIGH, SOMEBODY, True, 5.5, b"bob", "", "x" * 256, 10**300, object()],
    ids=shown,
)
def test_a_helper_takes_the_same_persons_as_the_flat_form(person):
    flat, helped = outcome({"km": "event", "person": person}), outcome(km.event(person))
    assert flat.call == helped.call
    assert problem_kinds(flat) == problem_kinds(helped)
    flat = outcome({"km": "alias", "person": "eve", "identity": person})
    helped = outcome(km.alias("eve", person))
    assert flat.call == helped.call
    assert problem_kinds(flat) == problem_kinds(helped)


@pytest.mark.parametrize(
    "timestamp",
    [
        NEW_YEAR,
        NEW_YEAR + 0.75,
        Seconds(NEW_YEAR + 0.75),
        datetime(2010, 1, 1),  # noqa: DTZ001
        datetime(2010, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))),
        NEW_YEAR * 1_000,
        0,
        True,
        math.nan,
        "2010-01-01",
        date(2010, 1, 1),
    ],
    ids=ascii,
)
def test_a_helper_takes_the_same_times_as_the_flat_form(timestamp):
    flat = outcome({"km": "event", "person": "bob", "km_timestamp": timestamp})
    helped = outcome(km.event("bob", timestamp=timestamp))
    assert flat.call == helped.call
    assert problem_kinds(flat) == problem_kinds(helped)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters()),
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.uuids(),
    st.complex_numbers(),
    st.builds(object),
    st.sampled_from([Plan.PRO, Level.HIGH, Seconds(2.5), "x" * 513, "x" * 8_001, "\ud800"]),
)
HASHABLE = SCALARS | st.tuples(SCALARS, SCALARS)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.one_of(st.lists(values), st.frozensets(HASHABLE), st.dictionaries(HASHABLE, values)),
    max_leaves=8,
)
economically = settings(deadline=None, phases=set(Phase) - {Phase.explain})


@economically
@given(value=VALUES)
def test_a_helper_tells_the_same_of_a_value_as_the_flat_form(value):
    flat, helped = outcome({"km": "event", "person": "bob", "x": value}), outcome(km.event("bob", x=value))
    assert flat.call == helped.call
    assert len(flat.problems) == len(helped.problems)


def test_integers_of_10_000_digits_are_the_same_problem_in_either_form():
    for number in (10**2_500, 10**5_000, 10**9_999):
        flat, helped = outcome({"km": "event", "person": "bob", "x": number}), outcome(km.event("bob", x=number))
        assert problem_kinds(flat) == problem_kinds(helped) == ["long_value"]


# JSON can carry it, whatever it was given.


@economically
@given(value=VALUES, properties=st.dictionaries(HASHABLE, SCALARS))
def test_json_can_carry_every_result(value, properties):
    """In the strictest form: no NaN, no infinity, no key that is no text; and it comes back equal."""
    for result in (
        km.event(value, value, timestamp=value, properties=properties, a=value),
        km.set(value, timestamp=value, properties=value),
        km.set("bob", properties={**properties, "a": value}),
        km.alias(value, value),
    ):
        assert json.loads(json.dumps(result, allow_nan=False)) == result


@economically
@given(names=st.lists(st.text(alphabet=st.characters()), unique=True))
def test_any_text_may_name_a_property(names):
    names = [name for name in names if name not in {"timestamp", "properties"}]
    assert list(km.event("bob", **dict.fromkeys(names, "x"))["km"]["properties"]) == names


class _HostileClass:
    @property
    def __class__(self):
        raise RuntimeError


class _HostileZone(tzinfo):
    def utcoffset(self, when):
        raise RuntimeError


def _raising(*names, base=object):
    def raising(*_):
        raise RuntimeError

    return type("Raising", (base,), dict.fromkeys(names, raising))


HOSTILE = {
    "nothing but an object": object,
    "__str__, __repr__": _raising("__str__", "__repr__", "__format__"),
    "__class__": _HostileClass,
    "__getattribute__": _raising("__getattribute__"),
    "integer of 10,000 digits": lambda: 10**9_999,
    "negative integer of 10,000 digits": lambda: -(10**9_999),
    "mapping, keys": lambda: _raising("keys", base=UserDict)(a=1),
    "mapping, __iter__": lambda: _raising("__iter__", base=UserDict)(a=1),
    "mapping, items": lambda: _raising("items", "keys", base=dict)(a=1),
    "sequence": lambda: _raising("__iter__", "__len__", base=list)("a"),
    "uuid": lambda: _raising("__str__", base=UUID)(int=5),
    "datetime": lambda: _raising("timestamp", "isoformat", base=datetime)(2010, 1, 1),
    "time zone": lambda: datetime(2010, 1, 1, tzinfo=_HostileZone()),
    "year 1": lambda: datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    "year 9999": lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    "year 1, naive": lambda: datetime.min,  # noqa: DTZ901
    "text": lambda: _raising("__str__", "__len__", "__iter__", "encode", base=str)("a"),
    "integer": lambda: _raising("__repr__", "__str__", "bit_length", base=int)(5),
    "float": lambda: _raising("__repr__", "__str__", "__float__", base=float)(5.5),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_helper_is_given_it_neither_raises_nor_returns_what_json_cannot_carry(name):
    """And what comes out is told, or a problem of a documented kind."""
    thing = HOSTILE[name]()
    for result in (
        km.event(thing),
        km.event("bob", thing),
        km.event("bob", timestamp=thing),
        km.event("bob", properties=thing),
        km.event("bob", properties={"a": thing, "b": 1}),
        km.event("bob", a=thing),
        km.set(thing),
        km.set("bob", timestamp=thing, properties=thing, a=thing),
        km.alias(thing, "eve"),
        km.alias("eve", thing),
    ):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        told = outcome(result)
        assert told.call is not None or told.problems
        assert {problem.kind for problem in told.problems} <= set(PROBLEMS)
