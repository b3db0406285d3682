"""The SQLite outbox: whatever happens to its file, calls go on, it is said, and the books balance."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections import deque
from urllib.parse import urlsplit

import pytest

from km_logging.outbox import access, sqlite
from km_logging.outbox import database as database_module
from km_logging.outbox.database import APPLICATION_ID, MIGRATIONS, Database
from support.outboxes import Bench, database, in_file, requests_of, writing
from support.processes import run
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, Answers, eventually, people, tracker_for


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(sqlite, "POLL", 0.0)
    monkeypatch.setattr(sqlite, "PATIENCE", 0.0)


@pytest.fixture
def path(tmp_path):
    """Where the outbox is."""
    return tmp_path / "km.db"


@pytest.fixture
def bench(path):
    """A new outbox."""
    bench = Bench(path)
    yield bench
    bench.check()
    bench.close()
    bench.check()


def _remade(bench, change):
    """Change the file while the outbox has no connection to it, as between two failures."""
    bench.outbox.before_fork()
    change()
    bench.outbox.after_fork()


# The file.


def test_the_file_is_for_its_owner_only(bench, path):
    """So is everything beside it, whatever the umask says; and it says whose it is."""
    before = os.umask(0)
    try:
        bench.put("a")
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["km.db", "km.db-lock", "km.db-shm", "km.db-wal"], 0o600)
    bench.close()
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _link(path):
    path.with_name("other.db").touch()
    path.symlink_to("other.db")


def _open_to_all(path):
    path.touch()
    path.chmod(0o644)


def _of_another_program(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    path.chmod(0o600)


def _text(path):
    path.write_text("what somebody wrote " * 500)
    path.chmod(0o600)


def _newer(path):
    database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()


def _remove(path):
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message", "remedy"),
    [
        (_link, "is a symbolic link", "name the file itself"),
        (_open_to_all, "can be read or written by everybody", "chmod o-rwx"),
        (_of_another_program, "a database of another program", "choose another path"),
        (_text, "not a database", "move the file away, or choose another path"),
        (_newer, "made by a newer version of km_logging", "upgrade km_logging"),
        (lambda path: path.mkdir(), "is no file", "choose another path"),
        (lambda path: path.parent.rmdir(), "No such file or directory", "make the directory"),
    ],
    ids=["symbolic link", "open to all", "another program's", "text", "newer", "directory", "no directory"],
)
def test_a_file_that_cannot_be_used_is_said_and_left_alone(path, spoil, message, remedy):
    """Calls go on from memory, and are in the file as soon as there is one that can be used."""
    path = path.parent / "folder" / path.name
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    bench = Bench(path)
    bench.put("a", "b")
    (problem,) = bench.problems
    assert (problem.kind, message in problem.message, remedy in problem.remedy) == ("outbox", True, True), problem
    assert bench.outbox.lasting == 0
    bench.settle(*bench.claim(1))
    bench.check()
    assert before == (path.read_bytes() if path.is_file() else None)
    if path.parent.exists():
        _remove(path)
    else:
        path.parent.mkdir()
    bench.mend()
    assert in_file(path) == ["b"]
    assert (bench.outbox.lasting, len(bench.problems)) == (1, 1)
    bench.check()
    bench.settle(*bench.claim())
    bench.close()
    bench.check()
    assert in_file(path) == []


def test_a_directory_that_may_not_be_written_to_is_said(tmp_path, server):
    """And its calls are delivered from memory all the same."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    text = """
        import shutil
        if os.getuid() == 0:
            tracker = km.Tracker(outbox="memory:")  # imports what another user may not read
            tracker.event("first", "Started")
            tracker.close()
            from km_logging.outbox import sqlite
            os.chdir("/")
            os.setuid(65534)
        else:
            os.chmod(sys.argv[0].replace("script.py", "folder"), 0o555)
        problems = []
        with km.Tracker(outbox="sqlite:///" + os.environ["DB"], on_problem=problems.append) as tracker:
            tracker.event("bob", "Signed Up")
            assert tracker.flush()
            report(tracker.stats(), said=[str(problem) for problem in problems])
    """
    ended = run(tmp_path, text, server.endpoint, DB=folder / "km.db")
    assert ended.code == 0, ended.err
    (report,) = ended.reports
    assert report["delivered"] == 1
    assert "Permission denied" in report["said"][0]
    assert "writable for this user" in report["said"][0]


def _locked(path, _bench, _monkeypatch):
    return writing(path).close


def _disk_full(_path, _bench, monkeypatch):
    def add_some(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Database, "add_some", add_some)
    return monkeypatch.undo


def _damaged(path, bench, _monkeypatch):
    def damage():
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 50_000)

    _remade(bench, damage)
    return path.unlink


def _overwritten(path, bench, _monkeypatch):
    _remade(bench, lambda: path.write_text("what somebody wrote " * 500))
    return path.unlink


def _unreadable(_path, _bench, monkeypatch):
    def rows(*_, **__):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Database, "rows", rows)
    return monkeypatch.undo


def _deleted(path, _bench, _monkeypatch):
    path.unlink()
    return lambda: None


def _replaced(path, _bench, _monkeypatch):
    for name in ["km.db", "km.db-wal", "km.db-shm"]:
        path.with_name(name).unlink()
    database(path).close()
    return lambda: None


def _deleted_meanwhile(path, bench, _monkeypatch):
    _remade(bench, path.unlink)
    return lambda: None


#: What may happen to a file in use, to what is said of it, and of the remedy.
MISHAPS = {
    _locked: ("locked", "end it, or give the application a file of its own"),
    _disk_full: ("full", "free some space"),
    _damaged: ("malformed", "move the file away"),
    _overwritten: ("not a database", "move the file away"),
    _unreadable: ("disk I/O error", "check the disk"),
    _deleted: ("deleted or replaced", "leave it alone"),
    _replaced: ("deleted or replaced", "leave it alone"),
    _deleted_meanwhile: ("deleted or replaced", "leave it alone"),
}


@pytest.mark.parametrize("happen", MISHAPS, ids=lambda it: it.__name__.strip("_"))
def test_a_mishap_to_the_file_in_use_is_said_and_loses_nothing(bench, path, monkeypatch, happen):
    """What is under way, what was read and what is put meanwhile end once; then it is used again."""
    message, remedy = MISHAPS[happen]
    bench.put("under way", "read")
    under_way = bench.claim(1)
    mend = happen(path, bench, monkeypatch)
    bench.put("meanwhile")
    bench.check()
    bench.outbox.look()
    seen = bench.claimed(3)
    bench.settle(*under_way)
    bench.check()
    mend()
    bench.mend()
    bench.put("afterwards")
    assert message in bench.problems[0].message
    assert remedy in bench.problems[0].remedy
    assert {problem.kind for problem in bench.problems} == {"outbox"}
    assert bench.outbox.leads
    assert "afterwards" in in_file(path)
    bench.outbox.look()
    assert sorted(seen + bench.claimed()) == ["afterwards", "meanwhile", "read"]
    assert (bench.outbox.pending, bench.handed_over) == (3, 0)


def test_what_cannot_be_read_any_more_is_left_to_whoever_has_the_file(bench, path):
    """Moved away, as the problem advises, it holds calls that nobody here can wait for."""
    bench.put("a")
    entries = bench.claim()
    bench.put("b", "c")
    moved = path.with_name("moved.db")
    _remade(bench, lambda: path.rename(moved))
    bench.put("d")
    assert (bench.handed_over, bench.outbox.pending) == (2, 2)
    bench.settle(*entries)
    assert bench.claimed() == ["d"]
    assert in_file(moved) == ["a", "b", "c"]


def test_a_failure_between_two_statements_brings_no_call_twice(bench, monkeypatch):
    """What one statement has committed is not taken into memory as well."""
    requests = [f"/e?_p={number}" for number in range(3 * database_module.CHUNK)]
    add_some, left = Database.add_some, [True, False, True, False]

    def failing(self, calls):
        if left and not left.pop(0):
            raise sqlite3.OperationalError("database is locked")
        return add_some(self, calls)

    monkeypatch.setattr(Database, "add_some", failing)
    bench.put(*requests)
    bench.check()
    assert 0 < bench.outbox.lasting < len(requests)
    bench.mend()  # which fails in the middle, too
    bench.check()
    bench.mend()
    assert bench.outbox.lasting == len(requests)
    assert sorted(bench.claimed()) == sorted(requests)


# Room.


def test_a_full_file_takes_calls_again_as_soon_as_there_is_room(path):
    """What finds no room is counted as overflow; that is no problem of the file."""
    bench = Bench(path, max_mb=1)
    large = "/s?_p=bob&a=" + "x" * 7_900
    bench.put(*[large] * 240)
    bench.check()
    assert (bench.problems, bench.handed_over) == ([], 0)
    kept = bench.outbox.pending
    assert bench.dropped == {"overflow": 240 - kept}
    assert 80 < kept < 130
    assert path.stat().st_size <= 1_048_576
    bench.settle(*bench.claim(50))
    bench.outbox.sync()
    bench.put(*[large] * 30)
    assert bench.dropped == {"overflow": 240 - kept}
    bench.put(*[large] * 100)
    assert bench.outbox.pending < kept + 5
    bench.check()
    bench.close()
    bench.check()


def test_what_finds_no_room_in_the_log_call_is_dropped_there(path):
    """It is not taken into memory instead."""
    bench = Bench(path, max_mb=1)
    bench.put(*["/s?_p=bob&a=" + "x" * 7_900] * 240)
    dropped = bench.dropped["overflow"]
    while bench.dropped["overflow"] == dropped:
        assert bench.put_now("a")
    bench.check()
    assert bench.problems == []
    bench.close()


# The commit in the log call.


def test_a_call_is_committed_before_the_log_call_returns(bench, path):
    """Anybody sees it."""
    assert bench.put_now("a")
    assert in_file(path) == ["a"]
    assert (bench.outbox.pending, bench.outbox.lasting) == (1, 1)


@pytest.mark.parametrize("by", ["another program", "a thread of ours"])
def test_a_log_call_does_not_wait_for_long(path, monkeypatch, by):
    """It gives up, says so, and the call goes the other way."""
    monkeypatch.setattr(sqlite, "PATIENCE_IMMEDIATE", 0.01)
    bench = Bench(path, is_immediate=True)
    bench.put("a")
    holds, done = threading.Event(), threading.Event()

    def hold():
        with bench.outbox._lock:
            holds.set()
            done.wait(GUARD)

    if by == "another program":
        let_go = writing(path).close
    else:
        threading.Thread(target=hold, daemon=True).start()
        assert holds.wait(GUARD)
        let_go = done.set
    assert not bench.put_now("b")
    let_go()
    assert [problem.kind for problem in bench.problems] == ["outbox"]
    bench.check()
    bench.put("b")
    bench.mend()
    assert in_file(path) == ["a", "b"]
    assert bench.put_now("c")
    bench.close()


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("method", ["add_some", "is_there", "rows", "__init__"])
def test_a_log_call_in_the_middle_of_a_log_call_loses_nothing(path, monkeypatch, method, fails, is_held):
    """A signal handler or finaliser that logs may come in anywhere, also while what was held goes into the file."""
    bench = Bench(path, is_immediate=True)
    bench.put("first")
    lock = writing(path)
    bench.put(*["held"] * is_held)
    lock.close()
    bench.outbox._access.retry()
    usual, again, failed, results = getattr(Database, method), [], [], []

    def nested():
        if len(again) < 2:
            again.append(None)
            results.append((f"nested {len(again)}", bench.put_now(f"nested {len(again)}")))

    def interrupted(self, *args, **options):
        nested()
        if fails and not failed:
            failed.append(None)
            raise sqlite3.OperationalError("disk I/O error")
        result = usual(self, *args, **options)
        nested()
        return result

    if method == "__init__":
        _remade(bench, lambda: None)
    monkeypatch.setattr(Database, method, interrupted)
    results.append(("outer", bench.put_now("outer")))
    bench.outbox.look()
    claimed = bench.claimed(1)
    monkeypatch.undo()
    bench.check()
    bench.mend()
    rows = in_file(path)
    assert sorted(rows) == sorted(set(rows))
    assert {*["held"] * is_held, *(request for request, committed in results if committed)} <= {*rows, *claimed}
    bench.close()
    bench.check()


def test_a_flush_in_the_middle_of_an_eviction_loses_nothing(bench, path):
    """A signal handler's flush puts into the file what would have been evicted; then there is no need to."""
    bench.put("first")
    lock = writing(path)
    bench.put("held")
    lock.close()
    bench.outbox._access.retry()

    class Interrupted(deque):
        def __iter__(self):
            found = list(super().__iter__())
            if not moved:
                moved.append(True)
                bench.outbox.keep_rest()
            yield from found

    moved = []
    bench.outbox._held._entries = Interrupted(bench.outbox._held)
    assert bench.evict() is None
    assert in_file(path) == ["first", "held"]


