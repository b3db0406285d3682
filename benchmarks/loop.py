"""What tracking costs an asyncio event loop: how late it comes to what is due."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from statistics import fmean, median, quantiles

from measuring import Bench, Calling, Line, log_call, medians

import km_logging

TASKS = 1_000
EVERY = 1.0  # each task logs once in so many seconds
PROBE = 0.002  # how often the loop is asked how late it is
SECONDS = 3.0
ALONE = "without tracking"


def event_loop(bench: Bench) -> list[Line]:
    """Mean and 99th percentile of the lateness, in milliseconds more than without tracking."""
    ways = {ALONE: logging.NullHandler()}
    ways |= {name: handler for name in ("requests", "curl") if (handler := bench.handler(transport=name))}
    means: dict[str, list[float]] = {name: [] for name in ways}

    def turn(name: str) -> float:
        late = asyncio.run(_lateness(log_call(ways[name]), SECONDS * bench.effort))
        if name != ALONE:
            ways[name].flush(60)
        means[name].append(fmean(late))
        return quantiles(late, n=100)[98]

    slowest = bench.side_by_side({name: lambda name=name: turn(name) for name in ways})
    for told in means.values():
        del told[0]  # the turn to warm up
    lines = []
    for name in ("requests", "curl"):
        for what, rounds, goal in (("mean", means, 0.25), ("99th percentile", slowest, 5.0)):
            more = [a - b for a, b in zip(rounds.get(name, []), rounds[ALONE], strict=False)]
            kept = {"unit": "ms more", "medians": medians(rounds)}
            text = f"lateness of an event loop with 1,000 tasks, {what}, {name}"
            lines.append(Line(text, ALONE, median(more) if more else None, goal, **kept))
    return lines


async def _lateness(log: Calling, seconds: float) -> list[float]:
    """Have the tasks log for so long; how late the loop was, each time that it was asked, in milliseconds."""
    end = time.perf_counter() + seconds
    late: list[float] = []

    async def work(person: str) -> None:
        with km_logging.identify(person):
            await asyncio.sleep(random.random() * EVERY)
            while time.perf_counter() < end:
                log()
                await asyncio.sleep(EVERY)

    async def probe() -> None:
        while (due := time.perf_counter() + PROBE) < end:
            await asyncio.sleep(PROBE)
            late.append((time.perf_counter() - due) * 1e3)

    await asyncio.gather(probe(), *[work(f"person-{number}") for number in range(TASKS)])
    return late
