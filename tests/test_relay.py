"""The relay, as a library and as the command: delivers what others put, and leaves the rest."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import km_logging as km
from km_logging.errors import OutboxError, SettingsError
from km_logging.relay import Relay
from km_logging.settings import Settings
from support.redis_server import RedisServer
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, Answers, eventually, people


def fill(outbox: str, *persons: str) -> None:
    """Put calls into the outbox, as an application does that leaves the sending to others."""
    with km.Tracker(outbox=outbox, deliver=False) as tracker:
        for person in persons:
            assert tracker.event(person, "Signed Up", plan="pro")
    assert tracker.stats().handed_over == len(persons)


def relay_of(outbox: str, endpoint: str, **settings: object) -> Relay:
    given = {"api_key": KEY, "endpoint": endpoint, "outbox": outbox, "drain_timeout": GUARD, **settings}
    return Relay(Settings.resolve(given, {}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "km.db"


@pytest.fixture
def file(path: Path) -> str:
    """The address of an outbox in a file."""
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "redis"])
def outbox(request: pytest.FixtureRequest, path: Path) -> str:
    """The address of an outbox of each kind that lasts."""
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    return request.getfixturevalue("redis_server").address


def test_drain_ends_once_nothing_is_left(outbox, server):
    """Every call arrives once, and the books are the relay's own."""
    persons = [f"p{number}" for number in range(600)]
    fill(outbox, *persons)
    relay = relay_of(outbox, server.endpoint)
    relay.drain()
    stats = relay.close()
    assert sorted(people(server)) == sorted(persons)
    assert (stats.accepted, stats.delivered, stats.pending) == (600, 600, 0)
    assert relay.waiting() == 0


def test_one_pass_tries_each_call_once_and_leaves_what_failed(outbox):
    """What the server refuses for the path's sake stays in the file; the others are delivered."""
    fill(outbox, "ann", "bob", "eve")
    with TrackingServer(Answers(bob=[Reply(503)] * 100)) as server:
        relay = relay_of(outbox, server.endpoint, senders=1)
        relay.run_once()
        stats = relay.close()
    assert set(people(server)) == {"ann", "bob", "eve"}
    assert (stats.delivered, stats.handed_over, relay.waiting()) == (2, 1, 1)


def test_one_pass_rejects_what_the_server_refuses_for_its_own_sake(outbox):
    """A crontab line would otherwise try it once a minute for a week, and then forget it."""
    fill(outbox, "ann", "bob")
    with TrackingServer(Answers(bob=[Reply(400)] * 3)) as server:
        relay = relay_of(outbox, server.endpoint)
        relay.run_once()
        stats = relay.close()
    assert (stats.delivered, stats.dropped, relay.waiting()) == (1, {"rejected": 1}, 0)
    assert people(server).count("bob") == 3


def test_a_damaged_call_is_dead_and_holds_up_nobody(path, file, server, caplog):
    """What is said of it shows nothing of what is in it."""
    fill(file, "ann", "secret", "bob")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE calls SET request = CAST(X'FF' || request AS TEXT) WHERE request LIKE '%secret%'")
    relay = relay_of(file, server.endpoint)
    relay.drain()
    assert relay.close().dropped == {"rejected": 1}
    assert sorted(people(server)) == ["ann", "bob"]
    assert "is damaged" in caplog.text
    assert "secret" not in caplog.text


def test_one_pass_ends_when_nobody_answers(outbox):
    """A crontab line does not hang on a server that is gone, and nothing is lost."""
    fill(outbox, *(f"p{number}" for number in range(50)))
    with refused() as endpoint:
        relay = relay_of(outbox, endpoint)
        relay.run_once()
        stats = relay.close()
    assert (stats.delivered, relay.waiting()) == (0, 50)
    assert stats.accepted == stats.handed_over


def test_one_pass_ends_although_calls_keep_coming(file, server):
    """It delivers what was there when it began."""
    fill(file, "ann")
    relay = relay_of(file, server.endpoint)
    relay._outbox.end = 0  # as if all had come after that
    relay.start()
    assert relay._delivery.is_through
    relay.close()
    assert people(server) == []


