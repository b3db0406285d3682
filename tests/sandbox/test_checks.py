"""What is wrong with a call, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging import wire
from km_logging.calls import RESERVED, Call
from km_logging.sandbox.checks import PROBLEMS, REFUSED, Received, receive

NOW = 1_700_000_000.5
TIMED = "&_t=1262304000&_d=1"
SOUND = "_k=api-key&_p=bob&_n=Signed+Up"

#: Kind of problem, kind of call, query, and the message.
WRONG = [
    ("bad_key", "event", "_p=bob&_n=Signed+Up", "_k is missing or empty"),
    ("bad_key", "set", "_k=&_p=bob", "_k is missing or empty"),
    ("bad_person", "event", "_k=key&_n=Signed+Up", "_p is missing"),
    ("bad_person", "set", "_k=key&_p=", "_p: the person is empty"),
    ("bad_person", "set", f"_k=key&_p={'x' * 256}", "_p: the person has 256 characters, more than 255"),
    ("bad_name", "event", "_k=key&_p=bob", "_n is missing"),
    ("bad_name", "event", "_k=key&_p=bob&_n=", "_n: the event name is empty"),
    ("bad_name", "event", f"_k=key&_p=bob&_n={'x' * 256}", "_n: the event name has 256 characters, more than 255"),
    ("bad_identity", "alias", "_k=key&_p=bob", "_n is missing"),
    ("bad_identity", "alias", f"_k=key&_p=bob&_n={'x' * 256}", "_n: the identity has 256 characters, more than 255"),
    ("self_alias", "alias", "_k=key&_p=bob&_n=bob", "_n: a person is aliased to themselves"),
    ("bad_timestamp", "event", f"{SOUND}&_t=12.5&_d=1", "_t is '12.5', not a whole number"),
    ("bad_timestamp", "event", f"{SOUND}&_t=&_d=1", "_t is '', not a whole number"),
    ("bad_timestamp", "event", f"{SOUND}&_t={'9' * 5000}&_d=1", f"_t is '{'9' * 57}...', not a whole number"),
    ("bad_timestamp", "event", f"{SOUND}&_t=%D9%A1&_d=1", "_t is '\\u0661', not a whole number"),
    ("bad_timestamp", "set", "_k=k&_p=bob&_t=1262304000000&_d=1", "_t: the time 1262304000000 looks like milliseconds"),
    ("bad_timestamp", "event", f"{SOUND}&_t=1230767999&_d=1", "_t: the time 1230767999 is before 2009-01-01"),
    ("bad_timestamp", "event", f"{SOUND}&_t=-1&_d=1", "_t: the time -1 is before 2009-01-01"),
    ("untimed", "event", f"{SOUND}&_t=1262304000", "_t is not applied without _d=1"),
    ("untimed", "event", f"{SOUND}&_t=1262304000&_d=0", "_t is not applied without _d=1"),
    ("untimed", "event", f"{SOUND}&_d=1", "_d=1 says that a time is given, but _t is missing"),
    ("bad_flag", "event", f"{SOUND}&_d=true", "_d is 'true'"),
    ("bad_flag", "event", f"{SOUND}&_d=", "_d is ''"),
    ("bad_property_name", "event", f"{SOUND}&=5", "the property '' has a name of 0 characters"),
    (
        "bad_property_name",
        "event",
        f"{SOUND}&{'x' * 256}=5",
        f"the property '{'x' * 57}...' has a name of 256 characters",
    ),
    ("reserved_property", "event", f"{SOUND}&_P=ann", "the property '_P' is named almost like a parameter of the API"),
    ("reserved_property", "event", f"{SOUND}&_K=key", "a parameter is named almost like _k, and is not shown"),
    (
        "long_value",
        "event",
        f"{SOUND}&plan={'x' * 513}",
        "the property 'plan' has a value of 513 characters, more than 512",
    ),
    ("json_value", "event", f"{SOUND}&a=%7B%22b%22:1%7D", "the property 'a' has a JSON object or array as its value"),
    ("json_value", "set", "_k=key&_p=bob&a=+[1]", "the property 'a' has a JSON object or array as its value"),
    (
        "separator",
        "event",
        "_k=key&_p=bob&_n=Paid:+card",
        "the event name 'Paid: card' holds a comma or colon, which becomes a space",
    ),
    (
        "separator",
        "set",
        "_k=key&_p=bob&a,b=1",
        "the property name 'a,b' holds a comma or colon, which becomes a space",
    ),
    ("repeated", "event", f"{SOUND}&_p=ann", "the parameter '_p' occurs more than once"),
    ("ignored", "alias", "_k=key&_p=bob&_n=ann&plan=pro&_t=5", "an alias has no '_t', 'plan': ignored"),
    ("ignored", "set", "_k=key&_p=bob&_n=Signed+Up", "a set call has no '_n': ignored"),
    ("not_utf8", "set", "_k=key&_p=bob&a=%FF", "the parameter 'a' is not UTF-8"),
    ("key_inside", "set", "_k=key&_p=bob&a=/e?_k%3Dkey", "the value of 'a' holds a key, which is masked here"),
    (
        "long_request",
        "alias",
        "_k=key&_p=bob&_n=ann" + "&" * 65_536,
        "the request has 65,556 bytes or more, and only the first 65,536 were looked at",
    ),
]

#: Found by those who see more than one request's query.
FOUND_ELSEWHERE = {"bad_body", "case_variant", "formatted_name"}


def received(kind: str, query: str) -> Received:
    return receive(kind, query.encode(), NOW)


@pytest.mark.parametrize(("problem", "kind", "query", "message"), WRONG)
def test_a_call_with_one_mistake_has_one_problem(problem: str, kind: str, query: str, message: str) -> None:
    """Each check finds its mistake, says it, and takes nothing else for one."""
    [found] = received(kind, query).problems
    assert (found.kind, found.message) == (problem, message)
    assert found.remedy


def test_every_documented_problem_is_found_by_a_test() -> None:
    assert {problem for problem, *_ in WRONG} | FOUND_ELSEWHERE == set(PROBLEMS)
    assert set(PROBLEMS) > REFUSED


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("event", "_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1"),
        ("set", "_k=api-key&_p=bob&gender=male&_t=1262304000&_d=1"),
        ("alias", "_k=api-key&_p=User+12345&_n=bob%40bob.com"),
        ("event", SOUND),
        ("event", f"{SOUND}&_d=0"),
        ("event", f"{SOUND}&_t=1230768000&_d=1"),
        ("event", f"{SOUND}&_t=100000000000&_d=1"),
        ("event", f"_k=key&_p={'x' * 255}&_n={'y' * 255}&{'z' * 255}={'v' * 512}"),
        ("event", f"_k=key&_p={'%C3%AB' * 255}&_n=n"),
        ("set", "_k=key&_p=user:1,2&_x=1&note=%5Bdraft%5D&brace=%7B&time=12:30,5&number=5"),
        ("set", f"_k=key&_p=bob&deep={'[' * 500}"),
    ],
)
def test_a_sound_call_has_no_problem(kind: str, query: str) -> None:
    assert received(kind, query).problems == ()


def test_several_mistakes_are_all_said() -> None:
    kinds = [problem.kind for problem in received("event", "_t=abc&_t=5").problems]
    assert kinds == ["bad_key", "bad_person", "bad_name", "bad_timestamp", "repeated", "untimed"]


def test_nobody_is_no_ones_alias() -> None:
    assert [problem.message for problem in received("alias", "_k=key").problems] == ["_p is missing", "_n is missing"]


def test_an_event_is_read_whole() -> None:
    assert received("event", f"{SOUND}&gender=male{TIMED}") == Received(
        kind="event",
        person="bob",
        name="Signed Up",
        identity=None,
        timestamp=1_262_304_000,
        properties={"gender": "male"},
        problems=(),
        received_at=NOW,
    )


def test_an_alias_has_an_identity_and_neither_time_nor_properties() -> None:
    alias = received("alias", f"_k=key&_p=bob&_n=ann&plan=pro{TIMED}")
    assert (alias.name, alias.identity, alias.timestamp, alias.properties) == (None, "ann", None, {})


def test_a_set_call_has_no_name() -> None:
    assert received("set", SOUND).name is None


@pytest.mark.parametrize("query", ["&_t=1262304000", "&_t=1262304000&_d=0", "&_t=abc&_d=1", "&_d=1"])
def test_a_time_that_kissmetrics_does_not_apply_is_none(query: str) -> None:
    assert received("event", SOUND + query).timestamp is None


def test_a_json_value_too_deep_to_read_is_taken_for_text() -> None:
    """JSON's parser gives up with a RecursionError, which must not reach the server."""
    kinds = [problem.kind for problem in received("set", f"_k=k&_p=bob&a={'[' * 50_000}").problems]
    assert kinds == ["long_value"]


