"""From bytes to parameters, and no further with the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging.sandbox.query import MAX_QUERY, Query, parse

KEY = "s3cr3t-Key"

#: What servers or people may take for ``_k``, as it stands in a URL.
KEY_NAMES = [
    "_k",
    "_K",
    "%5fk",
    "%5F%6B",
    "%5FK",
    "%255Fk",
    "%25255Fk",
    "+_k",
    "_k%20",
    "_k[]",
    "_k[0]",
    "amp;_k",
    "?_k",
    "%FF_k",
    "%00_k",
    "%EF%BC%BFk",  # a full-width low line
    "_%E2%84%AA",  # the Kelvin sign
]


def kinds(query: Query) -> list[str]:
    return [problem.kind for problem in query.problems]


def test_parameters_and_properties_are_told_apart() -> None:
    query = parse(b"_k=key&_p=bob&_n=Signed+Up&gender=male&plan=&_t=1262304000&_d=1")
    assert query.parameters == {"_p": "bob", "_n": "Signed Up", "_t": "1262304000", "_d": "1"}
    assert query.properties == {"gender": "male", "plan": ""}
    assert query.has_key
    assert query.problems == ()


def test_text_is_unquoted_once() -> None:
    assert parse(b"city=S%C3%A3o+Paulo&plus=a%2Bb&percent=100%25&odd=%zz").properties == {
        "city": "São Paulo",
        "plus": "a+b",
        "percent": "100%",
        "odd": "%zz",
    }


def test_only_the_first_equals_sign_separates() -> None:
    assert parse(b"a=b=c&d").properties == {"a": "b=c", "d": ""}


def test_raw_utf8_is_read_like_quoted() -> None:
    assert parse("_p=Zoë".encode()).parameters == {"_p": "Zoë"}


@pytest.mark.parametrize("query", [b"", b"_k", b"_k=", b"_k=+", b"_K=key", b"k=key"])
def test_a_key_that_is_missing_or_empty_or_misnamed_is_no_key(query: bytes) -> None:
    assert not parse(query).has_key


@pytest.mark.parametrize("name", KEY_NAMES)
def test_nothing_that_may_be_meant_as_the_key_goes_any_further(name: str) -> None:
    query = parse(f"_p=bob&{name}={KEY}&_k={KEY}".encode())
    assert KEY not in repr(query)
    assert query.has_key
    assert query.parameters == {"_p": "bob"}
    assert query.properties == {}


@pytest.mark.parametrize("name", [name for name in KEY_NAMES if parse(f"{name}=key".encode()).has_key is False])
def test_a_name_that_is_almost_the_keys_is_a_problem(name: str) -> None:
    assert "reserved_property" in kinds(parse(f"_k=key&{name}=key".encode()))


def test_a_key_whose_name_and_value_are_quoted_together_is_dropped() -> None:
    assert KEY not in repr(parse(f"_k%3D{KEY}&_p=bob".encode()))


@pytest.mark.parametrize("name", ["api_k", "_key", "_k2", "k_k"])
def test_a_property_that_only_looks_a_little_like_the_key_stays(name: str) -> None:
    assert parse(f"{name}=5".encode()).properties == {name: "5"}


@pytest.mark.parametrize(
    "value",
    [
        f"http%3A%2F%2Ftrk%2Fe%3F_k%3D{KEY}%26_p%3Dbob",
        f"/e?_k={KEY}",
        f"%257B_k%253D{KEY}",
        f"next%3D%252Fe%253F_k%253D{KEY}",
        f"%7B%22_k%22%3A+%22{KEY}%22%7D",
        f"%7B'_K':'{KEY}'%7D",
    ],
)
def test_a_key_inside_a_value_is_masked_and_said(value: str) -> None:
    query = parse(f"_k=key&link={value}".encode())
    assert KEY not in repr(query)
    assert "***" in query.properties["link"]
    assert kinds(query) == ["key_inside"]


def test_what_stands_around_a_masked_key_stays() -> None:
    assert parse(b"link=/e%3F_k%3Dabc%26_p%3Dbob").properties == {"link": "/e?_k=***&_p=bob"}


def test_bytes_that_are_not_utf8_are_replaced_and_said() -> None:
    query = parse(b"_p=%FFbob&_k=%FE")
    assert query.parameters == {"_p": "\ufffdbob"}
    assert [problem.message for problem in query.problems] == [
        "the parameter '_p' is not UTF-8",
        "the parameter _k is not UTF-8",
    ]


@pytest.mark.parametrize("query", [b"_p=ann&_p=bob", b"plan=a&plan=b", b"plan=a&PLAN=b", b"_k=a&_k=b"])
def test_a_parameter_that_occurs_twice_is_a_problem(query: bytes) -> None:
    assert kinds(parse(query)) == ["repeated"]


def test_of_a_parameter_that_occurs_twice_the_last_counts() -> None:
    query = parse(b"_p=ann&plan=a&_p=bob&plan=b")
    assert (query.parameters, query.properties) == ({"_p": "bob"}, {"plan": "b"})


def test_what_exceeds_the_bound_is_not_looked_at_and_said() -> None:
    query = parse(b"_p=bob&a=" + b"x" * MAX_QUERY + b"&b=1")
    assert set(query.properties) == {"a"}
    assert kinds(query) == ["long_request"]
    assert kinds(parse(b"a=" + b"x" * (MAX_QUERY - 2))) == []


@given(before=st.binary(max_size=50), name=st.sampled_from(KEY_NAMES), after=st.binary(max_size=50))
def test_any_bytes_have_an_answer_and_none_shows_the_key(before: bytes, name: str, after: bytes) -> None:
    """Whatever stands around it, the key is in no text that the parser hands on."""
    assert KEY not in repr(parse(b"&".join([before, f"{name}={KEY}".encode(), after])))
