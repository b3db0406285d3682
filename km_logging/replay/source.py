"""Where lines come from: a file or a stream, plain or gzip, in blocks of whole lines. Memory does not grow with it.

All offsets are in bytes after decompression, so that a log that was rotated and compressed meanwhile is still the same.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["FAULTS", "HEAD", "Block", "Source"]

#: How much is read at once, in bytes.
CHUNK = 262_144

#: A longer line is passed over, whatever stands in it, in bytes.
LONGEST_LINE = 1_048_576

#: By so many of its first bytes one file is told from another.
HEAD = 4_096

#: How much of it is looked at twice, so that nothing is cut in two, in bytes.
_SEAM = 1_024

#: What may be wrong in the middle of a file.
FAULTS = (OSError, EOFError, zlib.error)

#: Of the magic bytes the first, with which no text begins; a pipe may give no more at first.
_GZIP = b"\x1f"


class Block(NamedTuple):
    """Some lines.

    Attributes:
        text: whole lines; only the last one of a file may lack its end.
        skipped: bytes of a line before them that is too long; 0 if there is none.
        is_wanted: whether something that is looked for stands in that line.
    """

    text: bytes
    skipped: int = 0
    is_wanted: bool = False


class Source:
    """Reads one file or stream, from its beginning or from an offset.

    Args:
        file: opened for reading; gzip is recognised by itself.
        name: for messages.
        during: calls what it is given, which may wait for more; it may break that off by an exception.
    """

    def __init__(
        self,
        file: io.BufferedReader,
        name: str,
        during: Callable[[Callable[[], bytes]], bytes] = lambda read: read(),
    ) -> None:
        self.name = name
        self._file = file
        self._during = during
        self._bytes: io.BufferedReader | gzip.GzipFile | None = None  # opened with the first read
        self._ahead = b""

    def _opened(self) -> io.BufferedReader | gzip.GzipFile:
        if self._bytes is None:
            is_gzip = self._during(lambda: self._file.peek(1))[:1] == _GZIP
            self._bytes = gzip.GzipFile(fileobj=self._file) if is_gzip else self._file
        return self._bytes

    @property
    def size(self) -> int | None:
        """Bytes on disk; None of a stream."""
        return os.fstat(self._file.fileno()).st_size if self._file.seekable() else None

    @property
    def done(self) -> int:
        """How many of these bytes were read."""
        return self._file.tell() if self._file.seekable() else 0

    def head(self, most: int = HEAD) -> bytes:
        """The first bytes, before anything else is read: so many, or if there are fewer, all."""
        while len(self._ahead) < most and (chunk := self._read()):
            self._ahead += chunk
        return self._ahead[:most]

    def first(self) -> bytes:
        """As `head`, but only what there is without waiting for more."""
        self._ahead = self._ahead or self._read()
        return self._ahead[:HEAD]

    def skip(self, count: int) -> bool:
        """Pass over so many bytes; false if there are not so many, and then everything is still to be read.

        A stream cannot be read again: of one that is shorter, nothing is left.
        """
        if self._file.seekable() and self._opened() is self._file:
            is_there = count <= (self.size or 0)
            self._ahead = b""
            self._file.seek(count if is_there else 0)
            return is_there
        while count and (chunk := self._ahead or self._read()):
            self._ahead = chunk[count:]
            count -= len(chunk) - len(self._ahead)
        if count and self._file.seekable():
            self._file.seek(0)
            self._bytes, self._ahead = None, b""
        return not count

    def blocks(self, wanted: Callable[[bytes], object] = lambda _: False) -> Iterator[Block]:
        """Yield the lines, as soon as they are there; ``wanted`` looks at what is passed over, part by part."""
        rest, skipped, is_wanted = b"", 0, False
        seam = b""  # the end of the last part that was passed over
        while chunk := self._ahead or self._read():
            self._ahead = b""
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                if len(rest) > LONGEST_LINE or skipped:
                    is_wanted = is_wanted or bool(wanted(seam + rest))
                    seam, rest, skipped = rest[-_SEAM:], b"", skipped + len(rest)
                continue
            text, rest = rest + chunk[:cut], chunk[cut:]
            if skipped or text.find(b"\n") > LONGEST_LINE:
                after = text.find(b"\n") + 1
                is_wanted = is_wanted or bool(wanted(seam + text[:after]))
                text, skipped = text[after:], skipped + after
            yield Block(text, skipped, is_wanted)
            skipped, is_wanted, seam = 0, False, b""
        if rest or skipped:
            yield Block(rest, skipped, is_wanted)

    def _read(self) -> bytes:
        stream = self._opened()
        return self._during(lambda: stream.read1(CHUNK))
