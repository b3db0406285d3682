"""RQ: a real worker, whose process for each job ends by `os._exit`; the ways to lose nothing there."""

from __future__ import annotations

import os
import signal
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from support.applications import EXAMPLES, Application, commands_of
from support.lasting import IMMEDIATE, each_once, names, relay_for, waiting
from support.servers import Reply, TrackingServer
from support.tracking import Answers, people

JOBS = """\
    import logging, os, sys, time
    from rq import get_current_job
    import km_logging as km
    from km_logging.contrib.rq import Queue

    logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler(), logging.StreamHandler()])
    logger = logging.getLogger("shop")

    def order(person, parts=1):
        with km.identify(person):
            for part in range(parts):
                logger.info("Ordered", extra=km.event(part=part))

    @km.flushing()
    def careful(person):
        order(person)

    def callback(job, connection, *_):
        logger.info("Ended", extra=km.event(f"{job.args[0]}, in a callback"))

    def fails(person):
        order(person)
        raise LookupError(person)

    def receipt(number):
        logger.info("Receipt", extra=km.event(number=number))

    def told(job, connection, *_):
        receipt(job.args[0])

    def leads_to(number):
        receipt(number)
        Queue(connection=get_current_job().connection).enqueue(receipt, number)

    def again(number):
        receipt(number)
        if get_current_job().retries_left:
            raise LookupError(number)

    def stopped(person):
        order(person, 10)
        print("has begun:", os.getpid(), flush=True)
        time.sleep(60)
    """

SENDING = """\
    import os
    import redis, rq
    from jobs import *
    queue = rq.Queue(connection=redis.Redis.from_url(os.environ["BROKER"]))
    """

OURS = ("--worker-class", "km_logging.contrib.rq.Worker")


class Shop:
    """The jobs in a folder; workers of them, and processes that enqueue some."""

    def __init__(self, folder: Path, broker: str, endpoint: str) -> None:
        self._folder = folder
        self._variables = {"BROKER": broker, "KM_API_KEY": "any", "KM_ENDPOINT": endpoint, "KM_SENDERS": 1}
        (folder / "jobs.py").write_text(textwrap.dedent(JOBS))

    def worker(self, *options: str, **variables: object) -> Application:
        """A worker that ends once the queue is empty."""
        command = ["rq", "worker", "--url", str(self._variables["BROKER"]), "--path", ".", "--burst", *options]
        return Application(command, self._folder, **{**self._variables, **variables})

    def send(self, script: str) -> None:
        """Have a process enqueue jobs."""
        (self._folder / "send.py").write_text(textwrap.dedent(SENDING) + textwrap.dedent(script))
        with Application(["python", "send.py"], self._folder, **self._variables) as sender:
            assert sender.end() == 0, sender.said


@pytest.fixture
def server():
    """So slow that a job has ended before what it logged is delivered."""
    with TrackingServer(Answers(Reply(delay=0.1))) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, server: TrackingServer, broker: str) -> Shop:
    return Shop(tmp_path, broker, server.endpoint)


def test_with_our_class_of_worker_each_event_of_a_job_and_its_callbacks_arrives(shop, server):
    """Whether the job succeeds or fails; the jobs need not be changed."""
    shop.send("""
        queue.enqueue(order, "ann", on_success=callback)
        queue.enqueue(fails, "bob", on_failure=callback)
        queue.enqueue(order, "eve")
        """)
    with shop.worker(*OURS) as worker:
        assert worker.end() == 0, worker.said
    each_once(server, "ann", "ann, in a callback", "bob", "bob, in a callback", "eve")


