"""Saying what happened: `event`, `set` and `alias` return the nested form of a tracking call.

The result is a plain dict that JSON can carry, so it serves as ``extra=`` for the standard library and as ``**`` for
structlog. A value that cannot be told becomes an `Unsaid`: a text for every formatter, a problem for the tagging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from km_logging.calls import brief, is_a, type_name
from km_logging.values import ATOMS, MAX_MEMBERS, Untold, is_uuid, plain, unfold

__all__ = ["Unsaid", "alias", "event", "set"]

#: No value longer than this can be sent, whatever `value_limit` is: a request target holds 8,000 bytes.
_LONGEST = 8_000


class Unsaid(str):
    """Stands in the nested form for what cannot be told; every formatter can write it, and it is never sent.

    Attributes:
        why: the reason, as a `km_logging.values.Untold`.
    """

    __slots__ = ("why",)
    why: Untold

    def __new__(cls, why: Untold) -> Unsaid:  # noqa: PYI034, D102 - nobody subclasses it
        self = super().__new__(cls, f"<{why.message}>")
        self.why = why
        return self

    def __getnewargs__(self) -> tuple[Untold]:  # type: ignore[override]
        return (self.why,)


def event(
    person: object = None,
    name: str | None = None,
    /,
    *,
    timestamp: float | datetime | None = None,
    properties: Mapping[str, object] | None = None,
    **props: object,
) -> dict[str, dict[str, object]]:
    """Somebody did something.

    >>> event("bob", "Signed Up", plan="pro")
    {'km': {'call': 'event', 'person': 'bob', 'name': 'Signed Up', 'properties': {'plan': 'pro'}}}

    Args:
        person: str, int or UUID; None: whoever is bound by `identify()`.
        name: the event's name; None: the log message, not formatted.
        timestamp: Unix time in seconds, or a datetime (a naive one is local); None: the moment of logging.
        properties: properties, also those whose names are no identifiers.
        **props: more properties; they win over ``properties`` of the same name.

    Returns:
        The nested form under the key ``km``.
    """
    return _nested("event", person, timestamp, properties, props, name=name)


def set(
    person: object = None,
    /,
    *,
    timestamp: float | datetime | None = None,
    properties: Mapping[str, object] | None = None,
    **props: object,
) -> dict[str, dict[str, object]]:
    """Somebody has these properties; arguments as for `event`.

    >>> set("bob", gender="male")
    {'km': {'call': 'set', 'person': 'bob', 'properties': {'gender': 'male'}}}
    """
    return _nested("set", person, timestamp, properties, props)


def alias(person: object, identity: object, /) -> dict[str, dict[str, object]]:
    """Two identities are one person. This cannot be undone; the order does not matter.

    >>> alias("User 12345", "bob@bob.com")
    {'km': {'call': 'alias', 'person': 'User 12345', 'identity': 'bob@bob.com'}}
    """
    return {"km": {"call": "alias", "person": _identity(person), "identity": _identity(identity)}}


def _nested(
    call: str,
    person: object,
    timestamp: object,
    properties: object,
    props: Mapping[str, object],
    name: object = None,
) -> dict[str, dict[str, object]]:
    nested: dict[str, object] = {"call": call}
    if person is not None:
        nested["person"] = _identity(person)
    if name is not None:
        nested["name"] = _plain(name)
    if timestamp is not None:
        nested["timestamp"] = _seconds(timestamp)
    nested["properties"] = _properties(properties, props)
    return {"km": nested}


def _properties(properties: Any, props: Mapping[str, object]) -> object:
    if properties is None:
        return _portable(props)
    if not is_a(properties, Mapping):
        return _plain(properties)
    try:
        return _portable({**dict(islice(properties.items(), MAX_MEMBERS)), **props})
    except Exception:  # noqa: BLE001 - a mapping's own code may raise anything
        return _plain(properties)


def _portable(properties: Mapping[Any, object]) -> dict[str, object]:
    portable: dict[str, object] = {}
    for key, value in properties.items():
        name = plain(key)
        if not isinstance(name, str):
            portable[brief(name)] = Unsaid(Untold("bad_property_name", "is named by no text", "name it by a text"))
        elif _is_plain(value):
            portable[name] = value
        else:
            for path, text in unfold(name, value, _LONGEST):
                portable[path] = Unsaid(text) if isinstance(text, Untold) else text
    return portable


def _identity(value: object) -> object:
    try:
        return str(value) if is_uuid(value) else _plain(value)
    except Exception:  # noqa: BLE001 - a subclass's own code
        return Unsaid(Untold("bad_person", f"is of type {type_name(value)}, which raised", "pass a text"))


def _seconds(timestamp: Any) -> object:
    if not is_a(timestamp, datetime):
        return _plain(timestamp)
    try:
        return _plain(timestamp.timestamp())
    except Exception:  # noqa: BLE001 - the year 1, or a time zone's own code
        return Unsaid(Untold("bad_timestamp", "is out of range", "pass a time after 2009-01-01"))


def _plain(value: object) -> object:
    if type(value) is Unsaid:
        return value
    value = plain(value)
    if _is_plain(value):
        return value
    return Unsaid(Untold("bad_value", f"is of type {type_name(value)}", "pass text or a number"))


def _is_plain(value: object) -> bool:
    """Whether JSON carries the value as it is, in every reader: no NaN, no integer of thousands of digits."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is int:
        return value.bit_length() < _LONGEST  # type: ignore[attr-defined,no-any-return]
    return kind in ATOMS
