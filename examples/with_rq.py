"""RQ: a job's events are those of the person whose request caused it; its process ends when they are delivered.

Start `km-logging sandbox` and a Redis server; then enqueue two jobs, and have a worker do them:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_rq.py
    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 rq worker --burst --path examples --worker-class km_logging.contrib.rq.Worker

RQ takes the address of Redis from RQ_REDIS_URL.
"""  # noqa: E501 - a command is one line

import logging
import os

from redis import Redis

import km_logging as km
from km_logging.contrib.rq import Queue

logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()])
logger = logging.getLogger("shop")


def send_receipt(order: int) -> None:
    """A job. Nobody is named here: it is whoever was identified where the job was enqueued."""
    logger.info("Receipt sent", extra=km.event(order=order))


def main() -> None:
    """Two requests, by two people; the job has the name that the worker imports it by."""
    queue = Queue(connection=Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://127.0.0.1:6379/0")))
    for person, order in [("bob", 8123), ("ann", 8124)]:
        with km.identify(person):
            queue.enqueue("with_rq.send_receipt", order)


if __name__ == "__main__":
    main()
