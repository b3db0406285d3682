"""What the log call costs the thread that makes it."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import peers
from measuring import Bench, Calling, Line, Timings, compare, cpu, log_call, medians

import km_logging
from km_logging.senders import make_sender
from km_logging.settings import Settings

#: A turn is one burst of so many calls, and then a wait until the background has done with them: nobody drops any.
#: So there are more rounds than usual, of less. py-KISSmetrics waits for an answer in each call: it makes fewer.
BURSTS, BURST, BURST_OF_RECORD = 10, 500, 20


def _timings(bench: Bench, subjects: dict[str, peers.Peer]) -> Timings:
    def turn(name: str, call: Calling, drain: Calling) -> float:
        took = cpu(time.thread_time, call, BURST_OF_RECORD if name == "py-KISSmetrics" else BURST)
        drain()
        return took

    often = replace(bench, rounds=bench.rounds * max(2, int(BURSTS * bench.effort)))
    return often.side_by_side({name: lambda it=(name, *peer): turn(*it) for name, peer in subjects.items()})


def untagged_call(bench: Bench) -> list[Line]:
    handlers = {"km_logging": bench.handler(), "NullHandler": logging.NullHandler()}
    timings = _timings(
        bench, {name: (log_call(handler, tagged=False), peers.nothing) for name, handler in handlers.items()}
    )
    return [compare("log call, untagged", "km_logging", "NullHandler", timings, goal=1.06)]


def accepted_call(bench: Bench) -> list[Line]:
    handler = bench.handler(capacity=peers.ROOM)
    ours = {"km_logging": (log_call(handler), lambda: handler.flush(60))}
    timings = _timings(bench, ours | peers.installed(bench, *peers.ALL))
    assert not handler.stats().dropped, handler.stats()
    fastest = min(timings.keys() & peers.BACKGROUND.keys(), key=lambda name: median(timings[name]), default="none")
    what = "log call, accepted"
    lines = [
        compare(what, "km_logging", "NullHandler", timings, goal=1.35, aim=1.25),
        compare(what, "km_logging", "QueueHandler", timings, goal=0.70, aim=0.65),
        compare(what, "km_logging", fastest, timings, f"the fastest peer: {fastest}", goal=0.55),
        compare(what, "km_logging", "py-KISSmetrics", timings, "py-KISSmetrics record()", goal=0.03),
    ]
    for line in lines[1:]:
        line.medians = {}  # the first one has them all
    return lines


def structlog_call(bench: Bench) -> list[Line]:
    import structlog

    def drop(*_: object) -> None:
        raise structlog.DropEvent

    def call_of(*processors: object) -> Calling:
        chain = [structlog.contextvars.merge_contextvars, *processors, drop]
        wrapper = structlog.make_filtering_bound_logger(logging.INFO)
        info = structlog.wrap_logger(structlog.PrintLogger(), chain, wrapper).bind().info
        return lambda: info("Signed Up", km="event", person="bob", plan="pro", seats=5, price=9.5, trial=True)

    processor = km_logging.KissmetricsProcessor(**bench.settings())
    subjects = {"without": (call_of(), peers.nothing), "with": (call_of(processor), lambda: processor.flush(60))}
    timings = _timings(bench, subjects)
    added = median(a - b for a, b in zip(timings["with"], timings["without"], strict=True))
    told = {"unit": "us more", "medians": medians(timings)}
    return [Line("structlog call, accepted", "the chain without the processor", added, 1.3, **told)]


def immediate_call(bench: Bench) -> list[Line]:
    outbox = f"sqlite:///{bench.folder}/immediate.db"
    handler = bench.handler(outbox=outbox, durability="immediate", deliver=False)
    ours = {"km_logging": (log_call(handler), handler.flush)}
    timings = _timings(bench, ours | peers.installed(bench, "QueueHandler"))
    assert not handler.stats().refused, handler.stats()
    return [compare("log call, immediate SQLite", "km_logging", "QueueHandler", timings, goal=2.2)]


def tail(bench: Bench) -> list[Line]:
    def ours(**settings: object) -> float:
        handler = bench.handler(capacity=peers.ROOM, drain_timeout=0.2, **settings)
        slowest = _slowest(bench, log_call(handler))
        handler.close()
        return slowest

    def stdlib() -> float:
        sender = make_sender(Settings.resolve(bench.settings(), {}))
        request = "/e?_p=bob&_n=Signed+Up&plan=pro&seats=5&price=9.5&trial=true&_t=1700000000&_d=1"
        waiting = queue.Queue(-1)
        sending = SimpleNamespace(level=0, handle=lambda _: sender.send(request))
        listener = logging.handlers.QueueListener(waiting, sending)
        listener.start()
        slowest = _slowest(bench, log_call(logging.handlers.QueueHandler(waiting)))
        with waiting.mutex:
            waiting.queue.clear()
        listener.stop()
        return slowest

    beside, polite, flat_out = "QueueHandler, the same sender", "as it comes", "senders=1, no cpu_share"
    alike = {"senders": 1, "cpu_share": 64}
    timings = bench.side_by_side({polite: ours, flat_out: lambda: ours(**alike), beside: stdlib})
    return [
        compare(f"p99.9 of the log call, sender flat out, {way}", way, beside, timings) for way in (polite, flat_out)
    ]


def _slowest(bench: Bench, call: Calling) -> float:
    """p99.9 in microseconds of wall time, after some calls that give the sender enough to do."""
    for _ in range(2_000):
        call()
    time.sleep(0.15)  # longer than our listener lets calls gather
    clock, took = time.perf_counter_ns, []
    for _ in range(bench.some(20_000)):
        before = clock()
        call()
        took.append(clock() - before)
    return sorted(took)[-max(1, len(took) // 1_000)] / 1_000
