"""Saying problems: handed to `on_problem`, and once a minute per kind on the logger ``km_logging``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from km_logging.calls import Problem, type_name

__all__ = ["EVERY", "FormattedNames", "Reporter", "dropped", "insecure", "logger", "unreachable"]

logger = logging.getLogger("km_logging")

#: How often one kind of problem is said, in seconds.
EVERY = 60.0

#: What does not change while a process runs is said once.
ONCE = frozenset({"insecure_endpoint"})

#: So many event names that differ only in digits are taken for one name with a number in it.
MANY_NAMES = 20

#: How many such names are watched at most.
MOST_SHAPES = 1_000


class Reporter:
    """Says problems; used by the listener's thread.

    Args:
        on_problem: the user's callback, or None.
    """

    def __init__(self, on_problem: Callable[..., object] | None) -> None:
        self._on_problem = on_problem
        self._said_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def report(self, problem: Problem) -> None:
        """Say one problem. Never raises."""
        if problem.kind in ONCE and problem.kind in self._said_at:
            return
        self._say(problem)
        if self._on_problem is None:
            return
        try:
            self._on_problem(problem)
        except BaseException as error:  # noqa: BLE001 - even SystemExit must not end the thread that delivers
            self._say(Problem("callback", f"on_problem raised {type_name(error)}", "mend the callback"))

    def _say(self, problem: Problem) -> None:
        now = time.monotonic()
        if now - self._said_at.get(problem.kind, -EVERY) < EVERY:
            self._unsaid[problem.kind] = self._unsaid.get(problem.kind, 0) + 1
            return
        self._said_at[problem.kind] = now
        unsaid = self._unsaid.pop(problem.kind, 0)
        more = f" (and {unsaid} more of this kind since it was said last)" if unsaid else ""
        # dictConfig disables every logger that it does not name, unless it is told not to; nobody means this one by it.
        logger.disabled = False
        with suppress(Exception):  # a handler of the application's may raise anything
            logger.warning("%s%s", problem, more)


def insecure(endpoint: object) -> Problem:
    """That calls leave this machine unencrypted."""
    message = f"calls go to {endpoint} unencrypted, with the key"
    return Problem("insecure_endpoint", message, "use an https:// endpoint")


def unreachable(endpoint: object, error: str) -> Problem:
    """That calls wait; ``error``: what came of the last attempt."""
    remedy = "check endpoint, network and proxy (km-logging check); calls wait meanwhile, and are tried again"
    return Problem("unreachable", f"calls cannot be delivered to {endpoint} for now ({error})", remedy)


def dropped(counts: Mapping[str, int], error: str | None) -> Problem:
    """That calls were given up.

    Args:
        counts: reason, a key of `km_logging.ledger.DROPPED`, to how many.
        error: what came of the last attempt that failed, or None.
    """
    said = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    why = f" (last error: {error})" if error else ""
    return Problem("dropped", f"calls were dropped: {said}{why}", _REMEDIES[next(iter(counts))])


#: What to do about each reason.
_REMEDIES = {
    "overflow": "raise capacity, or the bounds of the outbox, or have more delivered at once by senders or transport",
    "expired": "check endpoint, network and proxy; an outbox that lasts has calls tried for 7 days",
    "rejected": "see what the server answered; an outbox that lasts keeps such calls (km-logging outbox list --dead)",
}


class FormattedNames:
    """Finds event names that were formatted: many that differ only in digits.

    Kissmetrics keeps 65,535 names of events for ever; ``"Order 8123 placed"`` burns one an order.
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def is_one(self, name: str) -> bool:
        """Whether ``name`` is one of many that differ only in digits."""
        shape = name.translate(_DIGITS)
        if shape == name:
            return False
        names = self._names.setdefault(shape, set()) if len(self._names) < MOST_SHAPES else self._names.get(shape)
        if names is None or name in names:
            return False
        if len(names) < MANY_NAMES:
            names.add(name)
            return False
        return True


_DIGITS = {ord(digit): None for digit in "0123456789"}
