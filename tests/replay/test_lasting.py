"""A large log is replayed whole and unaltered in bounded memory, and a replay that is killed leaves no call out.

Figures are printed: ``pytest -s``.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import threading
import time
from random import Random

import pytest

from support.commands import ENTRY, environment, km_logging, largest
from support.counting import CountingServer
from support.lasting import figures
from support.logfile import made, write
from support.tracking import KEY, KEY_ON_THE_WIRE

pytestmark = pytest.mark.slow

#: A process that takes so many seconds hangs.
PATIENCE = 300.0


class Run:
    """One replay that may be killed."""

    def __init__(self, *arguments: object, server: CountingServer) -> None:
        self._process = subprocess.Popen(
            [ENTRY, "replay", *map(str, arguments)],
            env=environment(leading(server)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._guard = threading.Timer(PATIENCE, self.kill)
        self._guard.start()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def end(self) -> int:
        """Wait until it has ended; the exit code, or the signal below zero."""
        code = self._process.wait()
        self._guard.cancel()
        return code


def leading(server: CountingServer) -> dict[str, str | None]:
    """The environment that leads to the server. Coverage would measure itself, too."""
    unmeasured = {name: None for name in os.environ if name.startswith("COVERAGE_")}
    return {**unmeasured, "KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint}


def requests_of(lines: int, seed: int) -> set[str]:
    """What the lines of a log tell, by the API specification alone."""
    return {one.request for one in made(lines, seed) if one.request}


def counted(server: CountingServer) -> set[str]:
    """The calls as Kissmetrics counts them."""
    return {target.replace(f"_k={KEY_ON_THE_WIRE}&", "", 1) for target in server.counted}


@pytest.mark.timeout(600)
def test_a_million_lines_arrive_whole_and_unaltered_in_bounded_memory(tmp_path):
    """One in five tells a call. Ten times the lines take no more memory."""
    path = tmp_path / "app.log"
    kibibytes = {}
    for lines in (100_000, 1_000_000):
        write(path, lines, seed=2)
        began = time.monotonic()
        with CountingServer() as server:
            options = ["--transport", "curl", str(path)]
            kibibytes[lines] = largest("replay", *options, patience=PATIENCE, **leading(server))
            rate = lines / (time.monotonic() - began)
            assert counted(server) == requests_of(lines, seed=2)
            assert server.requests == len(server.counted) == lines // 5, "none was sent twice"
        figures(f"{lines:,} lines, {lines // 5:,} calls: {rate:,.0f} lines a second, {kibibytes[lines]:,} KiB at most")
    assert kibibytes[1_000_000] < kibibytes[100_000] + 8_192, "the file has 180,000"


LINES = 60_000
KILLS = 25


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["requests", "curl"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_killed_at_random_and_resumed_each_call_is_counted_once(pack, transport, tmp_path):
    """By SIGKILL, at any moment, the start included."""
    chance = Random(f"{pack.__name__} {transport}")
    write(tmp_path / "plain.log", LINES, seed=3)
    path = tmp_path / "app.log"
    path.write_bytes(pack((tmp_path / "plain.log").read_bytes()))
    kills = 0
    with CountingServer() as server:
        for _ in range(KILLS):
            rate = chance.choice([500, 2_000, 10_000])
            run = Run(path, "--resume", "--transport", transport, "--rate", rate, server=server)
            server.wait(server.requests + chance.choice([0, 0, 1, 50, 200, 600]), 10)
            time.sleep(chance.random() ** 2 * 0.3)
            run.kill()
            kills += run.end() < 0
        last = Run(path, "--resume", "--transport", transport, server=server)
        assert last.end() == 0
        assert counted(server) == requests_of(LINES, seed=3)
        again = server.requests - len(server.counted)
    figures(f"{kills} kills of a replay by {transport}: {LINES // 5:,} calls, none lost, {again:,} repeated")
    assert kills > KILLS / 2
    assert again < kills * 3_000


@pytest.mark.timeout(600)
def test_killed_while_it_fills_an_outbox_and_resumed_each_call_is_counted_once(tmp_path):
    """What was committed is not put again, but for the last batches."""
    chance = Random("into")
    write(tmp_path / "app.log", LINES, seed=4)
    options = [tmp_path / "app.log", "--resume", "--into", f"sqlite:///{tmp_path}/km.db"]
    kills = 0
    with CountingServer() as server:
        for _ in range(KILLS):
            run = Run(*options, "--rate", chance.choice([500, 2_000]), server=server)
            time.sleep(chance.random())
            run.kill()
            kills += run.end() < 0
        assert Run(*options, server=server).end() == 0
        outbox = f"sqlite:///{tmp_path}/km.db"
        assert km_logging("relay", "--drain", outbox, **leading(server), KM_TRANSPORT="curl").returncode == 0
        assert counted(server) == requests_of(LINES, seed=4)
        again = server.requests - len(server.counted)
    figures(f"{kills} kills of a replay into an outbox: {LINES // 5:,} calls, none lost, {again:,} repeated")
    assert kills > KILLS / 2
