"""The query of one call, key included; nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from km_logging import helpers, wire
from km_logging.errors import ProblemError
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_nested
from km_logging.telling import tell

__all__ = [
    "ALIAS_KEY",
    "EVENT_NAME_KEY",
    "KEY_KEY",
    "PERSON_KEY",
    "TIME_FLAG_KEY",
    "TIME_KEY",
    "create_query",
    "timed",
]

KEY_KEY = "_k"
PERSON_KEY = "_p"
EVENT_NAME_KEY = "_n"
TIME_KEY = "_t"
TIME_FLAG_KEY = "_d"
ALIAS_KEY = "_n"


def create_query(
    key: str,
    person: object,
    event: str | None = None,
    timestamp: object = None,
    identity: object = None,
    properties: Mapping[str, object] | None = None,
) -> str:
    """The query of an event, of an alias if there is an ``identity``, else of a set call.

    >>> create_query("api-key", "bob", "Signed Up", 1262304000, properties={"gender": "male"})
    '_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1'

    Args:
        key: the API key.
        person: str, int or UUID.
        event: the event's name.
        timestamp: Unix time in seconds, or a datetime; None: now.
        identity: the person's other identity.
        properties: properties of an event or a set call.

    Raises:
        ProblemError: the call, or a part of it, cannot be told.
        SettingsError: the key is none.
    """
    said = timed(properties, timestamp)
    if identity is not None:
        nested = helpers.alias(person, identity)
    elif event is not None:
        nested = helpers.event(person, event, **said)
    else:
        nested = helpers.set(person, **said)
    settings = Settings.resolve({"api_key": key}, {})
    rules = Rules(settings)
    call, problems = tell(from_nested(nested["km"], rules, None, None, time.time()), rules)
    if call is None or problems:
        raise ProblemError(problems[0])
    return wire.target(wire.encode(call), settings.api_key or "").partition("?")[2]


def timed(properties: Mapping[str, object] | None, timestamp: object) -> dict[str, Any]:
    """Properties and time for our own functions: there, a time may also stand among the properties, and wins.

    >>> timed({"plan": "pro", "_t": 1262304000, "_d": 1}, None)
    {'properties': {'plan': 'pro'}, 'timestamp': 1262304000}
    """
    if isinstance(properties, Mapping) and TIME_KEY in properties:
        timestamp = properties[TIME_KEY]
    if isinstance(properties, Mapping):
        properties = {name: value for name, value in properties.items() if name not in {TIME_KEY, TIME_FLAG_KEY}}
    return {"properties": properties, "timestamp": _seconds(timestamp)}


def _seconds(timestamp: Any) -> object:
    """What is no time stays as it is: that is a problem, for others to say."""
    if timestamp is None or isinstance(timestamp, datetime):
        return timestamp
    try:
        return int(timestamp)
    except Exception:  # noqa: BLE001 - text, NaN, or a type's own code
        return timestamp
