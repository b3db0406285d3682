"""The file of a SQLite outbox: how it is made, checked and migrated, and the few statements that use it.

Every change is one statement in one C call, so nothing can come in between: no other thread, no signal handler, no
finaliser that logs. Errors are `FAULTS`; `fault_of` says each with its remedy.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b

from km_logging.addresses import OutboxAddress
from km_logging.deadline import Deadline
from km_logging.errors import OutboxError
from km_logging.outbox.election import is_won
from km_logging.outbox.store import Row

__all__ = ["FAULTS", "Database", "checked", "connected", "fault_of", "inherited"]

#: What an operation on a file may raise.
FAULTS = (sqlite3.Error, OSError, OutboxError)

#: "KmLo", so that `file` and other programs can tell whose database it is.
APPLICATION_ID = 0x4B6D4C6F

#: Step by step from an empty file to the newest schema; `user_version` says how many a file has had. Never changed,
#: only added to.
MIGRATIONS = (
    """CREATE TABLE calls (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        request TEXT NOT NULL,
        accepted_at REAL NOT NULL,
        origin INTEGER NOT NULL
    )""",
    "ALTER TABLE calls ADD COLUMN is_dead INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    # The numbers of two files shall not be taken for each other, when one is put in the other's place.
    """INSERT INTO sqlite_sequence (name, seq)
        SELECT 'calls', coalesce((SELECT max(number) FROM calls), 0) + (abs(random()) >> 15)""",
    # Of a file that was deleted, the next one may get the inode.
    "INSERT INTO facts VALUES ('serial', randomblob(16))",
)

#: Most parameters of a statement, in the most careful build of SQLite, is 999.
CHUNK = 240

#: A call takes this many pages at most, with the inner pages that it may split.
PAGES_OF_A_CALL = 6

#: Between two attempts to switch a new file to a write-ahead log, in seconds.
SWITCH_PAUSE = 0.002

_MIB = 1_048_576

#: Files that the parent of this process had open when it forked, by device and inode: SQLite's own notes of its locks
#: are wrong here, so that this process must not open them. `Outbox.before_fork` keeps this empty.
inherited: set[tuple[int, int]] = set()

#: Part of what SQLite or the system says, to what to do about it; the first that fits.
_REMEDIES = (
    ("locked", "another program holds the file for long: end it, or give the application a file of its own"),
    ("busy", "another program holds the file for long: end it, or give the application a file of its own"),
    ("full", "free some space"),
    ("No space", "free some space"),
    ("disk I/O error", "check the disk, and that nobody changes the file"),
    ("malformed", "move the file away: a new one is made at once"),
    ("not a database", "move the file away, or choose another path: a new one is made at once"),
    ("readonly", "make the file and its directory writable"),
    ("unable to open", "make the directory, and make it writable"),
    ("No such file", "make the directory, and make it writable"),
    ("Permission", "make the file and its directory writable for this user"),
    ("Too many levels", "the file may not be a symbolic link: name the file itself"),
)


class Database:
    """One connection to the file.

    Args:
        address: path, bound and synchronisation.
        creates: whether to make the file if it is not there.
        patience: how long to wait while another process writes, in seconds.

    Raises:
        OutboxError: it cannot be used; says what to do about it. The methods raise any of `FAULTS`.
    """

    def __init__(self, address: OutboxAddress, *, creates: bool, patience: float) -> None:
        try:
            self._open(address, creates=creates, patience=patience)
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(*fault_of(error)) from error

    def _open(self, address: OutboxAddress, *, creates: bool, patience: float) -> None:
        self._path = address.path
        found = checked(address.path, creates=creates)
        self.identity = found.st_dev, found.st_ino
        self.mode = stat.S_IMODE(found.st_mode)
        if self.identity in inherited:
            raise OutboxError("this process was forked while the file was in use", "fork before the first call")
        self._connection = connected(address.path, patience)
        try:
            self._check_owner(is_made=not creates)
            self._prepare(address, Deadline(patience))
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, address: OutboxAddress, deadline: Deadline) -> None:
        if not self.is_there():
            raise OutboxError("the file was replaced while it was opened", "it is tried again")
        self._write_ahead(deadline)
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if address.is_synced else 'NORMAL'}")
        self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.execute(f"PRAGMA journal_size_limit = {4 * _MIB}")
        if self._number("PRAGMA user_version") < len(MIGRATIONS):
            self._migrate()
        found = self._connection.execute("SELECT value FROM facts WHERE name = 'serial'").fetchone()
        self.serial = *self.identity, bytes(found[0])
        self._most_pages = address.max_mb * _MIB // self._number("PRAGMA page_size")
        # Not below what there is: SQLite refuses that, silently.
        self._connection.execute(f"PRAGMA max_page_count = {self._most_pages}")

    def _write_ahead(self, deadline: Deadline) -> None:
        """Switch to a write-ahead log. Where several processes do so at once, SQLite does not wait by itself."""
        while not self._is_write_ahead(may_fail=deadline.left > 0):
            time.sleep(SWITCH_PAUSE)

    def _is_write_ahead(self, *, may_fail: bool) -> bool:
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if may_fail and "locked" in str(error):
                return False
            raise
        return True

    def _check_owner(self, *, is_made: bool) -> None:
        tables, version = self._number("SELECT count(*) FROM sqlite_master"), self._number("PRAGMA user_version")
        # Last: another process may be making the file right now, all in one transaction.
        owner = self._number("PRAGMA application_id")
        if owner != APPLICATION_ID and (owner or version or tables):
            raise OutboxError("the file is a database of another program", "choose another path")
        if owner != APPLICATION_ID and is_made:
            raise OutboxError("the file is empty", "check the path: the application makes an outbox of it")
        if version > len(MIGRATIONS):
            message = f"the file was made by a newer version of km_logging (its schema is {version})"
            raise OutboxError(message, "upgrade km_logging, or choose another path")

    def _migrate(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
        try:
            for number, step in enumerate(MIGRATIONS, start=1):
                if self._number("PRAGMA user_version") < number:
                    self._connection.execute(step)
                    self._connection.execute(f"PRAGMA user_version = {number}")
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _number(self, query: str, *values: object) -> int:
        return int(self._connection.execute(query, values).fetchone()[0] or 0)

    # What an outbox does.

    def add_some(self, calls: Sequence[tuple[str, float, int]]) -> int:
        """Commit the first of some calls (request, accepted_at, origin), as many as one statement takes.

        Returns:
            How many were committed; none if there is no room for any.
        """
        calls = calls[:CHUNK]
        values = ", ".join(["(?, ?, ?)"] * len(calls))
        statement = f"INSERT INTO calls (request, accepted_at, origin) VALUES {values}"  # noqa: S608 - only marks
        try:
            self._connection.execute(statement, [item for call in calls for item in call])
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            if len(calls) > 1:  # there may be room for less
                return self.add_some(calls[: len(calls) // 2])
            if not self.is_full():
                raise
            return 0
        return len(calls)

    def is_full(self) -> bool:
        """Whether the file is as large as it may be, with no room for another call in it."""
        used = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return used + PAGES_OF_A_CALL >= self._most_pages

    def rows(self, after: int = -1, limit: int = -1, *, dead: bool | None = False) -> list[Row]:
        """Calls with a higher number than ``after``, in order: living ones, dead ones, or with None all."""
        which = "" if dead is None else f"AND is_dead = {int(dead)} "
        columns = "number, request, accepted_at, origin, is_dead"
        query = f"SELECT {columns} FROM calls WHERE number > ? {which}ORDER BY number LIMIT ?"  # noqa: S608 - fixed parts
        return list(map(Row._make, self._connection.execute(query, (after, limit))))

    def delete(self, numbers: Sequence[int]) -> None:
        """Forget calls."""
        self._change("DELETE FROM calls WHERE number IN", numbers)

    def bury(self, numbers: Sequence[int]) -> None:
        """Mark calls as dead."""
        self._change("UPDATE calls SET is_dead = 1, origin = 0 WHERE number IN", numbers)

    def _change(self, statement: str, numbers: Sequence[int]) -> None:
        for begin in range(0, len(numbers), CHUNK):
            chunk = numbers[begin : begin + CHUNK]
            self._connection.execute(f"{statement} ({', '.join('?' * len(chunk))})", chunk)

    def is_there(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.identity

    def is_key_known(self, api_key: str) -> bool:
        """Whether the file was opened with this key before, or with none yet; from now on this one is the known one.

        It keeps 32 bits of a salted hash, which many keys have: nobody can find the key by it.
        """
        known = dict(self._connection.execute("SELECT name, value FROM facts WHERE name IN ('salt', 'key')"))
        salt = known.get("salt") or os.urandom(16)
        mark = blake2b(api_key.encode(), digest_size=4, salt=salt).digest()
        if known.get("key") == mark:
            return True
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('salt', ?), ('key', ?)", (salt, mark))
        return "key" not in known

    def close(self) -> None:
        """Close the connection; the last one of all takes SQLite's own files away."""
        with suppress(sqlite3.Error):
            self._connection.close()

    # What people do.

    def count(self, *, dead: bool = False) -> int:
        """How many calls there are: living or dead ones."""
        return self._number("SELECT count(*) FROM calls WHERE is_dead = ?", dead)

    def count_of(self, origin: int) -> int:
        """How many calls there are that an outbox answers for."""
        return self._number("SELECT count(*) FROM calls WHERE origin = ?", origin)

    def last(self) -> int:
        """The highest number that there is."""
        return self._number("SELECT max(number) FROM calls")

    @property
    def size(self) -> int:
        """Size of the file in bytes, without what SQLite keeps beside it."""
        return self._number("PRAGMA page_count") * self._number("PRAGMA page_size")

    @property
    def is_delivered(self) -> bool:
        """Whether any process delivers from the file just now."""
        return is_won(self._path)

    def each(self, *, dead: bool | None = None) -> Iterator[Row]:
        """All calls in order, a few at a time; ``dead`` as for `rows`."""
        after = -1
        while rows := self.rows(after, CHUNK, dead=dead):
            yield from rows
            after = rows[-1].number

    def revive(self, now: float) -> int:
        """Have dead calls tried again, as if they were accepted now; returns how many."""
        # They get new numbers: the process that delivers has come past the old ones.
        query = "INSERT INTO calls (request, accepted_at, origin) SELECT request, ?, 0 FROM calls WHERE is_dead"
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute(query, (now,))
            revived = self._connection.execute("DELETE FROM calls WHERE is_dead").rowcount
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        return revived

    def purge(self, numbers: Sequence[int]) -> None:
        """Forget calls so that their bytes are gone from the disk as well, with all that was deleted before.

        Raises:
            OutboxError: they are forgotten, but another process is reading, so that bytes are still there.
        """
        self.delete(numbers)
        self._connection.execute("VACUUM")
        if self._number("PRAGMA wal_checkpoint(TRUNCATE)"):
            raise OutboxError("the calls are forgotten, but another process is reading the file", "purge once more")


