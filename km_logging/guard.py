"""What is logged in our own threads is never tracked and never shows a request: guarded by thread, not by name.

A record of the HTTP client under us, of a callback or of this library itself must not become a call again, or an
outage would feed itself. `ours` says whether the current thread (under gevent: the greenlet) is one of ours. It is a
context variable, since a thread-local that was made before gevent patched `threading` is shared by all greenlets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["THREAD_NAME", "as_ours", "cloak_records", "is_our_thread", "is_ours", "ours", "park", "secrets"]

#: How the names of all our threads begin.
THREAD_NAME = "km_logging-"

LogRecordFactory = Callable[..., logging.LogRecord]


#: Whether this thread is one of ours.
ours: ContextVar[bool] = ContextVar("km_logging_ours", default=False)

#: Texts that no record of this thread may show; see `cloak_records`.
secrets: ContextVar[tuple[str, ...]] = ContextVar("km_logging_secrets", default=())


@contextmanager
def as_ours() -> Iterator[None]:
    """Do something in the caller's thread as if it were one of ours."""
    before = ours.set(True)
    try:
        yield
    finally:
        ours.reset(before)


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a record was made in a thread of ours, wherever it is handled: an application's own queue carries it."""
    return ours.get() or is_our_thread(record.threadName)


def is_our_thread(name: object) -> bool:
    """Whether a thread of this name is one of ours."""
    return type(name) is str and name.startswith(THREAD_NAME)


def park() -> None:
    """Never return: a forked child's `threading` does not know a greenlet of the parent's, and complains of its end."""
    _parked.append(threading.Event())  # held here, or it would be collected together with the greenlet
    _parked[-1].wait()


_parked: list[threading.Event] = []


def cloak_records() -> None:
    """Have `secrets` replaced in every record that this process makes from now on.

    Needed only where a request goes through code that is not ours and may log it, such as a custom adapter; the usual
    way to send never shows a request to anything that logs. Installs a record factory around the one in force, and
    again if somebody has replaced it since.
    """
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _CloakingFactory):
        logging.setLogRecordFactory(_CloakingFactory(factory))


class _CloakingFactory:
    __slots__ = ("_factory",)

    def __init__(self, factory: LogRecordFactory) -> None:
        self._factory = factory

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._factory(*args, **kwargs)
        hidden = secrets.get()
        return _cloaked(record, hidden) if hidden else record


class _CloakingFields(dict[str, object]):
    """The fields of a record of such a thread: `extra` is put into them after the record was made."""

    __slots__ = ("_secrets",)

    def __init__(self, fields: dict[str, object], secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets
        for name, value in fields.items():
            self[name] = value

    def __setitem__(self, name: str, value: object) -> None:
        if isinstance(value, str):
            value = _without(value, self._secrets)
        elif isinstance(value, dict | list | tuple) and any(secret in repr(value) for secret in self._secrets):
            value = _without(repr(value), self._secrets)
        super().__setitem__(name, value)


_FORMATTER = logging.Formatter()


def _cloaked(record: logging.LogRecord, secrets: tuple[str, ...]) -> logging.LogRecord:
    try:
        record.msg, record.args = _without(record.getMessage(), secrets), None
        if record.exc_info:
            record.exc_text = _without(_FORMATTER.formatException(record.exc_info), secrets)
            record.exc_info = None
        record.__dict__ = _CloakingFields(record.__dict__, secrets)
    except Exception:  # noqa: BLE001 - a record that cannot be formatted may show anything
        record.msg, record.args, record.exc_info = "(a record that could not be formatted)", None, None
    return record


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
