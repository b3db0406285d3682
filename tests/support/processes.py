"""Real processes: scripts that log against a real server, run to their end under a guard against hanging."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.tracking import GUARD, KEY

#: Stands before every script. A script that hangs is asked where, by SIGUSR1, and killed. A forked child says it itself
#: and ends. (No watchdog of `faulthandler`: it is a thread, and a child without it could not even exit.)
PRELUDE = f"""\
import atexit, dataclasses, faulthandler, json, logging, os, signal, sys, threading, time
faulthandler.register(signal.SIGUSR1)
faulthandler.register(signal.SIGALRM, chain=True)
os.register_at_fork(after_in_child=lambda: signal.alarm({int(GUARD) - 5}))
import km_logging as km

def report(stats, **more):
    print(json.dumps(dataclasses.asdict(stats) | more), flush=True)

"""


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code, negative for a signal.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def reports(self) -> list[dict[str, Any]]:
        """What the script reported, one line of JSON each."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def said(self) -> list[str]:
        """The lines on stderr that are ours."""
        return [line for line in self.err.splitlines() if line.startswith("km_logging")]


class Script:
    """A Python script that logs to an endpoint; a context manager that ends it, should the test not have.

    Args:
        folder: where it is written and run.
        text: the script, indented as the test is; it needs no imports but its own.
        endpoint: for ``KM_ENDPOINT``.
        measured: whether coverage may measure it; not where signals come without a pause, since coverage takes a lock
            that is not re-entrant.
        variables: more of the environment, such as ``KM_DRAIN_TIMEOUT``.
    """

    def __init__(self, folder: Path, text: str, endpoint: str, *, measured: bool = True, **variables: object) -> None:
        self._file = folder / "script.py"
        self._file.write_text(PRELUDE + textwrap.dedent(text))
        environment = {name: str(value) for name, value in variables.items()}
        inherited = {name: value for name, value in os.environ.items() if measured or not name.startswith("COVERAGE_")}
        self._process = subprocess.Popen(
            [sys.executable, str(self._file)],
            cwd=folder,
            env={**inherited, "KM_API_KEY": KEY, "KM_ENDPOINT": endpoint, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._began = time.monotonic()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read_line(self) -> str:
        """The next line that the script prints."""
        return self._process.stdout.readline().strip()

    def write_line(self, line: str) -> None:
        """Say something to it."""
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> Ended:
        """Wait until it has ended."""
        try:
            out, err = self._process.communicate(timeout=GUARD)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=1)
            self._process.kill()
            out, err = self._process.communicate()
            raise AssertionError(f"the process did not end:\n{out}\n{err}") from None
        return Ended(self._process.returncode, out, err, time.monotonic() - self._began)


def run(folder: Path, text: str, endpoint: str, **variables: object) -> Ended:
    """Run a script to its end; arguments as for `Script`."""
    with Script(folder, text, endpoint, **variables) as script:
        return script.end()
