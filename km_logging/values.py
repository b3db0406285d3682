"""Property values as text. Pure, and total: whatever the value is, the answer is text or a reason, never an exception.

1. Text is sent as it is; numbers as plain decimal text, never with an exponent.
2. A mapping becomes one property a member (``address.city``), a sequence of scalars one text joined by ``, ``.
3. None is left out.
4. What has no honest text form (NaN, an open file, a web framework's request) is a reason, not a ``repr``.

Nothing here walks further into a value than ``value_limit`` characters can hold, so a huge or endless value costs
the caller no more than a long one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from km_logging.calls import MAX_NAME, RESERVED, encodable, is_a, type_name

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["ATOMS", "MAX_MEMBERS", "Untold", "bad_name", "is_uuid", "plain", "told", "unfold"]

#: Types of values that nobody can change afterwards, and that cost nothing to keep.
ATOMS = frozenset({str, int, float, bool, type(None)})

#: How many members of a mapping are looked at in all, and how deep mappings may nest.
MAX_MEMBERS = 3_000
MAX_DEPTH = 16

#: Below so many bits, int's own conversion is fast and allowed.
_EASY_BITS = 10_000

_FEWER_MEMBERS = "pass the members that matter as single properties"


@dataclass(frozen=True, slots=True)
class Untold:
    """Why a value has no text.

    Attributes:
        kind: ``bad_value``, ``long_value`` or ``bad_property_name``, as in `km_logging.calls.PROBLEMS`.
        message: completes "the property ``x`` ...".
        remedy: what to do about it.
    """

    kind: str
    message: str
    remedy: str


def unfold(name: str, value: object, limit: int) -> Iterator[tuple[str, str | Untold]]:
    """Yield the properties that ``value`` stands for: none for None, several for a mapping, else one.

    Args:
        name: the property's name.
        value: anything at all.
        limit: longest text of one value, in characters.
    """
    yield from _unfold(name, value, limit, (), count())


def _unfold(
    name: str, value: Any, limit: int, above: tuple[int, ...], visits: Iterator[int]
) -> Iterator[tuple[str, str | Untold]]:
    """As `unfold`; ``above`` are the ids of the mappings around the value, ``visits`` counts the members seen."""
    try:
        for _ in range(MAX_DEPTH):
            value = value.value if is_a(value, Enum) else value
        if not is_a(value, Mapping):
            if value is not None:
                yield name, told(value, limit)
        elif id(value) in above or len(above) >= MAX_DEPTH:
            yield name, Untold("bad_value", f"contains itself, or nests {MAX_DEPTH} mappings", _FEWER_MEMBERS)
        else:
            for key, member in value.items():
                visit = next(visits)
                if visit == MAX_MEMBERS:
                    yield name, Untold("long_value", f"has more than {MAX_MEMBERS} members", _FEWER_MEMBERS)
                if visit >= MAX_MEMBERS:
                    return
                part = _key_text(key)
                if isinstance(part, Untold):
                    yield name, part
                else:
                    yield from _unfold(f"{name}.{part}", member, limit, (*above, id(value)), visits)
    except Exception as error:  # noqa: BLE001 - a value's own code may raise anything
        yield name, _raised(value, error)


def _key_text(key: object) -> str | Untold:
    """A mapping's key as part of a property's name."""
    key = plain(key)
    text = key if isinstance(key, str) else told(key, MAX_NAME) if type(key) is int else None
    if isinstance(text, str):
        return text
    return Untold("bad_property_name", f"has a key of type {type_name(key)} without a short text", "use text as keys")


def told(value: object, limit: int) -> str | Untold:
    """The text of one value that is neither None nor a mapping, or why it has none; ``limit`` as in `unfold`."""
    if type(value) is str and len(value) <= limit and value.isascii():
        return value  # as nearly always
    try:
        text = _text(value, limit)
    except Exception as error:  # noqa: BLE001 - a value's own code may raise anything
        return _raised(value, error)
    if isinstance(text, Untold):
        return text
    if len(text) > limit:
        return _too_long(limit)
    if not encodable(text):
        return Untold("bad_value", "holds a lone surrogate and has no UTF-8 form", "decode the text properly")
    return text


def _text(value: Any, limit: int) -> str | Untold:
    convert = _PLAIN.get(type(value))
    if convert is not None:
        return convert(value, limit)
    for kinds, convert in _other_scalars():
        if is_a(value, *kinds):
            text = convert(value, limit)
            # A subclass may return anything where its parent returns text.
            return text if type(text) in {str, Untold} else _no_text(value)
    if is_a(value, Sequence, AbstractSet) and not is_a(value, memoryview):
        return _joined(value, limit)
    return _no_text(value)


def _no_text(value: object) -> Untold:
    message = f"is of type {type_name(value)}, which has no text form"
    return Untold("bad_value", message, "pass the text or number that is meant, such as its id")


def _integer(value: int, limit: int) -> str | Untold:
    # Ten bits hold three digits at least, and str() of a long integer costs quadratic time, or refuses.
    if value.bit_length() > (limit + 1) * 10 // 3 + 10:
        return _too_long(limit)
    if value.bit_length() < _EASY_BITS:
        return int.__repr__(value)
    from decimal import Decimal  # which writes integers of any size

    return str(Decimal(int.__int__(value)))


def _float(value: float, _: int) -> str | Untold:
    if not math.isfinite(value):
        return Untold("bad_value", "is not a finite number", "leave it out, or pass a text")
    text = float.__repr__(value)
    if "e" not in text:
        return text
    from decimal import Decimal  # only for the very large and the very small

    return format(Decimal(text), "f")


def _decimal(value: Decimal, limit: int) -> str | Untold:
    if not value.is_finite():
        return Untold("bad_value", "is not a finite number", "leave it out, or pass a text")
    # The exponent is the length of the text: Decimal("1e999999") must not be written out to be measured.
    return format(value, "f") if abs(value.adjusted()) <= limit else _too_long(limit)


def _bytes(value: bytes | bytearray, limit: int) -> str | Untold:
    try:
        return value.decode() if len(value) <= limit * 4 else _too_long(limit)
    except UnicodeDecodeError:
        return Untold("bad_value", "holds bytes that are not UTF-8", "pass text, or encode it as base64 or hex")


Convert = Callable[..., "str | Untold"]

#: Nearly every value is of exactly one of these types.
_PLAIN: dict[type, Convert] = {
    str: lambda value, _: value,
    bool: lambda value, _: "true" if value else "false",
    int: _integer,
    float: _float,
}


@cache
def _other_scalars() -> tuple[tuple[tuple[type, ...], Convert], ...]:
    """Row by row, the first that fits: Enum before the str or int that it may also be; a datetime is a date.

    The types are imported with the first value that needs them, so that an application starts no slower.
    """
    from datetime import date
    from decimal import Decimal
    from pathlib import PurePath
    from uuid import UUID

    return (
        ((Enum,), lambda value, limit: _text(value.value, limit)),
        ((str,), lambda value, _: str.__str__(value)),
        ((int,), _integer),
        ((float,), _float),
        ((Decimal,), _decimal),
        ((date,), lambda value, _: value.isoformat()),
        ((UUID, PurePath), lambda value, _: str(value)),
        ((bytes, bytearray), _bytes),
    )


def _joined(values: Sequence[object] | AbstractSet[object], limit: int) -> str | Untold:
    """The members' texts, joined by ``, ``; a set's in sorted order, so that equal sets give equal calls."""
    if len(values) > limit:
        return _too_long(limit)
    texts = []
    members = [value for value in islice(values, limit + 1) if value is not None]
    for value in _in_order(members) if is_a(values, AbstractSet) else members:
        if is_a(value, Sequence, AbstractSet, Mapping) and not is_a(value, str, bytes, bytearray):
            return Untold("bad_value", "is a sequence that is nested", "flatten it, or pass a mapping")
        text = told(value, limit)
        if isinstance(text, Untold):
            return text
        texts.append(text)
    return ", ".join(texts)


def _in_order(members: list[Any]) -> list[Any]:
    """A set's members as they sort, or if they do not, as their texts do."""
    try:
        return sorted(members)
    except TypeError:
        return sorted(members, key=lambda member: str(_text(member, MAX_NAME)))


