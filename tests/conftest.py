"""Fixtures for all tests: a real tracking server, and a clean slate of loggers and trackers after each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

from support.redis_server import RedisServer
from support.servers import TrackingServer

pytest_plugins = ["pytester", "km_logging.pytest_plugin"]

# In CI the examples are the same every time: what fails there fails here as well, and is looked for elsewhere.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    """A tracking server that answers 200 and the GIF."""
    with TrackingServer() as server:
        yield server


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """A Redis server with nothing in it; it keeps nothing on disk, and is not to be killed."""
    _redis_server.let_write()
    with _redis_server.client() as client:
        client.flushall()
    return _redis_server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("KM_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A logger of this test's own, at DEBUG; its handlers are closed and taken off at the end."""
    logger = logging.getLogger(f"test.{request.node.name}")
    logger.setLevel(logging.DEBUG)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
