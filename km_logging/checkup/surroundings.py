"""Network and disk as they are just now. Reads, and asks the endpoint for ``/`` without a key: nothing is tracked."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from km_logging.addresses import Endpoint, OutboxAddress
from km_logging.checkup.finding import Finding
from km_logging.errors import MissingExtraError, OutboxError
from km_logging.settings import Settings

__all__ = ["Reached", "outbox_findings", "reach"]

#: How long to wait for an answer, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one gets on the way to an endpoint.

    Attributes:
        endpoint: as it is configured.
        addresses: what its name resolves to; empty if it does not.
        proxy: what stands in between by the environment, without user and password, or None.
        answer: such as ``HTTP 200``, or None.
        finding: what is wrong, or None.
    """

    endpoint: str
    addresses: tuple[str, ...]
    proxy: str | None
    answer: str | None
    finding: Finding | None


def reach(endpoint: Endpoint, *, is_sure: bool = True) -> Reached:
    """Resolve the name of an endpoint, and ask what is there for ``/``.

    Args:
        endpoint: whom to ask.
        is_sure: whether calls take the same way; not if there is a `session`, of which nothing is known.
    """
    proxy = _proxy(endpoint)
    try:
        addresses = _addresses(endpoint)
    except OSError as error:
        addresses = ()
        if proxy is None:  # which would resolve it by itself
            reason = getattr(error, "strerror", None) or type(error).__name__
            message = f"the name of {endpoint} does not resolve ({reason})"
            finding = Finding(message, "check endpoint and DNS", not is_sure)
            return Reached(str(endpoint), addresses, None, None, finding)
    try:
        return Reached(str(endpoint), addresses, _masked(proxy), _answer(endpoint, proxy), None)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        finding = Finding(f"{endpoint} does not answer ({reason})", "check endpoint, network and proxy", not is_sure)
        return Reached(str(endpoint), addresses, _masked(proxy), None, finding)


def _addresses(endpoint: Endpoint) -> tuple[str, ...]:
    url = urlsplit(endpoint.origin)
    try:
        found = socket.getaddrinfo(url.hostname, url.port or url.scheme, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of the name is empty, or too long
        raise OSError("no name of a host") from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _proxy(endpoint: Endpoint) -> str | None:
    url = urlsplit(endpoint.origin)
    if urllib.request.proxy_bypass(url.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _masked(proxy: str | None) -> str | None:
    return proxy and re.sub(r"^(\w+://)?[^/]*@", r"\1***@", proxy)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """The senders follow none either."""


def _answer(endpoint: Endpoint, proxy: str | None) -> str:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({urlsplit(endpoint.origin).scheme: proxy} if proxy else {}),
        urllib.request.HTTPSHandler(context=_trust()),
        _NoRedirects,
    )
    try:
        with opener.open(f"{endpoint}/", timeout=PATIENCE) as response:
            return f"HTTP {response.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"


def _trust() -> ssl.SSLContext:
    """The certificates that both senders go by."""
    import certifi  # comes with requests; seldom needed

    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
    is_folder = Path(bundle).is_dir()
    return ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)


def outbox_findings(where: str, settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with an outbox, or with the place where its file will be made; makes none."""
    address = settings.outbox
    if settings.mode != "live" or not address.lasts:
        return
    folder = Path(address.path).parent
    if address.kind == "redis" or os.path.lexists(address.path):
        yield from _outbox_findings(where, address)
    elif not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        yield Finding(f"{where}: the outbox cannot be made in {folder}", "make the directory, and make it writable")


def _outbox_findings(where: str, address: OutboxAddress) -> Iterator[Finding]:
    from km_logging.outbox.opening import opened  # only for those that last

    if address.kind == "sqlite" and not os.lstat(address.path).st_size:
        return  # the application makes an outbox of it
    try:
        with opened(address) as store:
            store.count()
    except MissingExtraError as error:
        yield Finding(f"{where}: the outbox cannot be used", str(error))
    except OutboxError as error:
        yield Finding(f"{where}: the outbox cannot be used ({error.message})", error.remedy)
