"""The life of real processes: how they end, fork, are told to end, and are interrupted; over real HTTP throughout."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

from km_logging import process
from support.lasting import waiting
from support.processes import Ended, Script, run
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, eventually, people, person_of


@pytest.fixture
def held():
    """What a request waits for; at the end of the test it is let go."""
    held = threading.Event()
    yield held
    held.set()


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def _each_once(server: TrackingServer, *names: str) -> None:
    """Exactly these have arrived, once each."""
    assert Counter(people(server)) == Counter(names)


def _said_once(ended: Ended, calls: int) -> None:
    """One line on stderr says how many calls are lost, and nothing of them."""
    assert len(ended.said) == 1
    assert ended.said[0].startswith(f"km_logging: {calls} call{' was' if calls == 1 else 's were'} not delivered")
    assert not [it for it in [KEY, KEY_ON_THE_WIRE, "secret-plan", "p-0", "Signed"] if it in ended.said[0]]


# The end.

ENDS = {
    "bare tracker, never closed": """
        tracker = km.Tracker()
        for number in range(100):
            tracker.event(f"p-{number}", "Signed Up")
        """,
    "tracker that nobody holds": """
        def log():
            tracker = km.Tracker()
            for number in range(100):
                tracker.event(f"p-{number}", "Signed Up")
        log()
        """,
    "handler": """
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
        for number in range(100):
            logging.info("Signed Up", extra=km.event(f"p-{number}"))
        """,
    "handler that nobody lists": """
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
        logging._handlerList.clear()
        for number in range(100):
            logging.info("Signed Up", extra=km.event(f"p-{number}"))
        """,
    "structlog processor": """
        import structlog
        log = structlog.wrap_logger(None, processors=[km.KissmetricsProcessor(drop=True)])
        for number in range(100):
            log.info("Signed Up", km="event", person=f"p-{number}")
        """,
    "handler closed by dictConfig": """
        import logging.config
        handler = km.KissmetricsHandler()
        log = logging.getLogger("app")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.info("Signed Up", extra=km.event("p-0"))
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        for number in range(1, 100):
            log.info("Signed Up", extra=km.event(f"p-{number}"))
        """,
    "after logging.shutdown": """
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
        for number in range(50):
            logging.info("Signed Up", extra=km.event(f"p-{number}"))
        logging.shutdown()
        for number in range(50, 100):
            logging.info("Signed Up", extra=km.event(f"p-{number}"))
        """,
    "a thread of the application goes on": """
        tracker = km.Tracker()
        tracker.event("p-0", "Signed Up")
        def work():
            threading.main_thread().join()
            for number in range(1, 100):
                tracker.event(f"p-{number}", "Signed Up")
        threading.Thread(target=work).start()
        """,
    "two trackers": """
        for half in range(2):
            tracker = km.Tracker(senders=half + 1)
            for number in range(50 * half, 50 * half + 50):
                tracker.event(f"p-{number}", "Signed Up")
        """,
}
WAYS = {"end of the script": ("", 0), "sys.exit": ("sys.exit(3)", 3), "uncaught exception": ("1 / 0", 1)}


@pytest.mark.parametrize("text", ENDS.values(), ids=ENDS)
def test_everything_logged_before_the_end_is_delivered(tmp_path, server, text):
    ended = run(tmp_path, text, server.endpoint)
    assert (ended.code, ended.err) == (0, "")
    _each_once(server, *_names("p", 100))


@pytest.mark.parametrize(("way", "code"), WAYS.values(), ids=WAYS)
def test_however_the_script_ends(tmp_path, server, way, code):
    ended = run(
        tmp_path,
        f"""
        tracker = km.Tracker()
        for number in range(100):
            tracker.event(f"p-{{number}}", "Signed Up")
        {way}
        """,
        server.endpoint,
    )
    assert ended.code == code
    assert ended.said == []
    _each_once(server, *_names("p", 100))


def test_os_exit_sends_nothing_more_and_does_not_hang(tmp_path, held):
    """As the contract says: what waits in memory is lost."""
    with TrackingServer(Answers(held)) as server:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker()
            tracker.event("p-0", "Signed Up")
            os._exit(4)
            """,
            server.endpoint,
        )
    assert (ended.code, ended.err) == (4, "")


def test_a_thousand_calls_at_the_end_go_in_parallel(tmp_path):
    """To a server that takes 50 ms each: one after another, a hundred would arrive in drain_timeout."""
    with TrackingServer(Answers(Reply(delay=0.05))) as server:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker()
            for number in range(1000):
                tracker.event(f"p-{number}", "Signed Up")
            """,
            server.endpoint,
        )
        lost = sum(int(re.match(r"km_logging: (\d+) ", line)[1]) for line in ended.said)
        assert max(Counter(people(server)).values()) == 1
    assert len(server.targets) >= 200
    # Sixteen were under way at most when the process gave up; the server may still have counted those.
    assert 1000 <= len(server.targets) + lost <= 1016


@pytest.mark.parametrize("senders", [1, 16])
def test_a_server_that_hangs_holds_up_the_end_for_drain_timeout(tmp_path, held, senders):
    with TrackingServer(Answers(held)) as server:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker(timeout=60)
            for number in range(40):
                tracker.event(f"p-{number}", "Signed Up", plan="secret-plan")
            """,
            server.endpoint,
            KM_DRAIN_TIMEOUT=0.5,
            KM_SENDERS=senders,
        )
    assert ended.code == 0
    assert 0.5 <= ended.seconds < GUARD / 2
    _said_once(ended, 40)


def test_a_server_that_refuses_holds_up_the_end_for_drain_timeout(tmp_path):
    with refused() as endpoint:
        ended = run(
            tmp_path,
            """
            logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()], format="%(message)s")
            for number in range(40):
                logging.info("Signed Up", extra=km.event(f"p-{number}", plan="secret-plan"))
            """,
            endpoint,
            KM_DRAIN_TIMEOUT=GUARD / 15,
        )
    assert ended.code == 0
    assert GUARD / 15 <= ended.seconds < GUARD / 2
    _said_once(ended, 40)
    assert "refused" in ended.said[0]


