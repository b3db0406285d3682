"""The call: what Kissmetrics is told. Everything in this library makes, keeps or delivers one.

A `Call` is text as it will be sent. A `Problem` says why a call, or a part of one, cannot be told. Limits come from
the API specification and the vendor's technical notes; the server itself answers 200 to everything, so whatever is
not checked here is never heard of again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "MAX_NAME", "PROBLEMS", "RESERVED", "Call", "Problem", "call_problems"]

KINDS = ("event", "set", "alias")

#: Longest person, identity, event name and property name, in characters (API specification).
MAX_NAME = 255

#: Parameters of the API that no property may replace.
RESERVED = frozenset({"_k", "_p", "_n", "_t", "_d"})

#: 2009-01-01T00:00:00Z: "data from 2009 on"; anything earlier is not stored.
EARLIEST = 1_230_768_000

#: Above this, a time is taken for milliseconds (the specification's URL builder does the same).
LATEST = 100_000_000_000

#: Every kind of problem. The first group refuses the whole call, the second leaves a property out of a sound call,
#: the third costs nothing by itself but should be known.
PROBLEMS: dict[str, str] = {
    "unknown_call": "the tag is not 'event', 'set' or 'alias'",
    "no_person": "nobody is named and nobody is identified",
    "bad_person": "the person is empty, too long, not text, or not encodable",
    "bad_name": "the event's name is empty, too long, not text, or not encodable",
    "bad_identity": "the alias's second identity is missing, empty, too long, not text, or not encodable",
    "self_alias": "both identities are the same",
    "bad_timestamp": "the time is before 2009, in milliseconds, or no time at all",
    "reserved_property": "a property is named like a parameter of the API",
    "bad_property_name": "a property's name is empty, too long, not text, or not encodable",
    "bad_value": "a property's value cannot be told as text",
    "long_value": "a property's value is longer than value_limit",
    "no_room": "a property no longer fits a request of 8,000 bytes",
    "unknown_field": "the nested form holds a key that it does not know",
    "formatted_name": "many event names differ only in digits",
    "callback": "a callback raised, or returned what it should not",
    "insecure_endpoint": "calls leave this machine unencrypted",
    "outbox": "the outbox cannot be used for the time being, or holds calls of another key",
    "delivery": "the background thread could not start or met an error of its own",
    "unreachable": "calls cannot be delivered for the time being; they wait, and are tried again",
    "dropped": "calls were given up that had been accepted; `stats().dropped` counts them",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One event, set or alias call, as it will be sent.

    `repr` shows neither identities nor values: they are the users' data, and a `repr` ends up in logs.

    Attributes:
        kind: ``event``, ``set`` or ``alias``.
        person: who did it; 1 to 255 characters.
        name: the event's name, 1 to 255 characters; None for set and alias.
        identity: the alias's other identity; None for event and set.
        timestamp: Unix time in whole seconds, fixed when the record was logged.
        properties: property name to value, both text, in the order given; empty for alias.
    """

    kind: str
    person: str = field(repr=False)
    name: str | None = None
    identity: str | None = field(default=None, repr=False)
    timestamp: int = 0
    properties: dict[str, str] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call, or a part of it, cannot be told.

    Attributes:
        kind: a key of `PROBLEMS`.
        message: what is wrong; names properties, never their values.
        remedy: what to do about it.
        call: the call as far as it could be told, or None if it was refused whole.
    """

    kind: str
    message: str
    remedy: str
    call: Call | None = None

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}"


def call_problems(call: Call) -> Iterator[Problem]:
    """Yield why ``call`` must be refused whole; nothing if it is sound. Properties are not looked at."""
    if not is_a(call.kind, str) or call.kind not in KINDS:
        yield Problem("unknown_call", "the tag names no kind of call", "use 'event', 'set' or 'alias'")
        return
    yield from _text_problems(call.person, "bad_person", "person", "pass the person's id or e-mail address")
    if call.kind == "event":
        remedy = "log a short constant text; or pass the name as km_name, or to event() after the person"
        yield from _text_problems(call.name, "bad_name", "event name", remedy)
    if call.kind == "alias":
        yield from _text_problems(call.identity, "bad_identity", "identity", "pass the person's other id as identity")
        if call.person == call.identity:
            yield Problem("self_alias", "a person is aliased to themselves", "pass two different identities")
    else:
        yield from _time_problems(call.timestamp)


def _text_problems(text: Any, kind: str, noun: str, remedy: str) -> Iterator[Problem]:
    if type(text) is str and 0 < len(text) <= MAX_NAME and text.isascii():
        return  # as nearly always
    if text is None:
        yield Problem(kind, f"the {noun} is missing", remedy)
    elif not is_a(text, str):
        yield Problem(kind, f"the {noun} is of type {type_name(text)}, not text", remedy)
    elif not text:
        yield Problem(kind, f"the {noun} is empty", remedy)
    elif len(text) > MAX_NAME:
        yield Problem(kind, f"the {noun} has {len(text)} characters, more than {MAX_NAME}", remedy)
    elif not encodable(text):
        yield Problem(kind, f"the {noun} holds a lone surrogate and has no UTF-8 form", remedy)


def _time_problems(timestamp: object) -> Iterator[Problem]:
    if type(timestamp) is not int:
        yield Problem("bad_timestamp", f"the time is of type {type_name(timestamp)}", "pass Unix time in seconds")
    elif timestamp < EARLIEST:
        yield Problem("bad_timestamp", f"the time {brief(timestamp)} is before 2009-01-01", "pass Unix time in seconds")
    elif timestamp > LATEST:
        message = f"the time {brief(timestamp)} looks like milliseconds"
        yield Problem("bad_timestamp", message, "pass Unix time in seconds: divide by 1,000")


def encodable(text: str) -> bool:
    """Whether ``text`` has a UTF-8 form: a lone surrogate has none."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def brief(thing: object, limit: int = 60) -> str:
    """A short quoted form of ``thing`` for a message; only text and numbers are shown, others by their type."""
    if type(thing) is int and thing.bit_length() < limit * 3:
        return str(thing)
    if not is_a(thing, str):
        return f"of type {type_name(thing)}"
    text = str.__str__(thing)
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


def is_a(thing: object, *kinds: type) -> bool:
    """Whether ``thing`` is of one of these types, whatever its ``__class__`` says, or does when it is asked."""
    return issubclass(type(thing), kinds)


def type_name(thing: object) -> str:
    """The name of ``thing``'s type, whatever its metaclass says."""
    return ascii(type.__dict__["__name__"].__get__(type(thing)))[1:-1][:60]
