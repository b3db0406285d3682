"""The examples' applications, copied for each test, a sandbox for what they track, and a broker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from km_logging.sandbox import Sandbox
from support.redis_server import RedisServer
from support.web import EXAMPLES, READY


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the example that the module is about."""
    folder = shutil.copytree(EXAMPLES / request.module.EXAMPLE, tmp_path / "shop")
    (folder / "gunicorn.conf.py").write_text(READY)
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis server of this test's own."""
    with RedisServer(tmp_path) as server:
        yield server.address
