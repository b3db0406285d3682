"""The file that a command writes: for its owner only, and there as a whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

__all__ = ["output"]


@contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """A text file to write; one that is there already stays as it is until the other is complete.

    Args:
        path: of the file; links are followed. None is stdout. What is no file, such as a pipe or a device, is written
            as it is, and so is the file to which stdout leads.

    Raises:
        OSError: it cannot be written; names the path.
    """
    if path is None or _is_stdout(Path(path)):
        yield sys.stdout
    elif Path(path).exists() and not Path(path).is_file():
        with Path(path).open("w", encoding="utf-8") as file:
            yield file
    else:
        with _replacing(Path(os.path.realpath(path)), path) as file:
            yield file


def _is_stdout(path: Path) -> bool:
    """Also by another name, such as ``/dev/stdout``, or that of the file to which a shell leads it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # there is no such file yet, or stdout is none
        return False


@contextmanager
def _replacing(target: Path, named: str) -> Iterator[TextIO]:
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=".km-logging-", dir=target.parent)  # 0600
    except OSError as error:
        raise OSError(error.errno, error.strerror, named) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(descriptor)  # else a power cut could leave an empty file under the name
        Path(fresh).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(fresh).unlink()
        raise
