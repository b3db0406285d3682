"""The file of a SQLite outbox: made, checked and migrated; and the statements that people's commands use."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from km_logging.errors import OutboxError
from km_logging.outbox.database import APPLICATION_ID, CHUNK, MIGRATIONS, fault_of
from support.outboxes import NOW, Bench, database, in_file


@pytest.fixture
def file(tmp_path):
    """A new file."""
    file = database(tmp_path / "km.db")
    yield file
    file.close()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_file_is_migrated_and_its_calls_delivered(tmp_path, version):
    """Numbers go on after those that were given."""
    path = tmp_path / "km.db"
    connection = sqlite3.connect(path)
    for step in MIGRATIONS[:version]:
        connection.execute(step)
    connection.execute("INSERT INTO calls (number, request, accepted_at, origin) VALUES (7, 'old', 5.0, 3)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.commit()
    connection.close()
    path.chmod(0o600)
    bench = Bench(path)
    bench.put("new")
    old, new = bench.claim()
    assert (old.request, old.number, old.accepted_at, old.is_own) == ("old", 7, 5.0, False)
    assert (new.request, new.number > 7, new.is_own) == ("new", True, True)
    assert bench.problems == []
    bench.close()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    """The next process tries again."""
    path = tmp_path / "km.db"
    monkeypatch.setattr("km_logging.outbox.database.MIGRATIONS", (*MIGRATIONS, "no such statement"))
    with pytest.raises(OutboxError):
        database(path)
    monkeypatch.undo()
    file = database(path)
    file.add_some([("a", NOW, 0)])
    file.close()
    assert in_file(path) == ["a"]


@pytest.mark.parametrize("name", ["a b?c#d%20e.db", "ü.db", "-x.db"])
def test_any_file_name_will_do(tmp_path, name):
    """Also what means something in a URI."""
    file = database(tmp_path / name)
    file.add_some([("a", NOW, 0)])
    assert (tmp_path / name).stat().st_size
    file.close()


def test_a_file_that_must_be_there_is_not_made(tmp_path):
    """A command that looks into an outbox leaves none behind."""
    with pytest.raises(OutboxError, match=r"there is no file .*: check the path"):
        database(tmp_path / "km.db", creates=False)
    assert list(tmp_path.iterdir()) == []


def test_no_number_is_given_twice(file):
    """Not even if the last call was deleted."""
    file.add_some([("a", NOW, 0), ("b", NOW, 0)])
    numbers = [row.number for row in file.rows()]
    file.delete(numbers)
    file.add_some([("c", NOW, 0)])
    assert file.rows()[0].number > max(numbers)


def test_calls_are_counted_read_and_deleted_however_many_there_are(file):
    """More than one statement takes; ``each`` reads on while others delete."""
    calls = [(f"{number}", NOW + number, number % 2) for number in range(3 * CHUNK + 1)]
    while calls:
        del calls[: file.add_some(calls)]
    assert [row.request for row in file.each()] == [f"{number}" for number in range(3 * CHUNK + 1)]
    rows = file.rows(limit=10)
    assert [row.accepted_at for row in file.rows(rows[1].number, 1)] == [NOW + 2]
    assert file.count_of(1) == 3 * CHUNK // 2
    assert file.last() == [row.number for row in file.each()][-1]
    assert file.size > 3 * CHUNK
    file.delete([row.number for row in file.each()][1:])
    assert (file.count(), file.rows()[0].request) == (1, "0")


def test_dead_calls_are_kept_apart_until_they_are_revived(file):
    """Then they are tried as if they were new: behind all others, accepted now, in nobody's books."""
    file.add_some([(name, NOW, 5) for name in "abc"])
    first, second, third = file.rows()
    file.bury([first.number, second.number])
    assert (file.count(), file.count(dead=True)) == (1, 2)
    assert [row.request for row in file.each(dead=True)] == ["a", "b"]
    assert [(row.request, row.is_dead) for row in file.each()] == [("a", 1), ("b", 1), ("c", 0)]
    assert file.revive(NOW + 9) == 2
    again = file.rows(third.number)
    assert [(row.request, row.accepted_at, row.origin, row.is_dead) for row in again] == [
        ("a", NOW + 9, 0, 0),
        ("b", NOW + 9, 0, 0),
    ]
    assert file.count(dead=True) == 0


def test_a_file_knows_its_key_but_does_not_hold_it(file, tmp_path):
    """The last one that it was opened with."""
    assert [file.is_key_known(key) for key in ["k3y-one", "k3y-one", "k3y-two", "k3y-two", "k3y-one"]] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert not any(b"k3y" in it.read_bytes() for it in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (sqlite3.OperationalError("database is locked"), "database is locked", "end it, or give the application"),
        (sqlite3.OperationalError("database or disk is full"), "database or disk is full", "free some space"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "readonly", "writable"),
        (sqlite3.OperationalError("unable to open database file"), "unable to open", "make the directory"),
        (sqlite3.DatabaseError("file is not a database"), "not a database", "move the file away"),
        (sqlite3.DatabaseError("something else"), "DatabaseError", "check the file and its directory"),
        (OSError(errno.ENOSPC, "No space left on device", "/secret"), "No space left on device", "free some space"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links"), "Too many levels", "symbolic link"),
        (OSError(), "OSError", "check the file and its directory"),
        (OutboxError("what is wrong", "what to do"), "what is wrong", "what to do"),
    ],
    ids=lambda it: str(it)[:30],
)
def test_every_fault_has_a_remedy(error, message, remedy):
    """And shows no more than what SQLite or the system says."""
    said = fault_of(error)
    assert message in said[0]
    assert remedy in said[1]
    assert "/secret" not in str(said)
