"""`ClientCompat`, for users of the library before py-KISSmetrics: the person is a state of the client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from km_logging.compat.client import Client, Response
from km_logging.compat.request import ALIAS_PATH, RECORD_PATH, SET_PATH
from km_logging.errors import KmLoggingError, SettingsError

__all__ = ["ClientCompat"]

_SCHEMES = {"80": "http", "443": "https", "": None}


class ClientCompat:
    """As py-KISSmetrics' `KM`. One person at a time, for all threads: `km_logging.identify` is the better way.

    Args:
        key: the API key; None: the one in ``KM_API_KEY``.
        host: ``host:80`` or ``host:443``; None: as the setting `endpoint` has it, which may have any port.
        http_timeout: seconds to wait for the server, in the background.
        logging: there, whether errors go into a file; here they go to the logger ``km_logging``.
        **settings: see `km_logging.settings.SETTINGS`.

    Attributes:
        client: the `Client` underneath.
        identity: the person of the calls that follow.
    """

    def __init__(
        self,
        key: str | None,
        host: str | None = None,
        http_timeout: float | None = None,
        logging: bool = True,  # noqa: FBT001, FBT002, ARG002 - the signature of the other library
        **settings: object,
    ) -> None:
        name, _, port = (host or "").partition(":")
        if port not in _SCHEMES:
            remedy = "leave host out, and pass endpoint='http://host:port'"
            raise SettingsError(f"the port of host must be 80 or 443; for another one, {remedy}")
        if http_timeout is not None:
            settings["timeout"] = http_timeout
        self.client = Client(key, name or None, _SCHEMES[port], **settings)
        self.identity: object = None
        self._is_reset = False

    @property
    def key(self) -> str | None:
        """The API key; None after `reset`, until another one is set."""
        return None if self._is_reset else self.client.key

    @key.setter
    def key(self, key: str | None) -> None:
        self._is_reset = key is None
        if key is not None:
            self.client.key = key

    def identify(self, identity: object) -> None:
        """Whom the calls that follow tell of."""
        self.identity = identity

    def record(
        self,
        action: str,
        props: Mapping[str, object] | None = None,
        path: str = RECORD_PATH,
        resp: bool = False,  # noqa: FBT001, FBT002 - the signature of the other library
    ) -> Response | None:
        """The person did something; returns a `Response` if ``resp`` is true.

        Raises:
            KmLoggingError: there is no key, or nobody was identified.
        """
        self.check_id_key()
        response = self.client.record(self.identity, action, props, path=path)
        return response if resp else None

    def set(
        self,
        data: Mapping[str, object],
        path: str = SET_PATH,
        resp: bool = False,  # noqa: FBT001, FBT002 - the signature of the other library
    ) -> Response | None:
        """The person has these properties; result and errors as for `record`."""
        self.check_id_key()
        response = self.client.set(self.identity, data, path=path)
        return response if resp else None

    def alias(
        self,
        name: object,
        alias_to: object,
        path: str = ALIAS_PATH,
        resp: bool = False,  # noqa: FBT001, FBT002 - the signature of the other library
    ) -> Response | None:
        """Two identities are one person; result and errors as for `record`, but nobody need be identified."""
        self.check_init()
        response = self.client.alias(name, alias_to, path=path)
        return response if resp else None

    def log_file(self) -> str:
        """Where that library's predecessor wrote its errors. Nothing is written there."""
        return "/tmp/kissmetrics_error.log"  # noqa: S108 - a name, and no file

    def reset(self) -> None:
        """Forget person and key."""
        self.identity = self.key = None

    def check_identify(self) -> None:
        """Raises KmLoggingError if nobody was identified."""
        if self.identity is None:
            raise KmLoggingError("nobody is identified: call identify(person) first")

    def check_init(self) -> None:
        """Raises KmLoggingError if there is no key."""
        if self._is_reset:
            raise KmLoggingError("the key was reset: set the attribute key first")

    def check_id_key(self) -> None:
        """Both checks."""
        self.check_init()
        self.check_identify()

    def now(self) -> datetime:
        """The time, in UTC and without a zone."""
        return datetime.now(timezone.utc).replace(tzinfo=None)
