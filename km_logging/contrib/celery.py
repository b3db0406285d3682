"""Celery: a task's calls are those of the person who caused it, and none is lost by how a worker logs and ends.

1. Who is identified where a task is sent goes along in its message, and is identified while the task runs.
2. A worker empties the root logger, and gives its tasks a logger that leads past it. Our handlers are put back.
3. A process of the prefork pool ends by `os._exit`: what waits there is delivered before.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from km_logging import KissmetricsHandler, identify, process
from km_logging.identity import portable
from km_logging.problems import logger as ours

__all__ = ["HEADER", "connect"]

#: The message's header that names the person; whoever can read the broker can read it.
HEADER = "km_person"

_handlers: list[logging.Handler] = []


def connect(*handlers: logging.Handler) -> None:
    """Connect Celery's signals; call it once, beside the application, where tasks are sent and where they run.

    Args:
        handlers: put on a worker's loggers, beside those of ours that were on the root logger when it started.
            Neither is needed where the application sets up logging in a receiver of Celery's ``setup_logging``.
    """
    from celery import signals

    _handlers.extend(handlers)
    signals.before_task_publish.connect(_send_along)
    signals.task_prerun.connect(_begin)
    signals.task_postrun.connect(_end)
    signals.celeryd_init.connect(_remember)
    signals.after_setup_logger.connect(_put_back)
    signals.after_setup_task_logger.connect(_put_back)
    signals.worker_process_shutdown.connect(lambda **_: process.end(), weak=False, dispatch_uid="km_logging")


def _send_along(headers: MutableMapping[str, object], **_: object) -> None:
    if (person := portable()) is not None:
        headers.setdefault(HEADER, person)


def _begin(task: Any, **_: object) -> None:
    if (person := getattr(task.request, HEADER, None)) is not None:
        task.request.km_identify = identify(person)
        task.request.km_identify.__enter__()


def _end(task: Any, **_: object) -> None:
    if (bound := getattr(task.request, "km_identify", None)) is not None:
        bound.__exit__(None, None, None)


def _remember(**_: object) -> None:
    _handlers.extend(handler for handler in logging.getLogger().handlers if isinstance(handler, KissmetricsHandler))


def _put_back(logger: logging.Logger, **_: object) -> None:
    for handler in _handlers:
        logger.addHandler(handler)
    if _handlers and logger.level > logging.INFO and logger.parent is None:
        ours.warning("Celery drops what is logged at INFO, so also events: start the worker with --loglevel INFO")
