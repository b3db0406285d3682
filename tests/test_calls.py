"""The call and its limits: what is refused whole, and what a message may show."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging.calls import KINDS, PROBLEMS, RESERVED, Call, Problem, brief, call_problems, encodable, type_name

NEW_YEAR = 1_262_304_000  # 2010-01-01, the moment of the specification's examples
FIRST_SECOND = 1_230_768_000  # 2009-01-01: "data from 2009 on"

EVENT = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro"})
SET = Call("set", "bob", timestamp=NEW_YEAR, properties={"gender": "male"})
ALIAS = Call("alias", "bob", identity="bob@bob.com")
SOUND = [EVENT, SET, ALIAS]


class _HostileMeta(type):
    @property
    def __name__(cls):
        raise RuntimeError


class _HostileType(metaclass=_HostileMeta):
    pass


class _HostileClass:
    @property
    def __class__(self):
        raise RuntimeError


#: Things that raise where one looks at them; made inside the tests, since pytest and Hypothesis look at them, too.
HOSTILE = {
    "hostile type": _HostileType,
    "hostile class": _HostileClass,
    "huge": lambda: 10**5_000,
    "hugely negative": lambda: -(10**5_000),
}


def made(thing):
    """What a test gets for its parameter: a hostile thing by its name, anything else as it is."""
    return HOSTILE[thing]() if isinstance(thing, str) and thing in HOSTILE else thing


def kinds(call):
    return [problem.kind for problem in call_problems(call)]


def test_a_call_has_the_fields_of_the_contract():
    assert [field.name for field in dataclasses.fields(Call)] == [
        "kind",
        "person",
        "name",
        "identity",
        "timestamp",
        "properties",
    ]


def test_a_problem_has_the_fields_of_the_contract():
    assert [field.name for field in dataclasses.fields(Problem)] == ["kind", "message", "remedy", "call"]


@pytest.mark.parametrize("thing", [EVENT, Problem("bad_value", "message", "remedy")], ids=["Call", "Problem"])
def test_calls_and_problems_are_frozen(thing):
    for field in dataclasses.fields(thing):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field.name, "changed")
    with pytest.raises((AttributeError, TypeError)):
        thing.something_new = 1


def test_a_call_is_equal_to_another_that_says_the_same():
    again = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "pro"})
    assert again == EVENT
    assert hash(again) == hash(EVENT)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "set"},
        {"person": "eve"},
        {"name": "Signed Out"},
        {"identity": "eve"},
        {"timestamp": NEW_YEAR + 1},
        {"properties": {"plan": "free"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_call_differs_from_another_in_any_field(change):
    assert dataclasses.replace(EVENT, **change) != EVENT


def test_the_repr_of_a_call_shows_neither_identities_nor_properties():
    shown = repr(Call("alias", "secret-person", identity="secret-identity", properties={"secret-key": "secret-value"}))
    assert "secret" not in shown
    assert "alias" in shown


def test_the_repr_of_a_problem_shows_nobody_either():
    call = Call("event", "secret-person", "Signed Up", timestamp=NEW_YEAR, properties={"plan": "secret-value"})
    assert "secret" not in repr(Problem("bad_value", "message", "remedy", call))


def test_a_problem_as_text_ends_with_the_remedy():
    assert str(Problem("bad_value", "it is wrong", "mend it")) == "it is wrong: mend it"


@pytest.mark.parametrize("thing", [*SOUND, Problem("bad_value", "message", "remedy", EVENT)], ids=str)
def test_calls_and_problems_survive_copying_and_pickling(thing):
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert copy.deepcopy(thing) == thing


def test_every_kind_of_problem_is_documented():
    assert all(kind.isidentifier() and meaning for kind, meaning in PROBLEMS.items())


def test_the_reserved_names_are_the_parameters_of_the_api():
    assert set(RESERVED) == {"_k", "_p", "_n", "_t", "_d"}


@pytest.mark.parametrize("call", SOUND, ids=lambda call: call.kind)
def test_a_sound_call_has_no_problem(call):
    assert kinds(call) == []


def test_there_are_three_kinds_of_call():
    assert set(KINDS) == {"event", "set", "alias"}


@pytest.mark.parametrize("kind", ["", "Event", "events", "record", "identify", " event"])
def test_any_other_kind_is_refused(kind):
    assert kinds(dataclasses.replace(EVENT, kind=kind)) == ["unknown_call"]


@pytest.mark.parametrize(
    ("call", "field", "kind"),
    [
        (EVENT, "person", "bad_person"),
        (SET, "person", "bad_person"),
        (ALIAS, "person", "bad_person"),
        (EVENT, "name", "bad_name"),
        (ALIAS, "identity", "bad_identity"),
    ],
)
@pytest.mark.parametrize(
    ("text", "is_sound"),
    [
        ("x", True),
        ("x" * 255, True),
        ("🎉" * 255, True),  # characters, not bytes
        ("nul\0byte", True),
        ("", False),
        ("x" * 256, False),
        ("x" * 10_000, False),
        ("lone \ud800 surrogate", False),
        (None, False),
        (5, False),
        (b"bytes", False),
        ("hostile type", False),
        ("hostile class", False),
        ("huge", False),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_person_name_and_identity_are_text_of_1_to_255_characters(call, field, kind, text, is_sound):
    assert kinds(dataclasses.replace(call, **{field: made(text)})) == ([] if is_sound else [kind])


def test_a_set_needs_no_name_and_an_alias_no_time():
    assert kinds(Call("set", "bob", name=None, timestamp=NEW_YEAR)) == []
    assert kinds(Call("alias", "bob", identity="robert", timestamp=0)) == []


def test_nobody_is_aliased_to_themselves():
    assert kinds(Call("alias", "bob", identity="bob")) == ["self_alias"]


@pytest.mark.parametrize("call", [EVENT, SET], ids=lambda call: call.kind)
@pytest.mark.parametrize(
    ("timestamp", "is_sound"),
    [
        (FIRST_SECOND, True),
        (NEW_YEAR, True),
        (100_000_000_000, True),  # the last one that the specification's form takes for seconds
        (FIRST_SECOND - 1, False),
        (0, False),
        (-NEW_YEAR, False),
        (100_000_000_001, False),
        (NEW_YEAR * 1_000, False),
        ("huge", False),
        ("hugely negative", False),
        (float(NEW_YEAR), False),
        (True, False),
        (None, False),
        ("1262304000", False),
    ],
    ids=repr,
)
def test_a_time_is_whole_seconds_since_2009(call, timestamp, is_sound):
    assert kinds(dataclasses.replace(call, timestamp=made(timestamp))) == ([] if is_sound else ["bad_timestamp"])


def test_milliseconds_are_told_from_a_time_before_2009():
    """The two mistakes have different remedies, so the messages must differ."""
    (early,) = call_problems(dataclasses.replace(EVENT, timestamp=1))
    (milliseconds,) = call_problems(dataclasses.replace(EVENT, timestamp=NEW_YEAR * 1_000))
    assert "2009" in early.message
    assert "milliseconds" in milliseconds.message


ANYTHING = st.one_of(
    st.none(),
    st.text(),
    st.text(alphabet=st.characters(), min_size=250, max_size=260),
    st.sampled_from([*KINDS, "x" * 300, "\ud800", NEW_YEAR, *HOSTILE]),
    st.integers(),
    st.floats(),
    st.binary(),
)


@given(kind=ANYTHING, person=ANYTHING, name=ANYTHING, identity=ANYTHING, timestamp=ANYTHING)
def test_whatever_a_call_holds_its_problems_are_documented_and_have_a_remedy(kind, person, name, identity, timestamp):
    """Checking a call never raises, and says only kinds of the documented list."""
    for problem in call_problems(Call(*map(made, [kind, person, name, identity, timestamp]))):
        assert problem.kind in PROBLEMS
        assert problem.message
        assert problem.remedy


@pytest.mark.parametrize(
    ("text", "has_utf8"),
    [("", True), ("plain", True), ("é漢🎉\0", True), ("\ud800", False), ("a\udfffb", False)],
    ids=ascii,
)
def test_only_lone_surrogates_have_no_utf8_form(text, has_utf8):
    assert encodable(text) is has_utf8


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        ("Signed Up", "'Signed Up'"),
        ("", "''"),
        ("ü", "'\\xfc'"),
        ("line\nbreak", "'line\\nbreak'"),
        (5, "5"),
        (-5, "-5"),
        (None, "of type NoneType"),
        (5.5, "of type float"),
        (b"secret", "of type bytes"),
        ({"secret": 1}, "of type dict"),
    ],
    ids=type_name,
)
def test_brief_shows_text_and_whole_numbers_and_of_others_only_the_type(thing, shown):
    assert brief(thing) == shown


@pytest.mark.parametrize(
    "thing",
    ["x" * 10_000, "\ud800" * 10_000, "🎉" * 10_000, *HOSTILE],
    ids=["long", "surrogates", "wide", *HOSTILE],
)
def test_brief_is_short_printable_and_never_raises(thing):
    shown = brief(made(thing))
    assert 0 < len(shown) < 1_000
    assert shown.isascii()
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("thing", "name"),
    [(5, "int"), (EVENT, "Call"), ("hostile type", "_HostileType"), ("hostile class", "_HostileClass")],
)
def test_type_name_asks_nothing_of_the_type_itself(thing, name):
    assert type_name(made(thing)) == name


def test_type_name_is_short_and_ascii():
    assert type_name(type("X" * 1_000, (), {})()) == "X" * 60
    assert type_name(type("Ärger", (), {})()).isascii()