def fault_of(error: BaseException) -> tuple[str, str]:
    """What an error of a file means, and what to do about it. Shows no text of SQLite's that is not known."""
    if isinstance(error, OutboxError):
        return error.message, error.remedy
    text = (error.strerror or "") if isinstance(error, OSError) else str(error)
    part, remedy = next((row for row in _REMEDIES if row[0] in text), ("", "check the file and its directory"))
    return text if part else type(error).__name__, remedy


def _text(raw: bytes) -> str:
    """A text of a damaged file is no reason to stop at it."""
    return raw.decode("utf-8", "replace")


def connected(path: str, patience: float) -> sqlite3.Connection:
    """A connection, for any thread, to a file that is `checked`; each statement is a transaction of its own.

    Args:
        path: of the file.
        patience: how long to wait while another process writes, in seconds.
    """
    uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    return connection


def checked(path: str, *, creates: bool) -> os.stat_result:
    """The file: made if it is not there, for its owner only; never by way of a symbolic link."""
    if creates:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise OutboxError(f"there is no file {path}", "check the path: it is made by the application") from None
    if stat.S_ISLNK(found.st_mode):
        raise OutboxError(f"{path} is a symbolic link", "name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise OutboxError(f"{path} is no file", "choose another path")
    if found.st_mode & 0o007:
        raise OutboxError(f"{path} can be read or written by everybody", f"chmod o-rwx {path}")
    return found