@pytest.mark.slow
def test_the_end_of_several_trackers_takes_one_drain_timeout(tmp_path, held):
    """Not one each: with ten it would take as many times as long as the guard allows."""
    with TrackingServer(Answers(held)) as server:
        ended = run(
            tmp_path,
            f"""
            for number in range(10):
                tracker = km.Tracker(senders=number + 1, timeout=600, drain_timeout={GUARD / 10})
                logging.getLogger(str(number)).addHandler(km.KissmetricsHandler(
                    senders=number + 1, timeout=600, drain_timeout={GUARD / 10}, value_limit=100))
                tracker.event(f"p-{{number}}", "Signed Up", plan="secret-plan")
                logging.getLogger(str(number)).warning("Signed Up", extra=km.event("handled"))
            """,
            server.endpoint,
        )
    assert ended.code == 0
    assert ended.seconds < GUARD / 2
    _said_once(ended, 20)


def test_a_callback_that_hangs_does_not_hold_up_the_end(tmp_path, server):
    ended = run(
        tmp_path,
        """
        tracker = km.Tracker(before_send=lambda call: time.sleep(600))
        tracker.event("p-0", "Signed Up")
        """,
        server.endpoint,
        KM_DRAIN_TIMEOUT=0.3,
    )
    assert ended.code == 0
    _said_once(ended, 1)


def test_the_end_without_stderr_is_an_end_all_the_same(tmp_path):
    with refused() as endpoint:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker()
            tracker.event("p-0", "Signed Up")
            sys.stderr.close()
            """,
            endpoint,
            KM_DRAIN_TIMEOUT=0.2,
        )
    assert (ended.code, ended.err) == (0, "")


AFTER_OURS = {
    "handler": (
        "logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])",
        'logging.info("Signed Up", extra=km.event("{}"))',
    ),
    "bare tracker": ("tracker = km.Tracker()", 'tracker.event("{}", "Signed Up")'),
    "processor": (
        "import structlog; log = structlog.wrap_logger(None, processors=[km.KissmetricsProcessor(drop=True)])",
        'log.info("Signed Up", km="event", person="{}")',
    ),
}


@pytest.mark.parametrize(("make", "say"), AFTER_OURS.values(), ids=AFTER_OURS)
def test_what_an_exit_function_logs_after_our_own_is_delivered(tmp_path, server, make, say):
    """One that the application registered early, before its first call, runs late."""
    ended = run(
        tmp_path,
        f"""
        {make}
        @atexit.register
        def goodbye():
            {say.format("late")}
        {say.format("early")}
        """,
        server.endpoint,
    )
    assert (ended.code, ended.err) == (0, "")
    _each_once(server, "early", "late")


@pytest.mark.skipif((3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2), reason="starts no thread at exit")
@pytest.mark.parametrize(("make", "say"), AFTER_OURS.values(), ids=AFTER_OURS)
def test_a_first_call_in_an_exit_function_is_delivered(tmp_path, server, make, say):
    ended = run(
        tmp_path,
        f"""
        {make}
        @atexit.register
        def goodbye():
            {say.format("only")}
        """,
        server.endpoint,
    )
    assert (ended.code, ended.err) == (0, "")
    _each_once(server, "only")


@pytest.mark.skipif((3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2), reason="starts no thread at exit")
def test_a_handler_that_an_exit_function_revives_delivers(tmp_path, server):
    """It was closed before, so that our own exit function found nothing to do."""
    ended = run(
        tmp_path,
        """
        handler = km.KissmetricsHandler()
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        @atexit.register
        def goodbye():
            logging.info("Signed Up", extra=km.event("late"))
        logging.info("Signed Up", extra=km.event("early"))
        handler.close()
        """,
        server.endpoint,
    )
    assert (ended.code, ended.err) == (0, "")
    _each_once(server, "early", "late")


@pytest.mark.parametrize("outbox", ["memory:", "sqlite:///km.db"])
def test_where_no_thread_can_be_started_nobody_waits_and_a_file_keeps_the_calls(tmp_path, server, outbox):
    """As Python 3.12.0 to 3.12.2 have it at the end of the process; a relay, or the next process, delivers."""
    ended = run(
        tmp_path,
        """
        def start(thread):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = start
        tracker = km.Tracker()
        tracker.event("bob", "Signed Up")
        print(tracker.flush())
        tracker.event("ann", "Signed Up")
        """,
        server.endpoint,
        KM_OUTBOX=outbox,
        KM_DRAIN_TIMEOUT=10 * GUARD,
    )
    assert (ended.code, ended.out, server.targets) == (0, "False\n", [])
    assert "no thread could be started (can't start new thread): allow threads" in ended.err
    assert waiting(tmp_path) == ([] if outbox == "memory:" else ["bob", "ann"])
    lost = "2 calls were not delivered within drain_timeout and are lost (last error: no thread could be started"
    assert (lost in ended.err) == (outbox == "memory:")


AT_THE_VERY_END = """\
class AtTheVeryEnd:
    def __del__(self):
        assert sys.is_finalizing()
        {act}
        print("went on", flush=True)

