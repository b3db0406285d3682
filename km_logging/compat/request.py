"""The request URL of one call, key included; nothing is sent. Arguments and errors as for `create_query`."""

from __future__ import annotations

from collections.abc import Mapping

from km_logging.compat.query_string import create_query

__all__ = ["ALIAS_PATH", "RECORD_PATH", "SET_PATH", "TRACKING_HOSTNAME", "TRACKING_SCHEME", "alias", "record", "set"]

TRACKING_HOSTNAME = "trk.kissmetrics.io"

#: There it is http, which shows the key and the properties to everybody on the way.
TRACKING_SCHEME = "https"

RECORD_PATH = "e"
SET_PATH = "s"
ALIAS_PATH = "a"


def record(  # noqa: PLR0917 - the signature of the other library
    key: str,
    person: object,
    event: str,
    timestamp: object = None,
    properties: Mapping[str, object] | None = None,
    scheme: str = TRACKING_SCHEME,
    host: str = TRACKING_HOSTNAME,
    path: str = RECORD_PATH,
) -> str:
    """The URL of an event.

    >>> record("api-key", "bob", "Signed Up", 1262304000)
    'https://trk.kissmetrics.io/e?_k=api-key&_p=bob&_n=Signed+Up&_t=1262304000&_d=1'
    """
    return _url(scheme, host, path, create_query(key, person, event, timestamp, properties=properties))


def set(
    key: str,
    person: object,
    timestamp: object = None,
    properties: Mapping[str, object] | None = None,
    scheme: str = TRACKING_SCHEME,
    host: str = TRACKING_HOSTNAME,
    path: str = SET_PATH,
) -> str:
    """The URL of a set call."""
    return _url(scheme, host, path, create_query(key, person, timestamp=timestamp, properties=properties))


def alias(
    key: str,
    person: object,
    identity: object,
    scheme: str = TRACKING_SCHEME,
    host: str = TRACKING_HOSTNAME,
    path: str = ALIAS_PATH,
) -> str:
    """The URL of an alias call."""
    return _url(scheme, host, path, create_query(key, person, identity=identity))


def _url(scheme: str, host: str, path: str, query: str) -> str:
    return f"{scheme}://{host}/{path.lstrip('/')}?{query}"
