"""From a line of a log to the call that it tells. Pure.

A line is JSON in UTF-8, and one of these:

1. A tagged event dict, as structlog's `JSONRenderer` writes it; the time is what `TimeStamper` put there.
2. A tagged record, as python-json-logger writes it; the name is ``msg``, else ``message``, and the time ``created``,
   else ``timestamp``, else ``asctime``.
3. Kissmetrics' own format for import and export: ``_p``, ``_t``, and ``_n``, ``_p2`` or properties.
4. A call alone, as ``km-logging outbox export`` writes it: what the helpers return, or its inner mapping.

The first two go through the very functions of the live path. What that one takes from the context of the log call, a
line does not have: nobody is identified, nothing is bound, and where there is no time, there is none.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from km_logging.calls import KINDS, Problem
from km_logging.tagging import (
    NESTED_FIELDS,
    Rules,
    Snapshot,
    from_event_dict,
    from_nested,
    from_record,
    is_record,
    stamped,
)
from km_logging.telling import Told, tell

__all__ = ["Line", "Passed", "Reading"]

#: Parameters of Kissmetrics' format that are no properties.
_PARAMETERS = frozenset({"_p", "_t", "_n", "_p2", "_k", "_d"})

#: At so many seconds of difference, a record's ``timestamp`` is not its time but a property.
_SAME_TIME = 1.0

_BOM = b"\xef\xbb\xbf"


class Passed(Enum):
    """Why a line is passed over."""

    NO_JSON = "no JSON"
    NO_CALL = "no tracking call"


class Line(NamedTuple):
    """One line of a block.

    Attributes:
        number: how many lines stand before it in its block.
        end: how many bytes of the block end with it.
        text: the line.
    """

    number: int
    end: int
    text: bytes


class Reading:
    """Reads lines.

    Args:
        rules: the settings of tagging, which should be those of the application that wrote the lines.
        time_field: where the time stands in tagged lines that have it elsewhere.
    """

    def __init__(self, rules: Rules, time_field: str | None = None) -> None:
        self._rules = rules
        self._time_field = time_field
        tags = {rules.tag.encode("utf-8", "surrogatepass"), json.dumps(rules.tag)[1:-1].encode()}
        self._tagged = re.compile(rb'"(?:%s)"\s*:\s*["{]' % b"|".join(map(re.escape, sorted(tags))))
        self._signs = sorted({sign for key in (rules.tag, "_p", "call") for sign in _signs(key)})

    def candidates(self, block: bytes) -> Iterator[Line]:
        """The lines of a block that may tell a call, in order; of all others, `tell` would pass over each.

        Args:
            block: whole lines; nine in ten bytes of a log are looked at here, and nowhere else.
        """
        number = end = 0
        found = [(at, sign) for sign in self._signs if (at := block.find(sign)) >= 0]
        while found:
            at, _ = min(found)
            begin = block.rfind(b"\n", end, at) + 1 or end
            number += block.count(b"\n", end, begin)
            end = block.find(b"\n", at) + 1 or len(block)
            yield Line(number, end, block[begin:end])
            number += 1
            found = [it if it[0] >= end else (block.find(it[1], end), it[1]) for it in found]
            found = [it for it in found if it[0] >= 0]

    def tell(self, line: bytes) -> Told | Passed:
        """The call of a line, with every problem on the way, or why it is passed over. Never raises."""
        try:
            fields = json.loads(line.removeprefix(_BOM).decode())
        except (ValueError, RecursionError):  # also text that is no UTF-8, and integers of thousands of digits
            return Passed.NO_JSON
        if type(fields) is not dict:
            return Passed.NO_CALL
        snapshot = self._snapshot(fields)
        is_imported = "_p" in fields and not isinstance(fields.get(self._rules.tag), str | dict)
        return Passed.NO_CALL if snapshot is None else self._told(snapshot, is_imported=is_imported)

    def seems_tagged(self, part: bytes) -> bool:
        """Whether the tag of a call stands in a part of a line that cannot be read: a text or an object follows it."""
        return self._tagged.search(part) is not None

    def damage(self, line: bytes) -> Problem | None:
        """What is wrong with a candidate that is no JSON; None if it seems to be no call, or to be unfinished."""
        is_object = line.removeprefix(_BOM).lstrip()[:1] == b"{"
        if not line.endswith(b"\n") or not (is_object or self.seems_tagged(line)):
            return None
        try:
            line.decode()
        except UnicodeDecodeError:
            remedy = "convert the file, such as by `iconv -f LATIN1 -t UTF-8`, and have it written in UTF-8"
            return Problem("bad_line", "the line is no UTF-8, so that its call is not read", remedy)
        return Problem("bad_line", "the line is no JSON, so that its call is not read", "mend it: one object a line")

    def _snapshot(self, fields: dict[str, Any]) -> Snapshot | None:
        rules = self._rules
        tagged = fields.get(rules.tag)
        if isinstance(tagged, str | dict):
            _read_time(fields, "km_timestamp")
            if isinstance(tagged, dict):
                _read_time(tagged, "timestamp")
            found = _as_written(fields.pop(self._time_field)) if self._time_field in fields else None
            moment = math.nan if found is None else found
            if is_record(fields):
                return from_record(_record(fields, moment), rules, None, dict)
            if found is not None:
                fields.pop("timestamp", None)  # which would be taken for the time
            return from_event_dict(fields, rules, None, dict, moment)
        nested = _imported(fields) if "_p" in fields else _alone(fields)
        return None if nested is None else from_nested(nested, rules, None, None, math.nan)

    def _told(self, snapshot: Snapshot, *, is_imported: bool) -> Told:
        told = tell(snapshot, self._rules)
        if told.call is not None:
            return told
        kind = told.problems[0].kind
        if kind == "bad_timestamp" and snapshot.timestamp is None and math.isnan(snapshot.moment):
            remedy = _NO_STAMP if is_imported else _NO_TIME
            return Told(None, (Problem(kind, "the line holds no time that can be read", remedy),))
        if kind == "no_person":
            remedy = "have `_p` in each line" if is_imported else _NO_PERSON
            return Told(None, (Problem(kind, told.problems[0].message, remedy),))
        return told


#: Remedies for what a line lacks; those of the live path are for the log call.
_NO_STAMP = "have `_t`, Unix time in seconds, in each line"
_NO_TIME = "have `created`, or a TimeStamper with fmt='iso', in each line, or name the field by --time-field"
_NO_PERSON = (
    "whoever was identified stands in the line only with KissmetricsProcessor(annotate=True); "
    "log the person, or name the field by --person-field"
)


def _signs(key: str) -> list[bytes]:
    """Texts of which one at least is in every JSON object with this key: the key as it is, or an escape in it."""
    plain = b'"' + key.encode("utf-8", "surrogatepass") + b'"'
    if not key.isascii() or not key.isprintable() or set(key) & set('"\\/'):
        return [plain, b"\\"]
    # Any other character of a key is itself or \u00XX.
    return [plain, *(rf"\u00{ord(character) >> 4:x}".encode() for character in key)]


def _read_time(fields: dict[str, Any], name: str) -> None:
    """A time that was given as a `datetime` stands in the line as text."""
    if isinstance(fields.get(name), str):
        moment = stamped(fields[name])
        fields[name] = fields[name] if moment is None else moment


def _record(fields: dict[str, Any], moment: float) -> logging.LogRecord:
    """The record that a formatter wrote these fields of; ``moment`` is its time if that is known, else NaN."""
    created, stamp = _number(fields.get("created")), stamped(fields.get("timestamp"))
    if stamp is not None and (created is None or abs(stamp - created) < _SAME_TIME):
        del fields["timestamp"]
    else:
        stamp = None
    found = [created, stamp, _as_written(fields.get("asctime"))]
    moments = [moment] if math.isfinite(moment) else [it for it in found if it is not None]
    message = fields.get("message") if fields.get("msg") is None else fields["msg"]
    record = logging.LogRecord.__new__(logging.LogRecord)  # what else a new one has would be this process's, not theirs
    record.__dict__ = {**fields, "msg": message, "created": next(iter(moments), math.nan)}
    return record


def _number(value: object) -> float | None:
    return float(value) if type(value) in {int, float} else None  # type: ignore[arg-type]


_ASCTIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:[,.](\d{3}))?", re.ASCII)


def _as_written(moment: object) -> float | None:
    """A time as `stamped` reads it, or as `logging.Formatter` writes it: local, if it names no zone."""
    found = _ASCTIME.fullmatch(moment) if isinstance(moment, str) else None
    return stamped(f"{found[1]}T{found[2]}.{found[3] or '000'}" if found else moment)


def _imported(fields: Mapping[str, Any]) -> dict[str, object] | None:
    """The nested form of a line in Kissmetrics' format."""
    kind = "alias" if "_p2" in fields else "event" if "_n" in fields else "set" if "_t" in fields else None
    if kind is None:
        return None
    moment = fields.get("_t")
    return {
        "call": kind,
        "person": fields["_p"],
        "name": fields.get("_n"),
        "identity": fields.get("_p2"),
        "timestamp": int(moment) if isinstance(moment, str) and _DIGITS.fullmatch(moment) else moment,
        "properties": {name: value for name, value in fields.items() if name not in _PARAMETERS},
    }


_DIGITS = re.compile(r"\d{1,15}", re.ASCII)


def _alone(fields: dict[str, Any]) -> dict[str, object] | None:
    """A call that stands alone in its line, whatever the tag is."""
    nested = fields["km"] if fields.keys() == {"km"} else fields
    is_call = isinstance(nested, dict) and nested.get("call") in KINDS and nested.keys() <= NESTED_FIELDS
    return nested if is_call else None
