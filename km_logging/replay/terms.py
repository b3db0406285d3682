"""What a replay is asked for, and what it has to say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from km_logging.calls import Call

__all__ = ["BrokenOffError", "Counts", "Stop", "Wanted"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which calls to take.

    Attributes:
        since: Unix time, seconds; those at this second are taken.
        until: Unix time, seconds; those at this second are not.
        names: of events; None for all calls.
        people: persons, and other identities of aliases; None for all calls.
    """

    since: float = -math.inf
    until: float = math.inf
    names: frozenset[str] | None = None
    people: frozenset[str] | None = None

    def holds(self, call: Call) -> bool:
        """Whether this one is to be taken. An alias without a time is: to repeat it is harmless."""
        is_timely = self.since <= call.timestamp < self.until or (call.kind == "alias" and not call.timestamp)
        is_named = self.names is None or call.name in self.names
        return (
            is_timely and is_named and (self.people is None or not self.people.isdisjoint({call.person, call.identity}))
        )


@dataclass(slots=True)
class Counts:
    """What became of the lines.

    Attributes:
        lines: how many were read.
        calls: how many of them told a call that was wanted.
        unwanted: how many told another one.
        untold: how many were tagged and told none, for one of the `problems`.
        broken: how many of those that are passed over seemed to be tagged, but are no JSON.
        too_long: how many were too long to be read.
        lost: how many of these two hold a call all the same, as far as one can see; unfinished lines are none.
        problems: kind of problem to count, also of properties that were left out.
        names: kind and name of calls to count.
        faults: how many files could not be read to the end.
    """

    lines: int = 0
    calls: int = 0
    unwanted: int = 0
    untold: int = 0
    broken: int = 0
    too_long: int = 0
    lost: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: int = 0

    @property
    def passed_over(self) -> int:
        """How many lines are no tracking call."""
        return self.lines - self.calls - self.unwanted - self.untold


class Stop:
    """Asks a replay to stop, from a signal handler.

    Attributes:
        is_asked: to stop, and deliver what waits.
        is_urgent: asked twice: to stop at once.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.is_urgent = False
        self._is_reading = False

    def ask(self) -> None:
        """Stop soon; asked again, at once. Breaks off a read that waits."""
        self.is_urgent = self.is_asked
        self.is_asked = True
        if self._is_reading:
            raise BrokenOffError

    def during(self, read: Callable[[], Result]) -> Result:
        """What ``read`` returns, unless it is broken off."""
        try:
            self._is_reading = True
            return read()
        finally:
            self._is_reading = False


class BrokenOffError(Exception):
    """A read was broken off by `Stop.ask`."""