"""


def at_the_very_end(act: str, text: str) -> str:
    """A script that does something while the interpreter takes itself down: it lets go of its modules then."""
    return AT_THE_VERY_END.format(act=act) + dedent(text) + "sys.modules['last'] = AtTheVeryEnd()\n"


@pytest.mark.parametrize("first", ["handler.close()", 'logging.info("Signed Up", extra=km.event("early"))'])
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_log_call_while_the_interpreter_ends_does_not_wait_for_a_thread(tmp_path, server, first, overflow):
    """Before Python 3.12, a thread that is started then is waited for, for ever."""
    text = f"""
        handler = km.KissmetricsHandler(capacity=2, overflow={overflow!r}, block_timeout=600)
        logging.basicConfig(level=logging.INFO, handlers=[handler, logging.StreamHandler()])
        {first}
        """
    ended = run(
        tmp_path,
        at_the_very_end('[logging.info("Signed Up", extra=km.event("late")) for _ in range(3)]', text),
        server.endpoint,
    )
    assert (ended.code, ended.out) == (0, "went on\n"), ended.err
    assert "no thread could be started (the interpreter is ending): allow threads, and log before the end" in ended.err
    assert "late" not in people(server)


@pytest.mark.parametrize("durability", ["batched", "immediate"])
def test_a_log_call_while_the_interpreter_ends_raises_nothing(tmp_path, server, durability):
    """Even where a handler that was closed would have to import something: there are no modules any more."""
    text = f"""
        handler = km.KissmetricsHandler(outbox="sqlite:///km.db", durability={durability!r})
        log = logging.Logger("shop")
        log.addHandler(handler)
        log.warning("Signed Up", extra=km.event("bob"))
        """
    act = "log.warning('Late', extra=km.event('ann')); report(handler.stats())"
    ended = run(tmp_path, at_the_very_end(act, text), server.endpoint)
    assert (ended.code, ended.err) == (0, "")
    assert '"dropped": {"closed": 1}' in ended.out
    assert people(server) == ["bob"]


def test_a_file_keeps_what_is_logged_while_the_interpreter_ends(tmp_path, server):
    """With durability ``immediate``, no thread is needed for that."""
    text = """
        tracker = km.Tracker(outbox="sqlite:///km.db", durability="immediate", deliver=False)
        """
    ended = run(tmp_path, at_the_very_end('tracker.event("late", "Signed Up")', text), server.endpoint)
    assert (ended.code, ended.out) == (0, "went on\n"), ended.err
    assert waiting(tmp_path) == ["late"]


#: A thread that stands still with a lock in its hands, taken after our own exit function.
HELD_TO_THE_END = """
        now, held = threading.Event(), threading.Event()
        class Last(logging.Handler):
            def close(self):
                now.set()
                held.wait()
        def hold():
            now.wait()
            with {lock}:
                held.set()
                time.sleep(600)
        last = Last()
        threading.Thread(target=hold, daemon=True).start()
"""


@pytest.mark.parametrize(
    "act",
    ["tracker.event('ann', 'Late')"]
    + [f"{it}()" for it in ("tracker.flush", "tracker.close", "tracker.stats", "flushed")],
)
def test_nobody_waits_for_threads_that_the_end_of_the_interpreter_has_stopped(tmp_path, act):
    text = f"""
        {HELD_TO_THE_END.format(lock="tracker._pipeline._delivery._turn")}
        flushed = km.flushing()(lambda: None)
        tracker = km.Tracker(drain_timeout=0.1)
        tracker.event("bob", "Signed Up")
        """
    with refused() as endpoint:
        ended = run(tmp_path, at_the_very_end(act, text), endpoint)
    assert (ended.code, ended.out) == (0, "went on\n"), ended.err
    assert "1 call was not delivered within drain_timeout and is lost" in ended.err


def test_a_handler_that_the_end_of_the_interpreter_finds_closed_waits_for_nobody(tmp_path, server):
    """Another thread was just reviving it."""
    text = f"""
        {HELD_TO_THE_END.format(lock="handler._tracker._renewing")}
        handler = km.KissmetricsHandler()
        log = logging.Logger("shop")
        log.addHandler(handler)
        log.warning("Signed Up", extra=km.event("bob"))
        """
    act = "log.warning('Late', extra=km.event('ann')); handler.close(); report(handler.stats())"
    ended = run(tmp_path, at_the_very_end(act, text), server.endpoint)
    assert ended.code == 0, ended.err
    assert '"dropped": {"closed": 1}' in ended.out
    assert ended.out.endswith("went on\n")
    assert people(server) == ["bob"]


def test_sigterm_while_the_interpreter_ends_does_what_it_did_before(tmp_path, server):
    text = """
        tracker = km.Tracker(drain_on_sigterm=True)
        tracker.event("bob", "Signed Up")
        """
    ended = run(tmp_path, at_the_very_end("os.kill(os.getpid(), signal.SIGTERM)", text), server.endpoint)
    assert (ended.code, ended.out) == (-signal.SIGTERM, ""), ended.err
    assert people(server) == ["bob"]


def test_a_tracker_that_starts_while_the_process_ends_does_not_disturb_the_end(monkeypatch):
    """Another thread makes its first call in the middle of it."""

    class Pipeline:
        settings = SimpleNamespace(drain_timeout=0.0)
        ledger = SimpleNamespace(last_error=None)
        said_left = 0

        @property
        def at_risk(self) -> int:
            process.running.add(Pipeline())
            return 0

        def begin_flush(self, *, hurry: bool) -> None:
            assert hurry

        def end_flush(self, mark: object, deadline: object) -> None:
            """Nothing to wait for."""

        def keep_rest(self) -> None:
            process.running.add(Pipeline())

    monkeypatch.setattr(process, "running", {Pipeline()})
    monkeypatch.setattr(process, "exit_deadline", None)
    process.end()


def test_a_tracker_closed_before_the_end_says_nothing_then(tmp_path):
    """Its loss is said once, at close."""
    with refused() as endpoint:
        ended = run(
            tmp_path,
            """
            logging.basicConfig(handlers=[km.KissmetricsHandler()])
            with km.Tracker() as tracker:
                tracker.event("p-0", "Signed Up")
            report(tracker.stats())
            """,
            endpoint,
            KM_DRAIN_TIMEOUT=0.2,
        )
    assert ended.code == 0
    _said_once(ended, 1)
    assert ended.reports[0]["dropped"] == {"closed": 1}


# Fork.

FORKS = {
    "os._exit after a flush": "assert tracker.flush(); report(tracker.stats()); os._exit(0)",
    "sys.exit": "report(tracker.stats()); sys.exit(0)",
    "the end of the script": "report(tracker.stats())",
    "close and os._exit": "tracker.close(); report(tracker.stats()); os._exit(0)",
}


@pytest.mark.parametrize("way", FORKS.values(), ids=FORKS)
def test_each_call_is_sent_once_by_the_process_that_made_it(tmp_path, way):
    """The parent's calls are pending at the fork, and until the child's have arrived."""
    arrived = threading.Semaphore(0)
    child_is_done = threading.Event()

    def answer(_number: int, target: str) -> Reply:
        if person_of(target).startswith("parent"):
            child_is_done.wait(GUARD / 3)
        else:
            arrived.release()
            if len([it for it in people(server) if it.startswith("child")]) == 10:
                child_is_done.set()
        return Reply()

    with TrackingServer(answer) as server:
        ended = run(
            tmp_path,
            f"""
            tracker = km.Tracker()
            for number in range(40):
                tracker.event(f"parent-{{number}}", "Signed Up")
            tracker.flush(0.2)
            assert tracker.stats().pending == 40
            pid = os.fork()
            if pid == 0:
                assert tracker.stats().accepted == 0
                for number in range(10):
                    tracker.event(f"child-{{number}}", "Signed Up")
                {way}
            else:
                _, status = os.waitpid(pid, 0)
                assert status == 0, status
                assert tracker.flush()
                report(tracker.stats())
            """,
            server.endpoint,
            KM_DRAIN_TIMEOUT=GUARD,
        )
        assert (ended.code, ended.said) == (0, [])
        _each_once(server, *_names("parent", 40), *_names("child", 10))
    child, parent = ended.reports
    assert (child["accepted"], parent["accepted"], parent["delivered"]) == (10, 40, 40)


def test_a_child_that_logs_nothing_sends_nothing(tmp_path):
    with TrackingServer(Answers(Reply(delay=0.02))) as server:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker()
            for number in range(40):
                tracker.event(f"parent-{number}", "Signed Up")
            pids = [os.fork() for _ in range(2)]
            if 0 in pids:
                assert tracker.flush()
                assert tracker.stats().pending == 0
                sys.exit(0)
            for pid in pids:
                assert os.waitpid(pid, 0)[1] == 0
            """,
            server.endpoint,
            KM_DRAIN_TIMEOUT=GUARD,
        )
        assert (ended.code, ended.said) == (0, [])
        _each_once(server, *_names("parent", 40))


