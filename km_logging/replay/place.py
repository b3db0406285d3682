"""The place in a file up to which every call was delivered, kept beside it, so that a replay can go on there.

A place is written only once nothing before it can be lost any more, so that a process that is killed at any moment
repeats some calls, and leaves none out. Kissmetrics counts a repeated call once.

It counts for the same file and the same job only: for others, a replay begins at the beginning, which costs time but
nothing else. The file holds neither calls nor the key, and is for its owner only. No file but one of ours is ever
replaced or removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from km_logging.queueing import Mark
from km_logging.replay.source import HEAD

__all__ = ["Place", "PlaceFile", "Places"]

VERSION = 1

#: By this member a file of ours is known; none of them is longer than so many bytes.
_SIGN = "km-logging replay"
_LONGEST = 4_096

#: How often a place is marked, in seconds, and how many marks there may be.
MARK_EVERY = 0.2
MOST_MARKS = 50


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two lines.

    Attributes:
        lines: how many stand before it.
        bytes: how many bytes these take, after decompression.
    """

    lines: int = 0
    bytes: int = 0


class PlaceFile:
    """Keeps the place of one file and job.

    Args:
        path: where; a place that is there is replaced by each write.
        job: what is done with the file; may hold secrets.
        is_fixed: only look, and write nothing.
    """

    def __init__(self, path: Path, job: str, *, is_fixed: bool = False) -> None:
        self.path = path
        self._job = job
        self._is_fixed = is_fixed
        self._salt = secrets.token_hex(8)
        self._head = b""

    def find(self, head: Callable[[int], bytes]) -> Place | str:
        """The place to go on from, or why there is none.

        Args:
            head: says the first bytes of the file, as many as it is asked for.
        """
        try:
            kept: dict[str, Any] = json.loads(self.path.read_bytes())
            place = Place(abs(int(kept["lines"])), abs(int(kept["bytes"])))
            is_same_file = kept["head"] == _digest(head(min(int(kept["head_bytes"]), HEAD)))
            is_same_job = kept["job"] == _mark(kept["salt"], self._job)
        except FileNotFoundError:
            return f"there is no {self.path} yet"
        except OSError as error:
            return f"{self.path} cannot be read ({error.strerror})"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return f"{self.path} holds no place"
        if not is_same_file:
            return f"{self.path} is of another file"
        return place if is_same_job else f"{self.path} is of a replay with other options"

    def objection(self) -> str | None:
        """Why nothing may be kept here, since something else is; None if there is nothing, or a place."""
        if _is_taken(self.path, _holds_place):
            return f"{self.path} is there, and is no place of a replay"
        # A process that was killed may have left it empty.
        if _is_taken(self._fresh, lambda content: not content or _holds_place(content)):
            return f"{self._fresh}, which would be written first, is there, and is no place of a replay"
        return None

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(f"{self.path.name}.new")

    def begin(self, head: bytes) -> None:
        """From now on, places in the file that begins with these bytes are kept."""
        self._head = head[:HEAD]

    def write(self, place: Place) -> None:
        """Keep a place; raises OSError if that is impossible, or would cost another file."""
        if self._is_fixed:
            return
        if self.objection():
            raise FileExistsError(errno.EEXIST, "another file is there")
        kept = {
            _SIGN: VERSION,
            "lines": place.lines,
            "bytes": place.bytes,
            "head": _digest(self._head),
            "head_bytes": len(self._head),
            "salt": self._salt,
            "job": _mark(self._salt, self._job),
        }
        fresh = self._fresh
        fresh.unlink(missing_ok=True)  # of a process that was killed
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(kept) + "\n")
            fresh.replace(self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """There is nothing to go on with; what is no place stays."""
        if not self._is_fixed and not self.objection():
            self.path.unlink(missing_ok=True)


class Places:
    """Places that are marked, until nothing before them can be lost any more.

    Args:
        mark: makes a mark behind everything that was put.
    """

    def __init__(self, mark: Callable[[], Mark]) -> None:
        self._mark = mark
        self._marks: deque[tuple[Mark, PlaceFile, Place]] = deque()
        self._last: tuple[PlaceFile, Place] | None = None
        self._marked_at = -math.inf
        self._forgotten: list[PlaceFile] = []

    def reached(self, kept: PlaceFile | None, place: Place) -> None:
        """Everything before a place was put; now and then, one is marked."""
        if kept is None or kept in self._forgotten:
            return
        self._last = kept, place
        if time.monotonic() - self._marked_at >= MARK_EVERY and len(self._marks) < MOST_MARKS:
            self.mark()

    def mark(self) -> None:
        """Mark the last place that was reached."""
        if self._last is not None:
            self._marks.append((self._mark(), *self._last))
            self._last, self._marked_at = None, time.monotonic()

    def settled(self) -> list[tuple[PlaceFile, Place]]:
        """The last place of each file that can be kept now."""
        done: dict[int, tuple[PlaceFile, Place]] = {}
        while self._marks and self._marks[0][0].done.is_set():
            _, kept, place = self._marks.popleft()
            done[id(kept)] = kept, place
        return list(done.values())

    def forget(self, kept: PlaceFile) -> None:
        """This one cannot be kept."""
        self._forgotten.append(kept)
        self._marks = deque(mark for mark in self._marks if mark[1] is not kept)
        self._last = None


def _is_taken(path: Path, is_ours: Callable[[bytes], bool]) -> bool:
    """Whether a file is there that is none of ours; raises no OSError: where one cannot look, one cannot write."""
    try:
        is_regular = stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
    with suppress(OSError):
        if is_regular:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                return not is_ours(file.read(_LONGEST))
    return True


def _holds_place(content: bytes) -> bool:
    try:
        kept = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return type(kept) is dict and _SIGN in kept


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


def _mark(salt: str, job: str) -> str:
    """32 bits of a salted hash, which many jobs have: nobody can find a key by it."""
    return hashlib.blake2b(job.encode("utf-8", "surrogatepass"), digest_size=4, salt=bytes.fromhex(salt)).hexdigest()
