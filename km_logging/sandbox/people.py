"""What the calls held say about one person, all aliases considered. Pure.

Kissmetrics takes identities that are aliased for one person, in whatever order and however late the alias comes. A call
of which it keeps nothing says nothing about anybody, but is shown with those of the person that it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from km_logging.sandbox.checks import Received
from km_logging.sandbox.history import canonical

__all__ = ["Person", "person"]


@dataclass(frozen=True, slots=True)
class Person:
    """One person.

    Attributes:
        person: the identity that was asked for.
        identities: this one and all that are aliased to it, directly or by way of others, sorted.
        properties: name to value, as last set; a name as it was spelt first.
        calls: by their time, oldest first.
    """

    person: str
    identities: tuple[str, ...]
    properties: dict[str, str]
    calls: tuple[Received, ...]

    def as_dict(self) -> dict[str, object]:
        """All attributes, as JSON can carry them."""
        return {
            "person": self.person,
            "identities": list(self.identities),
            "properties": self.properties,
            "calls": [call.as_dict() for call in self.calls],
        }


def person(calls: Iterable[Received], identity: str) -> Person:
    """The person with this identity, whether or not any call names it.

    Args:
        calls: of anybody, in any order.
        identity: as a call's ``person`` says it.
    """
    calls = list(calls)
    identities = _aliased(calls, identity)
    theirs = sorted((call for call in calls if call.person in identities), key=_moment)
    return Person(identity, tuple(sorted(identities)), _properties(theirs), tuple(theirs))


def _aliased(calls: Iterable[Received], identity: str) -> set[str]:
    neighbours: defaultdict[str, set[str]] = defaultdict(set)
    for call in calls:
        if call.identity is not None and not call.is_refused:
            neighbours[call.person].add(call.identity)
            neighbours[call.identity].add(call.person)
    found, new = {identity}, [identity]
    while new:
        others = neighbours[new.pop()] - found
        found |= others
        new += others
    return found


def _properties(calls: Iterable[Received]) -> dict[str, str]:
    spellings: dict[str, str] = {}
    values: dict[str, str] = {}
    for call in calls:
        if not call.is_refused:
            for name, value in call.properties.items():
                values[spellings.setdefault(canonical(name), name)] = value
    return values


def _moment(call: Received) -> tuple[float, int]:
    return (call.received_at if call.timestamp is None else call.timestamp), call.id
