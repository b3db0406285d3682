"""Trackers for tests, answers of a tracking server that a test writes down or holds back, and waiting for both."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import parse_qs

import km_logging as km
from support.servers import Reply, TrackingServer

KEY = "k3y-of/the product"
KEY_ON_THE_WIRE = "k3y-of%2Fthe+product"

#: After so many seconds something hangs; nothing is expected to take this long.
GUARD = 30.0


def tracker_for(endpoint: str, **settings: object) -> km.Tracker:
    """A tracker with a key; its close waits as long as it takes."""
    return km.Tracker(**{"api_key": KEY, "endpoint": endpoint, "drain_timeout": GUARD, **settings})


def person_of(target: str) -> str:
    """Who a request tells of; empty if it tells of nobody."""
    return parse_qs(target.partition("?")[2]).get("_p", [""])[0]


def people(server: TrackingServer) -> list[str]:
    """Who the requests told of, in order of arrival."""
    return [person_of(target) for target in list(server.targets)]


def eventually(condition: Callable[[], object], what: str = "the condition", timeout: float = GUARD) -> None:
    """Wait until what can only be looked at, not waited for, has come about."""
    pause, end = threading.Event(), time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} has not come about"
        pause.wait(0.005)


class Answers:
    """Answers each person's requests one after another as written down, and then with 200.

    Args:
        everybody: what all requests get, or wait for, that nothing else is written down for.
        scripts: person to what their requests get: a `Reply`, or an event to wait for before 200.
    """

    def __init__(
        self, everybody: Reply | threading.Event | None = None, /, **scripts: list[Reply | threading.Event]
    ) -> None:
        self._everybody = everybody
        self._scripts = {person: deque(script) for person, script in scripts.items()}
        self._lock = threading.Lock()  # guards what follows
        self._under_way = 0
        #: Most requests that were waiting for an answer at once.
        self.most = 0

    def __call__(self, _number: int, target: str) -> Reply:
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            script = self._scripts.get(person_of(target))
            answer = script.popleft() if script else self._everybody
        if isinstance(answer, threading.Event):
            answer.wait(2 * GUARD)
            answer = None
        with self._lock:
            self._under_way -= 1
        return answer or Reply()


class Meeting:
    """Answers nobody before so many requests have come together.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size)

    def __call__(self, _number: int, _target: str) -> Reply:
        try:
            self._barrier.wait(GUARD / 3)
        except threading.BrokenBarrierError:
            return Reply(503)
        return Reply()
