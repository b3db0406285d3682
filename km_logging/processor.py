"""From an event dict to a snapshot: the front end for structlog, to be put before the renderer."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

from km_logging.calls import Call
from km_logging.errors import ProblemError
from km_logging.frontend import FrontEnd
from km_logging.identity import bound_by_structlog, identified, must_ask
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict, is_record, mark, take_event_dict
from km_logging.telling import nested_form, tell
from km_logging.tracker import Tracker
from km_logging.wire import encode

__all__ = ["KissmetricsProcessor"]

EventDict = MutableMapping[str, Any]


class KissmetricsProcessor(FrontEnd):
    """Sends tagged events to Kissmetrics, in the background, and returns an event dict equal to the one that came.

    Args:
        drop: raise `structlog.DropEvent` once a call was accepted, so that it appears in no log.
        annotate: write person, ``km_timestamp`` and the converted values into the event dict, so that the rendered
            line can be replayed exactly.
        tracker: a tracker of your own, instead of settings.
        **settings: see `km_logging.settings.SETTINGS`.

    Raises:
        SettingsError: a setting is unknown, wrong or missing; the message says what to write instead.
    """

    def __init__(
        self, *, drop: bool = False, annotate: bool = False, tracker: Tracker | None = None, **settings: object
    ) -> None:
        self._join(tracker, settings)
        self._drop = drop
        self._annotate = annotate
        self._readers_rules = _readers_rules(self._tracker.settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tracker!r}>"

    def __call__(self, _logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
        """Take the event if it is tagged. Never raises, except with `strict`, or `DropEvent` with ``drop``."""
        tracker = self._tracker
        if self._tag not in event_dict or tracker.is_off:
            return event_dict
        accepted = False
        try:
            moment = time.time()
            is_now = self._annotate or self._drop or must_ask()
            taken = None if is_now else take_event_dict(event_dict, tracker.rules, moment)
            if self._claims(event_dict) and (taken is None or not tracker.take_as_is(taken)):
                accepted = self._take(event_dict, tracker, moment)
        except ProblemError:
            raise
        except Exception as error:  # noqa: BLE001 - tracking never breaks the application
            tracker.failed(error)
        if accepted and self._drop:
            from structlog import DropEvent  # a chain that runs has imported it

            raise DropEvent
        return event_dict

    def _take(self, event_dict: EventDict, tracker: Tracker, moment: float) -> bool:
        snapshot = from_event_dict(event_dict, tracker.rules, identified(), bound_by_structlog, moment)
        if not (self._drop or self._annotate):
            tracker.take(snapshot)
            return True
        call = tracker.take_now(snapshot)
        if call is not None and self._annotate:
            self._write(event_dict, call, tracker)
        return call is not None

    def _write(self, event_dict: EventDict, call: Call, tracker: Tracker) -> None:
        """Write the call into the event dict; if the flat form would still read otherwise, as the nested form too."""
        event_dict[tracker.settings.person_field] = call.person
        event_dict["km_timestamp"] = call.timestamp
        is_flat = isinstance(event_dict[self._tag], str)
        if is_flat and call.identity is not None:
            event_dict["identity"] = call.identity
        told = {name: text for name, text in call.properties.items() if name in event_dict} if is_flat else {}
        event_dict.update(told)
        # Whoever reads the line has neither this context nor this clock, and of these settings only the fields' names.
        rules = self._readers_rules
        read = tell(from_event_dict(event_dict, rules, None, dict, 0.0), rules)
        alike = read.call is not None and not read.problems and encode(read.call) == encode(call)
        if not is_flat or not alike or is_record(event_dict) or call.properties.keys() - told.keys():
            event_dict[self._tag] = mark(nested_form(call), tracker.address)


def _readers_rules(settings: Settings) -> Rules:
    """The rules of a replay that was told no more than what the fields are called."""
    said = {name: getattr(settings, name) for name in ("api_key", "endpoint", "tag", "person_field")}
    return Rules(replace(Settings.resolve({"mode": "off"}, {}), **said))
