"""The wire: the specification's own URLs, the way there and back, and the room that a request has."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from km_logging import wire
from km_logging.calls import Call

NEW_YEAR = 1_262_304_000  # 2010-01-01, the moment of the specification's examples

#: The example URLs of the API specification, byte for byte, and the calls that they make.
EXAMPLES = {
    "http://trk.kissmetrics.com/e?_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1": Call(
        "event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={"gender": "male"}
    ),
    "http://trk.kissmetrics.com/s?_k=api-key&_p=bob&gender=male&_t=1262304000&_d=1": Call(
        "set", "bob", timestamp=NEW_YEAR, properties={"gender": "male"}
    ),
    "http://trk.kissmetrics.com/a?_k=api-key&_p=User+12345&_n=bob%40bob.com": Call(
        "alias", "User 12345", identity="bob@bob.com"
    ),
}

patiently = settings(deadline=None)  # no test of ours says how fast a machine is

#: Text without surrogates: what a sound call holds.
TEXT = st.text(alphabet=st.characters(codec="utf-8"))
SECONDS = st.integers(1_230_768_000, 100_000_000_000)
PROPERTIES = st.dictionaries(TEXT, TEXT)
CALLS = st.one_of(
    st.builds(Call, st.just("event"), TEXT, TEXT, timestamp=SECONDS, properties=PROPERTIES),
    st.builds(Call, st.just("set"), TEXT, timestamp=SECONDS, properties=PROPERTIES),
    st.builds(Call, st.just("alias"), TEXT, identity=TEXT),
)


def full_target(call, api_key="api-key", base=""):
    return wire.target(wire.encode(call), api_key, base)


@pytest.mark.parametrize(("url", "call"), EXAMPLES.items(), ids=lambda value: getattr(value, "kind", ""))
def test_the_example_urls_of_the_specification_come_out_byte_for_byte(url, call):
    assert "http://trk.kissmetrics.com" + full_target(call) == url


@pytest.mark.parametrize(("url", "call"), EXAMPLES.items(), ids=lambda value: getattr(value, "kind", ""))
def test_the_example_urls_of_the_specification_are_read_back(url, call):
    assert wire.decode(url.removeprefix("http://trk.kissmetrics.com").replace("_k=api-key&", "")) == call


@patiently
@given(call=CALLS)
@example(Call("event", "", "", timestamp=NEW_YEAR, properties={"": ""}))
@example(Call("event", "&=?#%+", ";/ \0\n", timestamp=NEW_YEAR, properties={"&=": "%26+", "a b": " ", "é": "🎉"}))
@example(Call("set", "bob", timestamp=NEW_YEAR, properties={"_t": "1", "_n": "2", "_d": "3", "_p": "4"}))
@example(Call("alias", "a&_n=b", identity="a&_n=b"))
def test_a_call_comes_back_from_the_wire_as_it_was(call):
    """Whatever text its parts hold, and in the same order."""
    decoded = wire.decode(wire.encode(call))
    assert decoded == call
    assert list(decoded.properties) == list(call.properties)


def test_the_timestamp_of_an_alias_is_not_sent():
    call = Call("alias", "bob", identity="eve", timestamp=NEW_YEAR)
    assert wire.encode(call) == "/a?_p=bob&_n=eve"
    assert wire.decode(wire.encode(call)).timestamp == 0


@patiently
@given(
    call=CALLS, api_key=st.text(alphabet=st.characters(codec="utf-8"), min_size=1), base=st.sampled_from(["", "/a/b"])
)
def test_the_parameters_stand_in_the_order_of_the_contract(call, api_key, base):
    """`_k`, `_p`, `_n`, the properties, `_t`, `_d`, encoded as `urlencode` does."""
    pairs = [("_k", api_key), ("_p", call.person)]
    if call.kind != "set":
        pairs.append(("_n", call.name if call.kind == "event" else call.identity))
    if call.kind != "alias":
        pairs += [*call.properties.items(), ("_t", str(call.timestamp)), ("_d", "1")]
    path = base + {"event": "/e", "set": "/s", "alias": "/a"}[call.kind]
    assert full_target(call, api_key, base) == f"{path}?{urlencode(pairs)}"


@patiently
@given(call=CALLS)
def test_a_request_is_printable_ascii_without_spaces_and_without_key(call):
    request = wire.encode(call)
    assert request.isascii()
    assert request.isprintable()
    assert " " not in request
    assert request[:6] in {"/e?_p=", "/s?_p=", "/a?_p="}


@pytest.mark.parametrize(
    ("api_key", "base", "target"),
    [
        ("api-key", "", "/a?_k=api-key&_p=bob&_n=eve"),
        ("api-key", "/proxy/km", "/proxy/km/a?_k=api-key&_p=bob&_n=eve"),
        ("a&b=c +é", "", "/a?_k=a%26b%3Dc+%2B%C3%A9&_p=bob&_n=eve"),
    ],
)
def test_the_key_is_encoded_and_comes_first(api_key, base, target):
    assert full_target(Call("alias", "bob", identity="eve"), api_key, base) == target


# The room that a request has.


def overhead(api_key="api-key", base=""):
    """What `leave_out` is to reckon with: base path, `_k=`, key and `&`."""
    call = Call("alias", "bob", identity="eve")
    return len(full_target(call, api_key, base)) - len(wire.encode(call))


def kept(call, reserved):
    """The call without what `leave_out` names."""
    left_out = set(wire.leave_out(call, reserved))
    properties = {name: text for name, text in call.properties.items() if name not in left_out}
    return Call(call.kind, call.person, call.name, call.identity, call.timestamp, properties)


WIDE = st.text(alphabet="a é漢🎉&", max_size=600)


@patiently
@given(
    person=st.text(alphabet="a🎉", min_size=1, max_size=255),
    properties=st.dictionaries(
        st.text(alphabet="aé🎉", max_size=255), WIDE | st.just("x" * 4_000) | st.just("x"), max_size=8
    ),
    name=st.none() | st.text(alphabet="a🎉", min_size=1, max_size=255),
    base=st.sampled_from(["", "/proxy", "/" + "x" * 254]),
)
def test_a_target_never_exceeds_8000_bytes_and_nothing_is_left_out_that_would_have_fitted(
    person, properties, name, base
):
    """In the order given, each property is kept exactly if it fits beside those kept before it."""
    call = Call("set" if name is None else "event", person, name, timestamp=NEW_YEAR, properties=properties)
    left_out = list(wire.leave_out(call, overhead(base=base)))
    expected = {}
    for key, text in properties.items():
        larger = Call(call.kind, person, name, None, NEW_YEAR, {**expected, key: text})
        if len(full_target(larger, base=base)) <= 8_000:
            expected[key] = text
    assert left_out == [key for key in properties if key not in expected]
    assert len(full_target(kept(call, overhead(base=base)), base=base)) <= 8_000


@pytest.mark.parametrize("character", ["x", " ", "&", "é", "漢", "🎉"])
@pytest.mark.parametrize("others", [0, 1, 100])
def test_a_target_of_exactly_8000_bytes_is_whole(character, others):
    """And with one byte more it is not."""
    width = len(urlencode({"": character})) - 1
    small = {f"p{number}": "" for number in range(others)}
    empty = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={**small, "fill": ""})
    room = 8_000 - len(full_target(empty))
    filling = "a" * (room % width) + character * (room // width)
    exact = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={**small, "fill": filling})
    assert len(full_target(exact)) == 8_000
    assert list(wire.leave_out(exact, overhead())) == []
    larger = Call("event", "bob", "Signed Up", timestamp=NEW_YEAR, properties={**small, "fill": filling + "a"})
    assert list(wire.leave_out(larger, overhead())) == ["fill"]


def test_a_small_property_after_a_large_one_is_kept():
    call = Call("set", "bob", timestamp=NEW_YEAR, properties={"a": "1", "large": "x" * 9_000, "b": "2"})
    assert list(wire.leave_out(call, overhead())) == ["large"]


def test_1000_properties_are_kept_as_far_as_they_fit():
    call = Call("set", "bob", timestamp=NEW_YEAR, properties={f"property {n}": "x" for n in range(1_000)})
    left_out = list(wire.leave_out(call, overhead()))
    assert 0 < len(left_out) < 1_000
    assert left_out == list(call.properties)[-len(left_out) :]
    assert 7_980 < len(full_target(kept(call, overhead()))) <= 8_000


@pytest.mark.parametrize(
    "call",
    [
        Call("event", "🎉" * 255, "🎉" * 255, timestamp=100_000_000_000),
        Call("set", "🎉" * 255, timestamp=100_000_000_000),
        Call("alias", "🎉" * 255, identity="🎉" * 254),
    ],
    ids=lambda call: call.kind,
)
def test_a_call_without_properties_always_fits_whatever_key_and_base(call):
    """The widest person, name, key and base path: only properties are ever left out."""
    assert list(wire.leave_out(call, overhead("k" * 255, "/" + "b" * 254))) == []
    assert len(full_target(call, "k" * 255, "/" + "b" * 254)) <= 8_000
