"""Property values as text: every row of the contract's list, and values whose own code does its worst."""

from __future__ import annotations

import enum
import io
import math
import re
import sys
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType, ModuleType
from unittest.mock import MagicMock, Mock
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging.calls import PROBLEMS, encodable
from km_logging.helpers import event
from km_logging.values import Untold, is_uuid, told, unfold

LIMIT = 512

UTC_PLUS_2 = timezone(timedelta(hours=2))


class Plan(enum.Enum):
    """An enumeration as people write it."""

    TEXT = "pro"
    NUMBER = 7
    HALF = 2.5
    FLAG = True
    SEATS = (1, 2)
    DAY = date(2024, 5, 6)


class TextPlan(str, enum.Enum):
    """The usual mixin, whose str() is not its value."""

    PRO = "pro"


class Level(enum.IntEnum):
    """Likewise for numbers."""

    HIGH = 3


class Rights(enum.IntFlag):
    """Bits."""

    READ = 1
    WRITE = 2


class Shouting(str):
    """A text whose str() is another one: it is sent as it is."""

    __slots__ = ()

    def __str__(self):
        return "not me"


TEXTS = {
    "text": ("pro", "pro"),
    "empty text": ("", ""),
    "spaces": ("  a  b  ", "  a  b  "),
    "other scripts": ("é漢🎉", "é漢🎉"),
    "null byte": ("a\0b", "a\0b"),
    "line break": ("a\r\nb", "a\r\nb"),
    "a text of another type": (Shouting("me"), "me"),
    "true": (True, "true"),
    "false": (False, "false"),
    "zero": (0, "0"),
    "negative": (-7, "-7"),
    "large integer": (10**40, "1" + "0" * 40),
    "float that is whole": (5.0, "5.0"),
    "float": (0.1, "0.1"),
    "negative float": (-2.5, "-2.5"),
    "tiny float": (1e-7, "0.0000001"),
    "Decimal": (Decimal("12.50"), "12.50"),
    "Decimal of many digits": (Decimal("0.1234567890123456789012345678901234567890"), "0." + "1234567890" * 4),
    "Decimal with positive exponent": (Decimal("1E+3"), "1000"),
    "Decimal with negative exponent": (Decimal("1E-10"), "0.0000000001"),
    "naive datetime": (datetime(2024, 5, 6, 7, 8, 9), "2024-05-06T07:08:09"),  # noqa: DTZ001
    "datetime": (datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC_PLUS_2), "2024-05-06T07:08:09.000010+02:00"),
    "date": (date(2024, 5, 6), "2024-05-06"),
    "Enum of text": (Plan.TEXT, "pro"),
    "Enum of integer": (Plan.NUMBER, "7"),
    "Enum of float": (Plan.HALF, "2.5"),
    "Enum of bool": (Plan.FLAG, "true"),
    "Enum of date": (Plan.DAY, "2024-05-06"),
    "Enum of tuple": (Plan.SEATS, "1, 2"),
    "str Enum": (TextPlan.PRO, "pro"),
    "int Enum": (Level.HIGH, "3"),
    "Flag": (Rights.READ | Rights.WRITE, "3"),
    "UUID": (UUID("12345678-1234-5678-1234-567812345678"), "12345678-1234-5678-1234-567812345678"),
    "Path": (PurePosixPath("/var/lib/app"), "/var/lib/app"),
    "Windows path": (PureWindowsPath("C:/app"), "C:\\app"),
    "bytes": ("é漢".encode(), "é漢"),
    "bytearray": (bytearray(b"abc"), "abc"),
    "list": (["a", 1, True, 2.0], "a, 1, true, 2.0"),
    "tuple": (("a", "b"), "a, b"),
    "one member": (["a"], "a"),
    "no member": ([], ""),
    "range": (range(3), "0, 1, 2"),
    "deque": (deque([3, 1]), "3, 1"),
    "UserList": (UserList(["b", "a"]), "b, a"),
    "None inside": (["a", None, "b"], "a, b"),
    "members of every kind": (
        [date(2024, 5, 6), Plan.TEXT, Decimal("1E+3"), PurePosixPath("a/b"), b"x"],
        "2024-05-06, pro, 1000, a/b, x",
    ),
    "set": ({"c", "a", "b"}, "a, b, c"),
    "set of numbers": ({10, 9, 2, 33}, "2, 9, 10, 33"),
    "set of texts with None": ({"b", None, "a"}, "a, b"),
    "set of numbers with None": ({10, 9, None, 2}, "2, 9, 10"),
    "set of mixed types": ({"b", 5, "a"}, "5, a, b"),
    "frozenset": (frozenset({"b", "a"}), "a, b"),
    "keys of a mapping": ({"b": 1, "a": 2}.keys(), "a, b"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_value_has_the_text_that_the_contract_says(name):
    value, text = TEXTS[name]
    assert told(value, LIMIT) == text
    assert type(told(value, LIMIT)) is str
    assert list(unfold("x", value, LIMIT)) == [("x", text)]


class Odd(enum.Enum):
    """Values that have no text, or none of their own."""

    NOTHING = None
    OBJECT = object()
    NESTED = ((1, 2), 3)


PROBLEMATIC = {
    "NaN": (math.nan, "bad_value"),
    "infinity": (math.inf, "bad_value"),
    "negative infinity": (-math.inf, "bad_value"),
    "Decimal NaN": (Decimal("NaN"), "bad_value"),
    "Decimal signalling NaN": (Decimal("sNaN"), "bad_value"),
    "Decimal infinity": (Decimal("-Infinity"), "bad_value"),
    "object": (object(), "bad_value"),
    "function": (len, "bad_value"),
    "class": (int, "bad_value"),
    "exception": (ValueError("secret"), "bad_value"),
    "open file": (io.BytesIO(b"secret"), "bad_value"),
    "generator": ((character for character in "secret"), "bad_value"),
    "memoryview": (memoryview(b"secret"), "bad_value"),
    "complex": (1j, "bad_value"),
    "fraction": (Fraction(1, 3), "bad_value"),
    "time of day": (time(1, 2), "bad_value"),
    "duration": (timedelta(1), "bad_value"),
    "Enum of object": (Odd.OBJECT, "bad_value"),
    "Enum of nested tuples": (Odd.NESTED, "bad_value"),
    "lone surrogate": ("secret \ud800", "bad_value"),
    "undecodable path": (PurePosixPath("secret\udcff"), "bad_value"),
    "bytes that are not UTF-8": (b"secret \xff", "bad_value"),
    "bytearray that is not UTF-8": (bytearray(b"\xc3"), "bad_value"),
    "nested lists": ([["secret"]], "bad_value"),
    "nested tuple": ([1, ("secret",)], "bad_value"),
    "set in a list": ([{"secret"}], "bad_value"),
    "mapping in a list": ([{"secret": 1}], "bad_value"),
    "range in a list": ([range(2)], "bad_value"),
    "NaN in a list": ([1, math.nan], "bad_value"),
    "object in a list": (["secret", object()], "bad_value"),
    "lone surrogate in a list": (["\udfff"], "bad_value"),
    "long text": ("secret" * 100, "long_value"),
    "long bytes": (b"x" * 513, "long_value"),
    "long list": (["secret"] * 100, "long_value"),
    "long set": (set(range(1_000)), "long_value"),
    "integer of 10,000 digits": (10**9_999, "long_value"),
    "negative integer of 10,000 digits": (-(10**9_999), "long_value"),
    "integer of a million digits": (1 << 3_321_928, "long_value"),
    "Decimal with a large exponent": (Decimal("1e999999"), "long_value"),
    "Decimal with the largest exponent": (Decimal("1e999999999999999999"), "long_value"),
    "Decimal with the least exponent": (Decimal("-1e-999999999999999999"), "long_value"),
    "Decimals in a list": ([Decimal("1e999999999999")] * 500, "long_value"),
}


@pytest.mark.timeout(30)  # a value that is written out to be measured would take minutes, or all memory
@pytest.mark.parametrize("name", PROBLEMATIC)
def test_a_value_that_has_no_text_is_a_problem_of_its_kind(name):
    """Each gives one reason of a documented kind, with a remedy, and with nothing of the value in it."""
    value, kind = PROBLEMATIC[name]
    ((path, why),) = unfold("x", value, LIMIT)
    assert path == "x"
    assert isinstance(why, Untold)
    assert why == told(value, LIMIT)
    assert why.kind == kind
    assert why.message
    assert why.remedy
    assert "secret" not in why.message + why.remedy


# A limit of characters means what it says.


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 10, 100, 512, 4_000, 8_000])
def test_a_text_of_just_the_limit_is_told_and_one_more_character_is_not(limit):
    assert told("é" * limit, limit) == "é" * limit
    assert told(("é" * limit).encode(), limit) == "é" * limit
    assert told("x" * (limit + 1), limit).kind == "long_value"
    assert told(b"x" * (limit + 1), limit).kind == "long_value"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 10, 100, 512, 4_000, 8_000])
