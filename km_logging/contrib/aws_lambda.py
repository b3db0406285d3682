"""AWS Lambda freezes a process between two invocations, and may never wake it: what waits is delivered before."""

from __future__ import annotations

from typing import Any

from km_logging import process
from km_logging.waiting import Function, enclosed, flushing

__all__ = ["flushed"]

#: What is left of an invocation's time for the answer to get back, in seconds.
RESERVE = 0.2


def flushed(handler: Function) -> Function:
    """Decorate a handler, sync or async: each invocation ends when what it logged is delivered.

    It waits for `drain_timeout` at most, and always ends in time: an invocation never fails because the tracking server
    does not answer. What is not delivered then stays pending, and goes on with the next invocation.

    Raises:
        SettingsError: the handler is no function, or a generator.

    Example::

        @flushed
        def handler(event, context):
            logger.info("Signed Up", extra=km.event(event["user"]))
    """
    return enclosed(handler, _Invocation)


class _Invocation(flushing):
    """The block of one invocation; takes the arguments of a handler."""

    __slots__ = ("_context",)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()
        self._context: Any = args[1] if len(args) > 1 else kwargs.get("context")

    def _flush(self) -> None:
        left = getattr(self._context, "get_remaining_time_in_millis", None)
        if left is None:  # called by a test
            super()._flush()
        else:
            process.flush(min(process.longest(), max(0.0, left() / 1000 - RESERVE)))
