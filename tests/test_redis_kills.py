"""Relays are killed, Redis is killed, lines are cut: what was logged is delivered all the same.

A person's name stands for one call. What arrives more than once was under way when something broke, or delivered and
not deleted yet; the sandbox counts it once, as Kissmetrics does. Figures are printed: ``pytest -s``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

import km_logging as km
from km_logging.outbox.consumer import FETCH, IDLE, KEEP
from km_logging.outbox.redis import CHUNK, SETTLE
from km_logging.relay import Relay
from km_logging.sandbox.checks import receive
from km_logging.sandbox.store import Store
from km_logging.settings import Settings
from support.lasting import Life, Template, figures, names
from support.network import BRIDGE, Host, network
from support.outboxes import kept
from support.redis_server import ALWAYS, Cable, RedisServer
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, Answers, eventually, people

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SENDERS = 8

#: So many calls may arrive once more for one kill of a relay.
AGAIN = SENDERS + SETTLE

#: So long after a death nothing is anybody else's yet, in seconds.
PATIENCE = 2 * GUARD


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One that has on its disk whatever it has answered for."""
    with RedisServer(tmp_path, *ALWAYS) as server:
        yield server


@pytest.fixture
def slow() -> Iterator[TrackingServer]:
    """A tracking server that takes its time, so that there is always something under way."""
    with TrackingServer(Answers(Reply(delay=0.05))) as server:
        yield server


def fill(redis_server: RedisServer, count: int, prefix: str = "filled") -> list[str]:
    """Log so many events, as an application does that leaves the sending to relays."""
    with km.Tracker(outbox=redis_server.address, capacity=count) as tracker:
        for person in names(prefix, count):
            assert tracker.event(person, "Signed Up")
        assert tracker.flush(GUARD)
    assert tracker.stats().handed_over == count
    return names(prefix, count)


def drain(redis_server: RedisServer, server: TrackingServer) -> None:
    """Deliver what is left, until nothing is; what the dead had in their hands, too."""
    given = {"api_key": KEY, "endpoint": server.endpoint, "outbox": redis_server.address, "drain_timeout": GUARD}
    relay = Relay(Settings.resolve(given, {}))
    relay.drain()
    assert relay.close().dropped == {}
    assert kept(redis_server.where, dead=None) == []


def judge(server: TrackingServer, expected: list[str], what: str, *, again: int) -> None:
    """Every call has arrived; how many did so again; and each counts once."""
    sandbox = Store(len(server.targets))
    for target in list(server.targets):
        path, _, query = target.partition("?")
        sandbox.add(receive({"/e": "event"}[path], query.encode(), 0.0))
    counted = [call.person for call in sandbox.calls() if not call.duplicate]
    repeated = len(server.targets) - len(counted)
    figures(f"{what}: {len(expected)} calls, {len(set(expected) - set(counted))} lost, {repeated} repeated")
    assert sorted(counted) == sorted(expected)
    assert repeated <= again


def calls_of(lives: list[Life]) -> list[str]:
    return [call for life in lives for call in names(life.name, life.most)]


def read_all(lives: list[Life]) -> None:
    for life in lives:
        life.read(life.most)


