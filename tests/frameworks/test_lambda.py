"""AWS Lambda, as a simulation: a process that is stopped as soon as it has answered, and goes on with the next event.

SIGSTOP and SIGCONT are what its freezer does; the last freeze ends in SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lasting import each_once
from support.processes import Script
from support.servers import Reply, TrackingServer
from support.tracking import Answers, eventually, people

RUNTIME = """
    class Context:
        def get_remaining_time_in_millis(self):
            return {millis}

    logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
    {imports}

    {decorator}
    {define} handler(event, context):
        for step in range(event["steps"]):
            logging.info("Stepped", extra=km.event(f"{{event['person']}}-{{step}}"))
        return "done"

    print("ready", flush=True)
    for line in sys.stdin:
        answer = handler(json.loads(line), Context())
        print({answer}, flush=True)
    """

#: How a handler is written, beside the text of `RUNTIME`.
WAYS = {
    "flushed": {"imports": "from km_logging.contrib.aws_lambda import flushed", "decorator": "@flushed"},
    "flushing": {"decorator": "@km.flushing()"},
    "async": {
        "imports": "import asyncio; from km_logging.contrib.aws_lambda import flushed",
        "decorator": "@flushed",
        "define": "async def",
        "answer": "asyncio.run(answer)",
    },
}


class Function:
    """A function of Lambda's: frozen whenever it is not invoked."""

    def __init__(self, folder: Path, endpoint: str, *, millis: int = 3_000, **way: str) -> None:
        gaps = {"imports": "", "decorator": "", "define": "def", "answer": "answer", **way}
        text = RUNTIME.format(millis=millis, **gaps)
        self._script = Script(folder, text, endpoint, measured=False, KM_SENDERS=1, KM_DRAIN_TIMEOUT=20)
        assert self._script.read_line() == "ready"
        self._freeze()

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *_: object) -> None:
        self._script.__exit__()  # SIGKILL, while it is frozen

    def _freeze(self) -> None:
        os.kill(self._script.pid, signal.SIGSTOP)

    def invoke(self, person: str, steps: int = 10) -> str:
        """Thaw it, have it handle one event, and freeze it with its answer."""
        os.kill(self._script.pid, signal.SIGCONT)
        self._script.write_line(json.dumps({"person": person, "steps": steps}))
        answer = self._script.read_line()
        self._freeze()
        return answer


def steps(person: str, count: int = 10) -> list[str]:
    return [f"{person}-{step}" for step in range(count)]


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    """So slow that an answer of the function's is faster."""
    with TrackingServer(Answers(Reply(delay=0.02))) as server:
        yield server


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_invocation_ends_when_what_it_logged_is_delivered(tmp_path, server, way):
    """Before each freeze; after the last one, nothing is left that a kill could take."""
    with Function(tmp_path, server.endpoint, **way) as function:
        for person in ("ann", "bob", "eve"):
            assert function.invoke(person) == "done"
            assert [it for it in people(server) if it.startswith(person)] == steps(person)
    each_once(server, *steps("ann"), *steps("bob"), *steps("eve"))


def test_without_it_the_last_events_are_frozen_and_then_lost(tmp_path, server):
    """So that the test above can fail."""
    with Function(tmp_path, server.endpoint) as function:
        assert function.invoke("ann", steps=30) == "done"
    assert len(server.targets) < 30


def test_connections_that_the_server_has_closed_during_a_freeze_cost_no_event(tmp_path):
    """As load balancers do with idle ones; the first request after the thaw meets a dead connection."""
    with TrackingServer(idle=0.02) as server:
        with Function(tmp_path, server.endpoint, **WAYS["flushed"]) as function:
            for person in ("ann", "bob", "eve"):
                assert function.invoke(person) == "done"
                eventually(lambda: server.closed_connections == server.connections, "the end of all connections")
        each_once(server, *steps("ann"), *steps("bob"), *steps("eve"))
        assert server.connections >= 3


def test_a_server_that_does_not_answer_fails_no_invocation_and_costs_no_event(tmp_path):
    """An invocation ends before its time is over; what was logged in it is delivered with a later one."""
    answers = threading.Event()
    with TrackingServer(Answers(answers)) as server:
        with Function(tmp_path, server.endpoint, millis=400, **WAYS["flushed"]) as function:
            assert function.invoke("ann", steps=2) == "done"
            assert people(server) in ([], ["ann-0"])  # one at a time, and none is answered
            answers.set()
            eventually(lambda: function.invoke("bob", steps=0) and len(server.targets) == 2)
        each_once(server, *steps("ann", 2))
