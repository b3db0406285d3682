"""What is wrong with a call, by the API specification and the vendor's technical notes. Pure: no I/O, no clock.

`receive` makes a `Received` of every request, sound or not. What the library itself checks before it sends
(`km_logging.calls.call_problems`) is checked by the same function here; the rest is about the form of a request, and
about calls that others than this library send. What takes several calls to see is in `history`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from km_logging.calls import EARLIEST, MAX_NAME, RESERVED, Call, Problem, brief, call_problems
from km_logging.sandbox.query import Query, parse

__all__ = ["MAX_VALUE", "PROBLEMS", "REFUSED", "Received", "receive"]

#: Longest value of a property, in characters (technical notes).
MAX_VALUE = 512

#: Every kind of problem that the sandbox knows. Of a call with one of the first group Kissmetrics keeps nothing.
PROBLEMS: dict[str, str] = {
    "bad_key": "_k is missing or empty",
    "bad_person": "_p is missing, empty, or too long",
    "bad_name": "_n of an event is missing, empty, or too long",
    "bad_identity": "_n of an alias is missing, empty, or too long",
    "self_alias": "both identities of an alias are the same",
    "bad_timestamp": "_t is no whole number, in milliseconds, or before 2009",
    "untimed": "_t without _d=1, or _d=1 without _t: the server takes its own clock",
    "bad_flag": "_d is neither 0 nor 1",
    "bad_property_name": "a property's name is empty or too long",
    "reserved_property": "a property is named almost like a parameter of the API",
    "long_value": "a property's value is too long",
    "json_value": "a property's value is a JSON object or array",
    "separator": "a name holds a comma or colon, which becomes a space",
    "repeated": "a parameter occurs more than once",
    "ignored": "a parameter or property that this kind of call does not have",
    "not_utf8": "a parameter is not UTF-8",
    "key_inside": "a value holds an API key, as in a link",
    "long_request": "the request is too long to be looked at whole",
    "bad_body": "the body is no urlencoded form",
    "case_variant": "a name differs from an earlier one only in capitals",
    "formatted_name": "many event names differ only in digits",
}

#: The kinds that cost the whole call.
REFUSED = frozenset({"bad_key", "bad_person", "bad_name", "bad_identity", "self_alias"})

#: Which parameter a problem found by `call_problems` is about.
_PARAMETERS = {"bad_person": "_p", "bad_name": "_n", "bad_identity": "_n", "self_alias": "_n", "bad_timestamp": "_t"}

#: An integer of any size that somebody may have meant as a time; Python reads thousands of digits unwillingly.
_INTEGER = re.compile(r"-?[0-9]{1,18}")

_SEPARATORS = re.compile("[,:]")


@dataclass(frozen=True, slots=True)
class Received:
    """One request to ``/e``, ``/s`` or ``/a``, sound or not, as Kissmetrics would read it. Never holds the key.

    Attributes:
        kind: ``event``, ``set`` or ``alias``, by the path.
        person: ``_p``; empty if it is missing.
        name: ``_n`` of an event; None if missing, and for other kinds.
        identity: ``_n`` of an alias; None if missing, and for other kinds.
        timestamp: the time that applies, Unix seconds; None where the server takes its own clock.
        properties: name to value, in the order given; empty for an alias.
        problems: what is wrong; kinds are those of `PROBLEMS`.
        received_at: Unix time in seconds.
        duplicate: whether it is counted as one with an earlier call; the store says so.
        id: 1, 2, 3, .. in the order received; the store says so.
    """

    kind: str
    person: str
    name: str | None
    identity: str | None
    timestamp: int | None
    properties: dict[str, str] = field(hash=False)
    problems: tuple[Problem, ...]
    received_at: float
    duplicate: bool = False
    id: int = 0

    def as_dict(self) -> dict[str, object]:
        """All attributes, as JSON can carry them; a problem is ``{"kind": .., "message": .., "remedy": ..}``."""
        problems = [{"kind": it.kind, "message": it.message, "remedy": it.remedy} for it in self.problems]
        return {it.name: getattr(self, it.name) for it in fields(self)} | {"problems": problems}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Received:
        """The call of which ``told`` is what `as_dict` gave.

        Raises:
            KeyError, TypeError: it is not.
        """
        return cls(**{**told, "problems": tuple(Problem(**it) for it in told["problems"])})

    @property
    def is_refused(self) -> bool:
        """Whether Kissmetrics keeps nothing of it."""
        return any(problem.kind in REFUSED for problem in self.problems)


def receive(kind: str, query: bytes, now: float) -> Received:
    """What a request says, and what is wrong with it. Never raises, whatever the bytes are.

    Args:
        kind: ``event``, ``set`` or ``alias``.
        query: as `km_logging.sandbox.query.parse` takes it.
        now: Unix time in seconds.

    >>> call = receive("event", b"_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000", now=1262304001.5)
    >>> call.person, call.name, call.timestamp, call.properties
    ('bob', 'Signed Up', None, {'gender': 'male'})
    >>> print(*call.problems)
    _t is not applied without _d=1: send both, or neither
    """
    read = parse(query)
    names = read.parameters.get("_n")
    return Received(
        kind=kind,
        person=read.parameters.get("_p", ""),
        name=names if kind == "event" else None,
        identity=names if kind == "alias" else None,
        timestamp=_applied_time(read.parameters) if kind != "alias" else None,
        properties=read.properties if kind != "alias" else {},
        problems=tuple(_problems(kind, read)),
        received_at=now,
    )


def _applied_time(parameters: Mapping[str, str]) -> int | None:
    return _integer(parameters.get("_t", "")) if parameters.get("_d") == "1" else None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _problems(kind: str, read: Query) -> Iterator[Problem]:
    if not read.has_key:
        yield Problem("bad_key", "_k is missing or empty", "set the API key; for the sandbox, any text will do")
    yield from _call_problems(kind, read.parameters)
    yield from read.problems
    if kind == "alias":
        yield from _ignored("an alias", [*(name for name in ("_t", "_d") if name in read.parameters), *read.properties])
        return
    yield from _time_problems(read.parameters)
    if kind == "event":
        yield from _separator_problems("event name", read.parameters.get("_n", ""))
    elif "_n" in read.parameters:
        yield from _ignored("a set call", ["_n"])
    for name, value in read.properties.items():
        yield from _property_problems(name, value)


def _call_problems(kind: str, parameters: Mapping[str, str]) -> Iterator[Problem]:
    """What `call_problems` says, told of parameters."""
    timestamp = None if kind == "alias" else _integer(parameters.get("_t", ""))
    call = Call(
        kind=kind,
        person=parameters.get("_p", ""),
        name=parameters.get("_n", "") if kind == "event" else None,
        identity=parameters.get("_n", "") if kind == "alias" else None,
        timestamp=EARLIEST if timestamp is None else timestamp,
    )
    for problem in call_problems(call):
        parameter = _PARAMETERS[problem.kind]
        if parameter in parameters:
            yield replace(problem, message=f"{parameter}: {problem.message}")
        elif problem.kind != "self_alias":  # nobody is no one's alias
            yield replace(problem, message=f"{parameter} is missing")


def _time_problems(parameters: Mapping[str, str]) -> Iterator[Problem]:
    time, flag = parameters.get("_t"), parameters.get("_d")
    if time is not None and _integer(time) is None:
        yield Problem("bad_timestamp", f"_t is {brief(time)}, not a whole number", "send Unix time in whole seconds")
    if flag not in {None, "0", "1"}:
        yield Problem("bad_flag", f"_d is {brief(flag)}", "send _d=1 with _t, or neither")
    if time is not None and flag != "1":
        yield Problem("untimed", "_t is not applied without _d=1", "send both, or neither")
    if time is None and flag == "1":
        yield Problem("untimed", "_d=1 says that a time is given, but _t is missing", "send both, or neither")


def _ignored(what: str, names: list[str]) -> Iterator[Problem]:
    if names:
        message = f"{what} has no {', '.join(map(brief, names))}: ignored"
        yield Problem("ignored", message, "leave it out, or send it with a call of its own")


def _separator_problems(noun: str, name: str) -> Iterator[Problem]:
    if _SEPARATORS.search(name):
        message = f"the {noun} {brief(name)} holds a comma or colon, which becomes a space"
        yield Problem("separator", message, "use another character")


def _property_problems(name: str, value: str) -> Iterator[Problem]:
    label = f"the property {brief(name)}"
    if not 1 <= len(name) <= MAX_NAME:
        message = f"{label} has a name of {len(name)} characters"
        yield Problem("bad_property_name", message, f"use 1 to {MAX_NAME} characters")
    if name.lower() in RESERVED:
        yield Problem("reserved_property", f"{label} is named almost like a parameter of the API", "rename it")
    yield from _separator_problems("property name", name)
    if len(value) > MAX_VALUE:
        message = f"{label} has a value of {len(value)} characters, more than {MAX_VALUE}"
        yield Problem("long_value", message, "shorten it, or leave it out")
    if _is_structured(value):
        message = f"{label} has a JSON object or array as its value"
        yield Problem("json_value", message, "send each of its fields as a property of its own")


def _is_structured(value: str) -> bool:
    if not value.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
