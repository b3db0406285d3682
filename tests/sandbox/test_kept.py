"""The file that keeps calls from one start to the next: what is in it, who may use it, and what when it fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from km_logging.addresses import parse_outbox
from km_logging.errors import OutboxError, SettingsError
from km_logging.outbox.database import Database
from km_logging.sandbox import Sandbox, Store
from km_logging.sandbox.beacons import GIF
from km_logging.sandbox.checks import Received, receive
from km_logging.sandbox.kept import APPLICATION_ID, CallFile

KEY = "s3cr3t-Key"
TIMEOUT = 30


def call(query: str, kind: str = "event") -> Received:
    return receive(kind, f"_k={KEY}&{query}".encode(), 1_700_000_000.5)


@contextmanager
def kept(path: Path, capacity: int = 100) -> Iterator[Store]:
    """A store that keeps its calls in the file, until the end of the block."""
    store = Store(capacity)
    store.keep_in(CallFile(path))
    try:
        yield store
    finally:
        store.let_go()


def ids_in(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT id FROM calls ORDER BY id")]


# What is kept.


def test_calls_go_on_as_if_there_had_been_no_end(tmp_path: Path) -> None:
    """Every attribute, with ids that go on, duplicates of calls from before, and names that were spelt before."""
    path = tmp_path / "calls.db"
    queries = ["_p=bob&_n=Signed+Up&_t=1262304000&_d=1", "_p=Zo%C3%AB&_n=&%F0%9F%8D%B5=tea%0A&_t=5", "%ff=%ff"]
    with kept(path) as store:
        before = [store.add(call(query)) for query in queries]
        before.append(store.add(call("_p=bob&_n=ann", "alias")))
    with kept(path) as store:
        assert store.calls() == before
        duplicate = store.add(call(queries[0]))
        variant = store.add(call("_p=ann&_n=signed+up"))
        assert (duplicate.id, duplicate.duplicate) == (5, True)
        assert [problem.kind for problem in variant.problems] == ["case_variant"]
        calls = store.calls()
    with kept(path) as store:
        assert store.calls() == calls == [*before, duplicate, variant]


def test_what_the_store_forgets_goes_from_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with kept(path, capacity=2) as store:
        for person in ("ann-who-goes", "bob", "eve"):
            store.add(call(f"_p={person}&_n=A"))
    assert ids_in(path) == [2, 3]
    assert b"ann-who-goes" not in path.read_bytes()
    with kept(path, capacity=1) as store:
        assert ([it.person for it in store.calls()], store.forgotten) == (["eve"], 1)
    assert ids_in(path) == [3]


def test_clearing_leaves_nothing_on_the_disk_and_ids_go_on(tmp_path: Path) -> None:
    """Not even while it runs, and not in the files that SQLite keeps beside it."""
    path = tmp_path / "calls.db"
    with kept(path) as store:
        for number in range(50):
            store.add(call(f"_p=a-private-person&_n=A{number}&note={'a-private-note ' * 20}"))
        assert any(b"a-private" in it.read_bytes() for it in tmp_path.iterdir())
        store.clear()
        assert not any(b"a-private" in it.read_bytes() for it in tmp_path.iterdir())
    with kept(path) as store:
        assert store.calls() == []
        assert store.add(call("_p=bob&_n=A")).id == 51


def test_a_reader_from_before_the_end_is_told_of_what_was_cleared(tmp_path: Path) -> None:
    """Its page still shows calls that nobody holds any more."""
    path = tmp_path / "calls.db"
    with kept(path) as store:
        seen = store.add(call("_p=bob&_n=A")).id
        store.clear()
    with kept(path) as store:
        assert store.news(store.resumed(seen)).cleared == seen
        store.add(call("_p=ann&_n=A"))
        assert store.news(store.resumed(seen)).cleared == seen
        assert store.news(store.resumed(seen + 1)).cleared is None


def test_the_key_is_never_in_the_file(tmp_path: Path) -> None:
    """However it was meant; while it runs and afterwards."""
    with Sandbox(db=tmp_path / "calls.db") as sandbox:
        for query in (f"_k={KEY}&_p=bob", f"_K={KEY}&amp;_k={KEY}", f"%5Fk={KEY}", f"a=http://x/e?_k%3D{KEY}"):
            for path in ("/e", "/s", "/a"):
                requests.post(f"{sandbox.endpoint}{path}?{query}", f"_k={KEY}", timeout=TIMEOUT)
        assert len(sandbox.calls) == 12
        running = {it.name: it.read_bytes() for it in tmp_path.iterdir()}
    ended = {it.name: it.read_bytes() for it in tmp_path.iterdir()}
    assert set(ended) == {"calls.db"}, "closed cleanly, it is one file"
    assert any(b"bob" in content for content in running.values())
    assert not any(KEY.encode() in content for content in [*running.values(), *ended.values()])


# Whose it is.


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """With what SQLite keeps beside it, whatever the umask says."""
    before = os.umask(0)
    try:
        with kept(tmp_path / "calls.db") as store:
            store.add(call("_p=bob&_n=A"))
            assert {it.stat().st_mode & 0o777 for it in tmp_path.iterdir()} == {0o600}
    finally:
        os.umask(before)


def _symbolic_link(path: Path) -> None:
    (path.parent / "other").touch(0o600)
    path.symlink_to("other")


def _dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _directory(path: Path) -> None:
    path.mkdir()


def _readable_by_all(path: Path) -> None:
    path.touch()
    path.chmod(0o644)


def _text_file(path: Path) -> None:
    path.touch(0o600)
    path.write_text("what somebody wrote " * 500)


def _other_database(path: Path) -> None:
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, call TEXT)")


def _outbox(path: Path) -> None:
    Database(parse_outbox("outbox", f"sqlite:///{path}"), creates=True, patience=0).close()


def _newer(path: Path) -> None:
    CallFile(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "message", "remedy"),
    [
        (_symbolic_link, "is a symbolic link", "name the file itself"),
        (_dangling_link, "is a symbolic link", "name the file itself"),
        (_directory, "is no file", "choose another path"),
        (_readable_by_all, "can be read or written by everybody", "chmod o-rwx"),
        (_text_file, "not a database", "move the file away, or choose another path"),
        (_other_database, "another program's database", "choose another path"),
        (_outbox, "or an outbox", "choose another path"),
        (_newer, "made by a newer version", "upgrade km_logging"),
    ],
)
def test_a_file_that_may_not_be_used_is_an_error_and_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], message: str, remedy: str
) -> None:
    """The sandbox does not start, and says what to do."""
    path = tmp_path / "calls.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(SettingsError, match=rf"cannot keep calls in .*calls\.db \(.*{message}.*\): .*{remedy}"):
        Sandbox(db=path).start()
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_directory_that_is_not_there_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file or directory\): make the directory"):
        CallFile(tmp_path / "nowhere" / "calls.db")


@pytest.mark.parametrize(
    "text", ["not JSON", "[]", "{}", '{"kind": "set"}', '{"problems": [{"kind": "x"}]}', '{"problems": 5}']
)
def test_a_damaged_call_is_an_error_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calls.db"
    CallFile(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO calls (call) VALUES (?)", (text,))
        connection.commit()
    with pytest.raises(SettingsError, match=r"it is damaged\): move the file away"):
        Sandbox(db=path).start()
    CallFile(path).close()  # it was let go


@pytest.mark.parametrize("page", [2, 5])
def test_a_damaged_file_is_an_error_with_the_remedy(tmp_path: Path, page: int) -> None:
    """Whether it is noticed when the file is opened, or when its calls are read."""
    path = tmp_path / "calls.db"
    with kept(path) as store:
        for number in range(500):
            store.add(call(f"_p=bob&_n=A&number={number}"))
    with path.open("r+b") as file:
        file.seek(page * 4_096)
        file.write(b"\xff" * 50_000)
    with pytest.raises(SettingsError, match=r"malformed\): move the file away"):
        Sandbox(db=path).start()


def test_a_second_sandbox_on_the_file_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    """Of the same process and of another one; when the first has ended, the file is free."""
    path = tmp_path / "calls.db"
    command = [sys.executable, "-c", f"from km_logging.sandbox import serve; serve(port=0, db={str(path)!r})"]
    with Sandbox(db=path) as sandbox:
        with pytest.raises(SettingsError, match=r"another sandbox or program uses it\): end that one, or choose"):
            Sandbox(db=path).start()
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert "another sandbox or program uses it" in done.stderr
        requests.get(f"{sandbox.endpoint}/e?_p=bob", timeout=TIMEOUT)
    with Sandbox(db=path) as sandbox:
        assert [it.person for it in sandbox.calls] == ["bob"]


def test_an_outbox_does_not_take_the_file_for_its_own(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    CallFile(path).close()
    with pytest.raises(OutboxError, match="database of another program"):
        Database(parse_outbox("outbox", f"sqlite:///{path}"), creates=True, patience=0)


def test_an_empty_file_will_do_and_any_name(tmp_path: Path) -> None:
    """Also one that means something in a URI."""
    path = tmp_path / "a b?c#d%20é.db"
    path.touch(0o600)
    with kept(path) as store:
        store.add(call("_p=bob&_n=A"))
        assert store.status()["db"] == path.name
    assert ids_in(path) == [1]


def test_a_port_that_is_taken_leaves_no_file_behind(tmp_path: Path) -> None:
    with Sandbox() as other:
        port = int(other.endpoint.rpartition(":")[2])
        with pytest.raises(SettingsError, match="cannot listen"):
            Sandbox(port=port, db=tmp_path / "calls.db").start()
    assert list(tmp_path.iterdir()) == []


def test_the_capacity_is_larger_with_a_file_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    assert (Sandbox().store.capacity, Sandbox(db=path).store.capacity) == (10_000, 100_000)
    assert (Sandbox(capacity=5).store.capacity, Sandbox(db=path, capacity=5).store.capacity) == (5, 5)
    assert not path.exists(), "constructing opens no file"


# When it fails.


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_text("somebody else's")


def _fill_the_disk(_path: Path) -> None:
    """Done otherwise: see the test."""


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (_delete, "(it was deleted or replaced), only in memory: start the sandbox again"),
        (_replace, "(it was deleted or replaced), only in memory: start the sandbox again"),
        (_fill_the_disk, "(database or disk is full), only in memory: free some space"),
    ],
)
def test_a_file_that_fails_is_said_once_and_calls_are_held_in_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fail: Callable[[Path], None], said: str
) -> None:
    """Beacons answer as before; what is at the path then is not touched."""
    path = tmp_path / "calls.db"
    with Sandbox(db=path) as sandbox:
        requests.get(f"{sandbox.endpoint}/e?_p=first", timeout=TIMEOUT)
        assert requests.get(f"{sandbox.endpoint}/api/status", timeout=TIMEOUT).json()["db"] == "calls.db"
        if fail is _fill_the_disk:
            assert sandbox.store._file is not None
            sandbox.store._file._connection.execute("PRAGMA max_page_count = 1")
        fail(path)
        people = [f"{number}-{'x' * 5_000}" for number in range(5)]
        for person in people:
            answer = requests.get(f"{sandbox.endpoint}/e?_p={person}", timeout=TIMEOUT)
            assert (answer.status_code, answer.content) == (200, GIF)
        assert requests.delete(f"{sandbox.endpoint}/api/calls?", timeout=TIMEOUT).ok
        requests.get(f"{sandbox.endpoint}/e?_p=last", timeout=TIMEOUT)
        assert [it.person for it in sandbox.calls] == ["last"]
        assert requests.get(f"{sandbox.endpoint}/api/status", timeout=TIMEOUT).json()["db"] is None
    err = capsys.readouterr().err
    assert err == f"km-logging sandbox: calls are no longer kept in {path} {said}\n"
    if fail is _fill_the_disk:
        with kept(path) as store:
            assert [it.person for it in store.calls()] == ["first"]
    if fail is _replace:
        assert path.read_text() == "somebody else's"


# However it ends.

SERVE = """
import sys
from km_logging.sandbox import serve
serve(port=0, db=sys.argv[1], on_ready=lambda endpoint: print(endpoint, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_answered_is_there_after_any_end(tmp_path: Path, number: signal.Signals) -> None:
    """Asked to end, it leaves one clean file; killed, it leaves one that loads."""
    path = tmp_path / "calls.db"
    command = [sys.executable, "-W", "error", "-c", SERVE, str(path)]
    for seen in (0, 20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                endpoint = process.stdout.readline().strip()
                with requests.Session() as session:
                    held = session.get(f"{endpoint}/api/status", timeout=TIMEOUT).json()
                    for person in range(20):
                        session.get(f"{endpoint}/e?_k={KEY}&_p={person}&_n=A", timeout=TIMEOUT)
                assert (held["held"], held["last_id"], held["capacity"], held["db"]) == (seen, seen, 100_000, path.name)
                process.send_signal(number)
                assert process.communicate(timeout=TIMEOUT)[1] == ""
                assert process.returncode == (-number if number == signal.SIGKILL else 0)
            finally:
                process.kill()
        if number != signal.SIGKILL:
            assert [it.name for it in tmp_path.iterdir()] == ["calls.db"]
    with kept(path) as store:
        assert [(it.id, it.person) for it in store.calls()] == [(number + 1, str(number % 20)) for number in range(40)]


def test_the_file_says_whose_it_is(tmp_path: Path) -> None:
    """So that `file` and other programs can tell."""
    path = tmp_path / "calls.db"
    CallFile(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
