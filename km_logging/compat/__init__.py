"""The interface of py-KISSmetrics 1.1.0 over a tracker: code that was written for it goes on, in the background.

    from km_logging import compat as KISSmetrics  # was: import KISSmetrics

1. Modules, names, arguments and their order are that library's, by Ernest W. Durbin III; none of its code is here.
2. What becomes of a call is ours: it is checked, has its own time, is accepted at once and delivered in the background,
   over https. So what `Client` returns speaks of the acceptance, and not of the server's answer.
3. `query_string` and `request` build what would be sent, by the same functions; what cannot be told raises there.

`docs/migrating.md` says what changes for callers.
"""

from __future__ import annotations

from km_logging.compat import query_string, request
from km_logging.compat.client import Client, Response
from km_logging.compat.client_compat import ClientCompat
from km_logging.compat.request import ALIAS_PATH, RECORD_PATH, SET_PATH, TRACKING_HOSTNAME, TRACKING_SCHEME

KM = ClientCompat

__all__ = [
    "ALIAS_PATH",
    "KM",
    "RECORD_PATH",
    "SET_PATH",
    "TRACKING_HOSTNAME",
    "TRACKING_SCHEME",
    "Client",
    "ClientCompat",
    "Response",
    "query_string",
    "request",
]