def test_the_dict_is_all_that_is_known_as_json_carries_it() -> None:
    assert received("event", "_k=key&_p=bob&_n=A&_d=2").as_dict() == {
        "kind": "event",
        "person": "bob",
        "name": "A",
        "identity": None,
        "timestamp": None,
        "properties": {},
        "problems": [{"kind": "bad_flag", "message": "_d is '2'", "remedy": "send _d=1 with _t, or neither"}],
        "received_at": NOW,
        "duplicate": False,
        "id": 0,
    }


def test_a_received_call_can_be_hashed() -> None:
    assert len({received("event", SOUND), received("event", SOUND)}) == 1


def text(least: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=20)


property_names = text(1).filter(lambda name: name.lower() not in RESERVED and "k" not in name.lower())


@given(
    person=text(1),
    name=text(1),
    timestamp=st.integers(1_230_768_000, 100_000_000_000),
    properties=st.dictionaries(property_names, text(0), max_size=4),
)
def test_what_the_library_sends_is_read_back_as_it_was(
    person: str, name: str, timestamp: int, properties: dict[str, str]
) -> None:
    """The sandbox shows exactly the call that the library encoded."""
    call = Call("event", person, name, timestamp=timestamp, properties=properties)
    query = wire.target(wire.encode(call), "the-key").partition("?")[2]
    back = receive("event", query.encode(), NOW)
    assert Call(back.kind, back.person, back.name, back.identity, back.timestamp or 0, back.properties) == call
    assert not {problem.kind for problem in back.problems} - {"separator", "json_value", "repeated"}


@given(kind=st.sampled_from(["event", "set", "alias"]), query=st.binary(max_size=300))
def test_any_bytes_make_a_call(kind: str, query: bytes) -> None:
    """`receive` never raises, and every problem has a kind from the list, a message and a remedy."""
    call = receive(kind, query, NOW)
    assert call.kind == kind
    assert all(it.kind in PROBLEMS and it.message and it.remedy for it in call.problems)