def test_the_parent_may_have_logged_nothing(tmp_path, server):
    """As under gunicorn with --preload."""
    ended = run(
        tmp_path,
        """
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
        pids = []
        for number in range(3):
            pids.append(os.fork())
            if not pids[-1]:
                logging.info("Signed Up", extra=km.event(f"child-{number}"))
                sys.exit(0)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        server.endpoint,
    )
    assert (ended.code, ended.said) == (0, [])
    _each_once(server, *_names("child", 3))


@pytest.mark.slow
def test_children_may_have_children(tmp_path, server):
    ended = run(
        tmp_path,
        """
        tracker = km.Tracker()
        for depth in range(4):
            tracker.event(f"p-{depth}", "Signed Up")
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
                break
        """,
        server.endpoint,
    )
    assert (ended.code, ended.said) == (0, [])
    _each_once(server, *_names("p", 4))


MULTIPROCESSING = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    tracker = km.Tracker()
    logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler(senders=2)])

    def work(number):
        tracker.event(f"tracked-{{number}}", "Signed Up")
        logging.info("Signed Up", extra=km.event(f"logged-{{number}}"))

    def main():
        context = multiprocessing.get_context(sys.argv[-1])
        for number in range(10):
            tracker.event(f"parent-{{number}}", "Signed Up")
        {use}

    if __name__ == "__main__":
        sys.argv.append({method!r})
        main()
    """
USES = {
    "Process": """\
processes = [context.Process(target=work, args=(number,)) for number in range(4)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0] * 4""",
    "ProcessPoolExecutor": """\
with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(work, range(4)))""",
    "Pool": """\
pool = context.Pool(2)
        pool.map(work, range(4))
        pool.close()
        pool.join()""",
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_children_of_multiprocessing_deliver_what_they_logged(tmp_path, server, method, use):
    """Without a flush or close of their own, and the parent what it logged."""
    ended = run(tmp_path, MULTIPROCESSING.format(use=use, method=method), server.endpoint, KM_DRAIN_TIMEOUT=GUARD)
    assert (ended.code, ended.said) == (0, []), ended.err
    _each_once(server, *_names("parent", 10), *_names("tracked", 4), *_names("logged", 4))


def test_a_child_of_multiprocessing_whose_parent_never_logged_delivers(tmp_path, server):
    """Even where multiprocessing was imported after the library was set up."""
    ended = run(
        tmp_path,
        """
        tracker = km.Tracker()
        import multiprocessing
        def work(number):
            tracker.event(f"p-{number}", "Signed Up")
        processes = [multiprocessing.get_context("fork").Process(target=work, args=(it,)) for it in range(3)]
        for process in processes: process.start()
        for process in processes: process.join()
        """,
        server.endpoint,
    )
    assert (ended.code, ended.said) == (0, [])
    _each_once(server, *_names("p", 3))


@pytest.mark.slow
def test_a_fork_while_other_threads_log_loses_and_doubles_nothing(tmp_path, server):
    """Thirty children, forked in the middle of everything that the library does, log, deliver and end."""
    ended = run(
        tmp_path,
        """
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
        stop = threading.Event()
        counts = []

        def work(thread):
            number = 0
            while not stop.is_set() and number < 400:
                logging.info("Signed Up", extra=km.event(f"parent-{thread}-{number}"))
                number += 1
                if number % 50 == 0:
                    logging.root.handlers[0].flush()
            counts.append((thread, number))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads: thread.start()
        pids = []
        for child in range(30):
            pid = os.fork()
            if pid == 0:
                for number in range(3):
                    logging.info("Signed Up", extra=km.event(f"child-{child}-{number}"))
                sys.exit(0)
            pids.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        stop.set()
        for thread in threads: thread.join()
        print(json.dumps({"statuses": statuses, "counts": counts}))
        """,
        server.endpoint,
        KM_DRAIN_TIMEOUT=GUARD,
    )
    assert (ended.code, ended.said) == (0, [])
    (report,) = ended.reports
    assert report["statuses"] == [0] * 30
    parents = [f"parent-{thread}-{number}" for thread, count in report["counts"] for number in range(count)]
    _each_once(server, *parents, *[f"child-{child}-{number}" for child in range(30) for number in range(3)])


@pytest.mark.parametrize("module", ["requests.sessions", "urllib3.connection", "netrc", "encodings.idna"])
def test_a_fork_in_the_middle_of_an_import_leaves_no_child_behind(tmp_path, server, module):
    """A sender's thread imports what it needs, slowly; the child does not have that thread, and needs the same."""
    ended = run(
        tmp_path,
        f"""
        import importlib.abc
        started, go_on = threading.Event(), threading.Event()

        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == {module!r} and not started.is_set():
                    started.set()
                    go_on.wait({GUARD / 3})
                return None

        assert {module!r} not in sys.modules
        sys.meta_path.insert(0, Slow())
        tracker = km.Tracker()
        tracker.event("parent", "Signed Up")
        assert started.wait({GUARD / 3}), "not imported"
        threading.Timer(1.0, go_on.set).start()
        pid = os.fork()
        if pid == 0:
            go_on.set()
            tracker.event("child", "Signed Up")
            flushed = tracker.flush({GUARD / 3})
            os._exit(0 if flushed else 9)
        go_on.set()
        assert os.waitpid(pid, 0)[1] == 0, "the child could not deliver"
        """,
        server.endpoint,
        KM_DRAIN_TIMEOUT=GUARD / 3,
    )
    assert ended.code == 0, ended.err
    _each_once(server, "parent", "child")


def test_a_fork_while_another_thread_makes_a_handler_hangs_no_child(tmp_path, server):
    """That thread is in the middle of finding out whether settings are equal; the child makes a handler as well."""
    ended = run(
        tmp_path,
        f"""
        entered, go_on = threading.Event(), threading.Event()

        class Session:
            def __hash__(self):
                if threading.current_thread() is not threading.main_thread():
                    entered.set()
                    go_on.wait({GUARD / 3})
                return 1
            def __call__(self):
                import requests
                return requests.Session()

        session = Session()
        maker = threading.Thread(target=km.KissmetricsHandler, kwargs={{"session": session}})
        maker.start()
        assert entered.wait({GUARD / 3})
        pid = os.fork()
        if pid == 0:
            signal.alarm({int(GUARD / 3)})
            handler = km.KissmetricsHandler()
            handler.handle(logging.makeLogRecord({{"msg": "Signed Up", **km.event("child")}}))
            os._exit(0 if handler.flush() else 9)
        go_on.set()
        maker.join()
        assert os.waitpid(pid, 0)[1] == 0, "the child hung"
        """,
        server.endpoint,
    )
    assert ended.code == 0, ended.err
    _each_once(server, "child")


def test_a_tracker_closed_before_the_fork_stays_closed(tmp_path, server):
    ended = run(
        tmp_path,
        """
        tracker = km.Tracker()
        tracker.close()
        pid = os.fork()
        if pid == 0:
            assert not tracker.event("child", "Signed Up")
            report(tracker.stats())
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        server.endpoint,
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.reports[0]["dropped"] == {"closed": 1}
    assert server.targets == []


def test_the_identified_person_is_inherited(tmp_path, server):
    ended = run(
        tmp_path,
        """
        tracker = km.Tracker()
        with km.identify("bob"):
            pid = os.fork()
            if pid == 0:
                tracker.event(None, "Signed Up")
                sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        server.endpoint,
    )
    assert ended.code == 0
    _each_once(server, "bob")


# SIGTERM.

WAITING = """
    {before}
    tracker = km.Tracker(drain_on_sigterm={drains})
    for number in range(40):
        tracker.event(f"p-{{number}}", "Signed Up", plan="secret-plan")
    print("logged", flush=True)
    while True:
        time.sleep(0.05)
    """


def _terminated(folder: Path, server: TrackingServer, before: str = "", *, drains: object = True, **variables) -> Ended:
    with Script(folder, WAITING.format(before=before, drains=drains), server.endpoint, **variables) as script:
        assert script.read_line() == "logged"
        script.terminate()
        return script.end()


def test_sigterm_drains_and_ends_the_process_as_it_would_have(tmp_path):
    with TrackingServer(Answers(Reply(delay=0.1))) as server:
        ended = _terminated(tmp_path, server)
        assert (ended.code, ended.said) == (-signal.SIGTERM, [])
        _each_once(server, *_names("p", 40))


def test_sigterm_without_the_setting_ends_the_process_at_once(tmp_path, held):
    """What waits in memory is lost, as the contract says."""
    with TrackingServer(Answers(held)) as server:
        ended = _terminated(tmp_path, server, drains=False)
    assert (ended.code, ended.err) == (-signal.SIGTERM, "")


def test_sigterm_with_a_handler_of_the_application_drains_and_calls_it(tmp_path):
    with TrackingServer(Answers(Reply(delay=0.1))) as server:
        ended = _terminated(
            tmp_path,
            server,
            "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f'{number} {frame.f_lineno > 0}'))",
        )
        assert (ended.code, ended.err) == (1, "15 True\n")
        _each_once(server, *_names("p", 40))


def test_sigterm_that_is_ignored_stays_ignored(tmp_path):
    text = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tracker = km.Tracker(drain_on_sigterm=True)
        tracker.event("p-0", "Signed Up")
        print("logged", flush=True)
        while tracker.stats().pending: time.sleep(0.01)
        tracker.event("p-1", "Signed Up")
        """
    with TrackingServer(Answers(Reply(delay=0.1))) as server, Script(tmp_path, text, server.endpoint) as script:
        assert script.read_line() == "logged"
        script.terminate()
        assert script.end().code == 0
        _each_once(server, "p-0", "p-1")


def test_sigterm_with_a_server_that_hangs_ends_after_drain_timeout_and_says_what_is_lost(tmp_path, held):
    with TrackingServer(Answers(held)) as server:
        ended = _terminated(tmp_path, server, KM_DRAIN_TIMEOUT=0.5)
    assert ended.code == -signal.SIGTERM
    assert 0.5 <= ended.seconds < GUARD / 2
    _said_once(ended, 40)


@pytest.mark.slow
def test_sigterm_and_the_exit_that_follows_share_one_drain_timeout(tmp_path, held):
    """The application's handler ends the process by SystemExit, so there are two ends, and one time for both."""
    with TrackingServer(Answers(held)) as server:
        drains = GUARD / 4
        ended = _terminated(
            tmp_path,
            server,
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))",
            KM_DRAIN_TIMEOUT=drains,
        )
    assert ended.code == 7
    assert drains <= ended.seconds < 2 * drains
    _said_once(ended, 40)


