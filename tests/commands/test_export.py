"""``km-logging outbox export``: a backlog as lines of JSON, in both formats, whole, and for its owner only."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

import km_logging as km
from support.commands import ENTRY, km_logging, largest, running
from support.tracking import GUARD, KEY, people


@pytest.fixture
def outbox(tmp_path) -> str:
    """A file with one call of each kind, told by an application."""
    return filled(tmp_path / "km.db")


def filled(path: Path, **properties: str) -> str:
    with km.Tracker(outbox=f"sqlite:///{path}", deliver=False) as tracker:
        tracker.event("bob", "Signed Up", timestamp=1_262_304_000, properties={"plan": "pro \u2192", **properties})
        tracker.set("bob", timestamp=1_262_304_000, gender="male")
        tracker.alias("bob", "bob@bob.com")
    return f"sqlite:///{path}"


IMPORTED = [
    {"_p": "bob", "_t": 1_262_304_000, "_n": "Signed Up", "plan": "pro \u2192"},
    {"_p": "bob", "_t": 1_262_304_000, "gender": "male"},
    {"_p": "bob", "_p2": "bob@bob.com"},
]
CALLS = [
    km.event("bob", "Signed Up", timestamp=1_262_304_000, plan="pro \u2192"),
    km.set("bob", timestamp=1_262_304_000, gender="male"),
    km.alias("bob", "bob@bob.com"),
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], IMPORTED), (["--format", "kissmetrics"], IMPORTED), (["--format", "calls"], CALLS)],
    ids=["default", "kissmetrics", "calls"],
)
def test_each_kind_of_call_in_each_format(outbox, arguments, expected):
    """As Kissmetrics documents its import, or as the helpers return them; in ASCII, and nothing leaves the outbox."""
    done = km_logging("outbox", "export", outbox, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected
    assert done.stdout.isascii()
    assert json.loads(km_logging("outbox", "status", outbox, "--json").stdout)["waiting"] == 3


def test_what_is_exported_as_calls_can_be_sent(outbox, server):
    """The whole way by hand: out of the outbox, and to the server."""
    calls = km_logging("outbox", "export", "--format", "calls", outbox).stdout
    done = km_logging("send", "-", "--quiet", stdin=calls, KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    relayed = len(server.targets)
    km_logging("relay", "--once", "--quiet", outbox, KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    assert sorted(server.targets[:relayed]) == sorted(server.targets[relayed:])
    assert people(server) == ["bob"] * 6


def test_a_property_that_would_make_an_alias_of_an_event_is_said(tmp_path):
    """Kissmetrics' format has no place for a property named _p2; the other one has."""
    outbox = filled(tmp_path / "km.db", _p2="eve")
    done = km_logging("outbox", "export", outbox)
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == IMPORTED
    assert done.stderr == (
        "km-logging: 1 call without the property '_p2', which would make an alias of its line: "
        "--format calls keeps it\n"
    )
    done = km_logging("outbox", "export", "--format", "calls", outbox)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["km"]["properties"]["_p2"] == "eve"


DAMAGES = [
    "UPDATE calls SET request = CAST(X'FF' || request AS TEXT) WHERE number = (SELECT min(number) FROM calls)",
    "UPDATE calls SET request = '/e?_p=bob' WHERE number = (SELECT min(number) FROM calls)",
    "UPDATE calls SET request = '' WHERE number = (SELECT min(number) FROM calls)",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_call_holds_up_no_other(outbox, damage):
    """It is counted, shown as what it is, and forgotten with any person, since it may name anybody."""
    with closing(sqlite3.connect(outbox.removeprefix("sqlite:///"), isolation_level=None)) as file:
        file.execute(damage)
    done = km_logging("outbox", "export", outbox)
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == IMPORTED[1:]
    assert "1 call left out as damaged: km-logging outbox list shows" in done.stderr
    assert "damaged" in km_logging("outbox", "list", outbox).stdout
    assert json.loads(km_logging("outbox", "list", "--json", outbox).stdout)[0]["call"] is None
    assert km_logging("outbox", "purge", "--person", "nobody", outbox).stdout == "1 call forgotten.\n"
    assert km_logging("outbox", "export", outbox).returncode == 0


def test_a_file_that_cannot_be_written_is_said(outbox, tmp_path):
    done = km_logging("outbox", "export", "-o", str(tmp_path / "nowhere" / "calls"), outbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"km-logging: {tmp_path}/nowhere/calls: No such file or directory: "
        "check the path, its permissions and the disk\n"
    )


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal", "-lock"])
def test_the_outbox_is_not_overwritten_by_its_own_export(outbox, tmp_path, end):
    """Nor one of the files beside it, there or not, by whatever name: that would lose every call in it."""
    with closing(sqlite3.connect(tmp_path / "km.db")) as reader:  # with which the files beside it are there
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (3,)
        (tmp_path / "link").symlink_to(tmp_path / f"km.db{end}")
        names = [f"{tmp_path}/km.db{end}", f"{tmp_path}/../{tmp_path.name}/km.db{end}", f"{tmp_path}/link"]
        if (tmp_path / f"km.db{end}").exists():
            (tmp_path / "same").hardlink_to(tmp_path / f"km.db{end}")
            names.append(f"{tmp_path}/same")
        for name in names:
            done = km_logging("outbox", "export", "-o", name, outbox)
            assert (done.returncode, done.stdout) == (2, "")
            assert f"{name} is the outbox itself: name another file" in done.stderr.replace("\n", " ")
    assert json.loads(km_logging("outbox", "status", outbox, "--json").stdout)["waiting"] == 3


def test_a_file_is_replaced_for_its_owner_only(outbox, tmp_path):
    """Whoever could read the one before cannot read this one; a link goes on leading to it."""
    (tmp_path / "calls").write_text("old")
    (tmp_path / "calls").chmod(0o644)
    (tmp_path / "link").symlink_to("calls")
    done = km_logging("outbox", "export", "-o", f"{tmp_path}/link", outbox)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()] == IMPORTED
    assert (tmp_path / "calls").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} <= {"calls", "link", "km.db", "km.db-lock"}


