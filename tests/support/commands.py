"""The command line as a user has it: the installed entry point, in a process of its own, on a terminal if need be."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.tracking import GUARD, KEY

ENTRY = str(Path(sys.executable).with_name("km-logging"))


def environment(variables: dict[str, str | None]) -> dict[str, str]:
    """This process's, changed by ``variables``; None leaves one out."""
    return {name: value for name, value in {**os.environ, **variables}.items() if value is not None}


def km_logging(*arguments: str, stdin: str | bytes = b"", **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        arguments: the command line.
        stdin: what it reads there.
        variables: more of the environment, such as ``KM_ENDPOINT``.
    """
    done = subprocess.run(
        [ENTRY, *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        env=environment(variables),
        capture_output=True,
        timeout=2 * GUARD,
        check=False,
    )
    said = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    # Whatever it was asked to do, and whatever went wrong.
    assert "Traceback" not in said.stderr
    assert KEY not in said.stderr
    assert arguments[0] == "url" or KEY not in said.stdout
    return said


#: Runs a command and says its largest size; a child of the tests' own process would begin with the size of that one.
_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def largest(
    *arguments: str, stdin: str | Path = os.devnull, patience: float = 4 * GUARD, **variables: str | None
) -> int:
    """Run a command to its end, with a file as stdin; how large its process became, in KiB."""
    with Path(stdin).open("rb") as file:
        command = [sys.executable, "-c", _MEASURE, ENTRY, *arguments]
        return int(subprocess.check_output(command, stdin=file, env=environment(variables), timeout=patience))


@contextmanager
def running(*arguments: str, **variables: str | None) -> Iterator[subprocess.Popen[str]]:
    """A command while it runs, with pipes to all of it; killed at the end, should it still be there."""
    process = subprocess.Popen(
        [ENTRY, *arguments],
        env=environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def on_terminal(*arguments: str, **variables: str | None) -> tuple[int, str]:
    """Run a command with a terminal for stdout and stderr; the exit code, and all that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [ENTRY, *arguments],
        env=environment({"TERM": "xterm-256color", "COLUMNS": "120", **variables}),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    guard = threading.Timer(2 * GUARD, process.kill)
    guard.start()
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody is there any more
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    code = process.wait()
    guard.cancel()
    return code, shown.decode()
