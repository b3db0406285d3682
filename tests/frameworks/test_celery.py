"""Celery: real workers of each pool behind a real broker; who is told of, what their ends and their logging cost."""

from __future__ import annotations

import signal
import textwrap
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from km_logging.sandbox.server import Sandbox
from support.applications import EXAMPLES, Application, commands_of
from support.servers import Reply, TrackingServer
from support.tracking import Answers

APP = """\
    import logging, os, threading, time, uuid
    from celery import Celery, signals
    from celery.utils.log import get_task_logger
    import km_logging as km
    from km_logging.contrib.celery import connect

    app = Celery("shop", broker=os.environ["BROKER"], backend="cache+memory://")
    logger = logging.getLogger("shop")
    task_logger = get_task_logger(__name__)
    signals.worker_ready.connect(lambda **_: os.write(1, b"is ready\\n"), weak=False)
    {setup}

    @app.task
    def order(number):
        logger.info("Ordered", extra=km.event(number=number))
        task_logger.info("Confirmed", extra=km.event(number=number))

    @app.task
    def slow(number, pause):
        for part in range(20):
            logger.info("Begun", extra=km.event(number=number, part=part))
        os.write(1, b"has begun\\n")  # at once: two may say it together
        time.sleep(pause)
        logger.info("Done", extra=km.event(number=number, part=0))

    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def again(self, number):
        logger.info("Tried", extra=km.event(number=number, attempt=self.request.retries))
        if not self.request.retries:
            self.retry()

    @app.task
    def fails(number):
        logger.info("Failed", extra=km.event(number=number))
        raise LookupError(number)

    @app.task
    def causes(number):
        order.delay(number)
        order.apply((f"{{number}}, at once",))
    """

EXPLICIT = "connect(km.KissmetricsHandler())"

SENDING = """\
    import sys, threading, uuid
    import km_logging as km
    from shop import *

    """

ORDERS = """\
    def request(number):
        with km.identify(f"person-{number}"):
            order.delay(number)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """

POOLS = {"prefork": 2, "threads": 4, "gevent": 10}
each_pool = pytest.mark.parametrize("pool", ["prefork", "threads", pytest.param("gevent", marks=pytest.mark.slow)])


class Shop:
    """The application in a folder; workers of it, and processes that send tasks as web requests would."""

    def __init__(self, folder: Path, broker: str, endpoint: str, setup: str = EXPLICIT) -> None:
        self._folder = folder
        self._variables = {"BROKER": broker, "KM_API_KEY": "any", "KM_ENDPOINT": endpoint}
        (folder / "shop.py").write_text(textwrap.dedent(APP).format(setup=setup))

    @contextmanager
    def worker(self, pool: str = "prefork", *options: str, **variables: object) -> Iterator[Application]:
        """A worker that is ready for tasks."""
        command = ["celery", "--app", "shop", "worker", "--without-gossip", "--without-mingle", "--pool", pool]
        options = ("--concurrency", str(POOLS[pool]), "--loglevel", "INFO", *options)  # the last one counts
        variables = {**self._variables, "KM_DRAIN_TIMEOUT": 20, **variables}
        with Application([*command, *options], self._folder, **variables) as worker:
            worker.wait_for("is ready")
            yield worker

    def send(self, script: str) -> None:
        """Have a process send tasks; it returns when they are with the broker."""
        (self._folder / "send.py").write_text(textwrap.dedent(SENDING) + textwrap.dedent(script))
        with Application(["python", "send.py"], self._folder, **self._variables) as sender:
            assert sender.end() == 0, sender.said


@pytest.fixture
def shop(tmp_path: Path, sandbox: Sandbox, broker: str) -> Shop:
    """The application, with the sandbox as its tracking server."""
    return Shop(tmp_path, broker, sandbox.endpoint)


Told = Counter[tuple[str, ...]]


