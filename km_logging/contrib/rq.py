"""RQ: each job runs in a process of its own, which ends by `os._exit`; what waits there is delivered before.

    rq worker --worker-class km_logging.contrib.rq.Worker

For another class of worker, put `Flushing` before it. Or decorate jobs with `km_logging.flushing()`; or use an outbox
that lasts, with ``durability="immediate"``: then nothing need be waited for.
"""

from __future__ import annotations

from typing import Any

import rq

from km_logging.waiting import flushing

__all__ = ["Flushing", "Worker"]


class Flushing:
    """Has a worker wait, after each job and its callbacks, until what they logged is delivered."""

    def perform_job(self, *args: Any, **kwargs: Any) -> bool:
        """As the worker's own, and then wait, at most for `drain_timeout`."""
        with flushing():
            return super().perform_job(*args, **kwargs)  # type: ignore[misc,no-any-return]


class Worker(Flushing, rq.Worker):
    """RQ's usual worker, that forks for each job."""
