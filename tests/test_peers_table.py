"""What the table of other libraries measures, for this one: events at the end of a process, forks, and Retry-After.

With the default settings, by memory and by file; what stays in a file is delivered by the next process. The figures are
printed: ``pytest -s``.
"""

from __future__ import annotations

import re
import threading

import pytest

from support.lasting import DURABILITIES, SQLITE, balanced, drain, each_once, figures, names, waiting
from support.processes import Ended, run
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, Answers, people

OUTBOXES = {"memory": {}, **DURABILITIES}
each_outbox = pytest.mark.parametrize("variables", OUTBOXES.values(), ids=OUTBOXES)

EVENTS = """
    tracker = km.Tracker()
    for number in range({}):
        tracker.event(f"p-{{number}}", "Signed Up")
    """


def _lost(ended: Ended) -> int:
    """How many calls the process said that it had lost; it says nothing else."""
    assert (ended.code, ended.err.splitlines()) == (0, ended.said)
    assert len(ended.said) <= 1
    return sum(int(re.match(r"km_logging: (\d+) calls were not delivered", line)[1]) for line in ended.said)


@pytest.mark.slow
@each_outbox
def test_a_thousand_events_and_an_end_without_a_flush(tmp_path, variables):
    """The server takes 50 ms for each. All arrive, or what is missing is said; of a file, nothing can be missing."""
    with TrackingServer(Answers(Reply(delay=0.05))) as server:
        ended = run(tmp_path, EVENTS.format(1000), server.endpoint, **variables)
        at_the_end = len(set(people(server)))
        lost = _lost(ended)
        if variables:
            drain(tmp_path, server)
        arrived = set(people(server))
        requests = len(server.targets)
        figures(f"{at_the_end} of 1000 in {ended.seconds:.1f} s, {len(arrived)} in the end, {requests} requests")
    assert 1000 <= len(arrived) + lost <= 1000 + 16  # which were under way at the end
    assert not (variables and lost)
    assert requests <= 1000 + 16 + 100


@each_outbox
@pytest.mark.parametrize("trouble", ["refused", "hangs"])
def test_ten_events_an_end_and_a_server_that_cannot_be_reached(tmp_path, server, trouble, variables):
    """The process ends in time. What memory loses is said in one line; of a file nothing is lost, and nothing said."""
    held = threading.Event()
    with TrackingServer(Answers(held)) as hanging, refused() as nobody:
        endpoint = nobody if trouble == "refused" else hanging.endpoint
        ended = run(tmp_path, EVENTS.format(10), endpoint, KM_DRAIN_TIMEOUT=1, **variables)
        held.set()
    figures(f"{trouble}: {ended.seconds:.1f} s, {_lost(ended)} lost and said, {len(waiting(tmp_path))} kept")
    assert ended.seconds < GUARD / 2
    assert (_lost(ended), waiting(tmp_path)) == ((0, names("p", 10)) if variables else (10, []))
    if variables:
        run(tmp_path, 'km.Tracker().event("next", "Signed Up")', server.endpoint, **variables)
        each_once(server, "next", *names("p", 10))


@each_outbox
def test_a_forked_child_sends_ten_and_flushes(tmp_path, server, variables):
    """The parent has sent one before, as in a preloaded server."""
    text = """
        tracker = km.Tracker()
        tracker.event("parent", "Signed Up")
        assert tracker.flush()
        pid = os.fork()
        if pid == 0:
            for number in range(10):
                tracker.event(f"p-{number}", "Signed Up")
            assert tracker.flush()
            report(tracker.stats())
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """
    (child,) = balanced(run(tmp_path, text, server.endpoint, **variables))
    assert (child["pending"], child["handed_over"]) == (0, 10 if variables else 0)
    each_once(server, "parent", *names("p", 10))


@pytest.mark.parametrize("variables", [{}, SQLITE], ids=["memory", "sqlite"])
def test_the_next_try_after_a_429_comes_when_the_server_wants_it(tmp_path, variables):
    """Not earlier, although all other calls wait for it, too."""
    busy = Reply(429, {"Retry-After": "2"}, b"")
    with TrackingServer(lambda number, _: Reply() if number else busy) as server:
        text = EVENTS.format(3) + f"assert tracker.flush({GUARD / 2})"
        balanced(run(tmp_path, text, server.endpoint, KM_SENDERS=1, **variables))
        first, *others = server.arrivals
        figures(f"next try after {others[0] - first:.1f} s")
    assert len(others) == 3
    assert others[0] - first >= 1.9
