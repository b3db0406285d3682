"""Celery: a task's events are those of the person whose request caused it.

Start `km-logging sandbox` and a Redis server; then a worker, and a process that sends tasks as a web server would:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 celery --app examples.with_celery worker --loglevel INFO
    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_celery.py
"""

import os

from celery import Celery
from celery.utils.log import get_task_logger

import km_logging as km
from km_logging.contrib.celery import connect

app = Celery("examples.with_celery", broker=os.environ.get("BROKER", "redis://127.0.0.1:6379/0"))
logger = get_task_logger(__name__)

# A worker sets up logging by itself, and puts our handler on what it sets up.
connect(km.KissmetricsHandler())


@app.task
def send_receipt(order: int) -> None:
    """Nobody is named here: it is whoever was identified where the task was sent."""
    logger.info("Receipt sent", extra=km.event(order=order))


def main() -> None:
    """Two requests, by two people."""
    for person, order in [("bob", 8123), ("ann", 8124)]:
        with km.identify(person):
            send_receipt.delay(order)


if __name__ == "__main__":
    main()
