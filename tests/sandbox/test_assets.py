"""The pages and what they load."""

from __future__ import annotations

import re
from pathlib import Path

from km_logging import sandbox
from km_logging.sandbox.assets import MEDIA_TYPES, assets

PAGES = Path(sandbox.__file__).parent / "pages"


def test_each_file_of_the_folder_is_there_under_its_path() -> None:
    """Whatever else lies there is not served, and nothing from elsewhere is."""
    found = assets()
    assert {"/", "/builder", "/person"} <= set(found)
    assert {path.rpartition("/")[2] for path in found if path.startswith("/static/")} == {
        file.name for file in PAGES.iterdir() if file.suffix in MEDIA_TYPES and file.suffix != ".html"
    }
    assert found["/"].content == (PAGES / "live.html").read_bytes()


def test_each_is_text_in_utf_8() -> None:
    for path, (content, media_type) in assets().items():
        assert content.decode()
        assert media_type.endswith("; charset=utf-8"), path


def test_pages_load_only_what_is_there() -> None:
    """Nothing from another server, and no link that leads nowhere."""
    found = assets()
    for path, (content, _) in found.items():
        text = content.decode()
        loaded = re.findall(r"""(?:\bsrc|\bhref)=["']([^"']+)["']|url\(["']?([^"')]+)|from ["']([^"']+)["']""", text)
        for name in filter(None, (one or two or three for one, two, three in loaded)):
            if not name.startswith(("#", "data:")):
                target = name.partition("?")[0].partition("#")[0]
                assert (f"/static/{target[2:]}" if target.startswith("./") else target) in found, (path, name)
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", text.partition("<body")[0]), path
