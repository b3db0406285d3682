"""A place is kept for the same file and job, by whole writes, and tells nothing to anybody else."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable

import pytest

from km_logging.replay import Place, PlaceFile

HEAD = b'{"event": "started"}\n' * 10
PLACE = Place(lines=3, bytes=63)


def head_of(head: bytes) -> Callable[[int], bytes]:
    return lambda most: head[:most]


@pytest.fixture
def kept(tmp_path) -> PlaceFile:
    kept = PlaceFile(tmp_path / "app.log.km-replay", "job with a secret-key")
    kept.begin(HEAD)
    kept.write(PLACE)
    return kept


def another(kept: PlaceFile, job: str = "job with a secret-key") -> PlaceFile:
    return PlaceFile(kept.path, job)


def test_it_is_found_again_by_another_process(kept):
    assert another(kept).find(head_of(HEAD)) == PLACE
    assert another(kept).find(head_of(HEAD + b"more lines\n" * 1_000)) == PLACE, "the file may have grown"


def test_it_is_not_found_for_another_file_or_job(kept):
    assert "of another file" in str(another(kept).find(head_of(b"x" + HEAD)))
    assert "of another file" in str(another(kept).find(head_of(HEAD[:-1])))
    assert "other options" in str(another(kept, "job with another secret-key").find(head_of(HEAD)))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"lines": 1, "bytes": "x"}',
        '{"lines": 1, "bytes": 2, "head": 3, "head_bytes": null}',
    ],
)
def test_a_file_that_holds_none_says_so(kept, content):
    kept.path.write_text(content)
    assert "holds no place" in str(another(kept).find(head_of(HEAD)))


def test_where_there_is_none_that_is_said(kept):
    kept.remove()
    kept.remove()
    assert "there is no" in str(another(kept).find(head_of(HEAD)))


def test_it_is_its_owners_and_holds_no_secret(kept):
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert "secret" not in kept.path.read_text()
    assert set(json.loads(kept.path.read_text())) >= {"lines", "bytes"}


def test_it_is_replaced_whole(kept, tmp_path):
    fresh = kept.path.with_name(f"{kept.path.name}.new")
    for left in ("", kept.path.read_text()):
        fresh.write_text(left)  # by a process that was killed
        kept.write(Place(9, 99))
        assert another(kept).find(head_of(HEAD)) == Place(9, 99)
        assert [path.name for path in tmp_path.iterdir()] == ["app.log.km-replay"]


@pytest.mark.parametrize("end", ["", ".new"])
@pytest.mark.parametrize("content", ["mine", "{}", '["km-logging replay"]', '{"km": "event"}\n', "link", "directory"])
def test_what_is_no_place_is_neither_replaced_nor_removed_nor_followed(content, end, kept, tmp_path):
    path = kept.path.with_name(f"{kept.path.name}{end}")
    path.unlink(missing_ok=True)
    other = tmp_path / "other"
    other.write_text("other")
    if content == "directory":
        path.mkdir()
    elif content == "link":
        path.symlink_to(other)
    else:
        path.write_text(content)
    before = path.lstat()
    assert str(path) in kept.objection()
    with pytest.raises(FileExistsError):
        kept.write(PLACE)
    kept.remove()
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert other.read_text() == "other"


def test_a_device_is_no_place_and_stays(tmp_path):
    """Of a pipe, which is as little a file, nobody waits for the other end."""
    os.mkfifo(tmp_path / "pipe")
    kept = PlaceFile(tmp_path / "pipe", "job")
    assert "is no place" in kept.objection()
    kept.remove()
    assert kept.path.is_fifo()


def test_one_that_only_looks_changes_nothing(kept):
    looking = PlaceFile(kept.path, "job with a secret-key", is_fixed=True)
    assert looking.find(head_of(HEAD)) == PLACE
    looking.write(Place(9, 9))
    looking.remove()
    assert another(kept).find(head_of(HEAD)) == PLACE
