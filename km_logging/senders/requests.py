"""Requests through the `requests` library: keep-alive connections, several threads, proxies and certificates as usual.

There are two ways through it:

1. Straight to the connection pool of the session's own adapter, prepared once; at a third of the CPU time. It goes
   around `Session.send` and `HTTPAdapter.send`, so it is taken only where both are requests' own and the session has
   no auth, no hooks and no parameters. urllib3 opens the connections, with proxies, certificates and all; on one that
   is open, the request is sent as it was prepared, and `http.client` reads the answer. Key and properties are added
   below everything that logs: what is above the connection sees only the path ``/e``.
2. `Session.send`, for whatever a user or a mocking library has put in its place. There a request may be logged by
   anybody, so `guard` keeps it out of the records of the thread.

Redirects are not followed, and nothing is retried here: that is `delivery`'s business.

The read timeout of an HTTP client bounds the wait for each next byte. Here the whole is bounded, too: an answer that is
not there after twice the read timeout is no answer, however steadily it trickles in, and its connection is closed. That
is done in the connection, so it holds for both ways, for TLS and for what a proxy answers; but not where an adapter has
connections that are not urllib3's, or a session of the user's own got a new pool since (it keeps ten).
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - with the first request; a fork must not come in the middle of an import
import http.client
import netrc  # noqa: F401 - likewise
import os
import queue
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import certifi
import requests
import requests.adapters
import urllib3

from km_logging import guard, wire
from km_logging.policy import Answer
from km_logging.senders import is_page
from km_logging.senders.connection import Bounding, OurConnection, patience_of_thread, query_of_thread, sever

if TYPE_CHECKING:
    from km_logging.settings import Settings

__all__ = ["RequestsSender"]

#: How much of an answer's body is read, in bytes, so that its connection can be used again; the GIF has under 50.
_BODY = 4_096

#: How often the read timeout an answer may take in all.
_PATIENCE = 2

_NO_RETRIES = urllib3.Retry.from_int(False)


class RequestsSender:
    """Sends through one `requests.Session`.

    Args:
        settings: `endpoint`, `api_key`, `timeout`, `senders`, and `session` for a session of the user's own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api_key = settings.api_key or ""
        self._session = _own_session(settings) if settings.session is None else settings.session()
        self._prepared = self._session.prepare_request(requests.Request("GET", f"{settings.endpoint}/"))
        self._options = self._session.merge_environment_settings(self._prepared.url, {}, None, None, None)
        adapter: Any = self._session.get_adapter(str(self._prepared.url))
        self._patience = _PATIENCE * settings.timeout[1]
        self._connections: Any = None
        self._pool: _PoolWay | None = None
        if self._is_plain():
            self._connections = _own_pool(adapter, self._prepared, self._options)
            self._pool = _PoolWay(adapter, self._connections, self._prepared, self._options, settings)
        else:
            with suppress(Exception):  # anybody's adapter: it may have no pool, or not one of urllib3's
                self._connections = _own_pool(adapter, self._prepared, self._options)
        #: More requests at once would open connections that the adapter does not keep.
        self.width = int(getattr(adapter, "_pool_maxsize", settings.senders))

    def send(self, request: str) -> Answer:
        target = wire.target(request, self._api_key, self._settings.endpoint.base)
        patience_of_thread.set(self._patience)
        try:
            if self._pool is not None and self._is_plain():
                try:
                    return self._pool.send(target)
                except _ForeignConnectionError:
                    self._pool = None
            return self._send_by_session(target)
        except BaseException as error:  # noqa: BLE001 - adapters, hooks and auth are anybody's code
            return Answer(None, error=_described(error))
        finally:
            patience_of_thread.set(0.0)

    def close(self) -> None:
        self._session.close()

    def abandon(self) -> None:
        sever()
        # At the end of the process urllib3 empties the queue of each pool, and would wait there for a thread that held
        # its lock at the fork and does not exist in this process.
        connections = getattr(self._connections, "pool", None)
        if isinstance(connections, queue.Queue):
            connections.__init__(connections.maxsize)  # type: ignore[misc]

    def _is_plain(self) -> bool:
        """Whether going around `Session.send` changes nothing; asked every time, since mocks come and go."""
        session = self._session
        adapter: Any = session.get_adapter(str(self._prepared.url))
        return (
            _is_from(session.send, requests.sessions)
            and _is_from(session.prepare_request, requests.sessions)
            and _is_from(adapter.send, requests.adapters)
            and _is_from(adapter.add_headers, requests.adapters)
            and not (session.auth or session.params or any(session.hooks.values()))
        )

    def _send_by_session(self, target: str) -> Answer:
        request = requests.Request("GET", self._settings.endpoint.origin + target)
        guard.cloak_records()
        guard.secrets.set((target.partition("?")[2], quote_plus(self._api_key), self._api_key))
        try:
            prepared = self._session.prepare_request(request)
            options = {**self._options, "timeout": self._settings.timeout, "stream": True}
            with self._session.send(prepared, allow_redirects=False, **options) as response:
                body = next(response.iter_content(_BODY), b"")
                return _answer(response.status_code, response.headers, body)
        finally:
            guard.secrets.set(())