def test_a_second_relay_takes_over_when_the_first_one_ends(file, server):
    """One delivers at a time; the next one begins as soon as it may."""
    fill(file, "ann")
    first, second = relay_of(file, server.endpoint), relay_of(file, server.endpoint)
    first.start()
    second.start()
    assert (first.leads, second.leads) == (True, False)
    server.wait(1)
    first.close()
    eventually(lambda: second.leads, "the take-over")
    fill(file, "bob")
    server.wait(2)
    eventually(lambda: second.waiting() == 0, "the end of its delivery")
    second.close()
    assert people(server) == ["ann", "bob"]


def test_it_waits_for_what_is_under_way_when_it_is_stopped(outbox):
    """A clean stop repeats nothing."""
    fill(outbox, "bob")
    with TrackingServer(Answers(Reply(delay=0.3))) as server:
        relay = relay_of(outbox, server.endpoint)
        relay.start()
        server.wait(1)
        stats = relay.close()
    assert (stats.delivered, relay.waiting()) == (1, 0)


def test_it_never_makes_a_file(path, file):
    """A mistake in the path is an error, and leaves nothing behind."""
    with pytest.raises(OutboxError, match="check the path"):
        relay_of(file, "http://127.0.0.1:9")
    assert list(path.parent.iterdir()) == []
    with pytest.raises(SettingsError, match="sqlite:///"):
        Relay(Settings.resolve({"api_key": KEY, "outbox": "memory:"}, {}))


# The command.


