"""Where calls go while a test captures them: into two lists, instead of being sent.

`km_logging.testing` fills and empties `captures`; in an application it is always empty. Every pipeline looks at it, so
it holds for all trackers of the process: those made before, those made meanwhile, and those of a forked child.
"""

from __future__ import annotations

from dataclasses import dataclass

from km_logging.calls import Call, Problem

__all__ = ["Capture", "captures"]


@dataclass(frozen=True, eq=False, slots=True)
class Capture:
    """One capture under way.

    Attributes:
        calls: the calls accepted, in order.
        problems: the problems met.
    """

    calls: list[Call]
    problems: list[Problem]


#: The captures under way, the innermost last; that one gets everything.
captures: list[Capture] = []
