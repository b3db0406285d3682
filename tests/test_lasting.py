"""Real processes with an outbox in a file: how they fork, end, are told to end, and share it; over real HTTP."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec

import pytest
from test_process import SOAK

from km_logging.addresses import parse_outbox
from km_logging.outbox.database import Database
from support.lasting import DURABILITIES, IMMEDIATE, SQLITE, balanced, each_once, figures, names, relay_for, waiting
from support.processes import Script, run
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, Answers, people

each_durability = pytest.mark.parametrize("variables", DURABILITIES.values(), ids=DURABILITIES)


# Forks.

FORKS = ["the parent waits for the child", "the parent ends first", "the child ends without exit functions"]


@each_durability
@pytest.mark.parametrize("way", FORKS)
def test_a_fork_with_calls_pending_in_the_parent_sends_each_once(tmp_path, way, variables):
    """Both go on logging, and whoever delivers in the end, delivers for both."""
    child_waits = "while os.getppid() == parent: time.sleep(0.005)" if "first" in way else ""
    parent_waits = "" if child_waits else "assert os.waitpid(pid, 0)[1] == 0"
    leave = "assert tracker.flush(); report(tracker.stats()); os._exit(0)" if "without" in way else ""
    with TrackingServer(Answers(Reply(delay=0.02))) as server:
        text = f"""
            tracker, parent = km.Tracker(senders=4), os.getpid()
            atexit.register(lambda: report(tracker.stats(), child=os.getpid() != parent))
            for number in range(40):
                tracker.event(f"before-{{number}}", "Signed Up")
            pid = os.fork()
            if pid == 0:
                assert tracker.stats().accepted == 0
                tracker.event("child-0", "Signed Up")
                {child_waits}
                for number in range(1, 10):
                    tracker.event(f"child-{{number}}", "Signed Up")
                {leave}
            else:
                for number in range(10):
                    tracker.event(f"parent-{{number}}", "Signed Up")
                {parent_waits}
            assert tracker.flush({GUARD / 2})
            """
        ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables)
        reports = balanced(ended)
        assert sorted(report["accepted"] for report in reports) == [10, 50]
        assert {report["pending"] for report in reports} == {0}
        each_once(server, *names("before", 40), *names("child", 10), *names("parent", 10))
    assert waiting(tmp_path) == []


@each_durability
def test_a_flush_right_after_a_fork_waits_for_what_was_logged_before(tmp_path, server, variables):
    """The fork has closed the file; the calls in it are still known."""
    text = f"""
        tracker = km.Tracker(senders=1)
        for number in range(30):
            tracker.event(f"p-{{number}}", "Signed Up")
        tracker.stats()
        if os.fork() == 0:
            os._exit(0)
        assert tracker.flush({GUARD / 2})
        assert tracker.stats().delivered == 30
        """
    ended = run(tmp_path, text, server.endpoint, **variables)
    balanced(ended)
    each_once(server, *names("p", 30))


@each_durability
def test_forks_while_other_threads_use_the_file_lose_and_double_nothing(tmp_path, server, variables):
    """Ten children, forked in the middle of commits, deliveries and deletions."""
    text = """
        tracker, stop, counts, pids = km.Tracker(), threading.Event(), [], []

        def work(thread):
            number = 0
            while not stop.is_set() and number < 300:
                tracker.event(f"parent-{thread}-{number}", "Signed Up")
                number += 1
                time.sleep(0.0005)
            counts.append(number)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(2)]
        for thread in threads: thread.start()
        for child in range(10):
            pids.append(os.fork())
            if not pids[-1]:
                for number in range(3):
                    tracker.event(f"child-{child}-{number}", "Signed Up")
                report(tracker.stats())
                sys.exit(0)
            time.sleep(0.01)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 10
        stop.set()
        for thread in threads: thread.join()
        assert tracker.flush()
        report(tracker.stats(), threads=counts)
        """
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables)
    logged = sum(balanced(ended)[-1]["threads"])
    arrived = Counter(people(server))
    assert set(arrived.values()) == {1}
    assert len(arrived) == logged + 30


@pytest.mark.parametrize("before", ['tracker.event("parent", "Signed Up")', ""], ids=["in use", "not in use"])
def test_an_immediate_call_outlives_os_exit_in_a_child(tmp_path, before):
    """As in a worker of RQ, that ends so after each job."""
    with refused() as endpoint:
        text = f"""
            tracker = km.Tracker()
            {before}
            for number in range(5):
                pid = os.fork()
                if pid == 0:
                    tracker.event(f"child-{{number}}", "Signed Up")
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            os._exit(0)
            """
        ended = run(tmp_path, text, endpoint, **IMMEDIATE)
    balanced(ended)
    assert waiting(tmp_path) == ["parent"] * bool(before) + names("child", 5)


def test_a_child_that_logs_nothing_does_not_keep_others_from_delivering(tmp_path, server):
    """It inherits what elects the process that delivers, and lives on while its parent has ended."""
    text = """
        tracker = km.Tracker()
        tracker.event("parent", "Signed Up")
        assert tracker.flush()
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        print(pid, flush=True)
        os._exit(0)
        """
    with Script(tmp_path, text, server.endpoint, **SQLITE) as script:
        child = int(script.read_line())
        try:
            balanced(run(tmp_path, 'km.Tracker().event("other", "Signed Up")', server.endpoint, **SQLITE))
        finally:
            os.kill(child, signal.SIGKILL)
        each_once(server, "parent", "other")


def test_a_fork_in_the_middle_of_the_first_call_of_another_thread(tmp_path, server):
    """That thread has the file open, and is elected; the child uses the file, and is elected when the parent ends."""
    text = """
        from km_logging.outbox.sqlite import SqliteOutbox
        committed, go_on = threading.Event(), threading.Event()
        commit = SqliteOutbox.put_now
        def put_now(outbox, *args):
            done = commit(outbox, *args)
            if threading.current_thread() is not threading.main_thread():
                committed.set()
                go_on.wait()
            return done
        SqliteOutbox.put_now = put_now
        tracker = km.Tracker()
        thread = threading.Thread(target=tracker.event, args=("parent", "Signed Up"))
        thread.start()
        committed.wait()
        pid = os.fork()
        if pid:
            go_on.set()
            thread.join()
            tracker.close()
            report(tracker.stats())
            assert os.waitpid(pid, 0)[1] == 0
        else:
            while not tracker.stats().delivered:
                tracker.event("child", "Signed Up")
                time.sleep(0.02)
            report(tracker.stats())
        """
    ended = run(tmp_path, text, server.endpoint, **IMMEDIATE)
    assert all(report["accepted"] for report in balanced(ended))
    assert waiting(tmp_path) == []
    assert set(people(server)) == {"parent", "child"}


MULTIPROCESSING = """
    import multiprocessing
    logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])

    def work(number):
        logging.info("Signed Up", extra=km.event(f"child-{{number}}"))

    def main():
        logging.info("Signed Up", extra=km.event("parent"))
        context = multiprocessing.get_context({method!r})
        processes = [context.Process(target=work, args=(number,)) for number in range(2)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0, 0]

    if __name__ == "__main__":
        main()
    """


@each_durability
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_leave_nothing_behind(tmp_path, server, method, variables):
    """They hand over to the parent, without a flush or close of their own."""
    balanced(run(tmp_path, MULTIPROCESSING.format(method=method), server.endpoint, **variables))
    each_once(server, "parent", "child-0", "child-1")
    assert waiting(tmp_path) == []


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed: pip install gevent")
@each_durability
def test_greenlets_of_a_process_patched_by_gevent_log_and_deliver(tmp_path, server, variables):
    """And so does a child that it forks: no greenlet of the parent's sends anything there."""
    text = """
        import gevent
        tracker = km.Tracker()
        def work(who):
            for number in range(20):
                tracker.event(f"{who}-{number}", "Signed Up")
                gevent.sleep(0.001)
        gevent.joinall([gevent.spawn(work, f"parent-{it}") for it in range(3)])
        assert tracker.flush()  # a greenlet with a request under way would go on in the child, on the parent's socket
        pid = os.fork()
        work("child" if pid == 0 else "late")
        assert tracker.flush()
        report(tracker.stats())
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        """
    patched = "from gevent import monkey; monkey.patch_all()\n"
    (tmp_path / "sitecustomize.py").write_text(patched)  # before anything else is imported
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = run(tmp_path, text, server.endpoint, PYTHONPATH=path, **variables)
    balanced(ended)
    who = ["parent-0", "parent-1", "parent-2", "child", "late"]
    each_once(server, *[call for name in who for call in names(name, 20)])
    assert waiting(tmp_path) == []


