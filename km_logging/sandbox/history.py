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
        counted_as = _counted_as(received)
        duplicate = counted_as is not None and counted_as in self._counted
        self._counted[counted_as] += 1
        return replace(received, duplicate=duplicate, problems=(*received.problems, *self._name_problems(received)))

    def forget(self, received: Received) -> None:
        """A call that `judge` saw is held no longer: later ones are not compared with it."""
        counted_as = _counted_as(received)
        self._counted[counted_as] -= 1
        if not self._counted[counted_as]:
            del self._counted[counted_as]

    def _name_problems(self, received: Received) -> Iterator[Problem]:
        if received.name is not None and len(received.name) <= MAX_NAME:
            yield from self._spelling_problems("event name", received.name)
            yield from self._shape_problems(received.name)
        for name in received.properties:
            yield from self._spelling_problems("property name", name[:MAX_NAME])

    def _spelling_problems(self, noun: str, name: str) -> Iterator[Problem]:
        key = noun, name.lower()
        first = self._spellings.get(key, name)
        if first != name:
            message = f"the {noun} {brief(name)} differs from {brief(first)} only in capitals"
            yield Problem("case_variant", message, "spell it in one way; Kissmetrics takes both for the same")
        elif len(self._spellings) < MOST_NAMES:
            self._spellings[key] = name

    def _shape_problems(self, name: str) -> Iterator[Problem]:
        shape = _DIGITS.sub("0", name)
        if not _DIGITS.search(name) or (shape not in self._shapes and len(self._shapes) >= MOST_NAMES):
            return
        names = self._shapes.setdefault(shape, set())
        if name in names:
            return
        if len(names) < MANY_NAMES:
            names.add(name)
            return
        message = f"more than {MANY_NAMES} event names differ only in digits, such as {brief(name)}"
        yield Problem("formatted_name", message, "send a constant name, and what differs as a property")


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
