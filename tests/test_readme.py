"""Every fence of the README runs: Python as scripts, JSON as dictConfig, consoles with the output that they show."""

from __future__ import annotations

import fnmatch
import json
import logging.config
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from km_logging.calls import PROBLEMS
from km_logging.ledger import DROPPED
from km_logging.settings import SETTINGS
from support.pytests import PLUGIN
from support.servers import TrackingServer

README = Path(__file__).parent.parent / "README.md"
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def fences(language: str) -> list[str]:
    return [text for name, text in FENCES if name == language]


#: The application whose suite a fence shows.
SHOP = """
import logging
import km_logging as km

logger = logging.getLogger("shop")
logger.setLevel("INFO")
logger.addHandler(km.KissmetricsHandler(mode="print"))

def sign_up(person, plan):
    logger.info("Signed Up", extra=km.event(person, plan=plan))
"""


def scripts() -> list[str]:
    return [text for text in fences("python") if "def test_" not in text]


def suites() -> list[str]:
    return [text for text in fences("python") if "def test_" in text]


def named_scripts() -> list[tuple[str, str]]:
    """Python fences that say in their first line what they are saved as."""
    return re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(command: list[str], cwd: Path, **environment: str) -> str:
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **environment}
    done = subprocess.run(
        command, cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def test_there_is_no_fence_that_nothing_runs() -> None:
    assert {name for name, _ in FENCES} == {"python", "json", "console"}
    assert sum(text.count("```") for _, text in FENCES) == 0


@pytest.mark.parametrize("script", scripts())
def test_each_python_fence_runs_and_what_it_tags_arrives(script: str, server: TrackingServer, tmp_path: Path) -> None:
    # The second fence shows only the log calls: give its logger the handler that the first one shows.
    prelude = (
        ""
        if "Handler" in script
        else "import logging, km_logging\n"
        "logging.basicConfig(level='INFO', handlers=[km_logging.KissmetricsHandler()])\n"
    )
    (tmp_path / "script.py").write_text(prelude + script)
    run([sys.executable, "script.py"], tmp_path, KM_API_KEY="key", KM_ENDPOINT=server.endpoint)
    tagged = len(re.findall(r"km\.(?:event|set|alias)\(|km=\"|\"km\":|tracker\.(?:event|set)\(", script))
    assert tagged > 0
    assert len(server.targets) == (0 if "capture_calls" in script else tagged)
    assert all(target.startswith(("/e?_k=key&", "/s?_k=key&", "/a?_k=key&")) for target in server.targets)


@pytest.mark.parametrize("suite", suites())
def test_each_fence_with_tests_passes(suite: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(suite)
    output = run([sys.executable, "-m", "pytest", *PLUGIN, "-W", "error", "-p", "no:cacheprovider"], tmp_path)
    assert f" {suite.count('def test_')} passed" in output


@pytest.mark.parametrize("config", fences("json"))
def test_each_json_fence_configures_logging(
    config: str, monkeypatch: pytest.MonkeyPatch, server: TrackingServer
) -> None:
    monkeypatch.setenv("KM_API_KEY", "key")
    monkeypatch.setenv("KM_ENDPOINT", server.endpoint)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logging.config.dictConfig(json.loads(config))
        logging.getLogger("readme").info("Signed Up", extra={"km": "event", "person": "bob"})
        server.wait(1)
    finally:
        for handler in list(root.handlers):
            handler.close()
        root.handlers[:], root.level = before, level
        root.setLevel(level)


@pytest.mark.parametrize("console", fences("console"))
def test_each_console_fence_shows_the_real_output(console: str, server: TrackingServer, tmp_path: Path) -> None:
    """``...`` stands for any text."""
    (tmp_path / "signup.py").write_text(fences("python")[0])
    for name, script in named_scripts():
        (tmp_path / name).write_text(script)
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        words = shlex.split(line)
        variables = dict(word.split("=", 1) for word in words if re.fullmatch(r"KM_\w+=.*", word))
        command = [word for word in words if not re.fullmatch(r"KM_\w+=.*", word)]
        output = run(command, tmp_path, **{"KM_API_KEY": "key", "KM_ENDPOINT": server.endpoint, **variables})
        pattern = re.sub(r"([\[\]?*])", r"[\1]", expected).replace("...", "*")
        assert fnmatch.fnmatchcase(output, pattern), output


def test_the_table_of_settings_is_whole() -> None:
    """Each setting stands in the README's table, with its environment variable."""
    section = README.read_text("utf-8").partition("| setting |")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    for name, setting in SETTINGS.items():
        row = next((row for row in rows if f"`{name}`" in row), None)
        assert row is not None, name
        assert setting.environment is None or f"`{setting.environment}`" in row


def test_the_table_of_reasons_is_whole() -> None:
    section = README.read_text("utf-8").partition("## What is dropped")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(DROPPED)


def test_the_table_of_problems_is_whole() -> None:
    section = README.read_text("utf-8").partition("| kind of problem |")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(PROBLEMS)
