"""RQ: a job's calls are those of the person who caused it, and none is lost by how its process ends.

1. Who is identified where a job is enqueued goes along in its ``meta``, and is identified while it runs.
2. Each job runs in a process of its own, which ends by `os._exit`; what waits there is delivered before.

    queue = km_logging.contrib.rq.Queue(connection=redis)
    rq worker --worker-class km_logging.contrib.rq.Worker

For another class of queue or worker, put `Carrying` or `Flushing` before it. Without our worker, decorate jobs with
`km_logging.flushing()`; or use an outbox that lasts, with ``durability="immediate"``: then nothing need be waited for.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import rq

from km_logging.identity import identify, portable
from km_logging.waiting import flushing

__all__ = ["META", "Carrying", "Flushing", "Queue", "Worker"]

#: What names the person in a job's ``meta``; whoever can read Redis can read it.
META = "km_person"


class Carrying:
    """Has a queue note in each job who is identified where it is enqueued."""

    def create_job(self, *args: Any, **kwargs: Any) -> Any:
        """As the queue's own; what is enqueued in any way is made by it."""
        job = super().create_job(*args, **kwargs)  # type: ignore[misc]
        if (person := portable()) is not None:
            job.meta = {META: person, **job.meta}  # not in place: RQ's decorator has one meta for all jobs
        return job


class Flushing:
    """Has a worker identify who caused a job, and wait until what it and its callbacks logged is delivered."""

    def perform_job(self, job: Any, *args: Any, **kwargs: Any) -> bool:
        """As the worker's own, and then wait, at most for `drain_timeout`."""
        person = job.meta.get(META)
        with flushing(), nullcontext() if person is None else identify(person):
            return super().perform_job(job, *args, **kwargs)  # type: ignore[misc,no-any-return]


class Queue(Carrying, rq.Queue):
    """RQ's usual queue."""


class Worker(Flushing, rq.Worker):
    """RQ's usual worker, that forks for each job."""
