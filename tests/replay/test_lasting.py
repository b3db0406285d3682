"""A large log is replayed whole and unaltered in bounded memory, and a replay that is killed leaves no call out.

Figures are printed: ``pytest -s``.
"""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from support.counting import CountingServer
from support.lasting import figures
from support.logfile import made, write

pytestmark = pytest.mark.slow

ENTRY = str(Path(sys.executable).with_name("km-logging"))
KEY = "secret-key"

#: A process that takes so many seconds hangs.
GUARD = 300.0


class Run:
    """One replay, measured.

    Attributes:
        code: how it ended; negative for a signal.
        seconds: how long it took.
        megabytes: most memory that it used.
    """

    def __init__(self, *arguments: object, endpoint: str) -> None:
        command = [ENTRY, "replay", *map(str, arguments)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            command,
            env={**inherited, "KM_API_KEY": KEY, "KM_ENDPOINT": endpoint},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._guard = threading.Timer(GUARD, self.kill)
        self._guard.start()

    def kill(self) -> None:
        """SIGKILL; of one that has ended by itself, nobody has taken notice yet."""
        os.kill(self._process.pid, signal.SIGKILL)

    def end(self) -> Run:
        """Wait until it has ended."""
        _, status, used = os.wait4(self._process.pid, 0)
        self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._guard.cancel()
        self.seconds = time.monotonic() - self._began
        self.megabytes = used.ru_maxrss / 1_024
        return self


def requests_of(lines: int, seed: int) -> set[str]:
    """What the lines of a log tell, by the API specification alone."""
    return {one.request for one in made(lines, seed) if one.request}


def counted(server: CountingServer) -> set[str]:
    """The calls as Kissmetrics counts them."""
    return {target.replace(f"_k={KEY}&", "", 1) for target in server.counted}


@pytest.mark.timeout(600)
def test_a_million_lines_arrive_whole_and_unaltered_in_bounded_memory(tmp_path):
    """One in five tells a call. Ten times the lines take no more memory."""
    write(tmp_path / "short.log", 100_000, seed=1)
    write(tmp_path / "long.log", 1_000_000, seed=2)
    with CountingServer() as server:
        short = Run(tmp_path / "short.log", "--transport", "curl", endpoint=server.endpoint).end()
    assert short.code == 0
    with CountingServer() as server:
        long = Run(tmp_path / "long.log", "--transport", "curl", endpoint=server.endpoint).end()
        assert long.code == 0
        assert counted(server) == requests_of(1_000_000, seed=2)
        assert server.requests == len(server.counted) == 200_000, "none was sent twice"
    figures(
        f"1,000,000 lines, 200,000 calls: {1_000_000 / long.seconds:,.0f} lines a second,"
        f" {long.megabytes:.1f} MB at most; of 100,000 lines {short.megabytes:.1f} MB"
    )
    assert long.megabytes < short.megabytes + 15, "the file has 186"


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
            run = Run(path, "--resume", "--transport", transport, "--rate", rate, endpoint=server.endpoint)
            server.wait(server.requests + chance.choice([0, 0, 1, 50, 200, 600]), 10)
            time.sleep(chance.random() ** 2 * 0.3)
            run.kill()
            kills += run.end().code < 0
        last = Run(path, "--resume", "--transport", transport, endpoint=server.endpoint).end()
        assert last.code == 0
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
            run = Run(*options, "--rate", chance.choice([500, 2_000]), endpoint=server.endpoint)
            time.sleep(chance.random())
            run.kill()
            kills += run.end().code < 0
        assert Run(*options, endpoint=server.endpoint).end().code == 0
        relay = [ENTRY, "relay", "--drain", f"sqlite:///{tmp_path}/km.db"]
        variables = {"KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint, "KM_TRANSPORT": "curl"}
        subprocess.run(relay, env={**os.environ, **variables}, check=True, timeout=GUARD, capture_output=True)
        assert counted(server) == requests_of(LINES, seed=4)
        again = server.requests - len(server.counted)
    figures(f"{kills} kills of a replay into an outbox: {LINES // 5:,} calls, none lost, {again:,} repeated")
    assert kills > KILLS / 2
