"""``km-logging replay`` as a user drives it: through the installed entry point, and in a real terminal."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from fcntl import ioctl
from pathlib import Path

import pytest

from support.commands import ENTRY, environment, km_logging, running
from support.logfile import made, write
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, eventually, people

NOON = 1_700_000_000

LOG = """\
{"km": "event", "person": "ann@example.com", "plan": "gold", "event": "Signed Up", "timestamp": 1700000000}
{"km": "event", "person": "bob@example.com", "plan": "gold", "event": "Signed Up", "timestamp": "2023-11-14T23:13:20Z"}
{"event": "request_finished", "timestamp": 1700000000}
{"created": 1700007200.5, "msg": "Searched", "message": "Searched", "km": "event", "person": "bob@example.com"}
not JSON
{"_p": "bob@example.com", "_t": 1700000000, "gender": "hidden"}
"""
WRONG = """\
{"km": "event", "plan": "hidden", "event": "Nobody", "timestamp": 1700000000}
{"km": "event", "person": "bob@example.com", "event": "Never"}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text(LOG)
    return path


def leading(server: TrackingServer | None) -> dict[str, str]:
    """The environment that leads to a server."""
    return {} if server is None else {"KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint}


def replay(
    *arguments: object, server: TrackingServer | None = None, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    return km_logging("replay", *map(str, arguments), stdin=stdin, **leading(server), **variables)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    return json.loads(done.stdout)


def test_a_dry_run_says_what_would_be_sent_and_needs_no_key(log):
    done = replay("--dry-run", log)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["event", "Signed", "Up", "2"] in rows
    assert ["event", "Searched", "1"] in rows
    assert ["set", "1"] in rows
    assert "4 to send; nothing was sent." in done.stdout
    assert "2 passed over" in done.stdout
    assert [path.name for path in log.parent.iterdir()] == ["app.log"], "nothing is left behind"


def test_a_tagged_line_that_cannot_be_told_is_reported_with_file_and_line_and_no_value(log):
    log.write_text(LOG + WRONG * 20)
    done = replay("--dry-run", log)
    assert done.returncode == 1
    said = done.stderr
    assert f"{log}:7: nobody is named for the event 'Nobody': whoever was identified" in said
    assert f"{log}:8: the line holds no time" in said
    assert said.count("nobody is named") == 5
    assert "15 more of the kind no_person." in said
    assert "15 more of the kind bad_timestamp." in said
    assert "40 that cannot be told" in done.stdout
    for hidden in ("example.com", "gold", "hidden"):
        assert hidden not in said + done.stdout


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("latin-1", "app.log:2: the line is no UTF-8"), ("utf-16", "app.log:1: the file is UTF-16")],
)
def test_a_log_in_another_encoding_is_no_success(encoding, said, log, server):
    log.write_bytes(LOG.replace("bob@example.com", "Zo\u00eb").encode(encoding))
    done = replay(log, server=server)
    assert done.returncode == 1
    assert said in done.stderr
    assert "iconv" in done.stderr
    assert "Zo" not in done.stderr


