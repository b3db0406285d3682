"""The files in examples/relay that people deploy relays with: each is checked by what it is for, where that is here."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_relay import fill

from km_logging.settings import SETTINGS
from support.redis_server import RedisServer
from support.system import need
from support.tracking import GUARD, people

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "relay"
UNIT = FOLDER / "km-logging-relay@.service"
PROGRAM = "/opt/km-logging/bin/km-logging"

VARIABLES = {setting.environment for setting in SETTINGS.values()}


def command_of_unit() -> list[str]:
    return shlex.split(re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)[1])


def environment_of_unit() -> dict[str, str]:
    return dict(line.split("=", 1) for line in (FOLDER / "relay.env").read_text().splitlines() if line[0] != "#")


def test_systemd_takes_the_unit(tmp_path):
    """As an instance of it, with a program that is there."""
    analyze = need("systemd-analyze")
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    instance = tmp_path / UNIT.name.replace("@", "@1")
    done = subprocess.run([analyze, "verify", str(instance)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_command_delivers_with_its_environment_and_stops_at_sigterm(redis_server, server):
    """The settings are all in the environment: nobody can read them from the list of processes."""
    program, *arguments = command_of_unit()
    environment = environment_of_unit()
    assert (program, arguments) == (PROGRAM, ["relay"])
    assert set(environment) <= VARIABLES
    environment |= {"KM_OUTBOX": redis_server.address, "KM_ENDPOINT": server.endpoint}
    fill(redis_server.address, "ann", "bob")
    command = [sys.executable, "-m", "km_logging", *arguments]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as process:
        try:
            server.wait(2)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=GUARD)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "2 delivered, 0 left.\n")
    assert sorted(people(server)) == ["ann", "bob"]


@pytest.fixture
def services() -> dict[str, dict]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def test_the_compose_file_leads_to_what_there_is(services):
    """Its relay is built from this checkout, knows its variables, and uses the Redis server beside it."""
    build, environment = services["relay"]["build"], services["relay"]["environment"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert set(environment) <= VARIABLES
    assert environment["KM_OUTBOX"].startswith("redis://redis:")
    assert set(services["relay"]["depends_on"]) == {"redis"}


def test_redis_takes_the_options_of_the_compose_file(services, tmp_path):
    """And with them it neither evicts nor forgets."""
    program, *options = shlex.split(services["redis"]["command"])
    assert program == "redis-server"
    with RedisServer(tmp_path, *options) as server, server.client() as client:
        found = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    assert found == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


def test_the_image_is_made_of_what_there_is():
    """Extras that exist, and a command that does; it runs as nobody."""
    text = (FOLDER / "Dockerfile").read_text()
    extras = re.search(r"/checkout\[([a-z,]+)\]", text)[1].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    entry, command = (yaml.safe_load(it) for it in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE))
    assert entry == ["km-logging"]
    shown = subprocess.run([sys.executable, "-m", "km_logging", *command, "--help"], capture_output=True, check=True)
    assert b"KM_OUTBOX" in shown.stdout
    assert re.search(r"^USER 65534", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"km_logging", "pyproject.toml", "README.md"} & set(ignored)
