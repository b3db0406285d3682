"""Pools of processes: each configures logging for itself, and delivers what it logged before it ends.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_pools.py
"""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import km_logging as km


def configure() -> None:
    """Run in each process of a pool: unless it is forked, it inherits no configuration."""
    # At the end of its `with`, a multiprocessing pool is terminated, by SIGTERM.
    logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler(drain_on_sigterm=True)])


def score(person: str) -> None:
    """A task: who it is about comes with it."""
    with km.identify(person):
        logging.getLogger(__name__).info("Scored", extra=km.event(process=multiprocessing.current_process().name))


def main() -> None:
    """The same work in either kind of pool."""
    with multiprocessing.Pool(2, initializer=configure) as pool:
        pool.map(score, ["ann", "bob"])
    with ProcessPoolExecutor(2, initializer=configure) as executor:
        list(executor.map(score, ["cem", "dan"]))


if __name__ == "__main__":
    main()
