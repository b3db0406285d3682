"""Each example runs by the command in its first lines, against a real sandbox, and what it tags arrives soundly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from km_logging.sandbox.server import Sandbox

EXAMPLES = Path(__file__).parent.parent / "examples"

#: What each script tells: (kind, person, name or identity).
TOLD = {
    "with_logging.py": [
        ("event", "bob", "Signed Up"),
        ("set", "bob", None),
        ("alias", "bob", "bob@bob.com"),
        ("event", "bob", "Order %s placed"),
    ],
    "with_structlog.py": [("event", "ann", "Signed Up"), ("event", "ann", "Ordered"), ("set", "bob", None)],
    "with_both.py": [("event", "bob", "Signed Up"), ("event", "bob", "Invoice paid")],
    "bare_tracker.py": [("event", "bob", "Subscribed"), ("set", "bob", None), ("alias", "bob", "bob@bob.com")],
}


def test_every_example_is_listed_here() -> None:
    assert set(TOLD) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", TOLD)
def test_example(name: str) -> None:
    script = EXAMPLES / name
    head = script.read_text("utf-8").partition('"""')[2].partition('"""')[0]
    command = re.search(
        rf"^    KM_API_KEY=any KM_ENDPOINT=\S+ python (examples/{re.escape(name)})$", head, re.MULTILINE
    )
    assert command is not None, "the command stands in the first lines"
    with Sandbox() as sandbox:
        environ = {**os.environ, "KM_API_KEY": "any", "KM_ENDPOINT": sandbox.endpoint}
        done = subprocess.run(
            [sys.executable, command[1]], cwd=EXAMPLES.parent, env=environ, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        received = sandbox.wait(len(TOLD[name]), 10)
    key = lambda told: tuple(map(str, told))  # noqa: E731 - None does not sort
    told = [(call.kind, call.person, call.name or call.identity) for call in received]
    assert sorted(told, key=key) == sorted(TOLD[name], key=key)
    assert [call.problems for call in received] == [()] * len(received)
    assert all("request_id" not in call.properties for call in received), "bound context is not sent"
