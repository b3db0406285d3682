"""``mode="print"``: one line a call on stderr, nothing sent; for looking at what would be told."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime, timezone

from km_logging.calls import Call
from km_logging.policy import Answer
from km_logging.wire import decode

__all__ = ["PrintingSender", "line"]


class PrintingSender:
    """Prints each call; every call counts as delivered."""

    width = 1

    def send(self, request: str) -> Answer:
        with suppress(AttributeError, OSError, ValueError):  # there may be no stderr, or a closed one
            # One write, so that lines of several threads stay whole.
            sys.stderr.write(line(decode(request)) + "\n")
        return Answer(200)

    def close(self) -> None:
        """Nothing is open."""

    abandon = close


def line(call: Call) -> str:
    """The call in one line of printable ASCII.

    >>> line(Call("event", "bob", "Signed Up", timestamp=1262304000, properties={"plan": "pro"}))
    'km_logging: event "Signed Up" person="bob" plan="pro" at 2010-01-01T00:00:00+00:00'
    """
    parts = [f"km_logging: {call.kind}"]
    if call.name is not None:
        parts.append(json.dumps(call.name))
    parts.append(f"person={json.dumps(call.person)}")
    if call.identity is not None:
        parts.append(f"identity={json.dumps(call.identity)}")
    parts += [f"{_word(name)}={json.dumps(value)}" for name, value in call.properties.items()]
    if call.kind != "alias":
        parts.append(f"at {_moment(call.timestamp)}")
    return " ".join(parts)


def _word(name: str) -> str:
    return name if name.isascii() and name.replace(".", "_").isidentifier() else json.dumps(name)


def _moment(timestamp: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc).isoformat()
    except (OverflowError, ValueError, OSError):
        return str(timestamp)