def test_what_is_in_a_file_is_delivered_although_the_disk_is_full(bench, monkeypatch):
    """The connection stays: on a full disk the file could not be opened again."""
    bench.put("there")

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Database, "add_some", full)
    bench.put("held")
    assert bench.claimed(9) == ["held", "there"]
    monkeypatch.undo()
    bench.mend()
    bench.check()


# Several processes.


def test_one_of_two_leads_and_the_other_takes_over(path):
    """The calls of the other one are not in its own books any more, nor in those of the first."""
    first, second = Bench(path), Bench(path)
    first.put("a")
    second.put("b", "c")
    assert (first.outbox.leads, second.outbox.leads) == (True, False)
    assert (second.handed_over, second.outbox.pending, second.claimed()) == (2, 0, [])
    first.outbox.look()
    entries = first.claim(2)
    assert [(entry.request, entry.is_own) for entry in entries] == [("a", True), ("b", False)]
    first.settle(*entries)
    first.close()
    second.outbox.look()
    second.put("d")
    assert second.outbox.leads
    taken = second.claim()
    assert [(entry.request, entry.is_own) for entry in taken] == [("c", False), ("d", True)]
    second.settle(*taken)
    second.close()
    for bench in [first, second]:
        bench.check()
        assert bench.problems == []
    assert (first.handed_over, second.handed_over) == (0, 2)
    assert in_file(path) == []