def test_an_integer_of_just_the_limit_is_told_and_one_more_digit_is_not(limit):
    """Also where Python itself refuses to write so many digits (`sys.set_int_max_str_digits`)."""
    assert told(10**limit - 1, limit) == "9" * limit
    assert told(10**limit, limit).kind == "long_value"


@given(number=st.integers(), limit=st.integers(1, 40))
def test_an_integer_is_told_exactly_if_its_digits_are_within_the_limit(number, limit):
    text = str(number)
    outcome = told(number, limit)
    assert outcome == text if len(text) <= limit else outcome.kind == "long_value"


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_plain_decimal_text_of_the_same_number(number):
    text = told(number, 2_000)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert float(text) == number


@given(number=st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_plain_decimal_text_of_the_same_number(number):
    text = told(number, 8_000)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert Decimal(text) == number


def test_a_list_of_just_the_limit_is_told():
    assert told(["x" * 170] * 3, 514) == ", ".join(["x" * 170] * 3)
    assert told(["x" * 170] * 3, 513).kind == "long_value"


@given(values=st.sets(st.text(max_size=5) | st.integers() | st.booleans()))
def test_equal_sets_have_equal_texts(values):
    """However a set was built, so that equal sets give equal calls."""
    rebuilt = set()
    rebuilt.update(reversed(list(values)))
    assert told(values, 8_000) == told(rebuilt, 8_000) == told(frozenset(values), 8_000)


def test_none_is_left_out():
    assert list(unfold("x", None, LIMIT)) == []


def test_an_enum_is_its_value_also_where_that_is_none():
    assert list(unfold("x", Odd.NOTHING, LIMIT)) == []


# A mapping is flattened.


@pytest.mark.parametrize(
    ("mapping", "properties"),
    [
        ({"city": "Berlin"}, {"x.city": "Berlin"}),
        ({}, {}),
        ({"a": 1, "b": True, "c": None, "d": [1, 2]}, {"x.a": "1", "x.b": "true", "x.d": "1, 2"}),
        ({"a": {"b": {"c": 5.0}}}, {"x.a.b.c": "5.0"}),
        ({2: "two"}, {"x.2": "two"}),
        ({TextPlan.PRO: 1}, {"x.pro": "1"}),
        ({Level.HIGH: 1}, {"x.3": "1"}),
        (OrderedDict([("b", 1), ("a", 2)]), {"x.b": "1", "x.a": "2"}),
        (UserDict({"a": 1}), {"x.a": "1"}),
        (MappingProxyType({"a": 1}), {"x.a": "1"}),
    ],
    ids=str,
)
def test_a_mapping_becomes_one_property_a_member_in_order(mapping, properties):
    assert list(unfold("x", mapping, LIMIT)) == list(properties.items())


def test_a_member_that_is_a_problem_costs_itself_only():
    told_or_not = dict(unfold("x", {"a": 1, "bad": object(), "nested": {"bad": math.nan, "b": 2}}, LIMIT))
    assert {path for path, text in told_or_not.items() if isinstance(text, Untold)} == {"x.bad", "x.nested.bad"}
    assert (told_or_not["x.a"], told_or_not["x.nested.b"]) == ("1", "2")


@pytest.mark.parametrize("key", [None, (1, 2), b"secret", 1.5, 10**9_999, object()], ids=lambda key: type(key).__name__)
def test_a_key_without_a_text_is_a_problem_of_the_member(key):
    """The other members stay, and nothing is sent under a name that nobody gave."""
    properties = list(unfold("x", {"a": 1, key: "secret", "b": 2}, LIMIT))
    assert [(path, text) for path, text in properties if isinstance(text, str)] == [("x.a", "1"), ("x.b", "2")]
    ((_, why),) = [(path, text) for path, text in properties if isinstance(text, Untold)]
    assert why.kind == "bad_property_name"
    assert "secret" not in why.message + why.remedy
    assert not [path for path, _ in properties if "Untold" in path]


def test_a_mapping_that_contains_itself_is_a_problem_where_it_does():
    """What else it holds is told."""
    mapping = {"a": 1}
    mapping["self"] = mapping
    mapping["deeper"] = {"b": 2, "up": mapping}
    outcome = dict(unfold("x", mapping, LIMIT))
    assert {path: text for path, text in outcome.items() if isinstance(text, str)} == {"x.a": "1", "x.deeper.b": "2"}
    assert {path: why.kind for path, why in outcome.items() if isinstance(why, Untold)} == {
        "x.self": "bad_value",
        "x.deeper.up": "bad_value",
    }


def test_a_mapping_twice_in_another_is_no_cycle():
    address = {"city": "Berlin"}
    outcome = dict(unfold("x", {"home": address, "work": address}, LIMIT))
    assert outcome == {"x.home.city": "Berlin", "x.work.city": "Berlin"}


def test_cycles_through_lists_are_problems():
    values = ["a"]
    values.append(values)
    mapping = {"list": [1]}
    mapping["list"].append(mapping)
    assert told(values, LIMIT).kind == "bad_value"
    ((path, why),) = unfold("x", mapping, LIMIT)
    assert (path, why.kind) == ("x.list", "bad_value")


@pytest.mark.timeout(30)
def test_nesting_without_end_is_a_problem_and_not_a_recursion_error():
    mapping, values = {"end": 1}, ["end"]
    for _ in range(100_000):
        mapping, values = {"a": mapping}, [values]
    ((path, why),) = unfold("x", mapping, LIMIT)
    assert why.kind == "bad_value"
    assert "RecursionError" not in why.message
    assert path.startswith("x.a.a")
    assert told(values, LIMIT).kind == "bad_value"


# What has no end must cost no more than what is long.


class EndlessSequence(Sequence):
    """Says that it has three members, and never stops."""

    def __init__(self, member):
        self.member = member

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.member


class EndlessSet(AbstractSet):
    """Likewise."""

    def __len__(self):
        return 3

    def __contains__(self, value):
        return True

    def __iter__(self):
        while True:
            yield "x"


class EndlessMapping(Mapping):
    """A mapping with members for ever, each of which may be one of the same kind."""

    def __init__(self, depth):
        self.depth = depth

    def __len__(self):
        return 3

    def __iter__(self):
        number = 0
        while True:
            yield str(number)
            number += 1

    def __getitem__(self, key):
        return EndlessMapping(self.depth - 1) if self.depth else "x"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("member", ["x", "", None, "x" * 10_000, 10**5_000], ids=["x", "", "None", "long", "huge"])
def test_an_endless_sequence_ends_within_the_limit(member):
    outcome = told(EndlessSequence(member), LIMIT)
    assert isinstance(outcome, Untold) or len(outcome) <= LIMIT


@pytest.mark.timeout(30)
def test_an_endless_set_is_too_long():
    assert told(EndlessSet(), LIMIT).kind == "long_value"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("depth", [0, 1, 3, 1_000])
def test_an_endless_mapping_is_cut_off_and_said(depth):
    properties = list(unfold("x", EndlessMapping(depth), LIMIT))
    assert len(properties) < 10_000
    assert any(isinstance(text, Untold) for _, text in properties)


# Objects whose own code raises, or answers nonsense, wherever it is asked.


class _HostileMeta(type):
    @property
    def __name__(cls):
        raise RuntimeError


class _HostileTypeError(Exception, metaclass=_HostileMeta):
    pass


class _HostileType(metaclass=_HostileMeta):
    pass


class _HostileText(str):
    """Every method that could be asked raises; as a text it is sound."""

    __slots__ = ()

    def _raise(self, *_):
        raise RuntimeError

    __str__ = __len__ = __iter__ = __format__ = __repr__ = isascii = encode = startswith = partition = _raise


def _raising(*names, base=object, error=RuntimeError):
    def raising(*_):
        raise error

    return type("Raising", (base,), dict.fromkeys(names, raising))


def _answering(base, **answers):
    return type("Answering", (base,), {name: lambda *_, answer=answer: answer for name, answer in answers.items()})


class _HostileClass:
    @property
    def __class__(self):
        raise RuntimeError


class _LyingClass:
    def __init__(self, kind):
        self._kind = kind

    @property
    def __class__(self):
        return self._kind


class _Unhashable:
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError


class _Bottomless(Sequence):
    """Recurses wherever it is looked at."""

    def __len__(self):
        return len(self)

    def __getitem__(self, index):
        return self[index]


class _Circular(enum.Enum):
    """A member that says it is its own value."""

    MEMBER = 1

    @property
    def value(self):
        return self


def _mapping(items):
    return _answering(dict, items=items)()


HOSTILE = {
    "__str__, __repr__": _raising("__str__", "__repr__", "__format__"),
    "__class__": _HostileClass,
    "__eq__, no __hash__": _Unhashable,
    "type without a name": _HostileType,
    "__getattribute__": _raising("__getattribute__"),
    "endless recursion": _Bottomless,
    "range whose length is no length": partial(range, 10**30),
    "enum that is its own value": lambda: _Circular.MEMBER,
    "sequence, __len__": lambda: _raising("__len__", base=list)(["a"]),
    "sequence, __iter__": lambda: _raising("__iter__", base=list)(["a"]),
    "sequence, hostile error": lambda: _raising("__iter__", base=list, error=_HostileTypeError)(["a"]),
    "sequence, absurd __len__": lambda: _answering(list, __len__=-1)(["a"]),
    "set, __iter__": lambda: _raising("__iter__", base=set)({"a"}),
    "mapping, items": lambda: _raising("items", base=dict)(a=1),
    "mapping, items, hostile error": lambda: _raising("items", base=dict, error=_HostileTypeError)(a=1),
    "mapping, items no pairs": lambda: _mapping([1, 2, 3]),
    "mapping, items nothing": lambda: _mapping(None),
    "mapping, hostile key": lambda: _mapping([(_HostileClass(), 1)]),
    "mapping, unhashable key": lambda: _mapping([([], 1)]),
    "mapping, __getitem__": lambda: _raising("__getitem__", "__len__", base=UserDict)({"a": 1}),
    "date, isoformat": lambda: _raising("isoformat", base=date)(2024, 1, 1),
    "date, hostile error": lambda: _raising("isoformat", base=date, error=_HostileTypeError)(2024, 1, 1),
    "date, isoformat no text": lambda: _answering(date, isoformat=5)(2024, 1, 1),
    "date, isoformat bytes": lambda: _answering(date, isoformat=b"x")(2024, 1, 1),
    "date, isoformat hostile text": lambda: _answering(date, isoformat=_HostileText("x"))(2024, 1, 1),
    "path, __str__": lambda: _raising("__str__", base=PurePosixPath)("a"),
    "path, hostile text": lambda: _answering(PurePosixPath, __str__=_HostileText("x"))("a"),
    "uuid, __str__": lambda: _raising("__str__", base=UUID)(int=5),
    "bytes, decode": lambda: _raising("decode", base=bytes)(b"a"),
    "bytes, decode no text": lambda: _answering(bytes, decode=5)(b"a"),
    "bytes, __len__": lambda: _raising("__len__", base=bytes)(b"a"),
    "int, bit_length": lambda: _raising("bit_length", "__repr__", base=int)(5),
    "float, __repr__": lambda: _raising("__repr__", "__float__", base=float)(5.5),
    "Decimal, is_finite": lambda: _raising("is_finite", base=Decimal)(5),
    "Decimal, __format__ no text": lambda: _answering(Decimal, __format__=5)(5),
    "text": lambda: _HostileText("a"),
    "mock": Mock,
    "magic mock": MagicMock,
    **{f"mock of {kind.__name__}": partial(MagicMock, spec=kind) for kind in (str, int, list, dict, date, bytes)},
    **{f"lies to be {kind.__name__}": partial(_LyingClass, kind) for kind in (str, int, list, dict, set, UUID)},
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"key": value}, lambda value: [value]])
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_value_does_the_answer_is_text_or_a_reason(name, wrap):
    """Neither an exception nor anything but a plain text ever comes out."""
    for path, text in unfold("x", wrap(HOSTILE[name]()), LIMIT):
        assert path.startswith("x")
        assert_text_or_reason(text, LIMIT)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", HOSTILE)
