"""Every way to hand a program to Python: by a file, a module, the command line, stdin, and at the prompt."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from support.servers import TrackingServer
from support.tracking import GUARD, KEY, people

PROGRAM = """\
import logging
import km_logging as km
logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler()])
logging.getLogger("shop").info("Signed Up", extra=km.event("bob", plan="pro"))
"""

#: Arguments and stdin; the program is in the file ``shop.py`` as well.
WAYS = {
    "python shop.py": (["shop.py"], ""),
    "python -m shop": (["-m", "shop"], ""),
    "python -c": (["-c", PROGRAM], ""),
    "python -": (["-"], PROGRAM),
    "python < shop.py": ([], PROGRAM),
    "python -OO": (["-OO", "shop.py"], ""),
    "python -i, until the end of stdin": (["-i", "-q"], PROGRAM),
    "python -i shop.py, until exit()": (["-i", "-q", "shop.py"], "exit()\n"),
}


def environment(server: TrackingServer, **variables: str) -> dict[str, str]:
    return {**os.environ, "KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint, **variables}


def run(arguments: list[str], stdin: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, every warning an error, and what was left open said."""
    (folder / "shop.py").write_text(PROGRAM)
    command = [sys.executable, "-X", "dev", "-W", "error", *arguments]
    return subprocess.run(
        command, input=stdin, cwd=folder, env=environ, capture_output=True, text=True, timeout=GUARD, check=False
    )


@pytest.mark.parametrize("outbox", ["memory:", "sqlite:///km.db"])
@pytest.mark.parametrize(("arguments", "stdin"), WAYS.values(), ids=WAYS)
def test_what_was_logged_last_arrives_and_nothing_is_said(arguments, stdin, outbox, server, tmp_path):
    """Also of what `-X dev` finds, such as files and sockets that were not closed."""
    done = run(arguments, stdin, tmp_path, environment(server, KM_OUTBOX=outbox))
    assert (done.returncode, done.stdout, done.stderr.replace(">>> ", "").strip()) == (0, "", "")
    assert people(server) == ["bob"]


@pytest.mark.parametrize("last", ["1 / 0", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_it_arrives_however_the_program_ends(last, server, tmp_path):
    (tmp_path / "last.py").write_text(PROGRAM + last)
    done = run(["last.py"], "", tmp_path, environment(server))
    assert done.returncode != 0
    assert "km_logging" not in done.stderr
    assert people(server) == ["bob"]


def test_it_arrives_where_the_program_has_closed_its_streams(server, tmp_path):
    last = "import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close()"
    done = run(["-c", PROGRAM + last], "", tmp_path, environment(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert people(server) == ["bob"]


def test_at_the_prompt_calls_arrive_while_one_types(server, tmp_path):
    """At a terminal, which from Python 3.13 on has a prompt of its own; after an error; and Ctrl-D is the end."""
    ours, theirs = pty.openpty()
    environ = environment(server, TERM="xterm", PYTHON_HISTORY=str(tmp_path / "history"), HOME=str(tmp_path))
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-q"], cwd=tmp_path, env=environ, **terminal) as process:
        os.close(theirs)
        for line in PROGRAM.splitlines():
            os.write(ours, f"{line}\r".encode())
        server.wait(1)
        for keys in ("1 / 0\r", "logging.info('Came', extra=km.event('ann'))\r"):
            os.write(ours, keys.encode())
        server.wait(2)
        os.write(ours, b"logging.info('Left', extra=km.event('cy'))\r\x04")
        shown = b""
        try:
            while received := os.read(ours, 65_536):
                shown += received
        except OSError:  # the other end is closed
            pass
        assert process.wait(GUARD) == 0, shown.decode()
    os.close(ours)
    assert b"ZeroDivisionError" in shown
    assert b"km_logging:" not in shown
    assert people(server) == ["bob", "ann", "cy"]
