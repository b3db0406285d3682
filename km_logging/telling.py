"""From a snapshot to the call, with every problem on the way. Pure.

Runs in the listener's thread, or in the caller's where the answer is wanted at once (``strict``, a bare tracker,
``drop``, ``annotate``). It never raises, whatever stands in the snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from km_logging import wire
from km_logging.calls import KINDS, MAX_NAME, Call, Problem, brief, call_problems, is_a
from km_logging.helpers import Unsaid
from km_logging.tagging import NESTED_FIELDS, Rules, Snapshot
from km_logging.values import Untold, bad_name, is_uuid, plain, told

__all__ = ["Told", "recheck", "tell"]


class Told(NamedTuple):
    """What became of a snapshot.

    Attributes:
        call: the sound call, or None if it is refused whole.
        problems: why it is refused, or which properties were left out.
    """

    call: Call | None
    problems: tuple[Problem, ...] = ()


def tell(snapshot: Snapshot, rules: Rules) -> Told:
    """The call that a snapshot stands for, and every problem with it."""
    kind = _text(snapshot.call) if is_a(snapshot.call, str) else ""
    for noun, why in _unsaid(snapshot):
        return Told(None, (Problem(f"bad_{noun}", f"the {noun} {why.message}", why.remedy),))
    timestamp = snapshot.moment if snapshot.timestamp is None else snapshot.timestamp
    seconds = _seconds(timestamp)
    if seconds is None and kind in {"event", "set"}:
        message = f"the time {brief(timestamp)} is no time"
        return Told(None, (Problem("bad_timestamp", message, "pass Unix time in seconds, or a datetime"),))
    if kind in KINDS and snapshot.person is None:
        message = f"nobody is named for the {kind} {brief(snapshot.name) if kind == 'event' else ''}".rstrip()
        return Told(None, (Problem("no_person", message, "pass person, or use `with km.identify(...)`"),))
    properties, left_out = ({}, []) if kind == "alias" else told_properties(snapshot.properties, rules.limit)
    call = Call(
        kind=kind,
        person=_identity(snapshot.person),
        name=_text(snapshot.name) if kind == "event" else None,
        identity=_identity(snapshot.identity) if kind == "alias" else None,
        timestamp=seconds or 0,
        properties=properties,
    )
    refusal = next(call_problems(call), None)
    if refusal is not None:
        return Told(None, (refusal,))
    if kind != "alias":
        properties.update((name, text) for name, text in rules.defaults if name not in properties)
        call, too_many = fitting(call, rules.overhead)
        left_out += too_many
    unknown = [(f"the key {key}", Untold("unknown_field", "is not known", _KNOWN)) for key in snapshot.unknown]
    return Told(call, tuple(left_out_problem(call, where, why) for where, why in unknown + left_out))


def _unsaid(snapshot: Snapshot) -> Iterator[tuple[str, Untold]]:
    """What a helper was given that is no text, by the noun of its problem."""
    if Unsaid in map(type, snapshot):
        for noun in ("person", "identity", "name", "timestamp"):
            value = getattr(snapshot, noun)
            if type(value) is Unsaid:
                yield noun, value.why


_KNOWN = f"use {', '.join(sorted(NESTED_FIELDS))}"

LeftOut = tuple[str, Untold]


def told_properties(properties: Mapping[str, object], limit: int) -> tuple[dict[str, str], list[LeftOut]]:
    """The texts of properties, and those that have none with the reason."""
    texts: dict[str, str] = {}
    left_out: list[LeftOut] = []
    for key, value in properties.items():
        if value is None:
            continue
        name = _text(key)
        why = _bad_name(name) if type(name) is str else bad_name(name)
        text = why or (value if type(value) is Untold else told(value, limit))
        if isinstance(text, Untold):
            left_out.append((f"the property {brief(name)}", text))
        else:
            texts[name] = text
    return texts, left_out


#: Names are few, and come again.
_bad_name = lru_cache(maxsize=1_024)(bad_name)


def fitting(call: Call, overhead: int) -> tuple[Call, list[LeftOut]]:
    """The call without the properties that no longer fit the request, and those; ``overhead`` as in `wire`."""
    too_many = frozenset(wire.leave_out(call, overhead))
    if not too_many:
        return call, []
    why = Untold("no_room", "no longer fits the request", f"keep a call below {wire.MAX_TARGET:,} bytes")
    kept = {name: text for name, text in call.properties.items() if name not in too_many}
    return replace(call, properties=kept), [(f"the property {brief(name)}", why) for name in too_many]


def left_out_problem(call: Call, where: str, why: Untold) -> Problem:
    """The problem of a sound call from which something was left out."""
    what = f"the event {brief(call.name)}" if call.kind == "event" else f"a {call.kind} call"
    return Problem(why.kind, f"{where} of {what} {why.message}, and is left out", why.remedy, call)


def _seconds(timestamp: Any) -> int | None:
    """Unix time in whole seconds, rounded down; None if it is no time."""
    try:
        if type(timestamp) is float:
            return math.floor(timestamp)  # as nearly always
        if is_a(timestamp, datetime):
            seconds = plain(timestamp.timestamp())  # of a subclass, it may be anything
            return math.floor(seconds) if isinstance(seconds, int | float) else None
        number = plain(timestamp)
        if type(number) is int or type(number) is float:
            return math.floor(number)
    except Exception:  # noqa: BLE001 - NaN, infinity, the year 1, or a subclass's own code
        return None
    return None


def _identity(value: object) -> Any:
    """Text of a person; what is none is returned as it came, for `call_problems` to say so."""
    if type(value) is str:
        return value
    number = plain(value)
    if not is_uuid(value) and type(number) is not int:
        return _text(value)
    text = told(value if is_uuid(value) else number, MAX_NAME)
    return " " * (MAX_NAME + 1) if isinstance(text, Untold) else text


def _text(value: object) -> Any:
    """A text as it is; what is none is returned as it came, for `call_problems` or `bad_name` to say so."""
    return plain(value)


def recheck(call: Call, rules: Rules) -> Told:
    """A sound call that `before_send` returned, once more: its properties may be anything now."""
    properties, left_out = told_properties(call.properties, rules.limit)
    call, too_many = fitting(replace(call, properties=properties), rules.overhead)
    return Told(call, tuple(left_out_problem(call, where, why) for where, why in left_out + too_many))


def nested_form(call: Call) -> dict[str, object]:
    """The call in the nested form, whole: to read it again gives the same call."""
    nested = {
        "call": call.kind,
        "person": call.person,
        "name": call.name,
        "identity": call.identity,
        "timestamp": call.timestamp,
        "properties": dict(call.properties),
    }
    return {key: value for key, value in nested.items() if value not in (None, {})}