# Several processes on one file.

SECOND = """
    tracker = km.Tracker()
    for number in range(10):
        tracker.event(f"second-{number}", "Signed Up")
    assert tracker.flush()
    report(tracker.stats())
    sys.stdin.readline()
    end = time.monotonic() + 20
    while not tracker.stats().delivered and time.monotonic() < end:
        tracker.event("often", "Signed Up")
        time.sleep(0.02)
    tracker.close()
    report(tracker.stats())
    """


@each_durability
def test_one_process_delivers_for_all_until_it_ends(tmp_path, server, variables):
    """The other hands over, and takes over when the first one has ended."""
    text = f"""
        import subprocess, textwrap
        tracker = km.Tracker()
        tracker.event("first", "Signed Up")
        assert tracker.flush()
        head = open(__file__).read().split("import subprocess")[0]
        command = [sys.executable, "-c", head + textwrap.dedent({SECOND!r})]
        second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(second.stdout.readline(), end="", flush=True)
        while tracker._pipeline._outbox._access.file.count(): time.sleep(0.005)
        assert tracker.stats().delivered == 1
        tracker.close()
        report(tracker.stats())
        print(second.communicate("go on")[0], end="", flush=True)
        """
    ended = run(tmp_path, text, server.endpoint, **variables)
    second, first, second_at_the_end = balanced(ended)
    assert (first["accepted"], first["delivered"]) == (1, 1)
    assert (second["delivered"], second["handed_over"]) == (0, 10)
    assert second_at_the_end["delivered"] > 0
    assert (second_at_the_end["pending"], waiting(tmp_path)) == (0, [])
    arrived = Counter(people(server))
    assert arrived.pop("often") == second_at_the_end["accepted"] - 10
    assert arrived == Counter(["first", *names("second", 10)])


