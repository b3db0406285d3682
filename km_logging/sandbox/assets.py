"""The pages and what they load: the files of the folder ``pages``, read once, each under one path and no other.

A path that is not in the table is not found, whatever it is made of.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

__all__ = ["Asset", "assets"]

#: Which files are served, and as what.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}

#: The pages; every other file is under ``/static/``.
_PATHS = {"live.html": "/", "builder.html": "/builder", "person.html": "/person"}


class Asset(NamedTuple):
    """One file.

    Attributes:
        content: its bytes.
        media_type: what to say that it is.
    """

    content: bytes
    media_type: str


def assets() -> dict[str, Asset]:
    """All of them, by their paths."""
    return {
        _PATHS.get(file.name, f"/static/{file.name}"): Asset(file.read_bytes(), MEDIA_TYPES[suffix])
        for file in (files("km_logging.sandbox") / "pages").iterdir()
        if (suffix := PurePath(file.name).suffix) in MEDIA_TYPES
    }
