"""Calls as lines of JSON, in two forms. Pure but for `read`, which reads the stream that it is given.

The form of the helpers, which is also what a log record carries, and the form in which Kissmetrics imports and
exports; the latter has no name for a property called ``_p2``, since that makes an alias of its line::

    {"km": {"call": "event", "person": "bob", "name": "Signed Up", "timestamp": 1262304000, "properties": {"a": "b"}}}
    {"_p": "bob", "_t": 1262304000, "_n": "Signed Up", "a": "b"}

Lines are ASCII, so that they can be shown and piped anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import BinaryIO, NamedTuple

from km_logging.calls import RESERVED, Call, Problem
from km_logging.telling import nested_form

__all__ = ["MAX_LINE", "Line", "call_line", "import_line", "left_out", "nested", "read"]

#: Longest line that is read, in bytes; a request holds 8,000.
MAX_LINE = 1_048_576

#: Names that mean something else than a property in Kissmetrics' form.
_TAKEN = RESERVED | {"_p2"}

_REMEDY = 'write what a helper returns, such as {"km": {"call": "event", "person": "bob", "name": "Signed Up"}}'


class Line(NamedTuple):
    """One line of a stream.

    Attributes:
        number: from 1.
        said: the nested form, or why there is none.
    """

    number: int
    said: Mapping[str, object] | Problem


def call_line(call: Call) -> str:
    """The call as the helpers return it.

    >>> call_line(Call("alias", "bob", identity="bob@bob.com"))
    '{"km": {"call": "alias", "person": "bob", "identity": "bob@bob.com"}}'
    """
    return json.dumps({"km": nested(call)})


def nested(call: Call) -> dict[str, object]:
    """The inner mapping of that; an alias has no time, which is not sent, so that an outbox does not know it."""
    form = nested_form(call)
    if call.kind == "alias":
        del form["timestamp"]
    return form


def import_line(call: Call) -> str:
    """The call as Kissmetrics imports it, without the properties that `left_out` names.

    >>> import_line(Call("set", "bob", timestamp=1262304000, properties={"gender": "male"}))
    '{"_p": "bob", "_t": 1262304000, "gender": "male"}'
    """
    if call.kind == "alias":
        return json.dumps({"_p": call.person, "_p2": call.identity})
    named = {"_n": call.name} if call.kind == "event" else {}
    properties = {name: value for name, value in call.properties.items() if name not in _TAKEN}
    return json.dumps({"_p": call.person, "_t": call.timestamp, **named, **properties})


def left_out(call: Call) -> list[str]:
    """The names of the properties that Kissmetrics' form has no place for."""
    return [name for name in call.properties if name in _TAKEN]


def read(stream: BinaryIO) -> Iterator[Line]:
    """Yield each line that is not blank, as it comes; never more than one is held."""
    for number in count(1):
        line = stream.readline(MAX_LINE)
        if not line:
            return
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            _skip(stream)
            yield Line(number, Problem("unknown_call", f"the line has more than {MAX_LINE:,} bytes", _REMEDY))
        elif line.strip():
            yield Line(number, _said(line))


def _skip(stream: BinaryIO) -> None:
    while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
        pass


def _said(line: bytes) -> Mapping[str, object] | Problem:
    """What a helper returns, or its inner mapping."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return Problem("unknown_call", "the line is no JSON", _REMEDY)
    said = found.get("km", found) if isinstance(found, dict) else None
    if not isinstance(said, dict) or "call" not in said:
        remedy = f"{_REMEDY}; logs are read by km-logging replay"
        return Problem("unknown_call", "the line holds no call of a helper", remedy)
    return said
