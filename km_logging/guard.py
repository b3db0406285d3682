"""What is logged in our own threads is never tracked and never shows a request: guarded by thread, not by name.

A record of the HTTP client under us, of a callback or of this library itself must not become a call again, or an
outage would feed itself. `here.ours` says whether the current thread (under gevent: the greenlet) is one of ours.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["cloak_records", "here"]

LogRecordFactory = Callable[..., logging.LogRecord]


class _Here(threading.local):
    ours = False
    #: Texts that no record of this thread may show; see `cloak_records`.
    secrets: tuple[str, ...] = ()


here = _Here()


def cloak_records() -> None:
    """Have `here.secrets` replaced in every record that this process makes from now on.

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
        return _cloaked(record, here.secrets) if here.secrets else record


_FORMATTER = logging.Formatter()


def _cloaked(record: logging.LogRecord, secrets: tuple[str, ...]) -> logging.LogRecord:
    try:
        record.msg, record.args = _without(record.getMessage(), secrets), None
        if record.exc_info:
            record.exc_text = _without(_FORMATTER.formatException(record.exc_info), secrets)
            record.exc_info = None
    except Exception:  # noqa: BLE001 - a record that cannot be formatted may show anything
        record.msg, record.args, record.exc_info = "(a record that could not be formatted)", None, None
    return record


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
