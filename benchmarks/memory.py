"""What one waiting call takes of memory, by tracemalloc: the bytes that Python has allocated and not freed."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import queue
import socket
import tracemalloc
from dataclasses import replace

from measuring import Bench, Calling, Line, logger_with


def waiting_call(bench: Bench) -> list[Line]:
    """Five properties and a person, two of these different in each call. Depends on no neighbour: once is enough."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # what is sent there waits
        handler = replace(bench, port=silent.getsockname()[1]).handler(drain_timeout=0.1, timeout=60)
        ours = _allocated(handler, handler.stats, bench.some(20_000))
        handler.close()
    stdlib = logging.handlers.QueueHandler(queue.Queue(-1))
    theirs = _allocated(stdlib, lambda: None, bench.some(20_000))
    told = {"km_logging": round(ours), "LogRecord": round(theirs)}
    return [Line("memory of one waiting call, bytes", "a LogRecord in a queue", ours / theirs, 0.45, medians=told)]


def _allocated(handler: logging.Handler, settle: Calling, count: int) -> float:
    info = logger_with(handler).info

    def log(count: int) -> int:
        for number in range(count):
            fields = {"plan": "pro", "seats": number, "price": 9.5, "trial": True, "place": "Berlin"}
            info("Signed Up", extra={"km": "event", "person": f"bob{number}", **fields})
            if number % 1_000 == 0:
                settle()
        settle()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    before = log(11_000)  # threads, imports, and the last 10,000 that are remembered, waiting or not
    after = log(count)
    tracemalloc.stop()
    return (after - before) / count
