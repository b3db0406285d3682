"""One person: who is the same, what is known of them, and their calls."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging.sandbox.checks import Received, receive
from km_logging.sandbox.people import person

NOW = 1_700_000_000.5


def call(kind: str, query: str, now: float = NOW) -> Received:
    return receive(kind, f"_k=key&{query}".encode(), now)


def alias(one: str, other: str) -> Received:
    return call("alias", f"_p={one}&_n={other}")


def told(kind: str, who: str, second: int, rest: str = "") -> Received:
    """A call that carries its time."""
    return call(kind, f"_p={who}&_n={kind}&_t={1_262_304_000 + second}&_d=1{rest}")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("turned", [False, True])
def test_aliases_merge_in_whatever_order_and_direction(order: tuple[int, ...], *, turned: bool) -> None:
    """By way of others, too; and nobody else is merged."""
    pairs = [("bob", "b@x"), ("b@x", "phone"), ("phone", "cookie")]
    calls = [alias(*pairs[at][:: -1 if turned else 1]) for at in order] + [alias("ann", "a@x")]
    assert {person(calls, who).identities for who in ("bob", "b@x", "phone", "cookie")} == {
        ("b@x", "bob", "cookie", "phone")
    }
    assert person(calls, "ann").identities == ("a@x", "ann")


def test_people_are_told_apart_by_their_case() -> None:
    assert person([alias("bob", "Bob@x")], "Bob").identities == ("Bob",)


def test_nobody_is_a_person_without_calls() -> None:
    assert person([], "bob").as_dict() == {"person": "bob", "identities": ["bob"], "properties": {}, "calls": []}


def test_calls_are_told_by_their_time() -> None:
    """The one that applies: for a call without one, that of its arrival."""
    late, early = told("event", "bob", 9), told("set", "b@x", 1)
    untimed = call("event", "_p=bob&_n=Seen&_t=5", NOW)
    other = told("event", "ann", 3)
    calls = [untimed, late, other, alias("bob", "b@x"), early]
    assert [it.kind for it in person(calls, "b@x").calls] == ["set", "event", "event", "alias"]
    assert person(calls, "bob").calls == (early, late, untimed, calls[3])


def test_calls_of_one_time_are_told_in_the_order_received() -> None:
    calls = [
        Received.from_dict(told("event", "bob", 1, f"&n={number}").as_dict() | {"id": number}) for number in (2, 1)
    ]
    assert [it.id for it in person(calls, "bob").calls] == [1, 2]


def test_the_last_value_of_a_property_counts_by_time() -> None:
    """Of all identities; names do not differ by their case, and are told as they were spelt first."""
    calls = [
        told("set", "bob", 5, "&plan=pro"),
        told("event", "b@x", 9, "&PLAN=team&seats=5"),
        told("set", "bob", 1, "&plan=free&gender=male"),
        told("set", "ann", 99, "&plan=none"),
        alias("b@x", "bob"),
    ]
    assert person(calls, "bob").properties == {"plan": "team", "gender": "male", "seats": "5"}


def test_a_refused_call_is_shown_with_whom_it_names_and_says_nothing() -> None:
    """Kissmetrics keeps nothing of it: no alias, no property."""
    keyless = receive("alias", b"_p=bob&_n=b@x", NOW)
    oneself, nameless = alias("bob", "bob"), call("event", "_p=bob&plan=pro")
    calls = [keyless, oneself, nameless]
    assert person(calls, "bob").identities == ("bob",)
    assert person(calls, "bob").calls == tuple(calls)
    assert person(calls, "bob").properties == {}
    assert person(calls, "b@x").calls == ()


def test_calls_that_name_nobody_can_be_looked_at() -> None:
    nobody = call("event", "_n=Signed+Up")
    assert person([nobody, told("event", "bob", 1)], "").calls == (nobody,)


names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(names, names)))
def test_whoever_is_merged_with_somebody_has_the_same_page(pairs: list[tuple[str, str]]) -> None:
    """Merging is mutual and transitive, and every sound alias merges its two."""
    calls = [alias(one, other) for one, other in pairs]
    pages = {who: person(calls, who) for who in "abcdef"}
    for who, page in pages.items():
        assert who in page.identities
        for other in page.identities:
            assert (pages[other].identities, pages[other].calls) == (page.identities, page.calls)
    assert all(other in pages[one].identities for one, other in pairs)