@each_durability
def test_a_process_that_only_fills_the_file_needs_no_key_and_no_server(tmp_path, server, variables):
    """It says nothing, hands over, and ends at once; a relay delivers."""
    text = """
        del os.environ["KM_API_KEY"]
        tracker = km.Tracker(deliver=False)
        for number in range(100):
            tracker.event(f"p-{number}", "Signed Up")
        assert tracker.flush()
        report(tracker.stats(), requests="requests" in sys.modules)
        """
    (books,) = balanced(run(tmp_path, text, server.endpoint, **variables))
    assert (books["handed_over"], books["requests"], server.targets) == (100, False, [])
    assert waiting(tmp_path) == names("p", 100)
    relay = relay_for(tmp_path, server)
    relay.run_once()
    assert (relay.close().delivered, waiting(tmp_path)) == (100, [])
    each_once(server, *names("p", 100))


def test_threads_that_make_one_file_together_all_can_use_it(tmp_path):
    """As processes do that start together: none takes the half-made file for another program's, or gives up early."""
    for number in range(60):
        address = parse_outbox("outbox", f"sqlite:///{tmp_path}/{number}.db")
        barrier = threading.Barrier(4)

        def use(_: int, address=address, barrier=barrier) -> None:
            barrier.wait(GUARD)
            Database(address, creates=True, patience=GUARD).close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, range(4)))  # raises what they raise


# Ends.

LOG = 'logging.info("Signed Up", extra=km.event(f"p-{number}"))'
ENDS = {
    "the end of the script": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "logging.shutdown, and more calls": (f"logging.shutdown()\nfor number in range(100, 120): {LOG}", 0),
    "dictConfig again and again": (f"for number in range(100, 120):\n  logging.config.dictConfig(CONFIG)\n  {LOG}", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(600)", -signal.SIGTERM),
    "os._exit after a flush": ("logging.root.handlers[0].flush()\nos._exit(0)", 0),
}


@each_durability
@pytest.mark.parametrize(("way", "code"), ENDS.values(), ids=ENDS)
def test_however_a_process_ends_each_call_is_delivered_once(tmp_path, server, way, code, variables):
    """And nothing of them stays in the file."""
    text = f"""
import logging.config
handler = {{"class": "km_logging.KissmetricsHandler", "drain_on_sigterm": True}}
CONFIG = {{"version": 1, "handlers": {{"km": handler}}, "root": {{"handlers": ["km"], "level": "INFO"}}}}
logging.config.dictConfig(CONFIG)
atexit.register(lambda: report(logging.root.handlers[0].stats()))
for number in range(100): {LOG}
{way}
"""
    balanced(run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables), code)
    each_once(server, *names("p", 120 if "120" in way else 100))
    assert waiting(tmp_path) == []


