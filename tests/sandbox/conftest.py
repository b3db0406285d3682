"""A running sandbox, shared by the tests of a module and emptied for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from km_logging.sandbox import Sandbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """A sandbox for the whole module, as the tests before left it."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """The module's sandbox, without calls."""
    running.store.clear()
    return running