def km_logging(*arguments: str, endpoint: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "km_logging", *arguments],
        env={**os.environ, "KM_API_KEY": KEY, "KM_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )


#: The same command in a hurry: it shows its counters every few milliseconds.
HURRIED = """
import sys
from km_logging.commands import run
module = sys.modules["km_logging.commands.relay"]
module.IN_A_LOG = module.ON_A_TERMINAL = 0.02
run()
"""


@contextmanager
def running(
    *arguments: str, endpoint: str, program: Sequence[str] = ("-m", "km_logging"), err: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        env={**os.environ, "KM_API_KEY": KEY, "KM_ENDPOINT": endpoint},
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_once_says_what_was_delivered_and_what_is_left(outbox, server):
    """0 if nothing is left, 1 if something is; in words, and as JSON."""
    fill(outbox, "ann", "bob")
    done = km_logging("relay", "--once", outbox, endpoint=server.endpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 delivered, 0 left.\n", "")
    fill(outbox, "eve")
    done = km_logging("relay", "--once", outbox, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["left"] == 1
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_delivers_until_it_is_told_to_stop(outbox, server, number):
    """It stops cleanly, with exit code 0, having said what it did."""
    fill(outbox, "ann")
    with running("relay", outbox, endpoint=server.endpoint) as process:
        server.wait(1)
        fill(outbox, "bob")
        server.wait(2)
        process.send_signal(number)
        out, err = process.communicate(timeout=GUARD)
    assert (process.returncode, out, err) == (0, "2 delivered, 0 left.\n", "")


def test_a_clean_stop_needs_no_redis(tmp_path, server):
    """What was delivered is said, and that nobody knows what is left."""
    with RedisServer(tmp_path) as redis_server:
        fill(redis_server.address, "ann")
        with running("relay", redis_server.address, endpoint=server.endpoint) as process:
            server.wait(1)
            with redis_server.client() as client:
                eventually(lambda: client.xlen("km") == 0)
            redis_server.kill()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=GUARD)
    assert (process.returncode, out) == (0, "1 delivered.\n")
    assert "cannot be reached" in err
    assert "Traceback" not in err


def test_where_there_is_no_terminal_the_counters_are_lines_of_json(outbox, server):
    """Of the relay's own books, and with what waits."""
    fill(outbox, "ann")
    with running("relay", outbox, endpoint=server.endpoint, program=("-c", HURRIED)) as process:
        lines = map(json.loads, process.stdout)
        shown = next(line for line in lines if line["delivered"])
    assert {"waiting", "accepted", "delivered", "handed_over", "dropped", "last_error"} <= shown.keys()
    assert (shown["accepted"], shown["delivered"], shown["dropped"]) == (1, 1, {})


def test_who_reads_the_counters_no_more_stops_nothing(outbox, server):
    """The relay goes on, and shows no traceback."""
    fill(outbox, "ann")
    with running("relay", outbox, endpoint=server.endpoint, program=("-c", HURRIED)) as process:
        process.stdout.readline()
        process.stdout.close()
        fill(outbox, "bob")
        server.wait(2)
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
    assert "Traceback" not in err


def test_the_counters_go_on_without_redis(tmp_path, server):
    """Which is when somebody looks at them; how many calls wait nobody knows then."""
    with RedisServer(tmp_path) as redis_server:
        fill(redis_server.address, "ann")
        with running("relay", redis_server.address, endpoint=server.endpoint, program=("-c", HURRIED)) as process:
            lines = map(json.loads, process.stdout)
            next(line for line in lines if line["delivered"] and line["waiting"] == 0)
            redis_server.kill()
            shown = next(line for line in lines if line["waiting"] is None)
            assert shown["delivered"] == 1
            redis_server.start()
            next(line for line in lines if line["waiting"] is not None)


def test_on_a_terminal_the_counters_are_one_line_that_changes(outbox, server):
    """Over and over in its place, which is empty at the end."""
    fill(outbox, "ann")
    ours, theirs = pty.openpty()
    with running("relay", outbox, endpoint=server.endpoint, program=("-c", HURRIED), err=theirs) as process:
        os.close(theirs)
        shown = ""
        while "delivers: 1 delivered, 0 waiting, 0 retried" not in shown:
            shown += os.read(ours, 65_536).decode()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=GUARD)[0] == "1 delivered, 0 left.\n"
    with suppress(OSError):  # how a terminal says that nobody is there any more
        while part := os.read(ours, 65_536):
            shown += part.decode()
    os.close(ours)
    lines = shown.split("\r\x1b[K")
    assert (lines[0], lines[-1]) == ("", "")
    assert all(line.startswith(("waits: ", "delivers: ")) for line in lines[1:-1])


@pytest.mark.parametrize(("given", "environment", "share"), [([], "", 1.0), ([], "0.25", 0.25), (["0.3"], "0.25", 0.3)])
def test_a_relay_may_take_a_whole_core(monkeypatch, file, given, environment, share):
    """There is no application beside it, unless somebody says so."""
    module = importlib.import_module("km_logging.commands.relay")
    shares = []

    def see(settings):
        shares.append(settings.cpu_share)
        raise SettingsError("seen")

    monkeypatch.setattr(module, "Relay", see)
    monkeypatch.setenv("KM_CPU_SHARE", environment)
    monkeypatch.setenv("KM_API_KEY", KEY)
    with pytest.raises(SettingsError, match="seen"):
        module.relay.main([file, *(f"--cpu-share={number}" for number in given)], standalone_mode=False)
    assert shares == [share]


def test_a_relay_needs_a_key(redis_server):
    """Also where the applications that share its environment need none."""
    with pytest.raises(SettingsError, match="KM_API_KEY"):
        Relay(Settings.resolve({"outbox": redis_server.address}, {}))


def test_once_leaves_the_work_to_the_process_that_delivers(path, server):
    """Another one is at it: that is said, and is no failure."""
    with km.Tracker(api_key=KEY, endpoint=server.endpoint, outbox=f"sqlite:///{path}") as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        done = km_logging("relay", "--once", f"sqlite:///{path}", endpoint=server.endpoint)
    assert done.returncode == 0
    assert "Another process delivers" in done.stderr
    assert people(server) == ["bob"]


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (["relay", "sqlite:///nowhere.db"], 1, "check the path"),
        (["relay", "memory:"], 2, "sqlite:///km.db"),
        (["relay", "km.db"], 2, "sqlite:///km.db"),
        (["relay", "--once", "--drain", "sqlite:///km.db"], 2, "exclude each other"),
        (["relay", "redis://:s3cret@127.0.0.1:1"], 1, "check that it runs"),
        (["relay", "redis://:pa/s3cret@shop"], 2, "redis://user:password@host"),
        (["outbox", "status", "redis://:s3cret@127.0.0.1:1"], 1, "check that it runs"),
        (["outbox", "status", "sqlite:///nowhere.db"], 1, "check the path"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(arguments, code, remedy):
    """On stderr, without a traceback."""
    done = km_logging(*arguments)
    assert done.returncode == code
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_a_file_that_is_no_outbox_stays_what_it_is(path):
    """Also an empty one, which an application would make an outbox of."""
    path.touch(0o600)
    done = km_logging("outbox", "status", f"sqlite:///{path}")
    assert (done.returncode, path.read_bytes()) == (1, b"")
    assert "the file is empty" in done.stderr


@pytest.fixture
def dead(outbox) -> str:
    """An outbox with one dead call, and three that wait: of ann, of bob, and of bob as somebody's other identity."""
    fill(outbox, "dead")
    with TrackingServer(lambda *_: Reply(400)) as server:
        relay = relay_of(outbox, server.endpoint)
        relay.drain()
        assert relay.close().dropped == {"rejected": 1}
    fill(outbox, "ann", "bob")
    with km.Tracker(outbox=outbox, deliver=False) as tracker:
        tracker.alias("robert", "bob")
    return outbox


def test_outbox_shows_what_waits_and_what_is_dead(dead):
    """status, list and export, in words and as JSON."""
    found = json.loads(km_logging("outbox", "status", dead, "--json").stdout)
    assert (found["waiting"], found["dead"], found["is_delivered"]) == (3, 1, False)
    assert "Waiting:  3, the oldest for" in km_logging("outbox", "status", dead).stdout
    listed = json.loads(km_logging("outbox", "list", dead, "--json").stdout)
    assert [(call["person"], call["state"]) for call in listed] == [
        ("dead", "dead"),
        ("ann", "waiting"),
        ("bob", "waiting"),
        ("robert", "waiting"),
    ]
    shown = km_logging("outbox", "list", dead, "--limit", "1")
    assert "Signed Up" in shown.stdout
    assert "3 more" in shown.stderr
    assert [call["person"] for call in json.loads(km_logging("outbox", "list", "--dead", dead, "--json").stdout)] == [
        "dead"
    ]


def export(outbox: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return km_logging("outbox", "export", "--format", "calls", outbox, *arguments)


def test_what_is_exported_can_be_logged_again(dead, tmp_path):
    """In the format calls each line is an ``extra``; the file is for its owner only, even if it was not."""
    (tmp_path / "calls.jsonl").touch(0o644)
    assert export(dead, "-o", str(tmp_path / "calls.jsonl")).returncode == 0
    assert (tmp_path / "calls.jsonl").stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    mode = Path(os.devnull).stat().st_mode
    assert export(dead, "-o", os.devnull).returncode == 0
    assert Path(os.devnull).stat().st_mode == mode
    fresh = tmp_path / "fresh.db"
    with km.Tracker(outbox=f"sqlite:///{fresh}", deliver=False, strict=True) as tracker:
        handler = km.KissmetricsHandler(tracker=tracker)
        for line in lines:
            handler.handle(logging.makeLogRecord(line))
    assert export(f"sqlite:///{fresh}").stdout.splitlines() == [json.dumps(line) for line in lines]


def test_retry_has_dead_calls_tried_again_by_whoever_delivers(dead, server):
    """Also by a process that came past them long ago."""
    relay = relay_of(dead, server.endpoint)
    relay.start()
    server.wait(3)
    assert km_logging("outbox", "retry", dead).stdout == "1 call to be tried again.\n"
    server.wait(4)
    eventually(lambda: relay.waiting() == 0, "the end of its delivery")
    relay.close()
    assert people(server)[-1] == "dead"


def test_purge_forgets_one_person(dead, path):
    """As either identity, and in a file down to the bytes; what others have said stays."""
    done = km_logging("outbox", "purge", "--person", "bob", dead)
    assert (done.returncode, done.stdout) == (0, "2 calls forgotten.\n")
    files = [file for file in path.parent.iterdir() if file.name.startswith("km.db")]
    assert not any(b"bob" in file.read_bytes() for file in files)
    assert json.loads(km_logging("outbox", "status", dead, "--json").stdout)["waiting"] == 1
    assert km_logging("outbox", "purge", dead).returncode == 2  # asks, and nobody can answer
    assert km_logging("outbox", "purge", "--dead", "--yes", dead).stdout == "1 call forgotten.\n"
    assert km_logging("outbox", "purge", "--yes", dead).stdout == "1 call forgotten.\n"