def test_one_that_may_not_deliver_only_fills_the_file(path):
    """Nor does it deliver from memory what it cannot put there; but it keeps at trying to put it."""
    bench = Bench(path, delivers=False)
    bench.put("a")
    lock = writing(path)
    bench.put("b")
    assert (bench.claimed(), bench.outbox.waiting, bench.outbox.pending) == ([], 0, 1)
    assert bench.outbox.poll < GUARD
    lock.close()
    bench.mend()
    assert (bench.handed_over, bench.outbox.pending, bench.outbox.leads) == (2, 0, False)
    bench.close()
    assert in_file(path) == ["a", "b"]


def test_a_relay_answers_for_all_and_makes_no_file(path):
    """What it has read when the file is taken away goes on from memory, and back when there is one again."""
    relay = Bench(path, is_relay=True)
    relay.outbox.look()
    assert (path.exists(), len(relay.problems)) == (False, 1)
    other = Bench(path, delivers=False)
    other.put("a", "b", "c")
    relay.mend()
    entries = relay.claim(1)
    other.put("d")
    path.unlink()
    relay.outbox.look()
    assert not path.exists()
    other.put("e")
    relay.mend()
    assert {*requests_of(entries), *relay.claimed()} == {"a", "b", "c", "d", "e"}
    relay.settle(*entries)
    books = relay.ledger
    assert books.taken.value == 1 + relay.handed_over + relay.outbox.pending
    assert relay.outbox.pending == 4
    relay.close()
    other.close()


