"""Calls as lines of JSON: what is written can be read again, and whatever else is read is a problem, never an error."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import km_logging as km
from km_logging.lines import MAX_LINE, call_line, import_line, left_out, read
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_nested
from km_logging.telling import tell

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = TEXT.filter(lambda name: name not in {"_k", "_p", "_n", "_t", "_d"})
PROPERTIES = st.dictionaries(st.one_of(st.just("_p2"), NAMES), TEXT, max_size=3)
TIMES = st.integers(1_230_768_000, 100_000_000_000)
CALLS = st.one_of(
    st.builds(km.Call, st.just("event"), TEXT, TEXT, st.none(), TIMES, PROPERTIES),
    st.builds(km.Call, st.just("set"), TEXT, st.none(), st.none(), TIMES, PROPERTIES),
    st.builds(km.Call, st.just("alias"), TEXT, st.none(), TEXT).filter(lambda call: call.person != call.identity),
)
RULES = Rules(Settings.resolve({"mode": "print"}, {}))


@given(CALLS)
def test_a_call_written_as_the_helpers_return_it_is_the_same_call_when_it_is_read(call):
    """But for the time of an alias, which is not sent: it becomes the moment of reading."""
    [line] = read(io.BytesIO(call_line(call).encode("ascii")))
    told = tell(from_nested(line.said, RULES, None, None, 0), RULES)
    assert told == (call, ())


@given(CALLS)
def test_a_call_in_kissmetrics_form_holds_all_but_what_would_make_an_alias_of_it(call):
    form = json.loads(import_line(call).encode("ascii"))
    if call.kind == "alias":
        assert form == {"_p": call.person, "_p2": call.identity}
        return
    assert (form.pop("_p"), form.pop("_t"), form.pop("_n", None)) == (call.person, call.timestamp, call.name)
    assert form == {name: value for name, value in call.properties.items() if name != "_p2"}
    assert left_out(call) == [name for name in call.properties if name == "_p2"]


@given(st.binary(max_size=60))
def test_any_bytes_are_lines_or_problems(data):
    """And no line is told twice, or not at all, unless it is blank."""
    numbers = [line.number for line in read(io.BytesIO(data))]
    assert numbers == [number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]


@pytest.mark.parametrize("end", [b"", b"\n", b"\nx"])
@pytest.mark.parametrize("more", [-1, 0, 1, MAX_LINE, 3 * MAX_LINE + 7])
def test_a_line_that_is_too_long_is_one_problem(more, end):
    """It is never held whole, and the next line has its own number."""
    lines = list(read(io.BytesIO(b"x" * (MAX_LINE + more) + end)))
    assert [line.number for line in lines] == [1, 2][: 1 + end.endswith(b"x")]
    assert all(isinstance(line.said, km.Problem) for line in lines)
