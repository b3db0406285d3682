"""The pages and what they load: the files of the folder ``pages``, read once, each under one path and no other.

A path that is not in the table is not found, whatever it is made of.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

__all__ = ["Asset", "assets", "wants_html"]

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


def wants_html(accept: str) -> bool:
    """Whether a client asks for HTML by name, and at least as much as for plain text: browsers do, curl does not.

    >>> wants_html("text/html,application/xhtml+xml,*/*;q=0.8"), wants_html("*/*"), wants_html("text/html;q=0")
    (True, False, False)
    """
    wishes = dict(_wish(part) for part in accept.split(","))
    return wishes.get("text/html", 0) > 0 and wishes["text/html"] >= wishes.get("text/plain", 0)


def _wish(part: str) -> tuple[str, float]:
    """A media type and its weight; 0 where it is no number."""
    name, *parameters = (it.strip().lower() for it in part.split(";"))
    weights = [it.removeprefix("q=") for it in parameters if it.startswith("q=")]
    try:
        return name, float(weights[0]) if weights else 1
    except ValueError:
        return name, 0