def plain(value: Any) -> object:
    """A text or number of a subclass (an Enum's too) as what it is underneath; anything else as it came."""
    if type(value) in ATOMS:
        return value  # as nearly always
    if is_a(value, str):
        return str.__str__(value)
    if is_a(value, int) and not is_a(value, bool):
        return int.__int__(value)
    return float.__float__(value) if is_a(value, float) else value


def bad_name(name: object) -> Untold | None:
    """Why no property may have this name, or None if one may."""
    if not isinstance(name, str):
        return Untold("bad_property_name", "is named by no text", "name properties by texts")
    if name in RESERVED:
        return Untold("reserved_property", "is named like a parameter of the API", "rename it")
    if not name:
        return Untold("bad_property_name", "has an empty name", "name it")
    if len(name) > MAX_NAME:
        return Untold("bad_property_name", f"has a name of more than {MAX_NAME} characters", "shorten the name")
    if not encodable(name):
        return Untold("bad_property_name", "has a name with a lone surrogate", "decode the name properly")
    return None


def is_uuid(value: object) -> bool:
    """Whether ``value`` is a UUID; where nobody has imported that module, or is still about to, nothing is."""
    kind = getattr(sys.modules.get("uuid"), "UUID", None)
    return kind is not None and is_a(value, kind)


def _too_long(limit: int) -> Untold:
    return Untold("long_value", f"has more than {limit} characters", "shorten it, or raise value_limit")


def _raised(value: object, error: Exception) -> Untold:
    message = f"is of type {type_name(value)}, whose own code raised {type_name(error)}"
    return Untold("bad_value", message, "pass the text or number that is meant")