class _PoolWay:
    """The straight way: the pool's connections, with everything prepared that does not change."""

    def __init__(
        self,
        adapter: Any,
        pool: Any,
        prepared: requests.PreparedRequest,
        options: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        self._pool = pool
        adapter.cert_verify(self._pool, prepared.url, options["verify"], options["cert"])
        _hold_bundle(self._pool)
        # Through an HTTP proxy the whole URL is asked for, else the path.
        self._prefix = adapter.request_url(prepared, options["proxies"]).removesuffix(f"{settings.endpoint.base}/")
        self._headers = dict(prepared.headers)
        self._head = _head(prepared)
        connect, self._read_timeout = settings.timeout
        self._timeout = urllib3.Timeout(connect=connect, read=self._read_timeout)

    def send(self, target: str) -> Answer:
        if (connection := self._open_connection()) is not None:
            return self._ask(connection, target)
        path, _, query = target.partition("?")
        query_of_thread.set(query)
        try:
            return self._answer(path)
        finally:
            query_of_thread.set("")

    def _open_connection(self) -> Any:
        """Take one out of the pool; None if none is open, or it is not one whose ways we know."""
        try:
            connection = self._pool.pool.get(block=False)
        except (queue.Empty, AttributeError):  # all are in use; or the pool is closed
            return None
        if getattr(connection, "is_plain", False) and not urllib3.util.is_connection_dropped(connection):
            return connection
        self._give_back(connection)
        return None

    def _give_back(self, connection: Any) -> None:
        try:
            self._pool.pool.put(connection, block=False)
        except (queue.Full, AttributeError):  # others took its place meanwhile; or the pool was closed
            if connection is not None:
                connection.close()

    def _ask(self, connection: Any, target: str) -> Answer:
        try:
            connection.sock.settimeout(self._read_timeout)
            connection.sock.sendall(b"GET " + target.encode() + self._head)
            response = http.client.HTTPResponse(Bounding(connection.sock), method="GET")  # type: ignore[arg-type]
            response.begin()
            body = response.read(_BODY)
            if response.read(1) or response.will_close:
                connection.close()
            elif response.length:
                connection.close()
                return Answer(None, error="IncompleteRead")
        except BaseException:
            connection.close()
            raise
        finally:
            self._give_back(connection)
        return _answer(response.status, response.headers, body)

    def _answer(self, path: str) -> Answer:
        response = self._pool.urlopen(
            "GET",
            self._prefix + path,
            headers=self._headers,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
            enforce_content_length=True,  # as urllib3 2 does by itself
        )
        body = response.read(_BODY)
        # Only a read that finds the end tells a body that was cut off from a whole one.
        response.close() if response.read(1) else response.release_conn()
        if query_of_thread.get():
            raise _ForeignConnectionError
        return _answer(response.status, response.headers, body)


class _ForeignConnectionError(Exception):
    """The session had a connection open before it was ours: the request went without its query, and told nothing."""


def _own_pool(adapter: Any, prepared: requests.PreparedRequest, options: Mapping[str, Any]) -> Any:
    """The adapter's pool for the endpoint, with connections of ours; urllib3's, which the stubs of requests hide."""
    pool = adapter.get_connection_with_tls_context(prepared, options["verify"], options["proxies"], options["cert"])
    theirs = pool.ConnectionCls
    if not issubclass(theirs, OurConnection):
        # Another one may be a recorder's; and a proxy that is asked for whole URLs has headers of its own.
        is_plain = theirs.__module__ == "urllib3.connection" and (pool.proxy is None or pool.scheme == "https")
        pool.ConnectionCls = type(theirs.__name__, (OurConnection, theirs), {"is_plain": is_plain})
        _close_idle(pool)
    return pool


def _hold_bundle(pool: Any) -> None:
    """Have a pool trust certifi's authorities also when the file that names them is gone.

    From an archive certifi copies its bundle into a temporary file. The first process to end deletes that: this one,
    before the last calls are delivered, or a forked child.
    """
    if pool.ca_certs == certifi.where() and not Path(certifi.__file__).exists():
        pool.ca_certs, pool.conn_kw["ssl_context"] = None, _certifi_context()


@cache
def _certifi_context() -> ssl.SSLContext:
    context = urllib3.util.ssl_.create_urllib3_context()
    context.load_verify_locations(cadata=certifi.contents())
    return context


def _head(prepared: requests.PreparedRequest) -> bytes:
    """What follows the target in each request."""
    headers = requests.structures.CaseInsensitiveDict({"Host": urlsplit(str(prepared.url)).netloc})
    headers.update(prepared.headers)
    lines = [" HTTP/1.1", *(f"{name}: {_text(value)}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _own_session(settings: Settings) -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = f"km_logging ({requests.utils.default_user_agent()})"
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=settings.senders, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _is_from(method: object, module: ModuleType) -> bool:
    """Whether a bound method is the function that ``module`` itself defined, and no subclass's, patch's or mock's."""
    function = getattr(method, "__func__", None)
    return getattr(function, "__globals__", None) is vars(module)


def _close_idle(pool: Any) -> None:
    """Have a pool open new connections: those that the application had opened with its session are none of ours."""
    places = 0
    with suppress(queue.Empty):
        while True:
            connection = pool.pool.get(block=False)
            places += 1
            if connection is not None:
                connection.close()
    for _ in range(places):
        pool.pool.put(None)


def _answer(status: int, headers: Mapping[str, str] | http.client.HTTPMessage, body: bytes) -> Answer:
    page = is_page(headers.get("Content-Type", ""), body)
    return Answer(status, is_html=page, retry_after=headers.get("Retry-After"))


def _described(error: BaseException) -> str:
    """The kinds of an error and of its root cause; not their texts, which hold URLs."""
    root = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    kinds = dict.fromkeys([type(error).__name__, type(root).__name__])
    reason = f" ({os.strerror(root.errno)})" if isinstance(root, OSError) and root.errno else ""
    return ": ".join(kinds) + reason
