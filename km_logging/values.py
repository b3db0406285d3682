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
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING

from km_logging.calls import encodable, type_name

if TYPE_CHECKING:
    from decimal import Decimal
    from enum import Enum

__all__ = ["ATOMS", "Untold", "is_uuid", "told", "unfold"]

#: Types of values that nobody can change afterwards, and that cost nothing to keep.
ATOMS = frozenset({str, int, float, bool, type(None)})

#: How many members of a mapping are looked at in all, and how deep mappings may nest.
MAX_MEMBERS = 3_000
MAX_DEPTH = 16

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
    name: str, value: object, limit: int, above: tuple[int, ...], visits: Iterator[int]
) -> Iterator[tuple[str, str | Untold]]:
    """As `unfold`; ``above`` are the ids of the mappings around the value, ``visits`` counts the members seen."""
    try:
        if not isinstance(value, Mapping):
            if value is not None:
                yield name, told(value, limit)
        elif id(value) in above:
            yield name, Untold("bad_value", "contains itself", _FEWER_MEMBERS)
        elif len(above) >= MAX_DEPTH:
            yield name, Untold("bad_value", f"nests deeper than {MAX_DEPTH} mappings", _FEWER_MEMBERS)
        else:
            for key, member in value.items():
                visit = next(visits)
                if visit == MAX_MEMBERS:
                    yield name, Untold("long_value", f"has more than {MAX_MEMBERS} members", _FEWER_MEMBERS)
                if visit >= MAX_MEMBERS:
                    return
                if isinstance(key, str | int):
                    part = str.__str__(key) if isinstance(key, str) else told(key, limit)
                    yield from _unfold(f"{name}.{part}", member, limit, (*above, id(value)), visits)
                else:
                    message = f"has a key of type {type_name(key)}"
                    yield name, Untold("bad_property_name", message, "use text as keys")
    except Exception as error:  # noqa: BLE001 - a value's own code may raise anything
        yield name, _raised(value, error)


def told(value: object, limit: int) -> str | Untold:
    """The text of one value that is neither None nor a mapping, or why it has none; ``limit`` as in `unfold`."""
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


def _text(value: object, limit: int) -> str | Untold:
    plain = _PLAIN.get(type(value))
    if plain is not None:
        return plain(value, limit)
    for kinds, convert in _other_scalars():
        if isinstance(value, kinds):
            return convert(value, limit)
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, memoryview):
        return _joined(value, limit)
    return Untold(
        "bad_value",
        f"is of type {type_name(value)}, which has no text form",
        "pass the text or number that is meant, such as its id",
    )


def _integer(value: int, limit: int) -> str | Untold:
    # Ten bits hold at least three digits; beyond the limit, str() costs quadratic time or refuses.
    return int.__repr__(value) if value.bit_length() <= limit * 10 // 3 else _too_long(limit)


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


def _enumerated(value: Enum, limit: int) -> str | Untold:
    return _text(value.value, limit)


Convert = Callable[..., "str | Untold"]

#: Nearly every value is of exactly one of these types.
_PLAIN: dict[type, Convert] = {
    str: lambda value, _: value,
    bool: lambda value, _: "true" if value else "false",
    int: _integer,
    float: _float,
}


@cache
def _other_scalars() -> tuple[tuple[type | tuple[type, ...], Convert], ...]:
    """Row by row, the first that fits: Enum before the str or int that it may also be; a datetime is a date.

    The types are imported with the first value that needs them, so that an application starts no slower.
    """
    from datetime import date
    from decimal import Decimal
    from enum import Enum
    from pathlib import PurePath
    from uuid import UUID

    return (
        (Enum, _enumerated),
        (str, lambda value, _: str.__str__(value)),
        (int, _integer),
        (float, _float),
        (Decimal, _decimal),
        (date, lambda value, _: value.isoformat()),
        ((UUID, PurePath), lambda value, _: str(value)),
        ((bytes, bytearray), _bytes),
    )


def _joined(values: Sequence[object] | AbstractSet[object], limit: int) -> str | Untold:
    """The members' texts, joined by ``, ``; a set's in sorted order, so that equal sets give equal calls."""
    if len(values) > limit:
        return _too_long(limit)
    texts = []
    for value in islice(values, limit + 1):
        if value is None:
            continue
        if isinstance(value, Sequence | AbstractSet | Mapping) and not isinstance(value, str | bytes | bytearray):
            return Untold("bad_value", "is a sequence that is nested", "flatten it, or pass a mapping")
        text = told(value, limit)
        if isinstance(text, Untold):
            return text
        texts.append(text)
    return ", ".join(sorted(texts) if isinstance(values, AbstractSet) else texts)


def is_uuid(value: object) -> bool:
    """Whether ``value`` is a UUID; where nobody has imported that module, nothing is."""
    uuid = sys.modules.get("uuid")
    return uuid is not None and isinstance(value, uuid.UUID)


def _too_long(limit: int) -> Untold:
    return Untold("long_value", f"has more than {limit} characters", "shorten it, or raise value_limit")


def _raised(value: object, error: Exception) -> Untold:
    message = f"is of type {type_name(value)}, whose own code raised {type_name(error)}"
    return Untold("bad_value", message, "pass the text or number that is meant")