#: The ways of an end by a web server: on SIGTERM its handler only takes note; then the ASGI middleware drains.
ANNOUNCED = {
    "the middleware, then an exit": "process.drain_now()",
    "SIGTERM, the middleware, then an exit": """
        asked = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        tracker = km.Tracker(drain_on_sigterm=True)
        tracker.event("p-40", "Signed Up")
        os.kill(os.getpid(), signal.SIGTERM)
        asked.wait()
        process.drain_now()
        """,
}


@pytest.mark.parametrize("announcing", ANNOUNCED.values(), ids=ANNOUNCED)
def test_an_end_and_what_announced_it_share_one_drain_timeout(tmp_path, held, announcing):
    """A server that hangs does not hold it up once more; and what is lost is said once."""
    text = f"""
        from km_logging import process
        first = km.Tracker()
        for number in range(40):
            first.event(f"p-{{number}}", "Signed Up", plan="secret-plan")
        {announcing}
        """
    drains = GUARD / 10
    with TrackingServer(Answers(held)) as server:
        ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=drains)
    assert ended.code == 0
    assert drains <= ended.seconds < 2 * drains
    _said_once(ended, 41 if "p-40" in announcing else 40)


def test_an_end_that_was_announced_and_did_not_come_costs_no_time(tmp_path, server):
    """What was delivered then, was; the process goes on, and delivers what it logs at its end."""
    text = """
        from km_logging import process
        tracker = km.Tracker()
        for number in range(3):
            tracker.event(f"p-{number}", "Signed Up")
            process.drain_now()
        tracker.event("p-3", "Signed Up")
        """
    ended = run(tmp_path, text, server.endpoint)
    assert (ended.code, ended.said) == (0, [])
    _each_once(server, *(f"p-{number}" for number in range(4)))


