"""gevent: whenever it patches, and whatever is under way when a process full of greenlets forks; over real HTTP."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from support.lasting import DURABILITIES, balanced, each_once, names, waiting
from support.processes import run
from support.servers import Reply, TrackingServer
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


def sound(ended):
    """The reports of processes whose books agree.

    gevent itself says on stderr that it comes late, and a KeyError of each thread of a parent that ends in the child.
    """
    return balanced(replace(ended, err="\n".join(ended.said)))


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
        [books] = sound(run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables))
        assert books["accepted"] == 60
        each_once(server, *before, *names("child-0", 20), *names("child-1", 20), *names("child-2", 20))
    assert waiting(tmp_path) == []
