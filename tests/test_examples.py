"""Each example runs by the command in its first lines, against a real sandbox, and what it tags arrives soundly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from km_logging.sandbox import Sandbox
from support.pytests import PLUGIN

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
    "with_pools.py": [("event", person, "Scored") for person in ("ann", "bob", "cem", "dan")],
    "with_asyncio.py": [("event", person, name) for person in ("ann", "bob") for name in ("Came", "Looked", "Looked")],
    "with_lambda.py": [("event", "bob", "Order placed")],
    "bare_tracker.py": [("event", "bob", "Subscribed"), ("set", "bob", None), ("alias", "bob", "bob@bob.com")],
}


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's folder."""
    environ = {**os.environ, **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=EXAMPLES.parent, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_example_is_listed_here_or_run_beside_its_framework() -> None:
    elsewhere = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("frameworks/test_*.py"))
    assert set(TOLD) == {path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in elsewhere}


@pytest.mark.parametrize("name", TOLD)
def test_example(name: str, km_sandbox: Sandbox) -> None:
    script = EXAMPLES / name
    head = script.read_text("utf-8").partition('"""')[2].partition('"""')[0]
    command = re.search(
        rf"^    KM_API_KEY=any KM_ENDPOINT=\S+ python (examples/{re.escape(name)})$", head, re.MULTILINE
    )
    assert command is not None, "the command stands in the first lines"
    done = run(command[1], KM_API_KEY="any", KM_ENDPOINT=km_sandbox.endpoint)
    assert done.returncode == 0, done.stderr
    received = km_sandbox.wait(len(TOLD[name]), 10)
    key = lambda told: tuple(map(str, told))  # noqa: E731 - None does not sort
    told = [(call.kind, call.person, call.name or call.identity) for call in received]
    assert sorted(told, key=key) == sorted(TOLD[name], key=key)
    assert [call.problems for call in received] == [()] * len(received)
    assert all("request_id" not in call.properties for call in received), "bound context is not sent"


def test_the_suite_of_an_application_passes_by_the_command_in_its_first_lines() -> None:
    """From the checkout as well as from anywhere else; nothing of it depends on this project's own settings."""
    text = (EXAMPLES / "testing" / "test_shop.py").read_text("utf-8")
    command = re.search(r"^    pytest (examples/testing)$", text, re.MULTILINE)
    assert command is not None
    done = run("-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-W", "error", command[1])
    assert re.search(rf"\b{text.count('def test_')} passed in", done.stdout), done.stdout + done.stderr


def test_each_test_of_that_suite_fails_where_the_application_tells_nothing(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "testing", tmp_path, dirs_exist_ok=True)
    application = tmp_path / "shop.py"
    text = application.read_text("utf-8")
    silent = text.replace("            km.KissmetricsProcessor(),\n", "").replace('["kissmetrics"]', "[]")
    application.write_text(silent)
    suite = tmp_path / "test_shop.py"
    suite.write_text(suite.read_text("utf-8").replace("timeout=10", "timeout=1"))  # nothing will arrive
    done = run("-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", tmp_path)
    count = suite.read_text("utf-8").count("def test_")
    assert re.search(rf"\b{count} failed in", done.stdout), done.stdout + done.stderr