@each_durability
@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)", -signal.SIGTERM), ("tracker.close()", 0)],
    ids=["exit", "SIGTERM", "close"],
)
def test_what_cannot_be_delivered_stays_for_the_next_process(tmp_path, server, end, code, variables):
    """It says nothing, for nothing is lost; the next one takes it up with its first call, and not before."""
    text = f"""
        tracker = km.Tracker(drain_on_sigterm=True, drain_timeout=0.3)
        for number in range(20):
            tracker.event(f"p-{{number}}", "Signed Up")
        {end}
        atexit.register(lambda: report(tracker.stats()))
        """
    with refused() as endpoint:
        ended = run(tmp_path, text, endpoint, **variables)
    assert all(report["pending"] + report["handed_over"] == 20 for report in balanced(ended, code))
    assert ended.seconds < GUARD / 2
    assert waiting(tmp_path) == names("p", 20)
    text = """
        tracker = km.Tracker()
        logging.getLogger().addHandler(km.KissmetricsHandler(tracker=tracker))
        logging.warning("not a call")
        assert threading.active_count() == 1
        tracker.event("next", "Signed Up")
        """
    balanced(run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables))
    each_once(server, "next", *names("p", 20))
    assert waiting(tmp_path) == []


def test_a_before_send_that_hangs_does_not_hold_up_the_end(tmp_path, server):
    """`batched`: what it has not passed on is lost, and said; what was passed on before is delivered."""
    text = """
        def before_send(call):
            if call.person == "p-1": time.sleep(600)
            return call
        tracker = km.Tracker(before_send=before_send)
        tracker.event("p-0", "Signed Up")
        assert tracker.flush(20)
        tracker.event("p-1", "Signed Up")
        """
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=0.3, **SQLITE)
    assert ended.code == 0
    assert [line.partition(" was ")[0] for line in ended.said] == ["km_logging: 1 call"]
    assert ended.seconds < GUARD / 2
    each_once(server, "p-0")


def test_a_before_send_that_hangs_holds_up_only_its_own_immediate_call(tmp_path, server):
    """Neither those of other threads, nor delivery, nor the end of the process."""
    text = """
        hanging = threading.Event()
        def before_send(call):
            if call.person == "hangs":
                hanging.set()
                time.sleep(600)
            return call
        tracker = km.Tracker(before_send=before_send)
        threading.Thread(target=tracker.event, args=("hangs", "Signed Up"), daemon=True).start()
        hanging.wait()
        tracker.event("p-0", "Signed Up")
        while not tracker.stats().delivered: time.sleep(0.005)
        """
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=0.3, **IMMEDIATE)
    assert ended.code == 0
    assert ended.seconds < GUARD / 2
    each_once(server, "p-0")


# Interruptions.


@pytest.mark.parametrize("deliver", [False, True], ids=["fills", "delivers"])
def test_a_signal_handler_that_logs_in_the_middle_of_an_immediate_call_commits_too(tmp_path, deliver):
    """Each is in the file when its log call has returned: nothing is done after that."""
    text = f"""
        import itertools
        tracker = km.Tracker(deliver={deliver})
        interruptions = itertools.count()
        def interrupt(*_):
            number = next(interruptions)
            tracker.event(f"handler-{{number}}", "Signed Up")
            if number < 300:
                signal.setitimer(signal.ITIMER_REAL, 0.0003 + number % 7 * 0.00005)
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        main = 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            tracker.event(f"main-{{main}}", "Signed Up")
            main += 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        report(tracker.stats(), main=main, handler=next(interruptions))
        os._exit(0)
        """
    with refused() as endpoint:
        ended = run(tmp_path, text, endpoint, measured=False, KM_CAPACITY=1_000_000, **IMMEDIATE)
    (books,) = balanced(ended)
    assert books["handler"] > 10
    assert books["refused"] == {}
    assert Counter(waiting(tmp_path)) == Counter(names("main", books["main"]) + names("handler", books["handler"]))


@pytest.mark.slow
@each_durability
@pytest.mark.parametrize("works", ["configure, flush, stats", "configure, shut_down, close, flush, stats"])
def test_a_soak_of_everything_at_once_loses_and_doubles_nothing(tmp_path, server, works, variables):
    """While threads log, others configure, shut down, close and flush; as for memory in `test_process`, but no loss."""
    text = SOAK.format(seconds=2, works=works)
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2, **variables)
    # Where a log call cannot commit in time, it says so, and its call waits in memory.
    (report,) = balanced(replace(ended, err=""))
    figures(f"{report['accepted']} calls, {report['handed_over']} from one pipeline to the next, {report['dropped']}")
    assert (report["errors"], report["timed_out"], report["flushed"], report["pending"]) == ([], [], True, 0)
    counts = report["logged"]
    logged = [call for who in ["fixed", "configured"] for it, count in counts for call in names(f"{who}-{it}", count)]
    arrived = Counter(people(server))
    assert set(arrived.values()) == {1}
    assert set(logged) - set(arrived) == set()
    assert (report["accepted"], report["dropped"], waiting(tmp_path)) == (len(logged), {}, [])
