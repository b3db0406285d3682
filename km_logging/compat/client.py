"""`Client`, whose calls return at once; clients with equal settings share one tracker, also with handlers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from km_logging.addresses import is_loopback
from km_logging.calls import brief
from km_logging.compat.query_string import timed
from km_logging.compat.request import ALIAS_PATH, RECORD_PATH, SET_PATH, TRACKING_SCHEME
from km_logging.errors import SettingsError
from km_logging.frontend import FrontEnd
from km_logging.tracker import Tracker

__all__ = ["Client", "Response"]


@dataclass(frozen=True, slots=True)
class Response:
    """Stands for the HTTP response that py-KISSmetrics returns: whether the call was accepted, to be sent.

    Attributes:
        status: 200 if it was, or if tracking is switched off; 400 if not.
        reason: the same in words.
        data: empty: the server's answer, a GIF, is not there yet.
    """

    status: int
    reason: str
    data: bytes = b""


ACCEPTED = Response(200, "accepted, and delivered in the background")
OFF = Response(200, "tracking is switched off")
REFUSED = Response(400, "refused or dropped: the logger 'km_logging' and stats() say why")


class Client(FrontEnd):
    """As py-KISSmetrics' client.

    Example::

        client = Client("api-key")
        client.record("bob", "Signed Up", {"plan": "pro"})

    Args:
        key: the API key; None: the one in ``KM_API_KEY``.
        trk_host: the tracking server, with a port and a base path if need be; None: as the setting `endpoint` has it.
        trk_scheme: ``https`` or ``http`` for ``trk_host``; None: ``https``, but ``http`` to this machine.
        **settings: see `km_logging.settings.SETTINGS`.

    Raises:
        SettingsError: a setting is unknown, wrong or missing; the message says what to write instead.
    """

    def __init__(
        self, key: str | None, trk_host: str | None = None, trk_scheme: str | None = None, **settings: object
    ) -> None:
        if trk_scheme not in {"http", "https", None}:
            raise SettingsError(f"trk_scheme must be one of 'http', 'https', not {brief(trk_scheme)}")
        if trk_host is not None and settings.get("endpoint") is not None:
            raise SettingsError("trk_host and endpoint exclude each other: leave one out")
        if trk_host is not None:
            settings["endpoint"] = f"{trk_scheme or _scheme_for(trk_host)}://{trk_host}"
        self._settings = settings
        self.key = key

    @property
    def key(self) -> str | None:
        """The API key; another one may be set, for the calls that follow."""
        return self._tracker.settings.api_key

    @key.setter
    def key(self, key: str | None) -> None:
        self._join(None, {**self._settings, "api_key": key})

    @property
    def trk_host(self) -> str:
        """Where calls go, without the scheme."""
        return str(self._tracker.settings.endpoint).partition("://")[2]

    @property
    def trk_scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self._tracker.settings.endpoint).partition("://")[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tracker!r}>"

    def record(
        self,
        person: object,
        event: str,
        properties: Mapping[str, object] | None = None,
        timestamp: object = None,
        path: str = RECORD_PATH,
    ) -> Response:
        """Somebody did something.

        Args:
            person: str, int or UUID; None: whoever is bound by `km_logging.identify`.
            event: the event's name.
            properties: what to say about it; ``_t`` among them is the time.
            timestamp: Unix time in seconds, or a datetime; None: now.
            path: the one there is.
        """
        return self._answer(self._ready(path, RECORD_PATH).event(person, event, **timed(properties, timestamp)))

    def set(
        self,
        person: object,
        properties: Mapping[str, object] | None = None,
        timestamp: object = None,
        path: str = SET_PATH,
    ) -> Response:
        """Somebody has these properties; arguments as for `record`."""
        return self._answer(self._ready(path, SET_PATH).set(person, **timed(properties, timestamp)))

    def alias(self, person: object, identity: object, path: str = ALIAS_PATH) -> Response:
        """Two identities are one person. This cannot be undone."""
        return self._answer(self._ready(path, ALIAS_PATH).alias(person, identity))

    def _ready(self, path: str, own: str) -> Tracker:
        if path.strip("/") != own:
            remedy = "leave it out, or write a base path into trk_host, such as 'proxy.example.com/base'"
            raise SettingsError(f"path must be {own!r}, not {brief(path)}: {remedy}")
        if not self._open:
            self._reopen()
        return self._tracker

    def _answer(self, accepted: bool) -> Response:  # noqa: FBT001 - of the tracker
        if self._tracker.is_off:
            return OFF
        return ACCEPTED if accepted else REFUSED


def _scheme_for(host: str) -> str:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # which the setting `endpoint` will say
        name = ""
    return "http" if is_loopback(name) else TRACKING_SCHEME
