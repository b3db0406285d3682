"""Waiting for delivery at the end of a piece of work, where the process may get no time after it.

Delivery goes on in the background, and at the end of the process. Some hosts leave neither: they freeze a process
between two pieces of work, or end it by `os._exit` or SIGKILL. There the end of each piece is the last moment to wait.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from km_logging import process
from km_logging.errors import SettingsError

__all__ = ["enclosed", "flushing"]

Function = TypeVar("Function", bound=Callable[..., Any])


class flushing:  # noqa: N801 - reads as the verb that it is, like contextlib.suppress
    """Wait at the end of this block, also if it raised, until what was logged before is delivered.

    ``with`` or ``async with``; as a decorator, the block is each call of the function. Waits for every tracker of the
    process; what is not delivered in time stays pending, or in an outbox that lasts.

    >>> @flushing(timeout=2)
    ... def job() -> str:
    ...     return "done"
    >>> job()
    'done'

    Args:
        timeout: seconds; None: `drain_timeout`, the longest where trackers differ.

    Raises:
        SettingsError: the timeout is no number, or what is decorated is no function that it can wait for.
    """

    __slots__ = ("_timeout",)

    def __init__(self, timeout: float | None = None) -> None:
        if callable(timeout):
            raise SettingsError("flushing takes a time, not a function: write @flushing(), with parentheses")
        if timeout is not None and (type(timeout) not in {int, float} or not timeout >= 0):
            raise SettingsError(f"timeout is a number of seconds, not {timeout!r}: pass 0 or more, or leave it out")
        self._timeout = timeout

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio  # whoever awaits has loaded it; nobody else should

        await asyncio.get_running_loop().run_in_executor(None, self._flush)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, sync or async."""
        return enclosed(function, lambda *_args, **_kwargs: self)

    def _flush(self) -> None:
        process.flush(self._timeout)


def enclosed(function: Function, block: Callable[..., flushing]) -> Function:
    """The function, each call of it inside of the block that is made for its arguments.

    Raises:
        SettingsError: it is no function, or returns before it has run, as a generator does.
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SettingsError(f"{name} is a generator, which returns before it runs: put `with flushing():` inside of it")
    if not callable(function) or inspect.isclass(function):
        raise SettingsError(f"{name} is no function: decorate a function or a method")
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            async with block(*args, **kwargs):
                return await function(*args, **kwargs)

    else:

        @wraps(function)
        def waiting(*args: Any, **kwargs: Any) -> Any:
            with block(*args, **kwargs):
                return function(*args, **kwargs)

    return waiting  # type: ignore[return-value]