def test_told_by_itself_does_not_raise_either(name):
    assert_text_or_reason(told(HOSTILE[name](), LIMIT), LIMIT)


def test_a_hostile_text_is_sent_as_it_is():
    assert told(_HostileText("hello"), LIMIT) == "hello"


def assert_text_or_reason(outcome, limit):
    if isinstance(outcome, Untold):
        assert outcome.kind in PROBLEMS
        assert outcome.message
        assert outcome.remedy
    else:
        assert type(outcome) is str
        assert len(outcome) <= limit
        assert encodable(outcome)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters()),
    st.text(alphabet=st.sampled_from("\ud800\udfff\0aé🎉")),
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([*Plan, *Odd, *TextPlan, Level.HIGH, Rights.READ]),
)
HASHABLE = SCALARS | st.tuples(SCALARS, SCALARS)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        st.lists(values),
        st.tuples(values, values),
        st.frozensets(HASHABLE),
        st.dictionaries(HASHABLE, values),
    ),
)


@given(value=VALUES, limit=st.integers(1, 8_000))
def test_any_value_is_told_as_texts_within_the_limit_or_not_at_all(value, limit):
    for path, text in unfold("x", value, limit):
        assert path == "x" or path.startswith("x.")
        assert_text_or_reason(text, limit)


@given(value=VALUES)
def test_a_value_is_told_alike_every_time(value):
    assert list(unfold("x", value, LIMIT)) == list(unfold("x", value, LIMIT))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(UUID(int=5), True), (_raising("__str__", base=UUID)(int=5), True), (str(UUID(int=5)), False), (None, False)],
    ids=["UUID", "derived", "text", "None"],
)
def test_is_uuid_knows_uuids(value, expected):
    assert is_uuid(value) is expected


def test_while_another_thread_imports_uuid_nothing_is_one(monkeypatch):
    """The module is there before its class is; a log call in that moment is as sound as any."""
    monkeypatch.setitem(sys.modules, "uuid", ModuleType("uuid"))
    assert is_uuid("bob") is False
    assert event("bob")["km"]["person"] == "bob"
