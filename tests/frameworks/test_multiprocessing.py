"""Pools of processes: whose events are whose, and what is left of them when a pool is terminated, as `with` does it.

That each process which ends by itself delivers what it logged is proven in `test_process`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest

from support.lasting import IMMEDIATE, waiting
from support.processes import Ended, run
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, Answers

SCRIPT = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    def configure():
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler({settings})])

    {decorator}
    def work(person):
        with km.identify(person):
            for part in range(3):
                logging.info("Worked", extra=km.event(part=part))

    def main():
        context = multiprocessing.get_context({method!r})
        people = [f"person-{{number}}" for number in range(12)]
        with {pool} as pool:
            list(pool.map(work, people))
            {then}

    if __name__ == "__main__":
        main()
    """

POOL = "context.Pool(3, initializer=configure)"


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    """So slow that a pool has ended before what its processes logged is delivered."""
    with TrackingServer(Answers(Reply(delay=0.05))) as server:
        yield server


def ended(folder, server: TrackingServer, method: str, pool: str = POOL, **variables: object) -> Ended:
    """Run the script to its end; what is not an environment variable fills a gap of its text."""
    gaps = {"settings": "", "decorator": "", "then": ""}
    gaps.update((name, variables.pop(name)) for name in list(variables) if name in gaps)
    text = SCRIPT.format(method=method, pool=pool, **gaps)
    return run(folder, text, server.endpoint, KM_SENDERS=1, KM_DRAIN_TIMEOUT=GUARD, **variables)


def arrived(server: TrackingServer) -> Counter[tuple[str, str]]:
    """Whose parts of the work have arrived, and how often."""
    queries = [parse_qs(target.partition("?")[2]) for target in list(server.targets)]
    return Counter((query["_p"][0], query["part"][0]) for query in queries)


EACH_ONCE = Counter((f"person-{number}", str(part)) for number in range(12) for part in range(3))

each_method = pytest.mark.parametrize(
    "method", ["fork", *[pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver")]]
)

#: To lose nothing although the pool is terminated.
WAYS = {
    "drain_on_sigterm": {"settings": "drain_on_sigterm=True"},
    "flushing": {"decorator": "@km.flushing()"},
    "close and join": {"then": "pool.close(); pool.join()"},
}


@each_method
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nothing_is_lost_with_a_pool_that_is_terminated(tmp_path, server, method, way):
    done = ended(tmp_path, server, method, **way)
    assert (done.code, done.said) == (0, []), done.err
    assert arrived(server) == EACH_ONCE


@each_method
def test_in_a_file_everything_outlives_a_pool_that_is_terminated(tmp_path, server, method):
    """Each call was committed before its log call returned; the parent delivers at its end."""
    settings = "outbox='sqlite:///km.db', durability='immediate'"
    then = "configure(); logging.info('Ended', extra=km.event('parent', part='last'))"
    done = ended(tmp_path, server, method, settings=settings, then=then)
    assert (done.code, done.said) == (0, []), done.err
    assert arrived(server) == EACH_ONCE + Counter([("parent", "last")])
    assert waiting(tmp_path) == []


def test_without_any_of_them_a_pool_that_is_terminated_takes_events_with_it(tmp_path, server):
    """So that the tests above can fail."""
    done = ended(tmp_path, server, "fork")
    assert done.code == 0, done.err
    assert arrived(server) < EACH_ONCE


@each_method
def test_processes_that_are_replaced_after_some_tasks_deliver_first(tmp_path, server, method):
    """As `maxtasksperchild` has it; the last ones are left to end by themselves."""
    pool = "context.Pool(3, initializer=configure, maxtasksperchild=1)"
    done = ended(tmp_path, server, method, pool, then="pool.close(); pool.join()")
    assert (done.code, done.said) == (0, []), done.err
    assert arrived(server) == EACH_ONCE


@each_method
def test_an_executor_of_concurrent_futures_loses_nothing(tmp_path, server, method):
    """Its processes end by themselves. Not tested with `max_tasks_per_child`, which hangs whatever the tasks do."""
    done = ended(tmp_path, server, method, "ProcessPoolExecutor(3, mp_context=context, initializer=configure)")
    assert (done.code, done.said) == (0, []), done.err
    assert arrived(server) == EACH_ONCE


@pytest.mark.slow
def test_a_killed_process_of_a_pool_leaves_in_the_file_what_it_had_logged(tmp_path, server):
    """The executor is broken then; the file is not."""
    text = """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler(deliver=False)])

        def work(number):
            logging.info("Worked", extra=km.event(f"person-{number}"))
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
                try:
                    pool.submit(work, 0).result()
                except BrokenProcessPool:
                    print("broken", flush=True)
        """
    done = run(tmp_path, text, server.endpoint, **IMMEDIATE)
    assert (done.code, done.out.strip()) == (0, "broken"), done.err
    assert waiting(tmp_path) == ["person-0"]