def test_an_export_that_ends_early_leaves_the_one_before(outbox, tmp_path):
    """Here by a limit of the size of files; nothing half is left behind."""
    km_logging("outbox", "export", "-o", f"{tmp_path}/calls", outbox)
    before, names = (tmp_path / "calls").read_bytes(), {path.name for path in tmp_path.iterdir()}
    with km.Tracker(outbox=outbox, deliver=False) as tracker:
        for number in range(200):
            tracker.set("bob", timestamp=1_262_304_000 + number, text="x" * 500)
    command = [ENTRY, "outbox", "export", "-o", f"{tmp_path}/calls", outbox]
    limited = ["sh", "-c", f"ulimit -f 64; trap '' XFSZ; exec {shlex.join(command)}"]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert (tmp_path / "calls").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == names


def test_what_is_no_file_is_written_as_it_is(outbox, tmp_path):
    """A pipe with a name, and stdout by its name, where it adds to a file."""
    os.mkfifo(tmp_path / "pipe")
    with running("outbox", "export", "-o", f"{tmp_path}/pipe", outbox) as process:
        lines = (tmp_path / "pipe").read_text().splitlines()
        assert process.wait(GUARD) == 0
    assert [json.loads(line) for line in lines] == IMPORTED
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("a") as log:
        subprocess.run([ENTRY, "outbox", "export", "-o", "/dev/stdout", outbox], stdout=log, timeout=60, check=True)
    first, *lines = (tmp_path / "log").read_text().splitlines()
    assert (first, [json.loads(line) for line in lines]) == ("before", IMPORTED)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk_is_said(outbox):
    """Also where stdout is it, and although so little is written that it waits for the end."""
    done = km_logging("outbox", "export", "-o", "/dev/full", outbox)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path):
    """As in `km-logging outbox export .. | head -1`."""
    with km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", deliver=False) as tracker:
        for number in range(2_000):
            tracker.set("bob", timestamp=1_262_304_000 + number, text="x" * 200)
    with running("outbox", "export", f"sqlite:///{tmp_path}/km.db") as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert json.loads(process.stdout.readline())["_p"] == "bob"
        process.stdout.close()
        process.wait()
        guard.cancel()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_names_of_others_do_not_steer_the_terminal(tmp_path):
    """Control characters in what was logged are shown as escapes."""
    with km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", deliver=False) as tracker:
        tracker.event("bob\x1b[2J", "Signed\x07 \u202eUp \u2192", timestamp=1_262_304_000)
    shown = km_logging("outbox", "list", f"sqlite:///{tmp_path}/km.db").stdout
    assert "bob\\x1b[2J" in shown
    assert "Signed\\x07 \\u202eUp \u2192" in shown


def test_a_large_outbox_is_exported_little_by_little(tmp_path):
    """10 MB of calls: the process becomes no larger than for a third of them, which are more than SQLite holds."""

    def size(name: str, calls: int) -> int:
        outbox = f"sqlite:///{tmp_path}/{name}.db"
        with km.Tracker(outbox=outbox, deliver=False, drain_timeout=GUARD) as tracker:
            for number in range(calls):
                tracker.set("bob", timestamp=1_262_304_000 + number, text="x" * 200)
        return largest("outbox", "export", "-o", str(tmp_path / name), outbox)

    assert size("many", 30_000) < size("few", 10_000) + 1_024
    assert len((tmp_path / "many").read_bytes().splitlines()) == 30_000
