"""The command line, driven as a user would: through the installed entry point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from support.servers import TrackingServer, refused

ENTRY = str(Path(sys.executable).with_name("km-logging"))
EXAMPLES = {
    "/e?_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1": (
        "event", "bob", "Signed Up", "-P", "gender=male", "-t", "1262304000",
    ),
    "/s?_k=api-key&_p=bob&gender=male&_t=1262304000&_d=1": (
        "set", "bob", "-P", "gender=male", "-t", "2010-01-01T00:00:00Z",
    ),
    "/a?_k=api-key&_p=User+12345&_n=bob%40bob.com": (
        "alias", "--person", "User 12345", "--identity", "bob@bob.com",
    ),
}  # fmt: skip


def km_logging(
    *arguments: str, command: tuple[str, ...] = (ENTRY,), **variables: str
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **variables}
    return subprocess.run([*command, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("target", "arguments"), EXAMPLES.items())
@pytest.mark.parametrize("command", [(ENTRY,), (sys.executable, "-m", "km_logging")], ids=["entry", "module"])
def test_url_prints_the_examples_of_the_specification(
    target: str, arguments: tuple[str, ...], command: tuple[str, ...]
) -> None:
    endpoint = "http://trk.kissmetrics.com"
    done = km_logging("url", *arguments, command=command, KM_API_KEY="api-key", KM_ENDPOINT=endpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, endpoint + target + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (["event", "bob", "x", "-P", "_k=1"], 1, "rename it"),
        (["alias", "bob", "bob"], 1, "two different identities"),
        (["event", "bob"], 2, "--name"),
        (["event", "bob", "x", "-P", "plan"], 2, "name=value"),
        (["event", "bob", "x", "-t", "yesterday"], 2, "2010-01-01"),
        (["event", "bob", "x", "--endpoint", "ftp://x"], 2, "https://host"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_remedy(arguments: list[str], code: int, remedy: str) -> None:
    done = km_logging("url", *arguments, KM_API_KEY="secret-key")
    assert done.returncode == code
    assert remedy in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "secret-key" not in done.stderr


def test_demo_shows_the_three_kinds_from_both_libraries_and_ends_with_0() -> None:
    done = km_logging("demo")
    assert done.returncode == 0, done.stderr
    for kind in ("event", "set", "alias"):
        assert kind in done.stdout
    for told in ("Signed Up", "Ordered", "address.city=Paris", "All 6 calls arrived."):
        assert told in done.stdout
    assert "demo-key" not in done.stdout + done.stderr


def test_sandbox_serves_until_sigterm() -> None:
    """It says its endpoint once it listens, records a call without its key, and ends with 0."""
    process = subprocess.Popen(
        [ENTRY, "sandbox", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().partition("KM_ENDPOINT=")[2].split()[0]
        answer = requests.get(f"{endpoint}/e?_k=secret-key&_p=bob&_n=x&_t=1262304000&_d=1", timeout=10)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
        calls = requests.get(f"{endpoint}/api/calls", timeout=10)
        assert calls.json()["calls"][0]["name"] == "x"
        assert "secret-key" not in calls.text
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "secret-key" not in out + err
    finally:
        guard.cancel()
        process.kill()
        process.wait()


def test_sandbox_with_a_file_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "calls.db").symlink_to("other")
    done = km_logging("sandbox", "--port", "0", "--db", str(tmp_path / "calls.db"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("km-logging: the sandbox cannot keep calls in ")
    assert done.stderr.endswith("is a symbolic link): name the file itself\n")
    assert [it.name for it in tmp_path.iterdir()] == ["calls.db"]


def test_check_of_a_sound_environment(server: TrackingServer) -> None:
    done = km_logging("check", KM_API_KEY="secret-key", KM_ENDPOINT=server.endpoint, KM_SENDERS="3", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    assert "secret-key" not in done.stdout
    assert any(line.split() == ["senders", "3", "KM_SENDERS"] for line in done.stdout.splitlines())
    assert "The endpoint answers: HTTP 200." in done.stdout
    assert not any(target.startswith(("/e", "/s", "/a")) for target in server.targets), "nothing is tracked"


def test_check_names_what_would_drop_records(tmp_path: Path) -> None:
    config = {
        "version": 1,
        "handlers": {"km": {"class": "km_logging.KissmetricsHandler", "sender": 3, "level": "ERROR"}},
        "loggers": {"shop": {"level": "WARNING", "propagate": False}},
        "root": {"handlers": ["km"]},
    }
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(config))
    done = km_logging("check", "--config", str(path), "--json", KM_API_KEY="secret-key")
    assert done.returncode == 1
    said = "\n".join(f"{finding['message']}: {finding['remedy']}" for finding in json.loads(done.stdout)["findings"])
    for expected in (
        "did you mean 'senders'?", "drops what is below its level", "the root logger's level drops INFO",
        "'shop' does not propagate", "disable_existing_loggers is on",
    ):  # fmt: skip
        assert expected in said


def test_check_says_that_nothing_answers() -> None:
    with refused() as endpoint:
        done = km_logging("check", KM_API_KEY="secret-key", KM_ENDPOINT=endpoint)
    assert done.returncode == 1
    assert f"{endpoint} does not answer" in done.stderr


def test_without_the_extra_one_line_says_how_to_install_it() -> None:
    script = "import sys; sys.modules['click'] = None; from km_logging.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "km-logging: the command line needs the extra 'cli': pip install 'km_logging[cli]'\n"


@pytest.mark.parametrize("arguments", [[], ["url"], ["url", "event"], ["demo"], ["sandbox"], ["check"]])
def test_help_holds_an_example_or_the_list_of_commands(arguments: list[str]) -> None:
    done = km_logging(*arguments, "--help")
    assert done.returncode == 0
    assert "km-logging" in done.stdout