def told(sandbox: Sandbox) -> Told:
    """Who did what with which number, and how often that arrived."""
    assert [call.problems for call in sandbox.calls] == [()] * len(sandbox.calls)
    return Counter((call.person, call.name, call.properties["number"]) for call in sandbox.calls)


def of_each(count: int, *names: str) -> Told:
    """Each of so many people, each of these names, once."""
    return Counter((f"person-{number}", name, str(number)) for number in range(count) for name in names)


@each_pool
def test_every_event_of_every_task_arrives_once_with_the_person_of_the_request(shop, sandbox, pool):
    """Twenty people's requests cause tasks at once; then the worker is told to stop, and ends warmly."""
    with shop.worker(pool) as worker:
        shop.send(ORDERS)
        worker.wait_for("succeeded", 20)
        assert worker.stop() == 0, worker.said
    assert told(sandbox) == of_each(20, "Ordered", "Confirmed")


def test_a_person_goes_wherever_a_task_leads_and_no_further(shop, sandbox):
    """Through retries, chains, tasks caused by tasks, in one process one after another; nobody's tasks are nobody's."""
    with shop.worker("prefork", "--concurrency", "1") as worker:
        shop.send(
            """
            with km.identify("ann"):
                again.delay(1)
            with km.identify(uuid.UUID(int=2)):
                (fails.si(2)).delay()
            with km.identify(3):
                (order.si(31) | order.si(32)).delay()
            order.delay(4)
            with km.identify("bob"):
                causes.delay(5)
                order.apply((6,))
                with km.identify(None):
                    order.delay(7)
                with km.identify(["no", "person"]):
                    order.delay(8)
            """
        )
        worker.wait_for("succeeded|LookupError:", 10)
        assert worker.stop() == 0, worker.said
    orders = [("3", 31), ("3", 32), ("bob", 5), ("bob", "5, at once")]
    expected = [(person, name, str(number)) for person, number in orders for name in ("Ordered", "Confirmed")]
    expected += [("ann", "Tried", "1")] * 2 + [(str(uuid.UUID(int=2)), "Failed", "2")]
    assert told(sandbox) == Counter(expected)


def once_of_slow(server: TrackingServer, *names: str, tasks: int = 2) -> bool:
    """Whether each event of each `slow` task has arrived once, and these names' events at all."""
    queries = [parse_qs(target.partition("?")[2]) for target in server.targets]
    arrived = Counter((query["_p"][0], query["_n"][0], query["number"][0], query["part"][0]) for query in queries)
    expected = [(f"person-{task}", "Begun", str(task), str(part)) for task in range(tasks) for part in range(20)]
    expected += [(f"person-{task}", name, str(task), "0") for task in range(tasks) for name in names]
    return arrived == Counter(expected)


SLOW = """\
    for number in range({tasks}):
        with km.identify(f"person-{{number}}"):
            slow.delay(number, {pause})
    """


@pytest.fixture
def slow_server() -> Iterator[TrackingServer]:
    """Calls wait for it: there are some in the background whenever a process ends."""
    with TrackingServer(Answers(Reply(delay=0.03))) as server:
        yield server


@pytest.mark.slow
def test_each_process_that_has_done_its_tasks_delivers_before_it_ends(tmp_path, broker, slow_server):
    """``--max-tasks-per-child``: it ends by os._exit, with what its task has just logged still in memory."""
    shop = Shop(tmp_path, broker, slow_server.endpoint)
    with shop.worker("prefork", "--max-tasks-per-child", "1", KM_SENDERS=1) as worker:
        shop.send(SLOW.format(tasks=4, pause=0))
        worker.wait_for("succeeded", 4)
        assert worker.stop() == 0, worker.said
    processes = {line.partition("Worker-")[2].partition("]")[0] for line in worker.wait_for("succeeded", 4)}
    assert len(processes) == 4
    assert once_of_slow(slow_server, "Done", tasks=4)


