"""What earlier calls say about a call: whether it counts as one with them, and how it spells its names.

Has state but no lock and no clock; the store guards it. Kissmetrics compares names without regard to case, people and
values with it; a comma or colon in a name is a space to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import replace

from km_logging.calls import MAX_NAME, Problem, brief
from km_logging.sandbox.checks import Received

__all__ = ["MANY_NAMES", "History", "canonical"]

#: So many event names that differ only in digits are taken for one name with a number in it. Fewer than the library
#: bears before it warns: in a sandbox one looks for mistakes.
MANY_NAMES = 5

#: How many spellings, and how many shapes of names, are remembered at most. What is held of them is never let go,
#: since Kissmetrics does not let go of a name either.
MOST_NAMES = 10_000

_DIGITS = re.compile("[0-9]+")
_SEPARATORS = str.maketrans(",:", "  ")


class History:
    """Remembers the calls that a store holds, and the names of all."""

    def __init__(self) -> None:
        self._counted: Counter[Hashable | None] = Counter()
        self._spellings: dict[tuple[str, str], str] = {}
        self._shapes: dict[str, set[str]] = {}

    def judge(self, received: Received) -> Received:
        """The call with what earlier ones say about it: `duplicate`, and problems of its names."""
        judged = self.look(received)
        self._counted[_counted_as(received)] += 1
        self._learn_names(received)
        return judged

    def look(self, received: Received) -> Received:
        """As `judge`, without remembering the call."""
        counted_as = _counted_as(received)
        duplicate = counted_as is not None and counted_as in self._counted
        return replace(received, duplicate=duplicate, problems=(*received.problems, *self._name_problems(received)))

    def forget(self, received: Received) -> None:
        """A call that `judge` saw is held no longer: later ones are not compared with it."""
        counted_as = _counted_as(received)
        self._counted[counted_as] -= 1
        if not self._counted[counted_as]:
            del self._counted[counted_as]

    def _name_problems(self, received: Received) -> Iterator[Problem]:
        for noun, name in _names(received):
            first = self._spellings.get((noun, name.lower()), name)
            if first != name:
                message = f"the {noun} {brief(name)} differs from {brief(first)} only in capitals"
                yield Problem("case_variant", message, "spell it in one way; Kissmetrics takes both for the same")
        for name, shape in _numbered(received):
            names = self._shapes.get(shape, ())
            if name not in names and len(names) >= MANY_NAMES:
                message = f"more than {MANY_NAMES} event names differ only in digits, such as {brief(name)}"
                yield Problem("formatted_name", message, "send a constant name, and what differs as a property")

    def _learn_names(self, received: Received) -> None:
        for noun, name in _names(received):
            if len(self._spellings) < MOST_NAMES:
                self._spellings.setdefault((noun, name.lower()), name)
        for name, shape in _numbered(received):
            if shape in self._shapes or len(self._shapes) < MOST_NAMES:
                names = self._shapes.setdefault(shape, set())
                if len(names) < MANY_NAMES:
                    names.add(name)


def _names(received: Received) -> Iterator[tuple[str, str]]:
    """The names that a call spells, each with its noun."""
    if received.name is not None and len(received.name) <= MAX_NAME:
        yield "event name", received.name
    for name in received.properties:
        yield "property name", name[:MAX_NAME]


def _numbered(received: Received) -> Iterator[tuple[str, str]]:
    """The event's name with its shape, if there are digits in it."""
    if received.name is not None and len(received.name) <= MAX_NAME and _DIGITS.search(received.name):
        yield received.name, _DIGITS.sub("0", received.name)


def _counted_as(received: Received) -> Hashable | None:
    """Equal for calls that Kissmetrics counts as one; None for a call of which it keeps nothing."""
    if received.is_refused:
        return None
    if received.kind == "alias":
        return frozenset({received.person, received.identity})
    second = int(received.received_at) if received.timestamp is None else received.timestamp
    properties = frozenset((canonical(name), value) for name, value in received.properties.items())
    return received.kind, received.person, canonical(received.name or ""), second, properties


def canonical(name: str) -> str:
    """Equal for names that Kissmetrics takes for the same."""
    return name.lower().translate(_SEPARATORS)
