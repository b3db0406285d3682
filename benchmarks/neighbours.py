"""What tracking takes from the application's main thread, on the one core that both have.

The main thread computes, and logs 1,000 calls a second. Its time is told by the process's CPU time: the process is
never idle, so with a core of its own that is the time on the wall, and without one the neighbours are left out of it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from statistics import median

from measuring import Bench, Calling, Line, compare, elsewhere, log_call

EVERY = 0.001
UNITS = 50_000  # a second or two
ALONE = "without tracking"


def _busy(bench: Bench, log: Calling) -> float:
    """Compute, logging every millisecond of CPU time; returns the seconds of CPU time that the process took."""
    clock = time.process_time
    start = due = clock()
    for _ in range(bench.some(UNITS)):
        total = 0
        for number in range(400):
            total += number * number
        if clock() >= due:
            log()
            due += EVERY
    return clock() - start


def neighbour(bench: Bench) -> list[Line]:
    outbox = f"sqlite:///{bench.folder}/neighbour.db"
    ways = {
        "requests": ({}, 1.35),
        "curl": ({"transport": "curl"}, 1.10),
        "SQLite and a relay": ({"outbox": outbox, "deliver": False}, 1.05),
    }
    null = log_call(logging.NullHandler())
    subjects = {ALONE: lambda: _busy(bench, null)}

    def turn(handler) -> float:
        took = _busy(bench, log_call(handler))
        handler.flush(60)
        return took

    with ExitStack() as stack:
        for name, (settings, _) in ways.items():
            if handler := bench.handler(**settings):
                subjects[name] = lambda handler=handler: turn(handler)
            if name == "SQLite and a relay":
                log_call(handler)()
                handler.flush(10)  # a relay makes no file
                stack.enter_context(_relay(bench, outbox))
        timings = bench.side_by_side(subjects)
    what = "main thread logging 1,000 a second, "
    return [compare(what + name, name, ALONE, timings, goal=goal) for name, (_, goal) in ways.items()]


@contextmanager
def _relay(bench: Bench, outbox: str):
    environment = {**os.environ, "KM_API_KEY": "benchmark", "KM_ENDPOINT": f"http://127.0.0.1:{bench.port}"}
    with elsewhere():
        process = subprocess.Popen([sys.executable, "-m", "km_logging", "relay", outbox], env=environment)
    yield
    process.terminate()
    process.wait(20)


def backlog(bench: Bench) -> list[Line]:
    null = log_call(logging.NullHandler())
    subjects = {ALONE: lambda: _busy(bench, null)}
    rates = {}
    ways = [("requests", 16, 1.7), ("requests", 1, 1.7), ("requests", 64, 1.7), ("curl", 16, 1.5), ("curl", 64, 1.5)]
    for transport, width, _ in ways:
        settings = {"transport": transport, "senders": width, "capacity": 100_000, "drain_timeout": 0.2}
        if probe := bench.handler(**settings):
            probe.close()  # the last one to close ends what they share
            told = rates[transport, width] = []
            subjects[f"{transport} {width}"] = lambda it=(settings, told): _with_backlog(bench, *it)
    timings = bench.side_by_side(subjects)
    lines = []
    for transport, width, goal in ways:
        name = f"{transport}, senders={width}"
        what = f"main thread while 50,000 are delivered, {name}"
        rate = median(rates.get((transport, width), [0])) or None
        beside = "1,000 a second"
        lines += [
            compare(what, f"{transport} {width}", ALONE, timings, goal=goal),
            Line(f"delivered meanwhile, {name}", beside, rate, 1_000, at_least=True, unit="a second"),
        ]
    return lines


def _with_backlog(bench: Bench, settings: dict[str, object], rates: list[float]) -> float:
    handler = bench.handler(**settings)
    call = log_call(handler)
    for _ in range(50_000):
        call()
    delivered, since = handler.stats().delivered, time.monotonic()
    took = _busy(bench, call)
    rates.append((handler.stats().delivered - delivered) / (time.monotonic() - since))
    handler.close()
    return took
