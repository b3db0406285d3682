"""Outboxes that last: what a file holds, what became of every call, and processes that are killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from km_logging.relay import Relay
from km_logging.settings import Settings
from support.processes import PRELUDE, Ended
from support.servers import TrackingServer
from support.tracking import GUARD, KEY, people, person_of

#: For the environment of a script: an outbox in its own folder.
SQLITE = {"KM_OUTBOX": "sqlite:///km.db"}
IMMEDIATE = {**SQLITE, "KM_DURABILITY": "immediate"}
DURABILITIES = {"batched": SQLITE, "immediate": IMMEDIATE}


def waiting(folder: Path, file: str = "km.db") -> list[str]:
    """Whom the calls tell of that are in the file of this folder, in order."""
    path = folder / file
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=GUARD)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []  # killed before it was made
        return [person_of(request) for (request,) in connection.execute("SELECT request FROM calls ORDER BY number")]


def names(prefix: str, count: int) -> list[str]:
    """People of a name each."""
    return [f"{prefix}-{number}" for number in range(count)]


def each_once(server: TrackingServer, *expected: str) -> None:
    """Exactly these have arrived, once each."""
    arrived = Counter(people(server))
    missing, too_many = Counter(expected) - arrived, arrived - Counter(expected)
    assert not missing, f"missing: {missing}; too many: {too_many}"
    assert not too_many, f"too many: {too_many}"


def balanced(ended: Ended, code: int = 0) -> list[dict[str, Any]]:
    """What a script and its children reported; their books agree, and nothing was said."""
    # Python itself may have warned of a fork.
    assert (ended.code, ended.said, "Traceback" in ended.err) == (code, [], False), ended.err
    # Two of them may have written one line together.
    reports = [json.loads(line) for line in ended.out.replace("}{", "}\n{").split("\n") if line]
    for books in reports:
        ends = books["delivered"] + books["handed_over"] + sum(books["dropped"].values())
        assert books["accepted"] == ends + books["pending"], books
    return reports


def figures(text: str) -> None:
    """Show what a test has measured: ``pytest -s``."""
    print(f"\n{text}")  # noqa: T201 - a figure is the product of these tests


def relay_for(folder: Path, server: TrackingServer) -> Relay:
    """A relay for the file of this folder, in this process."""
    outbox = f"sqlite:///{folder / 'km.db'}"
    given = {"api_key": KEY, "endpoint": server.endpoint, "outbox": outbox, "drain_timeout": GUARD}
    return Relay(Settings.resolve(given, {}))


def drain(folder: Path, server: TrackingServer) -> None:
    """Deliver what is left in the file of this folder, until nothing is."""
    relay = relay_for(folder, server)
    relay.drain()
    books = relay.close()
    assert (books.pending, books.dropped) == (0, {})
    assert waiting(folder) == []


_TEMPLATE = """
import requests
from km_logging.relay import Relay
from km_logging.settings import Settings

def log(order, say):
    handler = km.KissmetricsHandler(**order["settings"])
    logger = logging.getLogger()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    outside = handler._tracker._ledger.refused["outbox"]
    for number in range(order["most"]):
        logger.info("Signed Up", extra=km.event(f"{order['name']}-{number}"))
        say(time.monotonic(), outside.value)
        if order["pace"]:
            time.sleep(order["pace"])

def relay(order, say):
    Relay(Settings.resolve(order["settings"], {})).run()

processes = {}
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "kill":
        time.sleep(order["after"])
        os.kill(processes[order["name"]], signal.SIGKILL)
        print(json.dumps([time.monotonic(), os.waitpid(processes.pop(order["name"]), 0)[1]]), flush=True)
    else:
        processes[order["name"]] = os.fork()
        if not processes[order["name"]]:
            signal.alarm(0)  # its template ends it
            pipe = os.open(order["pipe"], os.O_WRONLY)
            globals()[order["do"]](order, lambda *what: os.write(pipe, (json.dumps(what) + chr(10)).encode()))
            time.sleep(600)
for process in processes.values():
    os.kill(process, signal.SIGKILL)
"""


class Life:
    """One process of a `Template`.

    Attributes:
        name: its calls are named after it, ``name-0``, ``name-1``, ..
        most: how many log calls it makes.
        said: of each log call that returned: when, and how often the file could not be used until then.
        killed: when; 0 while it lives.
    """

    def __init__(self, name: str, most: int, pipe: Path) -> None:
        self.name, self.most = name, most
        self.said: list[tuple[float, int]] = []
        self.killed = 0.0
        self._pipe = pipe.open()

    @property
    def calls(self) -> list[str]:
        """Those whose log call had returned, until one could not use the file in time, which it said."""
        return names(self.name, sum(outside == 0 for _, outside in self.said))

    @property
    def doubtful(self) -> list[str]:
        """The others, and the one whose log call had not returned: nobody knows whether they were committed."""
        return names(self.name, len(self.said) + 1)[len(self.calls) :]

    def read(self, more: int) -> None:
        """Wait until so many more log calls have returned, or all of them, or the process has ended."""
        for _ in range(min(more, self.most - len(self.said))):
            line = self._pipe.readline()
            if not line.endswith("\n"):
                break
            self.said.append(tuple(json.loads(line)))

    def age(self, call: str) -> float:
        """How long before the kill it was logged, in seconds."""
        return self.killed - self.said[int(call.rpartition("-")[2])][0]

    def close(self) -> None:
        """Read nothing more."""
        self._pipe.close()


class Template:
    """A process with everything imported and no thread, whose forks log or relay until they are killed.

    Args:
        folder: where the file of the outbox is.
        endpoint: of the server.
        **settings: of all trackers.
    """

    def __init__(self, folder: Path, endpoint: str, **settings: object) -> None:
        self._folder = folder
        self._settings = {"api_key": KEY, "endpoint": endpoint, "outbox": "sqlite:///km.db", **settings}
        script = folder / "template.py"
        script.write_text(PRELUDE + _TEMPLATE)
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lives: list[Life] = []
        self.kills = 0

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(GUARD)
        self._process.stdout.close()
        for life in self.lives:
            life.close()

    def start(self, do: str = "log", *, most: int = 0, pace: float = 0.0, **settings: object) -> Life:
        """A new process that makes ``most`` log calls, each ``pace`` seconds after the other, or is a ``relay``."""
        name = f"life-{len(self.lives)}"
        pipe = self._folder / f"{name}.pipe"
        os.mkfifo(pipe)
        order = {"do": do, "name": name, "pipe": str(pipe), "most": most, "pace": pace}
        self._order(order | {"settings": self._settings | settings})
        self.lives.append(Life(name, most, pipe))
        return self.lives[-1]

    def kill(self, life: Life, after: float = 0.0) -> None:
        """SIGKILL, so many seconds after now; then all that the process has said is in `Life.said`."""
        self._order({"do": "kill", "name": life.name, "after": after})
        life.killed, status = json.loads(self._process.stdout.readline())
        assert status == signal.SIGKILL, "it had ended by itself"
        life.read(life.most)
        self.kills += 1

    def _order(self, order: dict[str, Any]) -> None:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
