"""Real processes that log into a stream of a Redis server: how they fork, end, are told to end, and share it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import pytest
from test_lasting import ENDS, MULTIPROCESSING

from support.lasting import balanced, each_once, names
from support.outboxes import kept
from support.processes import Script, run
from support.redis_server import Cable, RedisServer
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, Answers, person_of

#: Nobody answers there, and nobody is to be asked.
NOWHERE = "http://127.0.0.1:9"


def there(server: RedisServer) -> Counter[str]:
    """Whom the calls tell of that are in the stream."""
    return Counter(map(person_of, kept(server.where)))


def test_a_fork_with_calls_on_their_way_puts_each_once(tmp_path, redis_server):
    """Parent and child go on, each by a connection of its own."""
    text = """
        tracker, parent = km.Tracker(), os.getpid()
        def connection():
            return tracker._pipeline._outbox._line.ask(lambda stream: stream._redis.client_id())
        tracker.event("first", "Signed Up")
        assert tracker.flush()
        mine = connection()
        for number in range(300):
            tracker.event(f"before-{number}", "Signed Up")
        pid = os.fork()
        who = "parent" if pid else "child"
        for number in range(50):
            tracker.event(f"{who}-{number}", "Signed Up")
        assert tracker.flush()
        report(tracker.stats(), who=who, connections=[mine, connection()])
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        """
    child, parent = balanced(run(tmp_path, text, NOWHERE, KM_OUTBOX=redis_server.address))
    if child["who"] == "parent":
        child, parent = parent, child
    assert (child["handed_over"], parent["handed_over"]) == (50, 351)
    assert len({parent["connections"][0], parent["connections"][1], child["connections"][1]}) == 3
    assert there(redis_server) == Counter(["first", *names("before", 300), *names("parent", 50), *names("child", 50)])


def test_forks_while_other_threads_log_lose_and_double_nothing(tmp_path, redis_server):
    """Ten children, forked in the middle of questions and answers."""
    text = """
        tracker, stop, counts, pids = km.Tracker(), threading.Event(), [], []

        def work(thread):
            number = 0
            while not stop.is_set():
                tracker.event(f"parent-{thread}-{number}", "Signed Up")
                number += 1
                time.sleep(0.0005)
            counts.append((thread, number))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(2)]
        for thread in threads: thread.start()
        for child in range(10):
            pids.append(os.fork())
            if not pids[-1]:
                for number in range(3):
                    tracker.event(f"child-{child}-{number}", "Signed Up")
                report(tracker.stats())
                sys.exit(0)
            time.sleep(0.02)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 10
        stop.set()
        for thread in threads: thread.join()
        assert tracker.flush()
        report(tracker.stats(), threads=counts)
        """
    reports = balanced(run(tmp_path, text, NOWHERE, KM_OUTBOX=redis_server.address))
    logged = [name for thread, count in reports[-1]["threads"] for name in names(f"parent-{thread}", count)]
    assert there(redis_server) == Counter([*logged, *(f"child-{child}-{it}" for child in range(10) for it in range(3))])


def test_a_child_of_a_process_that_delivers_is_a_consumer_of_its_own(tmp_path, redis_server):
    """What is in the parent's hands at the fork, the parent delivers; each call arrives once."""
    text = f"""
        tracker = km.Tracker(senders=4, deliver=True)
        for number in range(40):
            tracker.event(f"before-{{number}}", "Signed Up")
        while not tracker.stats().delivered: time.sleep(0.005)
        pid = os.fork()
        who = "parent" if pid else "child"
        for number in range(10):
            tracker.event(f"{{who}}-{{number}}", "Signed Up")
        assert tracker.flush({GUARD / 2})
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        tracker.close()
        report(tracker.stats())
        """
    with TrackingServer(Answers(Reply(delay=0.02))) as server:
        ended = run(tmp_path, text, server.endpoint, KM_OUTBOX=redis_server.address)
        reports = balanced(ended)
        assert sorted(report["accepted"] for report in reports) == [10, 50]
        assert {report["pending"] for report in reports} == {0}
        server.wait(60)
        each_once(server, *names("before", 40), *names("child", 10), *names("parent", 10))
    assert not there(redis_server)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_leave_nothing_behind(tmp_path, redis_server, method):
    """They hand over without a flush or close of their own."""
    balanced(run(tmp_path, MULTIPROCESSING.format(method=method), NOWHERE, KM_OUTBOX=redis_server.address))
    assert there(redis_server) == Counter(["parent", "child-0", "child-1"])


@pytest.mark.parametrize(("way", "code"), ENDS.values(), ids=ENDS)
def test_however_a_process_ends_each_call_is_handed_over(tmp_path, redis_server, way, code):
    """Without a word, and without the tracking server."""
    log = 'logging.info("Signed Up", extra=km.event(f"p-{number}"))'
    text = f"""
import logging.config
handler = {{"class": "km_logging.KissmetricsHandler", "drain_on_sigterm": True}}
CONFIG = {{"version": 1, "handlers": {{"km": handler}}, "root": {{"handlers": ["km"], "level": "INFO"}}}}
logging.config.dictConfig(CONFIG)
atexit.register(lambda: report(logging.root.handlers[0].stats()))
for number in range(100): {log}
{way}
"""
    balanced(run(tmp_path, text, NOWHERE, KM_OUTBOX=redis_server.address), code)
    assert there(redis_server) == Counter(names("p", 120 if "120" in way else 100))


@pytest.mark.parametrize("fault", ["cut", "die"])
def test_a_process_that_ends_without_redis_says_what_is_lost(tmp_path, redis_server, fault):
    """In one line, within its time, whether the server refuses or is silent."""
    text = """
        tracker = km.Tracker()
        tracker.event("first", "Signed Up")
        assert tracker.flush(20)
        print("cut it", flush=True)
        while tracker.stats().pending < 3:
            tracker.event("more", "Signed Up")
        """
    with (
        Cable(redis_server.port) as cable,
        Script(tmp_path, text, NOWHERE, KM_OUTBOX=cable.address, KM_DRAIN_TIMEOUT=0.5) as script,
    ):
        assert script.read_line() == "cut it"
        getattr(cable, fault)()
        ended = script.end()
    assert ended.code == 0
    lost = [line for line in ended.said if "are lost" in line]
    assert len(lost) == 1
    assert ended.seconds < GUARD / 2


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed: pip install gevent")
def test_greenlets_of_a_process_patched_by_gevent(tmp_path, redis_server):
    """Log, deliver, and fork: nothing of the parent's is used in the child."""
    text = """
        import gevent
        tracker = km.Tracker(deliver=True)
        def work(who):
            for number in range(20):
                tracker.event(f"{who}-{number}", "Signed Up")
                gevent.sleep(0.001)
        gevent.joinall([gevent.spawn(work, f"parent-{it}") for it in range(3)])
        assert tracker.flush()
        pid = os.fork()
        work("late" if pid else "child")
        assert tracker.flush()
        report(tracker.stats())
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        """
    (tmp_path / "sitecustomize.py").write_text("from gevent import monkey; monkey.patch_all()\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with TrackingServer() as server:
        ended = run(tmp_path, text, server.endpoint, KM_OUTBOX=redis_server.address, PYTHONPATH=path)
        balanced(replace(ended, err="\n".join(ended.said)))
        who = ["parent-0", "parent-1", "parent-2", "child", "late"]
        server.wait(100)
        each_once(server, *[call for name in who for call in names(name, 20)])
