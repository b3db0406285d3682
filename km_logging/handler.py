"""From a `LogRecord` to a snapshot: the front end for the standard library's logging.

`handle` is overridden, not only `emit`: an untagged record, that is nearly every record, must not wait for this
handler's lock, and a tagged one needs none, since putting it into the queue is one append.
"""

from __future__ import annotations

import logging

from km_logging.errors import ProblemError
from km_logging.frontend import FrontEnd
from km_logging.guard import is_ours
from km_logging.identity import bound_by_structlog, identified, must_ask
from km_logging.tagging import from_event_dict, from_record, take_record
from km_logging.tracker import Tracker

__all__ = ["KissmetricsHandler"]


class KissmetricsHandler(FrontEnd, logging.Handler):  # type: ignore[misc]  # flush() returns more than Handler's
    """Sends tagged records to Kissmetrics, in the background; every other record passes by.

    Handlers and processors with equal settings share one tracker. A handler that was closed revives at the next record.

    Args:
        level: least level of the records looked at.
        tracker: a tracker of your own, instead of settings.
        **settings: see `km_logging.settings.SETTINGS`.

    Raises:
        SettingsError: a setting is unknown, wrong or missing; the message says what to write instead.
    """

    def __init__(
        self, level: int | str = logging.NOTSET, *, tracker: Tracker | None = None, **settings: object
    ) -> None:
        self._join(tracker, settings)  # first: logging lists a handler from its construction on, sound or not
        logging.Handler.__init__(self, level)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tracker!r}>"

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Have no lock: nothing here needs one.

        `logging.shutdown` would hold it over `close`, and wait there for the module's lock, while `dictConfig`, which
        holds that one, waits for the handler's.
        """
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Take the record if it is tagged and passes this handler's filters. Never raises, except with `strict`."""
        passed: bool | logging.LogRecord = True
        if self.filters:  # which may tag a record, or replace it
            passed = self.filter(record)
        elif self._tag not in record.__dict__ and not isinstance(record.msg, dict):
            return False
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Take the record if it is tagged."""
        tracker = self._tracker
        if tracker.is_off:
            return
        try:
            fields = record.__dict__
            if self._tag in fields:
                taken = None if must_ask() else take_record(record, tracker.rules)  # before it is marked
                if self._claims(fields) and (taken is None or not tracker.take_as_is(taken)) and not is_ours(record):
                    tracker.take(from_record(record, tracker.rules, identified(), bound_by_structlog))
            elif isinstance(record.msg, dict) and self._tag in record.msg and not is_ours(record):
                # structlog's wrap_for_formatter makes the whole event dict the record's message. The mark goes into
                # the record's copy: a dict of the caller's own may be logged again.
                record.msg = dict(record.msg)
                if not self._claims(record.msg):
                    return
                moment = record.created
                tracker.take(from_event_dict(record.msg, tracker.rules, identified(), bound_by_structlog, moment))
        except ProblemError:
            raise
        except Exception as error:  # noqa: BLE001 - tracking never breaks the application
            tracker.failed(error)

    def close(self) -> None:
        """As `FrontEnd.close`."""
        FrontEnd.close(self)
        logging.Handler.close(self)