def test_sigterm_is_only_asked_for_in_the_main_thread(tmp_path, server):
    """A tracker made in another thread works, and its first call in the main thread catches SIGTERM."""
    text = """
        made = []
        thread = threading.Thread(target=lambda: made.append(km.Tracker(drain_on_sigterm=True)))
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        made[0].event("p-0", "Signed Up")
        print("logged", flush=True)
        while True: time.sleep(0.05)
        """
    with Script(tmp_path, text, server.endpoint) as script:
        assert script.read_line() == "logged"
        script.terminate()
        assert script.end().code == -signal.SIGTERM
    _each_once(server, "p-0")


def test_two_trackers_that_drain_on_sigterm_drain_once_each(tmp_path):
    with TrackingServer(Answers(Reply(delay=0.1))) as server:
        ended = _terminated(
            tmp_path,
            server,
            'other = km.Tracker(drain_on_sigterm=True, senders=2); other.event("other", "Signed Up")',
        )
        assert (ended.code, ended.said) == (-signal.SIGTERM, [])
        _each_once(server, "other", *_names("p", 40))


def test_a_forked_child_drains_on_sigterm_too(tmp_path):
    with TrackingServer(Answers(Reply(delay=0.1))) as server:
        ended = run(
            tmp_path,
            """
            tracker = km.Tracker(drain_on_sigterm=True)
            tracker.event("parent", "Signed Up")
            pid = os.fork()
            if pid == 0:
                for number in range(20):
                    tracker.event(f"child-{number}", "Signed Up")
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            assert os.waitpid(pid, 0)[1] == signal.SIGTERM
            """,
            server.endpoint,
        )
        assert (ended.code, ended.said) == (0, []), ended.err
        _each_once(server, "parent", *_names("child", 20))


@pytest.mark.parametrize(
    "asking",
    ["tracker.stats()", "tracker.flush(0.001)", "tracker.event('more', 'Signed Up')"],
    ids=["stats", "flush", "event"],
)
def test_sigterm_in_the_middle_of_whatever_we_do_drains(tmp_path, asking):
    """The main thread is inside the library nearly all the time when the signal comes."""
    text = f"""
        tracker = km.Tracker(drain_on_sigterm=True, overflow="drop_oldest", capacity=100)
        for number in range(40):
            tracker.event(f"p-{{number}}", "Signed Up")
        print("logged", flush=True)
        while True:
            {asking}
        """
    with (
        TrackingServer(Answers(Reply(delay=0.05))) as server,
        Script(tmp_path, text, server.endpoint, measured=False, KM_DRAIN_TIMEOUT=GUARD / 2) as script,
    ):
        assert script.read_line() == "logged"
        script.terminate()
        ended = script.end()
        assert ended.code == -signal.SIGTERM
        assert ended.seconds < GUARD / 2
        if "event" not in asking:
            assert ended.said == []
            _each_once(server, *_names("p", 40))


@pytest.mark.parametrize(
    "lock",
    ["tracker._pipeline._delivery._turn", "tracker._pipeline.calls._behind_lock", "threading._active_limbo_lock"],
    ids=["delivery's", "the queue's", "that of Thread.start"],
)
def test_sigterm_while_the_main_thread_holds_a_lock_drains(tmp_path, server, lock):
    """Those who deliver need it as well; a handler that waited for them right there would wait for itself."""
    text = f"""
        tracker = km.Tracker(drain_on_sigterm=True)
        tracker.event("p-0", "Signed Up")
        tracker.flush()
        for number in range(1, 40):
            tracker.event(f"p-{{number}}", "Signed Up")
        with {lock}:
            os.kill(os.getpid(), signal.SIGTERM)
            for number in range(1000): pass
        time.sleep(600)
        """
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 6)
    assert (ended.code, ended.said) == (-signal.SIGTERM, [])
    _each_once(server, *_names("p", 40))


