"""What holds for every command: help with an example, completion, colours, Ctrl-C, pipes, and no traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import km_logging as km
from km_logging.commands import cli
from support.commands import ENTRY, environment, km_logging, on_terminal, running
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, Answers


def paths(command: click.Command = cli, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from paths(subcommand, (*above, name))


PATHS = list(paths())

#: What a command says of itself; each is asked once.
help_of = cache(lambda *path: km_logging(*path, "--help"))


def test_the_commands_of_the_contract_are_there():
    assert {path[0] for path in PATHS if path} >= {
        "demo", "sandbox", "url", "send", "replay", "relay", "outbox", "check", "completion",
    }  # fmt: skip
    assert {path[1] for path in PATHS if path[:1] == ("outbox",) and path[1:]} == {
        "status", "list", "export", "retry", "purge",
    }  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_holds_an_example_that_the_command_understands(path):
    """Each line of it names the command, and none an option or a subcommand that there is not."""
    done = help_of(*path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\b" not in done.stdout
    lines = done.stdout.partition("Example")[2].partition("\n\n")[0].splitlines()[1:]
    examples = [match["words"] for line in lines if (match := re.search(r"km-logging (?P<words>[^|<>)]*)", line))]
    assert any(example.startswith(" ".join(path)) for example in examples)
    for example in examples:
        words = [word for word in shlex.split(example.replace("COMMAND", "demo"), comments=True) if word != '"']
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0, example


@pytest.mark.parametrize("path", [path for path in PATHS if path], ids=" ".join)
def test_the_list_of_commands_says_what_each_does_in_full(path):
    """No sentence is cut off."""
    line = next(line for line in help_of(*path[:-1]).stdout.splitlines() if line.split()[:1] == [path[-1]])
    assert line.endswith(".")
    assert not line.endswith("..")


# Completion.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["out"], {"outbox"}),
        (["outbox", ""], {"status", "list", "export", "retry", "purge"}),
        (["outbox", "export", "--format", ""], {"kissmetrics", "calls"}),
        (["send", "event", "--time"], {"--timestamp"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(words, expected):
    """By the script that the command prints, in a real shell."""
    script = 'eval "$(km-logging completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
    script += '_km_logging_completion km-logging; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", "km-logging", *words],
        env={**os.environ, "PATH": f"{Path(ENTRY).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_answered(shell):
    """The script asks the command, in the way that the command answers."""
    script = km_logging("completion", shell).stdout
    assert f"_KM_LOGGING_COMPLETE={shell}_complete" in script
    last = {"COMP_WORDS": "km-logging outb", "COMP_CWORD": "outb" if shell == "fish" else "1"}
    done = subprocess.run(
        [ENTRY],
        env=environment({"_KM_LOGGING_COMPLETE": f"{shell}_complete", **last}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "outbox" in done.stdout
    assert "sandbox" not in done.stdout


def test_another_shell_is_a_mistake():
    done = km_logging("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "fish" in done.stderr


# Terminals.


@pytest.fixture
def outbox(tmp_path) -> str:
    with km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", deliver=False) as tracker:
        tracker.event("bob", "Signed Up")
    return f"sqlite:///{tmp_path}/km.db"


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_no_color_means_none(outbox):
    """Otherwise a terminal gets some: this is no test of nothing."""
    code, shown = on_terminal("outbox", "list", outbox)
    assert code == 0
    assert COLOUR.search(shown)
    code, shown = on_terminal("outbox", "list", outbox, NO_COLOR="1")
    assert code == 0
    assert "Signed Up" in shown
    assert not COLOUR.search(shown)
    assert not COLOUR.search(on_terminal("demo", NO_COLOR="1")[1])


def test_a_pipe_gets_no_colour(outbox):
    assert "\x1b" not in km_logging("outbox", "list", outbox).stdout


def test_relay_shows_its_progress_on_a_terminal_unless_it_is_quiet(outbox):
    """The line that changes is there while a call is under way, and not with --quiet."""
    for quiet, expected in (([], True), (["--quiet"], False)):
        with TrackingServer(Answers(Reply(503, delay=1))) as server:
            variables = {"KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint}
            code, shown = on_terminal("relay", "--once", *quiet, outbox, **variables)
        assert code == 1
        assert ("delivers: 0 delivered, 1 waiting" in shown) is expected
        assert "0 delivered, 1 left (last error: HTTP 503)" in shown


@pytest.mark.parametrize("command", [["retry"], ["purge", "--person", "bob"], ["purge", "--yes"]], ids=" ".join)
def test_a_quiet_command_prints_nothing_if_all_is_done(command, outbox):
    """It does the same; without it, it says what it did."""
    done = km_logging("outbox", *command, "--quiet", outbox)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    waiting = json.loads(km_logging("outbox", "status", "--json", outbox).stdout)["waiting"]
    assert waiting == (1 if command == ["retry"] else 0)
    assert km_logging("outbox", *command, outbox).stdout.startswith("0 calls ")


def test_a_terminal_that_knows_few_characters(tmp_path):
    """What it cannot show is shown as escapes."""
    with km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", deliver=False) as tracker:
        tracker.event("bob \u2192", "Signed Up")
    done = km_logging("outbox", "list", f"sqlite:///{tmp_path}/km.db", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "bob \\u2192" in done.stdout


# What ends a command early.


def test_ctrl_c_is_said_in_a_word():
    """While it waits for the next line."""
    for command in ("send", "url"):
        with running(command, "-", KM_API_KEY=KEY) as process:
            process.stdin.write("x\n")
            process.stdin.flush()
            assert "line 1" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.wait(GUARD)
            said = process.stdout.read(), process.stderr.read().strip()
        assert (process.returncode, said) == (1, ("", "Aborted!"))


@pytest.mark.parametrize(
    ("answer", "code", "said", "left"),
    [("", 2, "nobody is there to answer: pass --yes", 1), ("n\n", 1, "Aborted!", 1), ("y\n", 0, "", 0)],
    ids=["nothing", "no", "yes"],
)
def test_a_question_that_nobody_can_answer_is_not_a_yes(outbox, answer, code, said, left):
    """The remedy is said instead."""
    done = km_logging("outbox", "purge", outbox, stdin=answer)
    assert done.returncode == code
    assert said in done.stderr
    assert json.loads(km_logging("outbox", "status", "--json", outbox).stdout)["waiting"] == left


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
@pytest.mark.parametrize("arguments", [["completion", "fish"], ["--help"], ["outbox", "list"], ["url", "set", "bob"]])
def test_a_full_disk_is_said(arguments, outbox):
    arguments = [*arguments, outbox] if arguments[0] == "outbox" else arguments
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [ENTRY, *arguments],
            env=environment({"KM_API_KEY": KEY}),
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "km-logging: No space left on device: check the path, its permissions and the disk\n"


@pytest.mark.parametrize("arguments", [["completion", "fish"], ["--help"], ["outbox", "list"], ["url", "set", "bob"]])
def test_a_pipe_that_nobody_reads_is_no_error_to_speak_of(arguments, outbox):
    arguments = [*arguments, outbox] if arguments[0] == "outbox" else arguments
    ear, mouth = os.pipe()
    os.close(ear)
    done = subprocess.run(
        [ENTRY, *arguments],
        env=environment({"KM_API_KEY": KEY}),
        stdout=mouth, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(mouth)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["send", "-"], ["url", "set", "bob"], ["outbox", "list"], ["completion", "zsh"]])
def test_without_any_streams(arguments, outbox):
    """As a service manager may start it: stdin, stdout and stderr are closed. What it would print goes nowhere."""
    arguments = [*arguments, outbox] if arguments[0] == "outbox" else arguments
    script = f"exec {shlex.join([ENTRY, *arguments])} <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", script], env=environment({"KM_API_KEY": KEY}), timeout=60, check=False)
    assert done.returncode == 0
    assert "outbox" not in arguments or km_logging("outbox", "status", outbox).returncode == 0


def test_python_m_is_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "km_logging", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == km_logging("--help").stdout