@contextmanager
def relay(
    outbox: RedisServer | Cable, server: TrackingServer, on: Host | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command, on a host."""
    command = [sys.executable, "-m", "km_logging", "relay", outbox.address, "--senders", str(SENDERS)]
    process = subprocess.Popen(
        on.command(*command) if on else command,
        env={**os.environ, "KM_API_KEY": KEY, "KM_ENDPOINT": server.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def held(redis_server: RedisServer) -> dict[str, int]:
    """How many calls each consumer has in its hands."""
    with redis_server.client() as client:
        return {it["name"]: it["pending"] for it in client.xinfo_consumers("km", "km_logging")}


def test_relays_killed_at_random_lose_nothing(tmp_path, redis_server, slow):
    """A hundred and ten times, three of them at work, while applications go on logging."""
    chance = Random(1)
    kills = 110
    with Template(tmp_path, slow.endpoint, outbox=redis_server.address, senders=SENDERS) as template:
        expected = fill(redis_server, 8_000)
        logs = [template.start(most=1_000, pace=0.01, deliver=False) for _ in range(2)]
        relays = [template.start("relay") for _ in range(3)]
        for _ in range(kills):
            index = chance.randrange(3)
            template.kill(relays[index], after=chance.random() ** 2 * 0.5)
            relays[index] = template.start("relay")
        read_all(logs)
        expected += calls_of(logs)
        for life in relays:
            template.kill(life)
        delivered = len(slow.targets)
        drain(redis_server, slow)
    figures(f"{template.kills} kills, {delivered} requests until then")
    judge(slow, expected, "relays killed", again=template.kills * AGAIN)


def test_redis_killed_in_the_middle_loses_nothing(tmp_path, redis_server, slow):
    """Six times, by SIGKILL; it has everything on disk that it has answered for, and applications hold the rest."""
    chance = Random(2)
    restarts = 6
    with ExitStack() as stack:
        template = stack.enter_context(Template(tmp_path, slow.endpoint, outbox=redis_server.address))
        for _ in range(3):
            stack.enter_context(relay(redis_server, slow))
        expected = fill(redis_server, 3_000)
        logs = [template.start(most=1_500, pace=0.01, deliver=False) for _ in range(2)]
        for _ in range(restarts):
            slow.wait(len(slow.targets) + chance.choice([50, 300, 600]))
            redis_server.kill()
            threading.Event().wait(chance.random() * 2)
            redis_server.start()
        read_all(logs)
        expected += calls_of(logs)
        arrived = {*expected}
        eventually(lambda: arrived <= {*people(slow)}, timeout=PATIENCE)
        eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
    judge(slow, expected, f"Redis killed {restarts} times", again=restarts * (3 * (AGAIN + FETCH) + 2 * CHUNK))


def test_lines_to_redis_that_are_cut_or_dead_lose_nothing(tmp_path, redis_server, slow):
    """Those of applications and of relays, for moments, and one of a relay for so long that others take over."""
    chance = Random(3)
    cuts = 12
    with ExitStack() as stack:
        template = stack.enter_context(Template(tmp_path, slow.endpoint))
        cables = [stack.enter_context(Cable(redis_server.port)) for _ in range(4)]
        relays = [stack.enter_context(relay(cable, slow)) for cable in cables[1:]]
        expected = fill(redis_server, 5_000)
        logs = [template.start(most=1_500, pace=0.01, deliver=False, outbox=cables[0].address)]
        slow.wait(300)
        cables[1].die()
        dead = next(name for name in held(redis_server) if f"-{relays[0].pid}-" in name)
        for _ in range(cuts):
            cable = chance.choice([cables[0], *cables[2:]])
            (cable.cut if chance.random() < 0.5 else cable.die)()
            threading.Event().wait(chance.random() * 3)
            cable.mend()
        read_all(logs)
        eventually(lambda: held(redis_server)[dead] == 0, timeout=PATIENCE)
        cables[1].mend()
        expected += calls_of(logs)
        arrived = {*expected}
        eventually(lambda: arrived <= {*people(slow)}, timeout=PATIENCE)
        eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
    judge(slow, expected, f"lines cut {cuts} times", again=(cuts + 1) * (AGAIN + FETCH + CHUNK))


def test_a_relay_that_stood_still_sends_nothing_that_others_have_taken_over(redis_server, slow):
    """But for what it had begun with: a machine was suspended, say, for longer than the others wait."""
    with relay(redis_server, slow) as first:
        expected = fill(redis_server, 400)
        slow.wait(40)
        os.kill(first.pid, signal.SIGSTOP)
        with relay(redis_server, slow):
            slow.wait(400, timeout=PATIENCE)  # with what the first one had in its hands
            eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
            before = len(slow.targets)
            os.kill(first.pid, signal.SIGCONT)
            expected += fill(redis_server, 100, "late")
            eventually(lambda: {*expected} <= {*people(slow)}, timeout=PATIENCE)
        first.send_signal(signal.SIGTERM)
        assert first.wait(GUARD) == 0
    assert before <= 400 + 4 * SENDERS
    judge(slow, expected, "a relay that stood still", again=4 * SENDERS)


def test_what_a_killed_relay_had_in_its_hands_another_one_delivers(redis_server, slow):
    """By itself, without a restart and without any further call; a stop by SIGTERM leaves nothing to wait for."""
    with relay(redis_server, slow) as killed, relay(redis_server, slow) as stopped:
        expected = fill(redis_server, 600)
        slow.wait(100)
        killed.kill()
        killed.wait(GUARD)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(GUARD) == 0
        hands = held(redis_server)
        left = len(kept(redis_server.where))
        with relay(redis_server, slow):
            eventually(lambda: {*expected} <= {*people(slow)}, timeout=PATIENCE)
            eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
    figures(f"{left} left, in the hands of {sorted(hands.values())}")
    assert sum(count > 0 for name, count in hands.items() if name != "nobody") == 1
    judge(slow, expected, "a killed relay", again=AGAIN)


def test_a_network_that_falls_apart_loses_nothing(tmp_path):
    """A relay's host is cut off from everybody, while it works, until the others have done its part; and comes back."""
    with ExitStack() as stack:
        redis_host, *hosts = stack.enter_context(network(3))
        redis_server = stack.enter_context(RedisServer(tmp_path, *ALWAYS, "--protected-mode", "no", on=redis_host))
        slow = stack.enter_context(TrackingServer(Answers(Reply(delay=0.05)), host=BRIDGE))
        for host in hosts:
            stack.enter_context(relay(redis_server, slow, on=host))
        expected = fill(redis_server, 2_000)
        slow.wait(300)
        hosts[0].cut()
        arrived = {*expected}
        eventually(lambda: arrived <= {*people(slow)}, timeout=PATIENCE)
        eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
        hosts[0].mend()
        expected += fill(redis_server, 500, "late")
        arrived = {*expected}
        eventually(lambda: arrived <= {*people(slow)}, timeout=PATIENCE)
        eventually(lambda: kept(redis_server.where) == [], timeout=PATIENCE)
        judge(slow, expected, "a network that fell apart", again=2 * AGAIN)


def test_the_times_fit_together():
    """Who lives speaks often enough, and a dead one's calls are others' within 15 seconds."""
    from km_logging.outbox.consumer import SWEEP
    from km_logging.outbox.redis import POLL

    assert 3 * KEEP < IDLE
    assert IDLE + SWEEP + POLL < 15