def test_a_person_goes_wherever_a_job_leads_and_no_further(shop, server):
    """Also by RQ's decorator, which has one meta for all the jobs of a function."""
    shop.send("""
        from rq import Retry
        from rq.decorators import job
        ours = Queue(connection=queue.connection)
        decorated = job(ours, connection=ours.connection, meta={"shared": True})(receipt)
        for person in ("ann", "bob"):
            with km.identify(lambda: person):
                ours.enqueue("jobs.receipt", person, on_success=told)
                ours.enqueue(leads_to, person)
                ours.enqueue(again, person, retry=Retry(1))
                decorated.delay(person)
                ours.enqueue_many([Queue.prepare_data(receipt, (person,))])
                ours.enqueue(receipt, "eve", meta={"km_person": "eve"})
        decorated.delay("nobody")
        ours.enqueue(receipt, "nobody")
        """)
    with shop.worker(*OURS) as worker:
        assert worker.end() == 0, worker.said
    told = [(query["_p"], query["number"]) for query in map(dict, server.queries)]
    assert sorted(told) == [("ann", "ann")] * 8 + [("bob", "bob")] * 8 + [("eve", "eve")] * 2


def test_with_a_decorator_each_event_of_a_job_arrives_with_any_worker(shop, server):
    shop.send("for it in range(3): queue.enqueue(careful, f'person-{it}')")
    with shop.worker() as worker:
        assert worker.end() == 0, worker.said
    each_once(server, *names("person", 3))


def test_in_a_file_each_event_outlives_its_job_and_nobody_waits(tmp_path, shop, server):
    """The jobs only fill it, at once; a relay delivers."""
    shop.send("for it in range(3): queue.enqueue(order, f'person-{it}')")
    with shop.worker(KM_DELIVER="false", **IMMEDIATE) as worker:
        assert worker.end() == 0, worker.said
    assert (waiting(tmp_path), server.targets) == (names("person", 3), [])
    relay_for(tmp_path, server).run_once()
    each_once(server, *names("person", 3))


def test_without_any_of_them_the_events_of_a_job_are_lost(shop, server):
    """So that the tests above can fail."""
    shop.send("for it in range(3): queue.enqueue(order, f'person-{it}', 10)")
    with shop.worker() as worker:
        assert worker.end() == 0, worker.said
    assert len(server.targets) < 30


@pytest.mark.slow
def test_what_a_job_that_is_killed_had_logged_is_in_the_file(tmp_path, shop, server):
    """As `rq` does it on the second Ctrl-C, and the system where memory is short."""
    shop.send("queue.enqueue(stopped, 'ann')")
    with shop.worker(*OURS, KM_DELIVER="false", **IMMEDIATE) as worker:
        [line] = worker.wait_for("has begun")
        os.kill(int(line.split()[-1]), signal.SIGKILL)
        assert worker.end() == 0, worker.said
    assert waiting(tmp_path) == ["ann"] * 10


@pytest.mark.slow
def test_a_job_beyond_its_time_delivers_what_it_had_logged(shop, server):
    """RQ raises in the middle of it; the wait comes after that, and has no limit of the job's."""
    shop.send("queue.enqueue(stopped, 'ann', job_timeout=1)")
    with shop.worker(*OURS) as worker:
        assert worker.end() == 0, worker.said
    assert "JobTimeoutException" in worker.said
    assert Counter(people(server)) == {"ann": 10}


@pytest.mark.slow
@pytest.mark.parametrize("base", ["SpawnWorker", "SimpleWorker"])
def test_other_workers_take_it_as_a_base(tmp_path, shop, server, base):
    """One starts a Python for each job, the other one runs all jobs itself."""
    text = f"""
        import rq.worker
        from km_logging.contrib.rq import Flushing
        class Worker(Flushing, rq.worker.{base}): pass
        """
    (tmp_path / "own_worker.py").write_text(textwrap.dedent(text))
    shop.send("for it in range(3): queue.enqueue(order, f'person-{it}')")
    with shop.worker("--worker-class", "own_worker.Worker") as worker:
        assert worker.end() == 0, worker.said
    each_once(server, *names("person", 3))


def test_the_example_runs_by_the_commands_in_its_first_lines(sandbox, broker):
    for command, variables in commands_of("with_rq.py"):
        variables |= {"KM_ENDPOINT": sandbox.endpoint, "RQ_REDIS_URL": broker}
        with Application(command, EXAMPLES.parent, **variables) as application:
            assert application.end() == 0, application.said
    assert sorted((call.person, call.name, call.properties["order"]) for call in sandbox.calls) == [
        ("ann", "Receipt sent", "8124"),
        ("bob", "Receipt sent", "8123"),
    ]