def test_it_sends_everything_with_its_own_time(log, server):
    done = replay(log, server=server)
    assert done.returncode == 0, done.stderr
    assert "4 delivered.\n" in done.stdout
    assert "6 lines in" in done.stdout
    assert sorted(target.replace(f"_k={KEY_ON_THE_WIRE}&", "") for target in server.targets) == [
        "/e?_p=ann%40example.com&_n=Signed+Up&plan=gold&_t=1700000000&_d=1",
        "/e?_p=bob%40example.com&_n=Searched&_t=1700007200&_d=1",
        "/e?_p=bob%40example.com&_n=Signed+Up&plan=gold&_t=1700003600&_d=1",
        "/s?_p=bob%40example.com&gender=hidden&_t=1700000000&_d=1",
    ]
    assert [path.name for path in log.parent.iterdir()] == ["app.log"], "what is done needs no place"


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (["--since", "2023-11-14T23:00:00Z"], 2),
        (["--since", "1700003600"], 2),
        (["--until", "2023-11-15T00:00:00+00:00"], 3),
        (["--since", "1700003600", "--until", "1700003601"], 1),
        (["--name", "Searched"], 1),
        (["--name", "Searched", "--name", "Signed Up"], 3),
        (["--person", "bob@example.com"], 3),
        (["--person", "bob@example.com", "--name", "Signed Up"], 1),
        (["--rate", "100"], 4),
        (["--transport", "curl", "--senders", "2"], 4),
        (["--retry-for", "10", "--senders", "1"], 4),
        (["--tag", "track"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_choose_calls_and_the_way(options, calls, log, server):
    done = replay(*options, log, "--json", server=server)
    assert done.returncode == 0, done.stderr
    assert (told(done)["calls"], told(done)["delivered"], len(server.targets)) == (calls, calls, calls)
    assert told(done)["unwanted"] == (
        0 if options[0] in {"--rate", "--transport", "--retry-for", "--tag"} else 4 - calls
    )


def test_settings_of_tagging_may_be_given(tmp_path, server):
    line = {"track": "event", "user_id": "bob", "plan": "pro", "ip": "127.0.0.1", "msg": "Signed Up", "ts": NOON + 0.5}
    (tmp_path / "app.log").write_text(json.dumps({**line, "levelname": "INFO"}) + "\n")
    options = ["--tag", "track", "--person-field", "user_id", "--time-field", "ts"]
    assert replay(*options, "--exclude", "ip", tmp_path / "app.log", server=server).returncode == 0
    assert replay(*options, "--include", "plan", tmp_path / "app.log", server=server).returncode == 0
    assert server.targets == [f"/e?_k={KEY_ON_THE_WIRE}&_p=bob&_n=Signed+Up&plan=pro&_t={NOON}&_d=1"] * 2


def test_the_settings_may_be_those_of_the_applications_dictconfig(log, server, monkeypatch):
    """All of them, its own redaction and its server included; what is said on the command line wins."""
    monkeypatch.chdir(log.parent)
    Path("hooks.py").write_text("def redact(call):\n    return None if call.person.startswith('ann') else call\n")
    handler = {
        "class": "km_logging.KissmetricsHandler", "api_key": KEY, "endpoint": server.endpoint, "outbox": "sqlite:///km.db",
        "mode": "off", "strict": True, "exclude": ["gender"], "before_send": "ext://hooks.redact",
        "properties": {"site": "eu"},
    }  # fmt: skip
    Path("logging.json").write_text(json.dumps({"version": 1, "handlers": {"kissmetrics": handler}}))
    done = replay("--config", "logging.json", log)
    assert done.returncode == 0, done.stderr
    assert "3 delivered, 1 withheld." in done.stdout
    assert all(target.endswith(f"&site=eu&_t={target[-15:-5]}&_d=1") for target in server.targets)
    assert not any("gender" in target or "ann" in target for target in server.targets)
    assert not Path("km.db").exists()
    assert replay("--config", "logging.json", "--exclude", "nothing", "--name", "x", log, "--json").returncode == 0
    Path("logging.json").write_text(json.dumps({"version": 1, "handlers": {"a": handler, "b": handler}}))
    done = replay("--config", "logging.json", log)
    assert done.returncode == 2
    assert "2 handlers of ours (a, b), not one" in " ".join(done.stderr.split())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("way", ["a file", "stdin"])
def test_files_and_stdin_may_be_gzip(pack, way, tmp_path, server):
    """By their first bytes, whatever they are called."""
    content = pack(LOG.encode())
    (tmp_path / "app.log").write_bytes(content)
    done = replay("-", server=server, stdin=content) if way == "stdin" else replay(tmp_path / "app.log", server=server)
    assert done.returncode == 0, done.stderr
    assert len(server.targets) == 4


def test_the_file_of_a_place_may_be_found_by_a_pattern(log, server):
    """It is a line that is no call, and gets no place of its own."""
    assert replay("--resume", log, server=server).returncode == 0
    done = replay("--resume", log, f"{log}.km-replay", "--json", server=server)
    assert (done.returncode, told(done)["lines"], told(done)["passed_over"]) == (0, 1, 1)
    assert {path.name for path in log.parent.iterdir()} == {"app.log", "app.log.km-replay"}


def test_a_pipe_may_be_named_like_a_file(log, server):
    """As a shell does for <(zcat app.log.gz); nothing is kept beside it."""
    pipe = log.parent / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=lambda: pipe.write_bytes(LOG.encode()))
    writing.start()
    done = replay(pipe, server=server)
    writing.join()
    assert (done.returncode, done.stderr, len(server.targets)) == (0, "", 4)
    assert {path.name for path in log.parent.iterdir()} == {"app.log", "pipe"}


def test_several_files_are_read_one_after_the_other(log, server):
    (log.parent / "other.log.gz").write_bytes(gzip.compress(LOG.replace("example.com", "example.org").encode()))
    done = replay(log, log.parent / "other.log.gz", "--json", server=server)
    assert done.returncode == 0
    assert (told(done)["lines"], told(done)["delivered"]) == (12, 8)
    assert len(set(server.targets)) == 8


def test_quiet_says_only_what_is_wrong(log, server):
    assert replay("-q", log, server=server).stdout == ""
    log.write_text(LOG + WRONG)
    done = replay("--quiet", log, server=server)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 2


def test_json_is_for_programs(log, server):
    log.write_text(LOG + WRONG)
    done = replay("--json", log, server=server)
    found = told(done)
    assert done.returncode == 1
    assert found["is_complete"] is True
    assert found["problems"] == {"no_person": 1, "bad_timestamp": 1}
    assert found["names"][0] == {"kind": "event", "name": "Signed Up", "calls": 2}
    expected = {
        "lines": 8,
        "passed_over": 2,
        "untold": 2,
        "calls": 4,
        "delivered": 4,
        "put": 0,
        "dropped": {},
    }
    assert expected.items() <= found.items()


def test_calls_may_be_put_into_an_outbox_without_a_key(log, server):
    """From which a relay delivers them."""
    outbox = f"sqlite:///{log.parent}/km.db"
    done = replay("--into", outbox, log)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 put into the outbox." in done.stdout
    relay = km_logging("relay", "--drain", outbox, **leading(server))
    assert "4 delivered, 0 left." in relay.stdout
    assert len(server.targets) == 4


def test_what_was_exported_can_be_replayed(log, server):
    """A backlog of an outbox as lines of JSON, through a pipe."""
    outbox = f"sqlite:///{log.parent}/km.db"
    assert replay("--into", outbox, log).returncode == 0
    for form in ("kissmetrics", "calls"):
        exported = km_logging("outbox", "export", "--format", form, outbox).stdout.encode()
        assert replay("-", server=server, stdin=exported).returncode == 0
    assert len(server.targets) == 8
    assert len(set(server.targets)) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        ([], 2, "FILE..."),
        (["nowhere.log"], 2, "does not exist"),
        (["."], 2, "is a directory"),
        (["app.log"], 2, "pass --api-key, or set KM_API_KEY; --dry-run and --into need none"),
        (["-n", "app.log", "--since", "yesterday"], 2, "2010-01-01"),
        (["-n", "app.log", "--since", "2010"], 2, "before 2009"),
        (["-n", "app.log", "--until", "20240501"], 2, "before 2009"),
        (["-n", "app.log", "--since", "1700000000000"], 2, "divide by 1,000"),
        (["-n", "app.log", "--since", "2024-05-02", "--until", "2024-05-01"], 2, "--since is not before --until"),
        (["-n", "app.log", "--rate", "0"], 2, "--rate"),
        (["-n", "app.log", "--rate", "nan"], 2, "no finite number"),
        (["-n", "app.log", "--rate", "inf"], 2, "no finite number"),
        (["-n", "app.log", "app.log", "--state", "place"], 2, "one FILE"),
        (["-n", "-", "--resume"], 2, "--state PATH"),
        (["app.log", "--into", "memory:"], 2, "sqlite:///km.db"),
        (["app.log", "--into", "sqlite:///nowhere/km.db"], 1, "make the directory"),
        (["app.log", "--api-key", KEY, "--endpoint", "ftp://x"], 2, "https://host"),
        (["-n", "app.log", "--tag", "person"], 2, "choose two names"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_with_the_remedy(arguments, code, remedy, log, monkeypatch):
    monkeypatch.chdir(log.parent)
    done = replay(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert remedy in " ".join(done.stderr.split())


def test_a_server_that_cannot_be_reached_is_said_and_nothing_is_lost(log, server):
    with refused() as endpoint:
        done = replay(log, "--retry-for", "0.1", "--endpoint", endpoint, server=server)
    assert done.returncode == 1
    assert "could not be delivered" in done.stderr
    assert "refused" in done.stderr.lower()
    assert "--resume" in done.stderr
    assert replay("--resume", log, server=server).returncode == 0
    assert len(set(server.targets)) == 4


@pytest.mark.parametrize("transport", ["requests", "curl"])
def test_calls_that_the_server_refuses_are_counted_and_named_with_file_and_line(transport, log):
    """And with what would keep them, but not with the person, nor any value."""
    with TrackingServer(Answers(**{"ann@example.com": [Reply(400)] * 3})) as server:
        done = replay(log, "--json", "--transport", transport, server=server)
    assert (done.returncode, told(done)["dropped"], told(done)["delivered"]) == (1, {"rejected": 1}, 3)
    assert f"{log}:1: the server refused the event 'Signed Up'" in done.stderr
    assert "--into sqlite:///km.db" in done.stderr
    assert not re.search("ann@|gold", done.stderr)


def test_of_many_calls_that_the_server_refuses_a_few_are_named(log):
    log.write_text(LOG.splitlines(keepends=True)[0] * 20)
    with TrackingServer(Answers(Reply(400))) as server:
        done = replay(log, "--quiet", server=server)
    assert done.returncode == 1
    assert done.stderr.count("refused the event") == 5
    assert "15 more of the kind rejected." in done.stderr


def test_of_a_damaged_file_the_beginning_is_sent(tmp_path, server):
    content = gzip.compress(LOG.encode() * 1_000)
    (tmp_path / "app.log.gz").write_bytes(content[:-100])
    done = replay(tmp_path / "app.log.gz", server=server)
    assert done.returncode == 1
    assert "app.log.gz cannot be read any further" in done.stderr
    assert "mend the files" in done.stderr


def test_an_endpoint_that_anybody_can_read_on_the_way_is_said(log):
    """Nothing is reached there: it is a name that does not exist."""
    done = replay(log, "--retry-for", "0", "--endpoint", "http://nowhere.invalid", "--api-key", KEY)
    assert done.returncode == 1
    assert "unencrypted" in done.stderr


# Interruptions.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(number, tmp_path, server):
    write(tmp_path / "app.log", 5_000, seed=3)
    with running("replay", str(tmp_path / "app.log"), "--rate", "500", **leading(server)) as process:
        server.wait(100)
        process.send_signal(number)
        out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert "--resume goes on" in err
    assert "Traceback" not in err
    done = int(re.search(r"([\d,]+) delivered\.", out)[1].replace(",", ""))
    assert len(server.targets) == done < 1_000
    again = replay("--resume", tmp_path / "app.log", server=server)
    assert again.returncode == 0
    assert "goes on after line" in again.stderr
    _each_once(server, 5_000, seed=3)
    assert len(server.targets) == 1_000, "it stopped where it said"


@pytest.mark.parametrize("is_kept", [False, True], ids=["no place", "a place"])
def test_ctrl_c_ends_a_wait_for_stdin(is_kept, tmp_path, server):
    """And --resume is promised only where a place was kept."""
    options = ["--state", str(tmp_path / "place")] if is_kept else []
    with running("replay", "-", *options, **leading(server)) as process:
        process.stdin.write(LOG)
        process.stdin.flush()
        server.wait(4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert "4 delivered" in out
    assert ("--resume goes on" in err) == is_kept
    assert ("--state PATH" in err) != is_kept


@pytest.mark.parametrize("state", [None, "kept"], ids=["beside", "elsewhere"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_after_a_kill_it_goes_on_where_it_stopped(state, pack, tmp_path, server):
    """Whether it was asked to keep its place or not."""
    write(tmp_path / "plain.log", 5_000, seed=4)
    path = tmp_path / "app.log"
    path.write_bytes(pack((tmp_path / "plain.log").read_bytes()))
    place = tmp_path / (state or "app.log.km-replay")
    options = ["--state", place] if state else []
    with running("replay", *map(str, [path, *options]), "--rate", "500", **leading(server)) as process:
        eventually(lambda: place.exists() and json.loads(place.read_bytes())["lines"] > 500, "a place")
        process.kill()
        process.wait()
    before = len(server.targets)
    again = replay("--resume", path, *options, "--json", server=server)
    assert again.returncode == 0, again.stderr
    assert told(again)["lines"] < 4_500
    _each_once(server, 5_000, seed=4)
    assert len(server.targets) - before < 1_000
    third = replay("--resume", path, *options, "--json", server=server)
    assert (told(third)["lines"], told(third)["is_complete"]) == (0, True)


def test_stdin_goes_on_too_if_its_place_is_kept(tmp_path, server):
    content = "".join(f"{one.line}\n" for one in made(1_000, seed=5)).encode()
    options = ["-", "--resume", "--state", tmp_path / "place", "--json"]
    assert told(replay(*options, server=server, stdin=content[: len(content) // 2]))["calls"] > 50
    again = replay(*options, server=server, stdin=content)
    assert "goes on after line" in again.stderr
    assert told(again)["calls"] < 150
    _each_once(server, 1_000, seed=5)


def test_where_no_place_can_be_kept_that_is_said(log, server):
    done = replay(log, "--state", log.parent / "nowhere" / "place", server=server)
    assert done.returncode == 0
    assert "names a file that can be written" in done.stderr


@pytest.mark.parametrize(
    "options", [["--state", "notes.txt"], ["--state", "app.log"], ["--state", "link"], []], ids=str
)
@pytest.mark.parametrize("more", [[], ["--resume"], ["--dry-run"]], ids=str)
def test_no_file_but_a_place_is_replaced_or_removed(options, more, log, server, monkeypatch):
    """Neither one that --state names by mistake, nor what happens to be called as a place is; nothing is sent."""
    monkeypatch.chdir(log.parent)
    for name in ("notes.txt", "app.log.km-replay"):
        Path(name).write_text("mine")
    Path("link").symlink_to("nowhere")
    done = replay("app.log", *options, *more, server=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert "move it away, or name a file that is not there yet by --state" in " ".join(done.stderr.split())
    assert [Path(name).read_text() for name in ("notes.txt", "app.log.km-replay")] == ["mine", "mine"]
    assert log.read_text() == LOG
    assert Path("link").is_symlink()
    assert not server.targets


def test_a_place_that_is_read_itself_is_not_replaced(log, server):
    """By whatever name: here it is a hard link."""
    place, link = log.parent / "place", log.parent / "link"
    assert replay("--resume", log, "--state", place, server=server).returncode == 0
    kept = place.read_text()
    link.hardlink_to(place)
    done = replay(link, "--state", place, server=server)
    assert done.returncode == 2
    assert "is FILE itself" in " ".join(done.stderr.split())
    assert place.read_text() == kept


def _each_once(server: TrackingServer, lines: int, seed: int) -> None:
    """Counted as Kissmetrics does, each call of a log has arrived, and nothing else."""
    arrived = {target.replace(f"_k={KEY_ON_THE_WIRE}&", "") for target in server.targets}
    assert arrived == {one.request for one in made(lines, seed) if one.request}


# A terminal.

#: Makes the terminal that is stdin the one whose Ctrl-C this process gets, as a shell's are.
_LEAD = """\
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process in a terminal of its own, 120 columns wide, that somebody types into.

    Attributes:
        process: the command.
    """

    def __init__(self, *arguments: object, **variables: str) -> None:
        self._here, there = pty.openpty()
        ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LEAD, ENTRY, "replay", *map(str, arguments)],
            env=environment({"TERM": "xterm-256color", "NO_COLOR": None, "COLUMNS": None, **variables}),
            stdin=there,
            stdout=there,
            stderr=there,
        )
        os.close(there)

    def read(self) -> str:
        """What it shows until it ends."""
        shown = b""
        with suppress(OSError):  # which is how a terminal says that nobody writes any more
            while some := os.read(self._here, 65_536):
                shown += some
        self.process.wait(GUARD)
        return shown.decode()

    def type(self, text: bytes) -> None:
        """Type on its keyboard."""
        os.write(self._here, text)

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self._here)


@pytest.fixture
def terminal() -> Iterator[type[Terminal]]:
    made: list[Terminal] = []

    class Made(Terminal):
        def __init__(self, *arguments: object, **variables: str) -> None:
            super().__init__(*arguments, **variables)
            made.append(self)
            self.guard = threading.Timer(60, self.process.kill)
            self.guard.start()

    yield Made
    for one in made:
        one.guard.cancel()
        one.close()


def test_a_terminal_shows_a_bar_with_rate_and_time_left(terminal, tmp_path, server):
    """It changes in its place, and is gone at the end; what is wrong stands above it."""
    write(tmp_path / "app.log", 5_000, seed=6)
    with (tmp_path / "app.log").open("a") as file:
        file.write(WRONG)
    shown = terminal(tmp_path / "app.log", "--rate", "1000", **leading(server)).read()
    percents = [int(found) for found in re.findall(r"(\d+)%", shown)]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown)
    assert re.search(r"\d% 0:00:0\d [\d,]+ lines, [\d,]+ a second, [\d,]+ delivered", plain), "with the time left"
    assert "nobody is named" in shown
    assert "\x1b[2K" in shown
    last = shown.rpartition("\x1b[2K")[2]
    assert "1,000 delivered." in last
    assert "%" not in last
    assert KEY not in shown


def test_ctrl_c_in_a_terminal_stops_it_and_leaves_the_cursor_as_it_was(terminal, tmp_path, server):
    write(tmp_path / "app.log", 5_000, seed=6)
    one = terminal(tmp_path / "app.log", "--rate", "300", **leading(server))
    server.wait(50)
    one.type(b"\x03")
    shown = one.read()
    assert one.process.returncode == 1
    assert "--resume goes on" in shown
    assert "Traceback" not in shown
    assert shown.rpartition("\x1b[?25l")[2].count("\x1b[?25h") == 1


@pytest.mark.parametrize("options", [["--quiet"], ["--json"]])
def test_quiet_and_no_color_hold_in_a_terminal(options, terminal, log, server):
    shown = terminal(log, *options, **leading(server), NO_COLOR="1").read()
    assert "\x1b[3" not in shown
    assert ("%" in shown) == (options == ["--json"])


def test_where_there_is_no_terminal_progress_is_said_in_lines(tmp_path, monkeypatch, capsys):
    """Now and then; not every few milliseconds into a log."""
    from km_logging.commands import progress
    from km_logging.replay import Nowhere, Replay, Source, Stop, Wanted
    from km_logging.settings import Settings

    monkeypatch.setattr(progress, "IN_A_LOG", 0.0)
    write(tmp_path / "app.log", 5_000, seed=6)
    with progress.Showing((tmp_path / "app.log").stat().st_size, done="to send", is_quiet=False) as showing:
        settings = Settings.resolve({"mode": "off"}, {})
        replaying = Replay(settings, Nowhere(), showing, wanted=Wanted(), rate=5_000, stop=Stop())
        with (tmp_path / "app.log").open("rb") as file:
            replaying.read(Source(file, "app.log"))
    said = capsys.readouterr().err.splitlines()
    assert said
    assert all(re.fullmatch(r"app.log: \d+%, [\d,]+ lines, [\d,]+ a second, [\d,]+ to send", line) for line in said)


def test_help_holds_an_example():
    done = replay("--help")
    assert done.returncode == 0
    assert "km-logging replay --dry-run app.log" in done.stdout


def test_a_lasting_outbox_keeps_its_secrets(log):
    """The file holds neither key nor endpoint, as always."""
    outbox = f"sqlite:///{log.parent}/km.db"
    assert replay("--into", outbox, log, KM_API_KEY=KEY).returncode == 0
    with closing(sqlite3.connect(log.parent / "km.db")) as file:
        requests = [request for (request,) in file.execute("SELECT request FROM calls")]
    assert len(requests) == 4
    assert KEY not in "".join(requests)


def test_people_are_those_of_the_log(log, server):
    assert replay("--person", "ann@example.com", log, server=server).returncode == 0
    assert people(server) == ["ann@example.com"]