@each_pool
def test_a_cold_shutdown_delivers_what_the_cancelled_tasks_have_logged(tmp_path, broker, slow_server, pool):
    """SIGQUIT in the middle of two tasks: each event that they had logged arrives once, and no other one."""
    shop = Shop(tmp_path, broker, slow_server.endpoint)
    with shop.worker(pool, KM_SENDERS=1) as worker:
        shop.send(SLOW.format(tasks=2, pause=1))
        worker.wait_for("has begun", 2)
        worker.stop(signal.SIGQUIT)
    finished = ["Done"] if pool == "threads" else []  # which cannot be cancelled, and are waited for
    assert once_of_slow(slow_server, *finished)


SETUPS = {
    "our handler on the root logger": """\
logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler()])
connect()
""",
    "a handler on both, and no hijack": """\
logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()])
app.conf.worker_hijack_root_logger = False
connect(km.KissmetricsHandler())
""",
    "configured by the application": """\
connect()

@signals.setup_logging.connect
def configure(**_):
    import logging.config
    console = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
    handlers = {"km": {"class": "km_logging.KissmetricsHandler"}, "console": console}
    root = {"level": "INFO", "handlers": ["km", "console"]}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "handlers": handlers, "root": root})
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_however_logging_is_set_up_a_worker_loses_no_event_and_doubles_none(tmp_path, sandbox, broker, setup):
    shop = Shop(tmp_path, broker, sandbox.endpoint, setup)
    with shop.worker() as worker:
        shop.send(ORDERS)
        worker.wait_for("succeeded", 20)
        assert worker.stop() == 0, worker.said
    assert told(sandbox) == of_each(20, "Ordered", "Confirmed")


@pytest.mark.slow
def test_without_us_a_worker_takes_our_handler_off(tmp_path, sandbox, broker):
    """So that the tests above can fail, and README says why `connect` is needed."""
    shop = Shop(tmp_path, broker, sandbox.endpoint, "logging.basicConfig(handlers=[km.KissmetricsHandler()])")
    with shop.worker() as worker:
        shop.send(ORDERS)
        worker.wait_for("succeeded", 20)
        assert worker.stop() == 0, worker.said
    assert told(sandbox) == Counter()


@pytest.mark.slow
def test_a_worker_at_its_usual_level_says_that_it_drops_events(shop):
    with shop.worker("prefork", "--loglevel", "WARNING") as worker:
        [line] = worker.wait_for("Celery drops what is logged at INFO")
        assert "--loglevel INFO" in line
        assert worker.stop() == 0, worker.said


@pytest.mark.slow
def test_processes_that_are_spawned_keep_our_handler_too(tmp_path, sandbox, broker):
    """Each sets up logging anew, as where fork is not the way to start processes."""
    setup = f"app.conf.worker_pool_start_method = 'spawn'\n{EXPLICIT}"
    shop = Shop(tmp_path, broker, sandbox.endpoint, setup)
    with shop.worker() as worker:
        shop.send(ORDERS)
        worker.wait_for("succeeded", 20)
        assert worker.stop() == 0, worker.said
    assert told(sandbox) == of_each(20, "Ordered", "Confirmed")


def test_the_example_runs_by_the_commands_in_its_first_lines(sandbox, broker):
    (worker, variables), (sender, _) = commands_of("with_celery.py")
    variables |= {"KM_ENDPOINT": sandbox.endpoint, "BROKER": broker}
    with Application(worker, EXAMPLES.parent, **variables) as working:
        working.wait_for("celery@.* ready")
        with Application(sender, EXAMPLES.parent, **variables) as sending:
            assert sending.end() == 0, sending.said
        working.wait_for("succeeded", 2)
        assert working.stop() == 0, working.said
    assert sorted((call.person, call.name, call.properties["order"]) for call in sandbox.calls) == [
        ("ann", "Receipt sent", "8124"),
        ("bob", "Receipt sent", "8123"),
    ]