@pytest.mark.slow
def test_sigterm_ends_each_of_500_processes_that_wait_in_c(tmp_path, server):
    """As an idle process of a pool does: between the signal and its repetition it goes back to wait for a semaphore.

    What a signal interrupts is the wait itself; one that comes just before it is not heard. 1 of 100 hung by that.
    """
    text = """
        import multiprocessing
        context = multiprocessing.get_context("fork")

        def wait(number, gate, ready):
            tracker = km.Tracker(drain_on_sigterm=True)
            tracker.event(f"p-{number}", "Signed Up")
            tracker.flush()
            ready.release()
            gate.acquire()

        for number in range(500):
            gate, ready = context.Semaphore(0), context.Semaphore(0)
            process = context.Process(target=wait, args=(number, gate, ready))
            process.start()
            ready.acquire()
            process.terminate()
            process.join(10)
            if process.exitcode != -signal.SIGTERM:
                process.kill()
                sys.exit(f"process {number}: {process.exitcode}")
        print("ended", flush=True)
        """
    with Script(tmp_path, text, server.endpoint, measured=False) as script:
        assert script.read_line() == "ended"
        ended = script.end()
    assert (ended.code, ended.err) == (0, "")
    _each_once(server, *_names("p", 500))


def test_sigterm_in_the_middle_of_a_write_to_stderr_ends_the_process(tmp_path, held):
    """What is lost cannot be said there, for Python refuses to write within a write; the end comes all the same."""
    text = """
        class Stderr:
            busy = False
            def write(self, text):
                if self.busy:
                    raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
                self.busy = True
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(600)
            def flush(self):
                pass

        tracker = km.Tracker(drain_on_sigterm=True)
        tracker.event("p-0", "Signed Up")
        sys.stderr = Stderr()
        sys.stderr.write("a line of the application's own log")
        """
    with TrackingServer(Answers(held)) as server:
        ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=0.2)
    assert ended.code == -signal.SIGTERM


# Interruptions.

INTERRUPTED = """
    import itertools
    tracker = km.Tracker({settings})
    logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler(tracker=tracker)])
    interruptions = itertools.count()  # one may come in the middle of another
    going_on = True

    def interrupt(*_):
        number = next(interruptions)
        logging.info("Signed Up", extra=km.event(f"handler-{{number}}"))
        if going_on and number < 2 * {most}:
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + number % 7 * 0.00003)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    for number in range({most}):
        logging.info("Signed Up", extra=km.event(f"main-{{number}}"))
        {between}
    going_on = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    flushed = tracker.flush({guard})
    report(tracker.stats(), flushed=flushed, logged=[{most}, next(interruptions)])
    """


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    ["", "capacity=50, overflow='drop_newest'", "capacity=50, overflow='drop_oldest'", "strict=True"],
    ids=["room for all", "drop_newest", "drop_oldest", "strict"],
)
@pytest.mark.parametrize(
    "between",
    ["pass", "number % 20 or tracker.stats()", "number % 100 or tracker.flush(1)"],
    ids=["log", "stats", "flush"],
)
def test_a_signal_handler_may_log_in_the_middle_of_anything(tmp_path, server, settings, between):
    """No deadlock, and every call of either is delivered or counted as dropped."""
    most = 1_000
    text = INTERRUPTED.format(settings=settings, between=between, most=most, guard=GUARD / 2)
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 2)
    assert (ended.code, ended.said) == (0, []), ended.err
    (report,) = ended.reports
    assert report["flushed"]
    assert report["refused"] == {}
    assert report["logged"][1] > 0
    assert report["accepted"] == sum(report["logged"])
    assert report["pending"] == 0
    assert report["delivered"] == len(server.targets) == len(set(people(server)))
    assert report["delivered"] + sum(report["dropped"].values()) == report["accepted"]
    if "capacity" not in settings:
        assert report["dropped"] == {}


@pytest.mark.slow
def test_a_signal_handler_may_make_the_first_call(tmp_path, server):
    """While the main thread makes its own, at once, over and over, in processes of their own."""
    ended = run(
        tmp_path,
        """
        def child(number):
            tracker = km.Tracker()
            done = []
            def interrupt(*_):
                done.append(tracker.event(f"handler-{number}", "Signed Up"))
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00002)
            tracker.event(f"main-{number}", "Signed Up")
            while not done: time.sleep(0.001)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            os._exit(0 if tracker.flush() else 9)

        for number in range(40):
            pid = os.fork()
            if pid == 0:
                child(number)
            assert os.waitpid(pid, 0)[1] == 0, number
        """,
        server.endpoint,
        KM_DRAIN_TIMEOUT=GUARD / 2,
    )
    assert ended.code == 0, ended.err
    _each_once(server, *_names("main", 40), *_names("handler", 40))


@pytest.mark.slow
def test_an_exception_out_of_a_signal_handler_leaves_a_tracker_that_works(tmp_path, server):
    """As Ctrl-C in a shell: wherever it strikes, what is logged next is delivered without a flush or an end."""
    text = """
        class Interrupted(BaseException): pass
        def interrupt(*_):
            raise Interrupted
        signal.signal(signal.SIGALRM, interrupt)
        tracker = km.Tracker(capacity=1_000_000)
        tracker.event("first", "Signed Up")
        tracker.flush()
        interrupted = 0
        for round in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + round * 0.000001)
                for number in range(2000):
                    tracker.set("often")
            except Interrupted:
                interrupted += 1
        tracker.event("last", "Signed Up")
        print(interrupted, flush=True)
        time.sleep(600)
        """
    with Script(tmp_path, text, server.endpoint) as script:
        assert int(script.read_line()) == 300
        eventually(lambda: "last" in people(server))
        script.terminate()
        assert script.end().err == ""


