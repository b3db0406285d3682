"""Processes that log, deliver or relay are killed at any moment: what was committed is delivered all the same.

A person's name stands for one call. What arrives more than once was under way when a process was killed, or delivered
and not deleted yet; Kissmetrics counts it once. Figures are printed: ``pytest -s``.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from km_logging.outbox.sqlite import SETTLE
from support.lasting import Life, Template, drain, figures, waiting
from support.servers import Reply, TrackingServer
from support.tracking import Answers, eventually, people

pytestmark = pytest.mark.slow

SENDERS = 16

#: So many calls may arrive once more for one kill of a process that delivers.
AGAIN = SENDERS + SETTLE


def _lost(template: Template, server: TrackingServer, what: str, *, kills: int | None = None) -> dict[Life, list[str]]:
    """Print what became of all calls; returns those that are lost of each process, and none that lost nothing.

    Args:
        template: of the processes.
        server: where the calls arrived.
        what: is printed with the figures.
        kills: of a process that may have delivered, if not of all.
    """
    arrived = Counter(people(server))
    lost = {life: [call for call in life.calls if call not in arrived] for life in template.lives}
    again = sum(arrived.values()) - len(arrived)
    calls = {call for life in template.lives for call in life.calls}
    doubtful = {call for life in template.lives for call in life.doubtful}
    age = max((life.age(calls[0]) for life, calls in lost.items() if calls), default=0.0)
    figures(
        f"{what}: {template.kills} kills, {len(calls)} calls, {sum(map(len, lost.values()))} lost"
        f" (logged {1000 * age:.0f} ms before the kill at most), {again} repeated,"
        f" {len(doubtful) - len(template.lives)} outside the file"
    )
    assert set(arrived) <= calls | doubtful
    assert again <= (template.kills if kills is None else kills) * AGAIN
    return {life: calls for life, calls in lost.items() if calls}


def _are_the_last(lost: dict[Life, list[str]]) -> bool:
    """Whether only the last calls of each process are lost, without a gap."""
    return all(life.calls[-len(calls) :] == calls for life, calls in lost.items())


@pytest.mark.parametrize("together", [1, 3], ids=["one process", "several processes"])
@pytest.mark.parametrize("durability", ["immediate", "batched"])
def test_what_was_committed_outlives_the_processes(tmp_path, server, durability, together):
    """Sixty of them, which log and deliver; with `immediate` that is each call whose log call had returned."""
    chance = Random(f"{durability} {together}")
    with Template(tmp_path, server.endpoint, durability=durability, senders=SENDERS) as template:

        def start() -> Life:
            return template.start(most=chance.choice([20, 150]), pace=chance.choice([0, 0, 0.001]))

        lives = [start() for _ in range(together)]
        for _ in range(60):
            index = chance.randrange(together)
            lives[index].read(chance.choice([0, 0, 1, 3, 10, 30, 100]))
            template.kill(lives[index], after=chance.random() ** 2 * 0.1)
            if together == 1 and chance.random() < 0.5:
                assert len(set(waiting(tmp_path)) & set(people(server))) <= AGAIN
            lives[index] = start()
        for life in lives:
            template.kill(life)
        drain(tmp_path, server)
        lost = _lost(template, server, f"{durability}, {together} together")
    assert durability == "batched" or lost == {}
    assert _are_the_last(lost)


def test_a_process_killed_while_it_makes_the_file_leaves_one_to_go_on_with(tmp_path, server):
    """Or none, or a part of one: the next process makes of it what it needs, and nothing is lost."""
    chance = Random(1)
    with Template(tmp_path, server.endpoint, durability="immediate", deliver=False) as template:
        for number in range(60):
            outbox = f"sqlite:///{number}.db"
            first = template.start(most=3, outbox=outbox)
            template.kill(first, after=chance.random() * 0.05)
            second = template.start(most=3, outbox=outbox)
            second.read(3)
            template.kill(second)
            assert len(second.calls) == 3
            there = waiting(tmp_path, f"{number}.db")
            assert [call for call in there if call not in first.doubtful] == [*first.calls, *second.calls]
        began = sum(bool(life.said) for life in template.lives[::2])
        figures(f"making the file: {template.kills} kills, {began} of 60 had come to their first call")


def test_a_standby_takes_over_from_the_one_that_is_killed(tmp_path):
    """Its own calls and the dead one's arrive without any restart, or any further call."""
    with (
        TrackingServer(Answers(Reply(delay=0.01))) as server,
        Template(tmp_path, server.endpoint, durability="immediate", senders=SENDERS) as template,
    ):
        lives = []
        for _ in range(8):  # all of them are there, and the eldest delivers
            lives.append(template.start(most=60))
            lives[-1].read(60)
        for number, life in enumerate(lives[:-1]):
            server.wait(40 * (number + 1))
            template.kill(life)
        eventually(lambda: waiting(tmp_path) == [])
        template.kill(lives[-1])
        assert _lost(template, server, "standby") == {}


def test_a_relay_killed_in_the_middle_of_delivery_goes_on_when_it_is_restarted(tmp_path):
    """The processes that logged are gone, and nothing else delivers."""
    chance = Random(2)
    with (
        TrackingServer(Answers(Reply(delay=0.005))) as server,
        Template(tmp_path, server.endpoint, senders=SENDERS) as template,
    ):
        for _ in range(3):
            life = template.start(most=500, deliver=False, durability="immediate")
            life.read(500)
            template.kill(life)
        for _ in range(15):
            relay = template.start("relay")
            server.wait(len(server.targets) + chance.choice([1, 20, 80]))
            template.kill(relay, after=chance.random() * 0.01)
        drain(tmp_path, server)
        assert _lost(template, server, "relay", kills=15) == {}
