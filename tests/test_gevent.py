"""gevent: whenever it patches, and whatever is under way when a process full of greenlets forks; over real HTTP."""

from __future__ import annotations

import os

import pytest

from support.lasting import DURABILITIES, SQLITE, balanced, each_once, names, waiting
from support.processes import run
from support.servers import Reply, TrackingServer
from support.tls import SecureServer, authority
from support.tracking import GUARD, Answers

pytest.importorskip("gevent", reason="pip install gevent")

OUTBOXES = {"memory": {}, **DURABILITIES}
each_outbox = pytest.mark.parametrize("variables", OUTBOXES.values(), ids=OUTBOXES)

PATCH = "from gevent import monkey; monkey.patch_all()"


def run_patched(folder, text, endpoint, **variables):
    """Run a script in a process that is patched before anything else is imported."""
    (folder / "sitecustomize.py").write_text(PATCH)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return run(folder, text, endpoint, PYTHONPATH=path, **variables)


@each_outbox
@pytest.mark.parametrize("parent", ["has nothing to say", "has delivered"])
def test_a_child_that_is_patched_after_the_fork_logs_and_delivers(tmp_path, variables, parent):
    """As gunicorn's workers with --preload; its greenlets wait and send side by side, as if patched from the start."""
    before = ["before"] if parent == "has delivered" else []
    text = f"""
        tracker = km.Tracker()
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler(tracker=tracker)])
        for person in {before}:
            tracker.event(person, "Signed Up")
        assert tracker.flush({GUARD / 2})
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        else:
            {PATCH}
            import gevent
            def work(who):
                for number in range(20):
                    logging.info("Signed Up", extra=km.event(f"{{who}}-{{number}}"))
                    gevent.sleep(0)
            gevent.joinall([gevent.spawn(work, f"child-{{it}}") for it in range(3)])
            assert tracker.flush({GUARD / 2})
            report(tracker.stats())
        """
    with TrackingServer(Answers(Reply(delay=0.02))) as server:
        [books] = balanced(run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables))
        assert books["accepted"] == 60
        each_once(server, *before, *names("child-0", 20), *names("child-1", 20), *names("child-2", 20))
    assert waiting(tmp_path) == []


FORK = f"""
    import gevent
    tracker = km.Tracker(senders=8)
    for number in range(8):
        tracker.event(f"parent-{{number}}", "Signed Up")
    under_way = tracker._pipeline._delivery._under_way
    while len(under_way) < 8: gevent.sleep(0.01)
    AT_ONCE or gevent.sleep(0.1)  # what is asked at once is to connect
    pid = os.fork()
    for number in range(20):
        tracker.event(f"{{'late' if pid else 'child'}}-{{number}}", "Signed Up")
        gevent.sleep(0.02)
    assert tracker.flush({GUARD / 2})
    report(tracker.stats())
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    """


@pytest.mark.parametrize("variables", [{}, SQLITE], ids=["memory", "file"])
@pytest.mark.parametrize("at_once", [True, False], ids=["connecting", "waiting for answers"])
def test_a_fork_with_requests_under_way_in_greenlets_sends_each_once(tmp_path, at_once, variables):
    """The child has copies of these greenlets and their connections; none of them takes an answer of the parent's."""
    with TrackingServer(Answers(Reply(delay=0.3))) as server:
        text = FORK.replace("AT_ONCE", str(at_once))
        balanced(run_patched(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables))
        each_once(server, *names("parent", 8), *names("child", 20), *names("late", 20))
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("at_once", [True, False], ids=["shaking hands", "waiting for answers"])
def test_a_fork_with_requests_under_way_over_tls_sends_each_once(tmp_path, at_once):
    """What the child's copies say would break the parent's connections."""
    signer, file = authority(tmp_path)
    with SecureServer(signer, Answers(Reply(delay=0.3))) as server:
        text = FORK.replace("AT_ONCE", str(at_once))
        variables = {"KM_DRAIN_TIMEOUT": GUARD / 2, "REQUESTS_CA_BUNDLE": file}
        reports = balanced(run_patched(tmp_path, text, server.endpoint, **variables))
        each_once(server, *names("parent", 8), *names("child", 20), *names("late", 20))
    assert at_once or {report["retried"] for report in reports} == {0}