@pytest.mark.slow
def test_a_finaliser_may_log_in_the_middle_of_anything(tmp_path, server):
    """Whatever thread collects the garbage, and whatever it does: no deadlock, and what it logged is delivered.

    But in our own threads, where nothing is tracked: those are counted apart.
    """
    ended = run(
        tmp_path,
        """
        import gc, itertools
        from km_logging.guard import ours as in_ours
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler(capacity=100_000)])
        handler = logging.root.handlers[0]
        theirs, ours, made = itertools.count(), itertools.count(), itertools.count()

        class Cyclic:
            def __init__(self):
                self.me = self
                next(made)
            def __del__(self):
                next(ours if in_ours.get() else theirs)
                logging.info("Collected", extra=km.event("finaliser"))

        gc.set_threshold(7, 2, 2)
        def work():
            for number in range(300):
                Cyclic()
                logging.info("Signed Up", extra=km.event("main", a=[1], b={"c": 2}))
                if number % 100 == 0:
                    handler.flush(1)
                    handler.stats()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        gc.collect()
        flushed = handler.flush()
        report(handler.stats(), flushed=flushed, theirs=next(theirs), ours=next(ours), made=next(made))
        """,
        server.endpoint,
        KM_DRAIN_TIMEOUT=GUARD / 2,
    )
    assert ended.code == 0, ended.err
    (report,) = ended.reports
    assert report["flushed"]
    assert report["theirs"] + report["ours"] == report["made"] == 900
    assert report["theirs"] > 0
    assert report["accepted"] == report["delivered"] == 900 + report["theirs"]
    assert Counter(people(server)) == {"main": 900, "finaliser": report["theirs"]}


SOAK = """
    import logging.config, random
    # One logger keeps its handler whatever happens; the other's is replaced again and again.
    CONFIG = {{
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {{"km": {{"class": "km_logging.KissmetricsHandler"}}}},
        "loggers": {{"configured": {{"handlers": ["km"], "level": "INFO"}}}},
    }}
    logging.config.dictConfig(CONFIG)
    handler = km.KissmetricsHandler()
    fixed = logging.getLogger("fixed")
    fixed.setLevel(logging.INFO)
    fixed.addHandler(handler)
    configured = logging.getLogger("configured")
    end = time.monotonic() + {seconds}
    logged, timed_out, errors = [], [], []

    def going_on():
        return time.monotonic() < end

    def guarded(work):
        def run(*args):
            try:
                work(*args)
            except BaseException as error:
                errors.append(repr(error))
        return run

    @guarded
    def log(thread):
        number = 0
        while going_on():
            fixed.info("Signed Up", extra=km.event(f"fixed-{{thread}}-{{number}}"))
            configured.info("Signed Up", extra=km.event(f"configured-{{thread}}-{{number}}"))
            number += 1
            if number % 10 == 0:
                time.sleep(0.01)
        logged.append((thread, number))

    @guarded
    def disturb(work):
        chance = random.Random(work.__name__)
        while going_on():
            work()
            time.sleep(chance.random() * 0.02)

    def configure(): logging.config.dictConfig(CONFIG)
    def shut_down(): logging.shutdown()
    def close(): handler.close()
    def flush(): timed_out.extend([] if handler.flush() else ["flush"])
    def stats(): handler.stats()

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=disturb, args=(work,)) for work in [{works}]]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    flushed = handler.flush()
    report(handler.stats(), flushed=flushed, logged=logged, timed_out=timed_out, errors=errors)
    """


@pytest.mark.slow
@pytest.mark.parametrize(
    "works", ["configure, flush, stats", "shut_down, close, flush, stats", "configure, shut_down, close, flush, stats"]
)
def test_a_soak_of_everything_at_once_loses_and_doubles_nothing_in_silence(tmp_path, server, works):
    """While threads log, others configure, shut down, close and flush: no deadlock, and books that agree.

    A call that comes right while a handler is closed may be dropped, but is counted, and said.
    """
    text = SOAK.format(seconds=3, works=works)
    ended = run(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD / 3)
    assert ended.code == 0, ended.err
    (report,) = ended.reports
    assert report["errors"] == []
    assert report["flushed"]
    assert report["timed_out"] == []
    fixed = {f"fixed-{thread}-{number}" for thread, count in report["logged"] for number in range(count)}
    configured = {f"configured-{thread}-{number}" for thread, count in report["logged"] for number in range(count)}
    arrived = Counter(people(server))
    assert max(arrived.values()) == 1
    assert set(arrived) <= fixed | configured
    assert report["pending"] == 0
    assert report["delivered"] == len(arrived)
    assert report["accepted"] == report["delivered"] + sum(report["dropped"].values())
    assert set(report["dropped"]) <= {"closed"}
    # What is missing of those whose handler was there all the time was dropped, and said.
    assert len(fixed - set(arrived)) <= report["dropped"].get("closed", 0)
    said = sum(int(re.match(r"km_logging: (\d+) ", line)[1]) for line in ended.said)
    assert said <= report["dropped"].get("closed", 0)


@pytest.mark.parametrize("session", ["None", "requests.Session"], ids=["ours", "of the user"])
def test_a_child_ends_although_a_thread_held_the_lock_of_the_connections_at_the_fork(tmp_path, server, session):
    """At the end of a process urllib3 empties each pool; that of the parent must not be waited for in a child."""
    text = f"""
        import requests
        tracker = km.Tracker(session={session})
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        connections = tracker._pipeline._delivery._sender._connections.pool
        held, done = threading.Event(), threading.Event()

        def hold():
            with connections.mutex:
                held.set()
                done.wait()

        threading.Thread(target=hold).start()
        held.wait()
        pid = os.fork()
        if pid:
            print(os.waitpid(pid, 0)[1])
            done.set()
        """
    ended = run(tmp_path, text, server.endpoint)
    assert (ended.code, ended.out) == (0, "0\n"), ended.err
