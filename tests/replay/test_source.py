"""Lines come from files and streams, plain or gzip, in blocks, from any offset; memory does not grow with them."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from km_logging.replay import Source
from km_logging.replay.source import CHUNK, HEAD, LONGEST_LINE

LINES = [f'{{"number": {number}}}\n'.encode() for number in range(50_000)]
TEXT = b"".join(LINES)


@pytest.fixture
def source_of(tmp_path: Path) -> Iterator[Callable[[bytes], Source]]:
    """Makes sources of a file with this content."""
    with ExitStack() as files:

        def make(content: bytes = TEXT) -> Source:
            (tmp_path / "app.log").write_bytes(content)
            return Source(files.enter_context((tmp_path / "app.log").open("rb")), "app.log")

        yield make


def text_of(source: Source) -> bytes:
    return b"".join(block.text for block in source.blocks())


@pytest.fixture(params=["plain", "gzip", "gzip in two members"])
def content(request: pytest.FixtureRequest) -> bytes:
    half = len(TEXT) // 2
    if request.param == "plain":
        return TEXT
    return (
        gzip.compress(TEXT[:half], 1) + gzip.compress(TEXT[half:], 1) if "two" in request.param else gzip.compress(TEXT)
    )


def test_blocks_hold_whole_lines_and_all_of_them(source_of, content):
    """None of them is much larger than what is read at once."""
    blocks = list(source_of(content).blocks())
    assert b"".join(block.text for block in blocks) == TEXT
    assert all(block.text.endswith(b"\n") and not block.skipped for block in blocks)
    assert len(blocks) > 1
    assert max(len(block.text) for block in blocks) < CHUNK + 100


def test_it_goes_on_at_any_offset(source_of, content):
    """After decompression; the first bytes can be looked at before."""
    for offset in (0, 1, 1_000, HEAD, CHUNK, len(TEXT) - 7, len(TEXT)):
        source = source_of(content)
        assert source.head() == TEXT[:HEAD]
        assert source.first() == TEXT[:HEAD]
        assert source.skip(offset)
        assert text_of(source) == TEXT[offset:]


def test_of_a_file_that_has_become_shorter_everything_is_still_to_be_read(source_of, content):
    source = source_of(content)
    assert not source.skip(len(TEXT) + 1)
    assert text_of(source) == TEXT


def test_progress_is_in_bytes_on_disk(source_of, content):
    source = source_of(content)
    assert (source.size, source.done) == (len(content), 0)
    text_of(source)
    assert source.done == len(content)


def test_a_stream_has_no_size_and_gives_lines_as_they_come():
    """Nothing waits for more than there is: a log that is still being written may be piped."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        source = Source(stream, "stdin")
        assert (source.size, source.done) == (None, 0)
        pipe.write(b"one\ntw")
        assert source.first() == b"one\ntw"
        blocks = source.blocks()
        assert next(blocks).text == b"one\n"
        pipe.write(b"o\n")
        assert next(blocks).text == b"two\n"
        pipe.close()
        assert list(blocks) == []


def test_a_gzip_stream_is_recognised_by_its_first_byte():
    """A pipe may give no more than that at first."""
    reading, writing = os.pipe()
    content = gzip.compress(b"one\ntwo\n")

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.writelines(bytes([byte]) for byte in content)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as stream:
        assert text_of(Source(stream, "stdin")) == b"one\ntwo\n"
    thread.join()


def test_of_a_stream_that_is_shorter_nothing_is_left():
    reading, writing = os.pipe()
    os.write(writing, b"one\n")
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        source = Source(stream, "stdin")
        assert not source.skip(5)
        assert text_of(source) == b""


def test_the_end_of_the_last_line_may_be_missing(source_of):
    blocks = list(source_of(b"one\ntwo").blocks())
    assert [block.text for block in blocks] == [b"one\n", b"two"]


@pytest.mark.parametrize("length", [LONGEST_LINE + CHUNK, 5 * LONGEST_LINE])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nafter\n"], ids=["cut off", "last", "followed"])
@pytest.mark.parametrize("before", [b"", b"before\n"], ids=["first", "after one"])
def test_a_line_that_is_too_long_is_passed_over_with_its_bytes(source_of, length, end, before):
    """However long it is, it is never held; offsets still count it."""
    blocks = list(source_of(before + b"x" * length + end).blocks())
    assert b"".join(block.text for block in blocks) == before + end[1:]
    assert sum(block.skipped for block in blocks) == length + bool(end)
    assert sum(block.skipped > 0 for block in blocks) == 1


@given(
    lines=st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=30),
    offset=st.integers(0, 200),
)
def test_any_bytes_come_through(lines, offset):
    """Plain and gzip alike, from any offset that is there."""
    text = b"".join(line + b"\n" for line in lines)
    for content in (text, gzip.compress(text)):
        if content[:1] == b"\x1f" and content is text:
            continue  # no text begins so
        source = Source(io.BufferedReader(_Unseekable(content)), "stdin")
        expected = text[offset:] if offset <= len(text) else b""
        assert source.skip(offset) == (offset <= len(text))
        assert text_of(source) == expected


class _Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("before", [0, 10, 1_000_000, 1_048_576, 1_048_577, 2_000_000])
def test_what_is_looked_for_is_found_in_a_line_that_is_too_long(before, tmp_path):
    """Wherever it stands, also where one part that is read ends and the next one begins."""
    for shift in range(6):
        path = tmp_path / "app.log"
        path.write_bytes(b"x" * (before + shift) + b"needle" + b"x" * 1_100_000 + b"\nneedle\n")
        with path.open("rb") as file:
            blocks = list(Source(file, "app.log").blocks(lambda part: b"needle" in part))
        assert [block.is_wanted for block in blocks if block.skipped] == [True]
