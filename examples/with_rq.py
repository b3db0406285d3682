"""RQ: each job runs in a process of its own, and ends when its events are delivered.

Start `km-logging sandbox` and a Redis server; then enqueue two jobs, and have a worker do them:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_rq.py
    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 rq worker --burst --path examples --worker-class km_logging.contrib.rq.Worker

RQ takes the address of Redis from RQ_REDIS_URL.
"""  # noqa: E501 - a command is one line

import logging
import os

from redis import Redis
from rq import Queue

import km_logging as km

logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()])
logger = logging.getLogger("shop")


def send_receipt(person: str, order: int) -> None:
    """A job; its process ends by `os._exit`, so that the worker has to wait for its events."""
    with km.identify(person):
        logger.info("Receipt sent", extra=km.event(order=order))


def main() -> None:
    """Enqueue them under the name that the worker imports them by."""
    queue = Queue(connection=Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://127.0.0.1:6379/0")))
    queue.enqueue("with_rq.send_receipt", "bob", 8123)
    queue.enqueue("with_rq.send_receipt", "ann", 8124)


if __name__ == "__main__":
    main()
