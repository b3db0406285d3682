"""Applications in processes of their own: a worker, a server, a script; told by signals, heard by their output."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from support.tracking import GUARD

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class Application:
    """A command that runs until it ends or is told to; a context manager that kills it, should the test not have.

    Args:
        command: its words; the first is looked for beside this Python first.
        folder: where it runs.
        **variables: more of the environment.
    """

    def __init__(self, command: list[str], folder: Path, **variables: object) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, **{name: str(value) for name, value in variables.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._is_silent = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._is_silent = True
            self._changed.notify_all()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(GUARD)
        self._reader.join(GUARD)
        self._process.stdout.close()

    @property
    def said(self) -> str:
        """What it has written so far, to stdout and stderr."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until so many lines hold what the pattern says; these lines."""
        found = lambda: [line for line in self._lines if re.search(pattern, line)]  # noqa: E731 - said once, used twice
        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self._is_silent, GUARD)
            assert len(found()) >= count, f"it did not say {pattern!r} {count} times:\n{''.join(self._lines)}"
            return found()

    def tell(self, number: int) -> None:
        """Send the process (not those that it has started) a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait until it has ended; its exit code, negative for a signal."""
        try:
            return self._process.wait(GUARD)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.said}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait until it has ended; its exit code."""
        self.tell(number)
        return self.end()


def commands_of(example: str) -> list[tuple[list[str], dict[str, str]]]:
    """The commands in the first lines of an example, each with the environment that it is given."""
    head = (EXAMPLES / example).read_text("utf-8").partition('"""')[2].partition('"""')[0]
    found = []
    for line in re.findall(r"^    (\S.*)$", head, re.MULTILINE):
        words = shlex.split(line)
        named = [word for word in words if re.fullmatch(r"[A-Z_]+=.*", word)]
        found.append((words[len(named) :], dict(word.split("=", 1) for word in named)))
    return found


def free_port() -> int:
    """A port of loopback at which nothing listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def need(what: str, remedy: str) -> None:
    """Something that a test needs is missing: skip it, or in CI fail."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{what} is missing: {remedy}")