def test_another_key_than_before_is_said_once(path):
    """By the one that delivers, since it is that one's key which counts."""
    for key, said in [("k1", 0), ("k1", 0), ("k2", 1), ("k2", 0), ("", 0), ("k2", 0)]:
        bench = Bench(path, api_key=key)
        bench.put("a")
        bench.outbox.look()
        bench.outbox.look()
        assert [problem.remedy for problem in bench.problems] == [
            "what is in it goes to this key now: use one file for each product"
        ] * said
        bench.close()


def test_the_moved_release_a_flush(path, server):
    """A tracker that only fills the file waits for nothing once all its calls are in it."""
    database(path).close()
    lock = writing(path)
    with tracker_for(server.endpoint, outbox=f"sqlite:///{path}", deliver=False) as tracker:
        tracker.event("bob", "Signed Up")
        eventually(lambda: tracker.stats().refused.get("outbox"))
        flushed, results = threading.Event(), []

        def flush():
            results.append(tracker.flush(GUARD))
            flushed.set()

        threading.Thread(target=flush, daemon=True).start()
        eventually(lambda: tracker._pipeline._delivery._marks._marks)
        lock.close()
        assert flushed.wait(GUARD)
        assert results == [True]
        assert tracker.stats().handed_over == 1


# Privacy.


def test_the_file_holds_neither_key_nor_endpoint(path):
    """Not even after a failure."""
    with (
        TrackingServer(lambda *_: Reply(503)) as server,
        tracker_for(server.endpoint, outbox=f"sqlite:///{path}", drain_timeout=0) as tracker,
    ):
        tracker.event("bob", "Signed Up")
        eventually(lambda: tracker.stats().last_error)
        found = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"bob" in found
    for secret in [KEY, urlsplit(server.endpoint).netloc, "_k="]:
        assert secret.encode() not in found


