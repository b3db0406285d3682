"""The file in which a sandbox keeps its calls from one start to the next: SQLite, one row a call.

It holds what the store holds: a call is written before its request is answered, and deleted when the store forgets it.
One process uses it at a time, by SQLite's exclusive lock, which ends with the process, however that ends. What is
wrong at the start is an error for the caller; what fails later is said once, and the file is let alone from then on.
The store guards it by its lock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from km_logging.errors import OutboxError, SettingsError
from km_logging.outbox.database import FAULTS, checked, connected, fault_of
from km_logging.sandbox.checks import Received

__all__ = ["CallFile"]

#: "KmSb", so that neither this nor another program takes one's files for the other's.
APPLICATION_ID = 0x4B6D5362

#: `user_version` of the file.
VERSION = 1

#: How long to wait at the start for a sandbox that is just ending, in seconds.
PATIENCE = 1.0

#: AUTOINCREMENT remembers the last id when its call is long gone.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE calls (id INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class CallFile:
    """The calls in one file. Made if it is not there, for its owner only; never by way of a symbolic link.

    Args:
        path: of the file.
        say: takes the line that says why nothing is kept any more.

    Attributes:
        last_id: the highest id that a call had when it was opened, held or not; 0 before the first.

    Raises:
        SettingsError: it cannot be used; says what to do about it.
    """

    def __init__(self, path: str | os.PathLike[str], say: Callable[[str], object] | None = None) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - no link is followed
        self._say = say or _on_stderr
        self._connection: sqlite3.Connection | None = None
        try:
            self._open()
        except FAULTS as error:
            self.close()
            raise self._unusable(error) from error

    @property
    def name(self) -> str:
        """Name of the file, without its directory."""
        return os.path.basename(self._path)  # noqa: PTH119 - it is text

    @property
    def is_open(self) -> bool:
        """Whether calls are kept: neither closed nor given up."""
        return self._connection is not None

    def _open(self) -> None:
        found = checked(self._path, creates=True)
        self._identity = found.st_dev, found.st_ino
        self._connection = connected(self._path, PATIENCE)
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = self._checked_version()
        self._check_place()
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA secure_delete = ON")
        if not version:
            self._connection.executescript(_SCHEMA)
        self.last_id = self._number("SELECT seq FROM sqlite_sequence WHERE name = 'calls'")

    def _checked_version(self) -> int:
        """The version of the file's schema, 0 if it is empty; it is ours."""
        owner, version = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        tables = self._number("SELECT count(*) FROM sqlite_master")
        if owner != APPLICATION_ID and (owner or version or tables):
            raise OutboxError("it is another program's database, or an outbox", "choose another path")
        if version > VERSION:
            raise OutboxError("it was made by a newer version of km_logging", "upgrade km_logging, or choose another")
        return version

    def _check_place(self) -> None:
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            raise OutboxError("it was deleted or replaced", "start the sandbox again")

    def _number(self, query: str) -> int:
        assert self._connection is not None
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _unusable(self, error: BaseException) -> SettingsError:
        message, remedy = fault_of(error)
        if "locked" in message:
            message, remedy = "another sandbox or program uses it", "end that one, or choose another path"
        return SettingsError(f"the sandbox cannot keep calls in {self._path} ({message}): {remedy}")

    # At the start.

    def calls(self) -> Iterator[Received]:
        """All that it holds, oldest first.

        Raises:
            SettingsError: it is damaged.
        """
        assert self._connection is not None
        try:
            for number, text in self._connection.execute("SELECT id, call FROM calls ORDER BY id"):
                yield Received.from_dict({**json.loads(text), "id": number})
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            damaged = OutboxError("it is damaged", "move the file away: a new one is made at once")
            raise self._unusable(damaged) from error

    # While it runs.

    def add(self, call: Received, gone: int = 0) -> None:
        """Keep a call; those up to the id ``gone`` have made room for it."""
        text = json.dumps(call.as_dict(), separators=(",", ":"))
        self._change("INSERT INTO calls (id, call) VALUES (?, ?)", call.id, text)
        if gone:
            self.forget(gone)

    def forget(self, last: int) -> None:
        """Delete the calls up to this id."""
        self._change("DELETE FROM calls WHERE id <= ?", last)

    def clear(self) -> None:
        """Delete all calls, so that their bytes are gone from the disk as well; ids go on."""
        self._change("DELETE FROM calls")
        self._change("VACUUM")
        self._change("PRAGMA wal_checkpoint(TRUNCATE)")

    def _change(self, statement: str, *values: object) -> None:
        if self._connection is None:
            return
        try:
            self._check_place()
            self._connection.execute(statement, values)
        except FAULTS as error:
            self.close()
            message, remedy = fault_of(error)
            lost = f"calls are no longer kept in {self._path} ({message}), only in memory"
            self._say(f"km-logging sandbox: {lost}: {remedy}")

    def close(self) -> None:
        """Close it; nothing is kept from then on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _on_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
