"""What a delivered call costs the process, and how many are delivered to a server that takes its time."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from dataclasses import replace

import peers
from measuring import Bench, Line, compare, cpu, log_call, medians
from server import serving

SLOW = 0.05


def delivered_call(bench: Bench) -> list[Line]:
    count = bench.some(2_000)
    subjects = peers.record(bench)
    for name, settings in {"requests": {}, "curl": {"transport": "curl", "senders": 64}}.items():
        if handler := bench.handler(**settings):
            it = (log_call(handler), count, lambda handler=handler: handler.flush(120))
            subjects[name] = lambda it=it: cpu(time.process_time, *it)
    if shutil.which("wrk"):
        subjects["wrk"] = lambda: _wrk(bench)
    timings = bench.side_by_side(subjects)
    what, theirs = "delivered call, ", "py-KISSmetrics"
    return [
        compare(what + "requests", "requests", theirs, timings, goal=0.75),
        compare(what + "curl, 64 under way", "curl", theirs, timings, goal=0.15, aim=0.12),
        compare(what + "curl, 64 under way", "curl", "wrk", timings, goal=4.5),
    ]


def _wrk(bench: Bench) -> float:
    """Its CPU time for one request, in microseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    query = "_k=benchmark&_p=bob&_n=Signed+Up&plan=pro&seats=5&price=9.5&trial=true&_t=1700000000&_d=1"
    command = ["wrk", "-t1", "-c64", "-d1s", f"http://127.0.0.1:{bench.port}/e?{query}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1e6 / int(re.search(r"(\d+) requests in", told)[1])


def under_way(bench: Bench) -> list[Line]:
    lines = []
    ways = [("requests", 16, 0.9), ("requests", 64, 0.9), ("curl", 16, 0.9), ("curl", 64, 0.9), ("curl", 256, 0.85)]
    with serving(bench.folder, SLOW) as port:
        slow = replace(bench, port=port)
        for transport, width, goal in ways:
            line = Line(f"calls a second at 50 ms each, {transport}", f"{width} / 50 ms", goal=goal, at_least=True)
            if handler := slow.handler(senders=width, transport=transport, drain_timeout=10):
                rates = slow.side_by_side({"calls a second": lambda it=(handler, width): _rate(*it)})
                line.medians = medians(rates)
                line.value = line.medians["calls a second"] / (width / SLOW)
            lines.append(line)
    return lines


def _rate(handler, width: int) -> float:
    """Over a second, after most of one in which threads and connections come up."""
    call = log_call(handler)
    for _ in range(int(width / SLOW * 2.2)):
        call()
    time.sleep(0.8)
    delivered, since = handler.stats().delivered, time.monotonic()
    time.sleep(1)
    rate = (handler.stats().delivered - delivered) / (time.monotonic() - since)
    handler.close()
    return rate
