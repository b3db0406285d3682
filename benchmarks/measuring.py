"""What all rows share: the conditions of a run, rounds side by side, and the lines of the table that come out."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median

import km_logging

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

#: What each subject took, round by round.
Timings = dict[str, list[float]]
Calling = Callable[[], object]


@dataclass
class Line:
    """One line of the table.

    Attributes:
        value: as measured; None if a subject is not there.
        goal: the bound of the table of goals; `aim`: a tighter one, which is wished for.
        medians: of each subject's rounds.
    """

    what: str
    beside: str
    value: float | None = None
    goal: float = 1.0
    aim: float | None = None
    at_least: bool = False
    unit: str = ""
    medians: dict[str, float] = field(default_factory=dict)

    @property
    def part(self) -> float | None:
        """How much of its bound the line takes: at most 1 meets the goal."""
        return self.value and (self.goal / self.value if self.at_least else self.value / self.goal)


@dataclass
class Bench:
    """The conditions of one row.

    Attributes:
        rounds: how often every subject has its turn.
        effort: 1, or the part of it that a quick run does in each turn.
        port: of the server on loopback.
        folder: for files; gone afterwards.
    """

    rounds: int
    effort: float
    port: int
    folder: str

    def some(self, count: int) -> int:
        """So many, or fewer in a quick run."""
        return max(10, int(count * self.effort))

    def settings(self, **settings: object) -> dict[str, object]:
        """Settings of ours that lead to the server."""
        return {"api_key": "benchmark", "endpoint": f"http://127.0.0.1:{self.port}", **settings}

    def handler(self, **settings: object) -> km_logging.KissmetricsHandler | None:
        """A handler of ours; None while there is no such transport."""
        try:
            return km_logging.KissmetricsHandler(**self.settings(**settings))
        except km_logging.KmLoggingError:
            if settings.get("transport", "requests") == "requests":
                raise
            return None

    def side_by_side(self, subjects: Mapping[str, Callable[[], float]]) -> Timings:
        """One turn of each to warm up, then the rounds; who begins changes from round to round."""
        timings: Timings = {name: [] for name in subjects}
        names = list(subjects)
        for turn in range(-1, self.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                gc.collect()
                timing = subjects[name]()
                if turn >= 0:
                    timings[name].append(timing)
        return timings


def compare(what: str, ours: str, theirs: str, timings: Timings, beside: str = "", **line: object) -> Line:
    """The line of two subjects: the median of the rounds' ratios, which the neighbours of a machine disturb least."""
    ratios = [a / b for a, b in zip(timings.get(ours, []), timings.get(theirs, []), strict=False)]
    return Line(what, beside or theirs, median(ratios) if ratios else None, medians=medians(timings), **line)


def medians(timings: Timings) -> dict[str, float]:
    """The median of each subject's rounds."""
    return {name: round(median(rounds), 3) for name, rounds in timings.items()}


def cpu(clock: Callable[[], float], call: Calling, count: int, then: Calling = lambda: None) -> float:
    """CPU time of one call, what is done at the end included, in microseconds.

    Args:
        clock: `time.thread_time`, for this thread, or `time.process_time`, for all threads of this process.
        call: what is called.
        count: how often.
        then: is called at the end.
    """
    before = clock()
    for _ in repeat(None, count):
        call()
    then()
    return (clock() - before) * 1e6 / count


def logger_with(handler: logging.Handler) -> logging.Logger:
    """A logger with this handler and no other."""
    logger = logging.Logger("benchmark", logging.INFO)  # noqa: LOG001 - it has no parent, and is forgotten afterwards
    logger.addHandler(handler)
    return logger


def log_call(handler: logging.Handler, *, tagged: bool = True) -> Calling:
    """A log call with four properties and a person, flat."""
    info = logger_with(handler).info
    if not tagged:
        return lambda: info(
            "Signed Up", extra={"person": "bob", "plan": "pro", "seats": 5, "price": 9.5, "trial": True}
        )
    return lambda: info(
        "Signed Up", extra={"km": "event", "person": "bob", "plan": "pro", "seats": 5, "price": 9.5, "trial": True}
    )


@contextmanager
def elsewhere():
    """What is started in here runs on the core of the server; everything else of ours on another one."""
    if CORES:
        os.sched_setaffinity(0, CORES[-1:])
    try:
        yield
    finally:
        if CORES:
            os.sched_setaffinity(0, CORES[:1])