def test_who_is_purged_leaves_no_byte(bench, path):
    """Neither in the file nor beside it, also of calls that were delivered before, while the outbox is in use."""
    bench.put(*[f"/e?_p=eve&number={number}" for number in range(300)], "/e?_p=bob")
    bench.settle(*bench.claim(100))
    bench.outbox.sync()
    bench.outbox.claim(1)
    file = database(path)
    file.purge([row.number for row in file.each() if "eve" in row.request])
    file.close()
    found = b"".join(it.read_bytes() for it in path.parent.iterdir())
    assert (b"eve" in found, b"bob" in found) == (False, True)
    bench.put("c")
    assert in_file(path) == ["/e?_p=bob", "c"]


# Forks.


def test_a_fork_finds_the_connection_closed(bench, path):
    """No thread may open it meanwhile; afterwards the parent goes on where it was."""
    bench.put("a", "b")
    bench.claim(1)
    bench.outbox.before_fork()
    assert bench.outbox._access.file is None
    free = []
    thread = threading.Thread(target=lambda: free.append(bench.outbox._lock.acquire(blocking=False)))
    thread.start()
    thread.join(GUARD)
    assert free == [False]
    bench.outbox.after_fork()
    bench.put("c")
    assert bench.claimed() == ["b", "c"]
    assert bench.problems == []


def test_a_child_does_not_open_what_it_inherited_open(bench, path):
    """SQLite would take its own notes of the parent's locks for the child's."""
    bench.put("a")
    child = Bench(path)
    try:
        bench.outbox.abandon()
        child.put("b")
        assert "forked while the file was in use" in child.problems[0].message
        assert child.claimed() == ["b"]
    finally:
        database_module.inherited.clear()
        access._leaked.clear()


def test_who_leads_resigns_when_the_file_of_the_lock_is_deleted(path):
    """Another one may lead by a new one; what was read already is not left out, and not delivered by both."""
    first, second = Bench(path), Bench(path)
    first.put("a")
    path.with_name("km.db-lock").unlink()
    second.outbox.look()
    assert second.outbox.leads
    first.outbox.look()
    assert not first.outbox.leads
    assert (first.handed_over, first.outbox.pending) == (1, 0)
    assert [entry.request for entry in second.claim(9)] == ["a"]
    for bench in (first, second):
        bench.close()
        bench.check()


def test_an_exception_of_a_signal_handler_leaves_no_lock_behind(path):
    """It may come as soon as the lock is taken; the next log call commits."""
    bench = Bench(path)
    lock = bench.outbox._lock

    class Interrupted:
        def acquire(self, **options):
            assert lock.acquire(**options)
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(lock, name)

    bench.outbox._lock = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        bench.outbox.put_now("broken off", 0.0)
    bench.outbox._lock = lock
    assert not bench.outbox.is_held
    assert bench.put_now("next")
    bench.close()


def test_an_answer_that_comes_after_the_close_counts(path):
    """The call is sent once, although the file was given up in the meantime, and another handler goes on with it."""
    hold = threading.Event()
    with TrackingServer(Answers(bob=[hold])) as server:
        settings = {"endpoint": server.endpoint, "outbox": f"sqlite:///{path}"}
        closed = tracker_for(**settings, drain_timeout=0.05)
        closed.event("bob", "Signed Up")
        server.wait(1)
        closed.close()
        assert closed.stats().pending == 1
        with tracker_for(**settings) as following:
            following.event("eve", "Signed Up")
            hold.set()
            server.wait(2)
            eventually(lambda: in_file(path) == [])
        eventually(lambda: closed.stats().delivered == 1)
    assert sorted(people(server)) == ["bob", "eve"]


def test_threads_that_fork_at_once_disturb_neither_each_other_nor_the_parent(tmp_path, server):
    """Each fork has the files closed, and open again."""
    text = """
        trackers = [km.Tracker(outbox=f"sqlite:///{number}.db", durability="immediate") for number in range(3)]

        def fork():
            for _ in range(15):
                for tracker in trackers:
                    tracker.event("parent", "Signed Up")
                pid = os.fork()
                if not pid:
                    for tracker in trackers:
                        tracker.event("child", "Signed Up")
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0

        threads = [threading.Thread(target=fork) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert all(tracker.flush(20) for tracker in trackers)
        for tracker in trackers: report(tracker.stats())
        """
    ended = run(tmp_path, text, server.endpoint)
    assert ended.code == 0, ended.err
    assert [report["accepted"] for report in ended.reports] == [45, 45, 45]
