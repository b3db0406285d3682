"""Beyond one machine: the Redis outbox, what an application pays for it, and what relays make of it together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median

import peers
from measuring import CORES, Bench, Line, compare, cpu, log_call, medians
from server import free_port, serving, wait_for
from store import BATCH, REQUEST, make, one_batch

SLOW = 0.05
SENDERS = 16
RELAYS = [1, 2, 4]
WINDOW = 3.0
FLAT_OUT = 25_000

#: How many calls an application may have to add at once: what has come in 50 ms.
AT_ONCE = [5, 50, 500]

#: How a Redis server may keep on its disk what it is given.
PERSISTENCE = {
    "in memory": (),
    "appendfsync everysec": ("--appendonly", "yes", "--appendfsync", "everysec"),
    "appendfsync always": ("--appendonly", "yes", "--appendfsync", "always"),
}


@contextmanager
def redis_serving(folder: str, *options: str):
    """A Redis server on another core; yields an outbox there, or None if there is no such program."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=lambda: _pin(CORES[-1:]))  # noqa: PLW1509
    try:
        wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait(10)


def _pin(cores: list[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


def _stream(outbox: str):
    from km_logging.addresses import parse_outbox
    from km_logging.outbox.line import stream_at

    return stream_at(parse_outbox("outbox", outbox), patience=60)


def application(bench: Bench) -> list[Line]:
    """All threads' CPU from the log call to the stream, beside that to the answer of the tracking server."""
    what, beside, goal = "application's CPU a call, Redis and relays", "sending by itself, requests", 0.25
    with redis_serving(bench.folder) as outbox:
        if outbox is None:
            return [Line(what, beside, goal=goal)]
        handlers = {"Redis": bench.handler(outbox=outbox + "?max=100000000"), "requests": bench.handler()}
        timings = bench.side_by_side({name: lambda it=it: _whole(bench, it) for name, it in handlers.items()})
    return [compare(what, "Redis", "requests", timings, beside, goal=goal)]


def _whole(bench: Bench, handler) -> float:
    return cpu(time.process_time, log_call(handler), bench.some(5_000), lambda: handler.flush(60))


def stream(bench: Bench) -> list[Line]:
    """One call's way through the stream in batches: what it takes of a relay, and of the server."""
    servers: dict[str, list[float]] = {name: [] for name in PERSISTENCE}
    beside = "one core / 50,000 calls"
    lines = [Line(f"Redis server's CPU for it, {name}", beside, goal=20.0, unit="us") for name in PERSISTENCE]
    what, theirs, goal = "Redis outbox: put, claim, settle", "py-KISSmetrics", 0.1
    with ExitStack() as stack:
        ways = {
            name: stack.enter_context(redis_serving(tempfile.mkdtemp(dir=bench.folder), *options))
            for name, options in PERSISTENCE.items()
        }
        if None in ways.values():
            return [Line(what, theirs, goal=goal), *lines]
        subjects = {name: _through(bench, outbox, servers[name]) for name, outbox in ways.items()}
        timings = bench.side_by_side({**subjects, **peers.record(bench)})
        adds = [_adding(bench, ways["in memory"], count) for count in AT_ONCE]
    for line, (name, told) in zip(lines, servers.items(), strict=True):
        line.medians = medians({name: told})
        line.value = line.medians[name]
    return [compare(what, next(iter(PERSISTENCE)), theirs, timings, goal=goal), *lines, *adds]


def _adding(bench: Bench, address: str, count: int) -> Line:
    stream = _stream(address)
    calls = [(f"{REQUEST}{number}", 1.7e9) for number in range(count)]
    told = []
    for _ in range(bench.rounds):
        before, turns = _used(stream), bench.some(2_000) // count + 1
        for _ in range(turns):
            stream.add(calls)
        told.append((_used(stream) - before) * 1e6 / turns / count)
    stream.close()
    what = f"Redis server's CPU to add a call, {count} at once"
    return Line(what, "one core / 50,000 calls", median(told), goal=20.0, unit="us")


def _used(stream) -> float:
    facts = stream._redis.info("cpu")  # noqa: SLF001 - a client that is there
    return facts["used_cpu_user"] + facts["used_cpu_sys"]


def _through(bench: Bench, address: str, servers: list[float]):
    """Puts, claims and settles ten batches at each turn; tells its own CPU for one call, and adds the server's."""
    outbox = make(bench, address, deliver=True)
    outbox.look()
    stream = _stream(address)

    def turn() -> float:
        before = _used(stream)
        took = cpu(time.process_time, lambda: one_batch(outbox), 10) / BATCH
        servers.append((_used(stream) - before) * 1e6 / 10 / BATCH)
        return took

    return turn


def relays(bench: Bench) -> list[Line]:
    """Calls a second that leave the stream, with more and more relays; and with one alone and a fast server."""
    what = "calls a second by relays, 50 ms an answer"
    lines = [Line(f"{what}: {count}", "1 relay", goal=0.85 * count, at_least=True) for count in RELAYS[1:]]
    flat_out = {"requests": ([], 1_000), "curl": (["--senders", "64"], 2_000)}
    for transport, (_, goal) in flat_out.items():
        lines.append(Line(f"one relay flat out, {transport}", f"{goal:,} a second", goal=goal, at_least=True))
    with redis_serving(bench.folder) as outbox, serving(bench.folder, SLOW) as port:
        if outbox is None:
            return lines
        slow = replace(bench, port=port)
        ways = {f"{count} relays": lambda count=count: _rate(slow, outbox, count) for count in RELAYS}
        rates = replace(bench, rounds=3).side_by_side(ways)
        for line, count in zip(lines, RELAYS[1:], strict=False):
            found = compare(line.what, f"{count} relays", "1 relays", rates)
            line.value, line.medians = found.value, found.medians
        for line, (transport, (options, _)) in zip(lines[len(RELAYS) - 1 :], flat_out.items(), strict=True):
            told = [_rate(bench, outbox, 1, *options, most=FLAT_OUT, transport=transport) for _ in range(3)]
            line.medians = medians({"calls a second": told})
            line.value = line.medians["calls a second"]
    return lines


def _rate(
    bench: Bench, outbox: str, count: int, *options: str, most: float = SENDERS / SLOW, transport: str = "requests"
) -> float:
    """Over a few seconds, once all have come up; ``most``: what one of them can do at most, calls a second."""
    stream = _stream(outbox)
    stream._redis.flushall()  # noqa: SLF001 - a client that is there
    for _ in range(int(count * most * (WINDOW + 4)) // 500 + 1):
        stream.add([(f"{REQUEST}{number}", time.time()) for number in range(500)])
    begin = stream.count() - count * SENDERS
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_relay(bench, outbox, *options, transport=transport))
        while stream.count() > begin:  # until they have begun
            time.sleep(0.05)
        time.sleep(1.5)
        left, since = stream.count(), time.monotonic()
        time.sleep(WINDOW * max(bench.effort, 0.3))
        rate = (left - stream.count()) / (time.monotonic() - since)
        assert stream.count(), "nothing was left to deliver"
    stream.close()
    return rate


@contextmanager
def _relay(bench: Bench, outbox: str, *options: str, transport: str):
    settings = {"KM_API_KEY": "benchmark", "KM_ENDPOINT": f"http://127.0.0.1:{bench.port}", "KM_TRANSPORT": transport}
    process = subprocess.Popen(
        [sys.executable, "-m", "km_logging", "relay", outbox, *options],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: _pin(CORES),  # noqa: PLW1509 - as many cores as there are for all of them
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(20)
