"""From the raw bytes of a query to parameters as text. Pure, and total: any bytes have an answer.

The rule of this file: the key ends here. Whatever is named ``_k``, or so much like it that somebody may have meant
it (``_K``, ``amp;_k`` from an HTML-escaped link, ``%5Fk`` encoded twice), is looked at for being there and for being
empty; neither its name nor its value goes any further. A ``_k=..`` inside another text, as in a link, is masked.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

from km_logging.calls import RESERVED, Problem, brief

__all__ = ["MAX_QUERY", "PARAMETERS", "Query", "parse"]

#: So many bytes of a query, with those of a form in the body, are looked at; it bounds what a call takes in memory.
MAX_QUERY = 65_536

#: What the API knows, beside the key. Everything else is a property.
PARAMETERS = ("_p", "_n", "_t", "_d")

_MASK = "***"

#: A name that holds this is the key's, or was meant to be.
_KEY_NAME = re.compile(r"(?<!\w)_k(?!\w)", re.IGNORECASE)

#: How often a name is decoded once more in search of the key's: somebody may have encoded twice, nobody four times.
_MOST_ENCODINGS = 3

#: ``_k=key``, ``"_k": "key"`` and the same quoted once more, inside another text.
_KEY_INSIDE = re.compile(
    r"""(?:(?<!\w)|(?<=%[0-9a-f]{2}))((?:_|%5f)k)(?:["'\s:=\[({]|%(?:2[0278]|3[ad]|[57]b))+[^\s&"',}]+""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Query:
    """What a request says, as text; the key is not in it.

    Attributes:
        has_key: whether ``_k`` is there and not empty.
        parameters: those of `PARAMETERS` that were given, by name.
        properties: everything else, in the order given.
        problems: what is wrong with the form of the query; what it means is for `checks`.
    """

    has_key: bool
    parameters: dict[str, str]
    properties: dict[str, str]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    """One ``name=value``. A key's own name and value are never in it, only whether they are as they should be."""

    name: str
    value: str
    is_key: bool
    is_utf8: bool
    is_masked: bool

    @property
    def label(self) -> str:
        """How a message names it."""
        return "_k" if self.is_key else brief(self.name)


def parse(query: bytes) -> Query:
    """Read a query.

    A parameter that occurs twice counts as it was given last.

    Args:
        query: what stands behind the question mark, still encoded; a form in the body is joined to it by ``&``.
    """
    fields = [_field(part) for part in query[:MAX_QUERY].split(b"&") if part]
    texts = {field.name: field.value for field in fields if not field.is_key}
    return Query(
        has_key=any(field.is_key and field.name == "_k" and field.value for field in fields),
        parameters={name: texts.pop(name) for name in PARAMETERS if name in texts},
        properties=texts,
        problems=tuple(_problems(fields, len(query))),
    )


def _field(part: bytes) -> _Field:
    (name, name_is_utf8), (value, value_is_utf8) = map(_text, part.partition(b"=")[::2])
    is_utf8 = name_is_utf8 and value_is_utf8
    if _is_key(name):
        return _Field("_k" if name == "_k" else _MASK, _MASK if value.strip() else "", True, is_utf8, False)
    shown = _KEY_INSIDE.sub(rf"\1={_MASK}", value)
    return _Field(name, shown, False, is_utf8, shown != value)


def _text(encoded: bytes) -> tuple[str, bool]:
    """The text, and whether it was UTF-8; what was not is shown as U+FFFD."""
    raw = unquote_to_bytes(encoded.replace(b"+", b" "))
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), False


def _is_key(name: str) -> bool:
    for _ in range(_MOST_ENCODINGS):
        name = unquote_plus(name) if "%" in name else name
    return _KEY_NAME.search(unicodedata.normalize("NFKC", name)) is not None


def _problems(fields: Iterable[_Field], size: int) -> Iterator[Problem]:
    if size > MAX_QUERY:
        message = f"the request has {size:,} bytes or more, and only the first {MAX_QUERY:,} were looked at"
        yield Problem("long_request", message, "keep a request below 8,000 bytes; common servers refuse more")
    for field in fields:
        yield from _field_problems(field)
    for label in _repeated(fields):
        message = f"the parameter {label} occurs more than once"
        yield Problem("repeated", message, "send it once; properties do not differ by their case")


def _field_problems(field: _Field) -> Iterator[Problem]:
    if not field.is_utf8:
        yield Problem("not_utf8", f"the parameter {field.label} is not UTF-8", "encode text as UTF-8, then quote it")
    if field.is_key and field.name != "_k":
        message = "a parameter is named almost like _k, and is not shown"
        yield Problem("reserved_property", message, "name the key _k, exactly")
    if field.is_masked:
        message = f"the value of {field.label} holds a key, which is masked here"
        yield Problem("key_inside", message, "leave the key out of what is tracked, such as links")


def _repeated(fields: Iterable[_Field]) -> Iterator[str]:
    """The labels of parameters that occur more than once; properties' names do not differ by their case."""
    names = [field.name for field in fields if not field.is_key or field.name == "_k"]
    counts = Counter(name if name.lower() in RESERVED else name.lower() for name in names)
    yield from (brief(name) for name, count in counts.items() if count > 1)
