"""An application under test, in a plain run of pytest: it ends in time, sends nothing, and nobody warns at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.servers import TrackingServer, refused
from support.tracking import GUARD, KEY, people

APPLICATION = """\
import logging, logging.config
import structlog
import km_logging as km

def configure():
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "console": {"class": "logging.StreamHandler"},
            "kissmetrics": {"class": "km_logging.KissmetricsHandler"},
        },
        "root": {"level": "INFO", "handlers": ["console", "kissmetrics"]},
    })
    structlog.configure(processors=[km.KissmetricsProcessor(drop=True), structlog.processors.JSONRenderer()])

def sign_up(person):
    logging.getLogger("shop").info("Signed Up", extra=km.event(person))
    structlog.get_logger().info("Ordered", km="event", person=person)
"""

#: Each test configures anew, on what stands for the streams at that moment; the last one is over at once.
SUITE = """\
import logging, threading
import shop

def test_plain():
    shop.configure()
    shop.sign_up("ann")

def test_thread():
    thread = threading.Thread(target=shop.sign_up, args=("bob",))
    thread.start()
    thread.join()

def test_capfd(capfd):
    shop.configure()
    shop.sign_up("cy")
    assert "Signed Up" in capfd.readouterr().err

def test_capsys(capsys):
    shop.configure()
    shop.sign_up("dan")
    assert "Signed Up" in capsys.readouterr().err
"""

CAPLOG = """
def test_caplog(caplog):
    shop.configure()
    logging.getLogger().addHandler(caplog.handler)  # dictConfig has taken it off
    shop.sign_up("eve")
    assert "Signed Up" in caplog.messages
"""

PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

NO_THREAD_RUNS = """
def test_no_thread_runs():
    assert threading.enumerate() == [threading.main_thread()]
"""

RUNS = {
    "plain": (SUITE + CAPLOG, []),
    "--log-cli-level": (SUITE + CAPLOG, ["--log-cli-level=INFO"]),
    "--capture=sys": (SUITE + CAPLOG, ["--capture=sys"]),
    "-p no:logging": (SUITE, ["-p", "no:logging"]),
}


def run(folder: Path, suite: str, endpoint: str, *arguments: str, **variables: str) -> str:
    """Run a suite that passes, in a process of its own; returns what was said on stderr, where pytest says nothing."""
    (folder / "shop.py").write_text(APPLICATION)
    (folder / "test_shop.py").write_text(suite)
    environ = {**os.environ, "KM_API_KEY": KEY, "KM_ENDPOINT": endpoint, "PYTHONDEVMODE": "1", **PLAIN, **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=GUARD, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{suite.count('def test_')} passed" in done.stdout
    return done.stderr


@pytest.mark.parametrize(("suite", "arguments"), RUNS.values(), ids=RUNS)
def test_switched_off_it_does_nothing_at_all(suite, arguments, server: TrackingServer, tmp_path: Path):
    """``KM_MODE=off`` in the environment is all that a suite needs, also where the configuration says nothing of it."""
    assert run(tmp_path, suite + NO_THREAD_RUNS, server.endpoint, *arguments, KM_MODE="off") == ""
    assert server.targets == []


@pytest.mark.parametrize(("suite", "arguments"), RUNS.values(), ids=RUNS)
def test_switched_on_each_call_arrives_once_and_nothing_is_said(suite, arguments, server: TrackingServer, tmp_path):
    """As in a staging environment; nothing of ours writes to a stream that pytest has closed meanwhile."""
    assert run(tmp_path, suite, server.endpoint, *arguments) == ""
    expected = ["ann", "bob", "cy", "dan", "eve"] if "eve" in suite else ["ann", "bob", "cy", "dan"]
    assert Counter(people(server)) == Counter(2 * expected)


def test_without_a_server_it_ends_within_drain_timeout_and_says_in_one_line_what_is_lost(tmp_path):
    with refused() as endpoint:
        said = run(tmp_path, SUITE, endpoint, KM_DRAIN_TIMEOUT="0.5")
    assert said.startswith("km_logging: 8 calls were not delivered within drain_timeout and are lost (last error: ")
    assert said.count("\n") == 1
