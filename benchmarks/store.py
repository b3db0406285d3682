"""What it costs to keep calls in a file, and whether many waiting calls make the next one dearer."""

from __future__ import annotations

import multiprocessing
import socket
import time
from dataclasses import replace
from statistics import median

import peers
from measuring import Bench, Line, compare, cpu, log_call

from km_logging.ledger import Ledger
from km_logging.outbox import Outbox, make_outbox
from km_logging.settings import Settings

REQUEST = "/e?_p=bob&_n=Signed+Up&plan=pro&seats=5&price=9.5&trial=true&_t=1700000000&_d=1&number="
BATCH = 1_000
DEPTHS = [1_000, 10_000, 100_000, 1_000_000]


def make(bench: Bench, address: str, **settings: object) -> Outbox:
    """An outbox of ours."""
    resolved = Settings.resolve(bench.settings(outbox=address, **settings), {})
    return make_outbox(resolved, ledger=Ledger(), left=lambda _: None, report=print)


def _outbox(bench: Bench, name: str, **settings: object) -> Outbox:
    return make(bench, f"sqlite:///{bench.folder}/{name}.db", **settings)


def one_batch(outbox: Outbox) -> None:
    """Put, claim and settle as many calls as the listener and delivery take together."""
    outbox.put([f"{REQUEST}{number}" for number in range(BATCH)], 1.7e9)
    claimed = outbox.claim(BATCH)
    for entry in claimed:
        outbox.settle(entry)
    outbox.sync()
    assert len(claimed) == BATCH, len(claimed)


def batches(bench: Bench) -> list[Line]:
    outbox = _outbox(bench, "batches")
    outbox.look()

    def turn() -> float:
        return cpu(time.process_time, lambda: one_batch(outbox), 10) / BATCH

    timings = bench.side_by_side({"SQLite": turn, **peers.record(bench)})
    return [compare("SQLite outbox: put, claim, settle", "SQLite", "py-KISSmetrics", timings, goal=0.04)]


def application(bench: Bench) -> list[Line]:
    handler = bench.handler(outbox=f"sqlite:///{bench.folder}/application.db", deliver=False)
    turn = log_call(handler), bench.some(5_000), lambda: handler.flush(60)
    timings = bench.side_by_side({"SQLite": lambda: cpu(time.process_time, *turn), **peers.record(bench)})
    what = "application's CPU a call, SQLite, deliver=false"
    return [compare(what, "SQLite", "py-KISSmetrics", timings, "py-KISSmetrics record()", goal=0.05)]


def depth(bench: Bench) -> list[Line]:
    """Each depth has a process of its own, since a million objects make all of its garbage collection dearer."""
    context = multiprocessing.get_context("fork")
    lines = []
    for kind in ["memory", "SQLite"]:
        asking = {}
        workers = []
        with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # what is sent there stays under way
            stalled = replace(bench, port=silent.getsockname()[1])
            for waiting in DEPTHS if bench.effort == 1 else DEPTHS[:2]:
                near, far = context.Pipe()
                workers.append(context.Process(target=_worker, args=(stalled, kind, waiting, far), daemon=True))
                workers[-1].start()
                near.recv()
                asking[f"{waiting:,}"] = lambda near=near: (near.send(None), near.recv())[1]
            timings = bench.side_by_side(asking)
            for worker in workers:
                worker.kill()
                worker.join()
        for name in list(timings)[1:]:
            what = f"one more call while {name} wait, {kind}"
            lines.append(compare(what, name, "1,000", timings, "1,000 waiting", goal=1.15))
    return lines


def _worker(bench: Bench, kind: str, waiting: int, pipe) -> None:
    """Let so many wait, and then tell at each question what one more takes of all threads until it is in the outbox."""
    settings = {"capacity": 10_000_000, "timeout": 600}
    if kind == "SQLite":
        settings = {"outbox": f"sqlite:///{bench.folder}/depth{waiting}.db", "deliver": False}
        outbox = _outbox(bench, f"depth{waiting}", deliver=False)
        for _ in range(waiting // BATCH):
            outbox.put([f"{REQUEST}{number}" for number in range(BATCH)], 1.7e9)
        outbox.close()
    handler = bench.handler(**settings)
    call = log_call(handler)
    for _ in range(waiting // BATCH if kind == "memory" else 1):
        cpu(time.process_time, call, BATCH, handler.stats)
    while True:
        pipe.send(median(cpu(time.process_time, call, BATCH, handler.stats) for _ in range(5)))
        pipe.recv()
