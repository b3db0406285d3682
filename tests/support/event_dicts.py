"""Event dicts with sound calls of every form, for property tests."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

from hypothesis import strategies as st

import km_logging as km

__all__ = ["NOON", "Plan", "event_dicts"]

NOON = 1_700_000_000

EventDict = dict[str, Any]


class Plan(enum.Enum):
    """An enum, which JSON does not know."""

    PRO = "pro"


_names = st.one_of(
    st.sampled_from(["", "x" * 256, *"plan geo geo.city identity request_id _private name exception".split()]),
    # What a line of another kind would hold.
    st.sampled_from("message msg created levelname asctime taskName _p _t _n call".split()),
    st.text(max_size=5),
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(places=2, allow_nan=True),
    st.text(st.characters(), max_size=8),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, dt.timezone.utc])),
    st.uuids(),
    st.binary(max_size=4),
    st.sampled_from([Plan.PRO, object(), "x" * 600, 1e300, 5e-324, 2**70]),
)
_values = st.recursive(
    _scalars,
    lambda members: st.one_of(
        st.lists(members, max_size=3),
        st.dictionaries(st.one_of(_names, st.integers(0, 9)), members, max_size=3),
        st.frozensets(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
    ),
    max_leaves=5,
)
_persons = st.one_of(st.text(min_size=1, max_size=5), st.integers(), st.uuids(), st.none())
_moments = st.one_of(
    st.none(),
    st.integers(1_230_768_000, 2**33),
    st.floats(1_230_768_000, 2**33),
    st.datetimes(dt.datetime(2010, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.timezone.utc)),  # noqa: DTZ001
)
_SAID_OTHERWISE = {"km", "person", "event", "timestamp"}
_fields = st.dictionaries(_names.filter(lambda name: name not in _SAID_OTHERWISE), _values, max_size=5)


@st.composite
def event_dicts(draw: st.DrawFn) -> EventDict:
    """Event dicts with a sound call in one of the three forms."""
    fields, person, moment = draw(_fields), draw(_persons), draw(_moments)
    kind = draw(st.sampled_from(["event", "set", "alias"]))
    form = draw(st.sampled_from(["flat", "nested", "helper"]))
    name = draw(st.text(min_size=1, max_size=5))
    event_dict: EventDict = {"event": name}
    if draw(st.booleans()):
        event_dict["timestamp"] = draw(st.sampled_from(["2023-11-14T22:13:20.500000Z", NOON + 0.5, "10:15", "x", None]))
    if kind == "alias":
        person = "bob" if person is None else person
        flat = {"person": person, "identity": draw(st.uuids())}
        tagged = {"call": kind, "person": person, "identity": "somebody else " + str(flat["identity"])}
        helper = km.alias(person, flat["identity"])
    else:
        flat = {"person": person, **fields}
        if moment is not None:
            flat["km_timestamp"] = moment
        tagged = {"call": kind, "person": person, "timestamp": moment, "properties": fields}
        helper = (km.event if kind == "event" else km.set)(person, timestamp=moment, properties=fields)
    order = draw(st.booleans())
    said = {"flat": {"km": kind, **flat}, "nested": {"km": tagged}, "helper": helper}[form]
    return {**said, **event_dict} if order else {**event_dict, **said}
