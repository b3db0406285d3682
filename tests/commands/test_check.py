"""``km-logging check``: a configuration from a file or the environment, what is wrong with it, and a test event."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import km_logging, on_terminal
from support.servers import Reply, TrackingServer, refused
from support.tracking import KEY, KEY_ON_THE_WIRE

JSON = """{"version": 1, "disable_existing_loggers": false,
 "handlers": {"km": {"class": "km_logging.KissmetricsHandler", "senders": 3, "properties": {"a": "secret"}}},
 "root": {"level": "INFO", "handlers": ["km"]}}"""
TOML = """
[logging]
version = 1
disable_existing_loggers = false
handlers.km = { class = "km_logging.KissmetricsHandler", senders = 3, properties = { a = "secret" } }
root = { level = "INFO", handlers = ["km"] }
"""
YAML = """
version: 1
disable_existing_loggers: false
handlers: {km: {class: km_logging.KissmetricsHandler, senders: 3, properties: {a: secret}}}
root: {level: INFO, handlers: [km]}
"""


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "text"), [("logging.json", JSON), ("logging.toml", TOML), ("logging.yaml", YAML), ("logging.yml", YAML)]
)
def test_each_setting_of_a_file_is_shown_with_its_source(tmp_path, server, name, text):
    """Keyword, environment or default; key and properties masked; the endpoint is asked, and no call sent."""
    variables = {"KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint, "KM_CAPACITY": "7"}
    done = km_logging("check", "--config", written(tmp_path, name, text), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert rows >= {
        ("senders", "3", name), ("properties", "a=***", name), ("api_key", "***", "KM_API_KEY"),
        ("capacity", "7", "KM_CAPACITY"), ("mode", "live", "default"),
    }  # fmt: skip
    assert "Handler 'km':" in done.stdout
    assert f"{server.endpoint} is at 127.0.0.1." in done.stdout
    assert "The endpoint answers: HTTP 200." in done.stdout
    assert done.stdout.endswith("Nothing is wrong.\n")
    assert "secret" not in done.stdout
    assert server.targets == ["/"]


def test_all_of_it_as_json(tmp_path, server):
    path = written(tmp_path, "logging.json", JSON.replace("false", "true"))
    done = km_logging("check", "--config", path, "--send", "--json", KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    told = json.loads(done.stdout)
    [front_end] = told["front_ends"]
    assert (done.returncode, done.stderr, front_end["name"]) == (1, "", "handler 'km'")
    assert front_end["settings"]["senders"] == {"value": "3", "source": "logging.json"}
    assert front_end["endpoint"] == {
        "url": server.endpoint, "addresses": ["127.0.0.1"], "proxy": None, "answer": "HTTP 200",
    }  # fmt: skip
    assert (front_end["sent"]["what"], front_end["sent"]["status"]) == ("delivered", 200)
    [finding] = told["findings"]
    assert (finding["is_note"], "disable_existing_loggers" in finding["message"]) == (False, True)


def test_send_sends_one_event_and_says_what_came_back(tmp_path):
    """By the settings of the file; what came back is a finding, if it is not 'delivered'."""
    path = written(tmp_path, "logging.json", JSON)
    with TrackingServer() as server:
        done = km_logging("check", "--config", path, "--send", KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    assert done.returncode == 0
    assert "The test event was delivered: HTTP 200." in done.stdout
    [target] = [target for target in server.targets if target != "/"]
    assert target.startswith(f"/e?_k={KEY_ON_THE_WIRE}&_p=km-logging-check&_n=km-logging+check&a=secret&_t=")
    with TrackingServer(lambda *_: Reply(503)) as server:
        done = km_logging("check", "--send", KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    assert done.returncode == 1
    assert (
        "Wrong: the environment: the test event was not delivered (HTTP 503): the server cannot take it" in done.stderr
    )


def test_send_where_nothing_can_be_sent_is_a_note():
    done = km_logging("check", "--send", KM_MODE="off")
    assert done.returncode == 0
    assert "Note: the environment sends nothing: its mode is 'off'" in done.stderr
    done = km_logging("check", "--send", KM_MODE="print")
    assert done.returncode == 0
    assert 'km_logging: event "km-logging check" person="km-logging-check"' in done.stderr
    assert "The test event was printed, not sent: mode is 'print'." in done.stdout


def test_each_handler_of_a_file_is_shown_and_each_endpoint_asked_once(tmp_path, server):
    handler = {"class": "km_logging.KissmetricsHandler"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"one": handler, "other": {**handler, "api_key": "other-key"}},
        "root": {"level": "INFO", "handlers": ["one", "other"]},
    }
    path = written(tmp_path, "logging.json", json.dumps(config))
    done = km_logging("check", "--config", path, KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
    assert done.returncode == 0
    assert done.stdout.count("The endpoint answers: HTTP 200.") == 2
    assert "Handler 'one':" in done.stdout
    assert "Handler 'other':" in done.stdout
    assert "passes the handlers 'one' and 'other', which send to two places" in done.stderr
    assert server.targets == ["/"]


def test_filters_and_callables_of_the_application_are_found_where_it_runs(tmp_path, server):
    """In the current directory, as python has it."""
    written(
        tmp_path,
        "shop.py",
        "import logging\n"
        "class Untracked(logging.Filter):\n"
        "    def filter(self, record):\n"
        "        return not hasattr(record, 'km')\n"
        "def redact(call):\n"
        "    return None\n",
    )
    config = json.loads(JSON)
    config["filters"] = {"untracked": {"()": "shop.Untracked"}}
    config["handlers"]["km"] |= {"filters": ["untracked"], "before_send": "ext://shop.redact"}
    command = [sys.executable, "-m", "km_logging", "check", "--send"]
    done = subprocess.run(
        [*command, "--config", written(tmp_path, "logging.json", json.dumps(config))],
        cwd=tmp_path,
        env={"PATH": "", "KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the filter 'untracked' of handler 'km' drops tagged records" in done.stderr
    assert "the test event was withheld (before_send withholds the call)" in done.stderr
    assert any(line.split() == ["before_send", "redact", "logging.json"] for line in done.stdout.splitlines())


def test_code_is_looked_through(tmp_path):
    """Files and folders, but not what is installed in them."""
    written(tmp_path, "shop.py", 'logger.info("x", extra={"km": "event", "name": "y"})\n')
    (tmp_path / ".venv").mkdir()
    written(tmp_path / ".venv", "other.py", 'logger.info("x", extra={"args": "y"})\n')
    done = km_logging("check", "--code", str(tmp_path), KM_MODE="off")
    assert done.returncode == 1
    assert done.stderr == (
        f"Wrong: {tmp_path}/shop.py:1: logging refuses the extra key 'name': rename it, pass it by a helper "
        "(extra=km.event(.., name=..)), or say an event's name as km_name\n"
    )
    assert km_logging("check", "--code", f"{tmp_path}/.venv/other.py", KM_MODE="off").returncode == 1


def test_every_mistake_of_the_environment_is_named():
    done = km_logging("check", KM_SENDERS="many", KM_CAPACITY="0", KM_SENDER="3")
    assert done.returncode == 1
    for expected in ("KM_SENDERS must be a number", "KM_CAPACITY must be", "did you mean KM_SENDERS?"):
        assert expected in done.stderr
    assert any(line.split() == ["senders", "(wrong)", "KM_SENDERS"] for line in done.stdout.splitlines())
    assert "Nothing is wrong" not in done.stdout


def test_without_a_key_it_says_how_to_give_one(server):
    """And whether the endpoint answers, all the same."""
    done = km_logging("check", "--send", KM_ENDPOINT=server.endpoint)
    assert done.returncode == 1
    assert "api_key is missing: pass it, set KM_API_KEY" in done.stderr
    assert "The endpoint answers: HTTP 200." in done.stdout
    assert server.targets == ["/"]


def test_quiet_prints_what_is_wrong_and_nothing_else():
    with refused() as endpoint:
        done = km_logging("check", "--quiet", KM_API_KEY=KEY, KM_ENDPOINT=endpoint, KM_SENDER="3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"Wrong: {endpoint} does not answer" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("logging.ini", "[loggers]", "write the dictConfig as one of these"),
        ("logging.json", '{"api_key": "k3y-of/the product"', "cannot be read"),
        ("logging.json", "[" * 100_000, "cannot be read"),
        ("logging.json", "3", "holds no table"),
        ("logging.toml", 'api_key = "k3y-of/the product', "cannot be read"),
        ("logging.yaml", "a: 1\napi_key: k3y-of/the product: [", "no YAML, line 2"),
        ("logging.yaml", "", "holds no table"),
    ],
    ids=["ini", "json", "deep json", "number", "toml", "yaml", "empty"],
)
def test_a_file_that_cannot_be_read_is_a_mistake_in_the_usage(tmp_path, name, text, remedy):
    """What stands in it is not shown: the key may."""
    done = km_logging("check", "--config", written(tmp_path, name, text))
    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr


def test_without_pyyaml_it_says_how_to_install_it(tmp_path):
    path = written(tmp_path, "logging.yaml", YAML)
    script = "import sys; sys.modules['yaml'] = None; from km_logging.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--config", path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install pyyaml" in done.stderr


def test_a_terminal_shows_the_table_in_colours_unless_they_are_not_wanted():
    code, shown = on_terminal("check", KM_MODE="off")
    assert (code, "\x1b[" in shown) == (0, True)
    code, shown = on_terminal("check", KM_MODE="off", NO_COLOR="1")
    assert (code, "\x1b[" in shown) == (0, False)
    assert "Nothing is wrong." in shown
    code, shown = on_terminal("check", KM_MODE="of")
    assert (code, "\x1b[31mWrong" in shown) == (1, True)
    code, shown = on_terminal("check", KM_MODE="of", NO_COLOR="1")
    assert (code, "\x1b[" in shown, "Wrong: the environment" in shown) == (1, False, True)
