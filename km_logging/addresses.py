"""Where calls wait and where they go, as the settings `outbox` and `endpoint` write it. Pure.

Each parser takes the name of the setting or variable, for its errors, and the text.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from km_logging.calls import MAX_NAME
from km_logging.errors import SettingsError

__all__ = ["Endpoint", "OutboxAddress", "is_loopback", "parse_endpoint", "parse_outbox"]

#: How large a SQLite outbox may grow unless its address says otherwise, in MiB.
MAX_MB = 1_024
MOST_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the tracking server is.

    Attributes:
        origin: scheme, host and port, such as ``https://trk.kissmetrics.io``.
        base: path without a slash at its end, usually empty.
        is_private: whether requests are encrypted or never leave this machine.
    """

    origin: str
    base: str
    is_private: bool

    def __str__(self) -> str:
        return self.origin + self.base


@dataclass(frozen=True, slots=True)
class OutboxAddress:
    """Where accepted calls wait.

    Attributes:
        kind: ``memory`` or ``sqlite``.
        path: of the file, absolute; empty for memory.
        max_mb: how large the file may grow, in MiB.
        is_synced: whether each commit waits for the disk (``?sync=full``), which a power cut needs.
    """

    kind: str
    path: str = ""
    max_mb: int = MAX_MB
    is_synced: bool = False

    @property
    def lasts(self) -> bool:
        """Whether what waits there outlives the process."""
        return self.kind != "memory"

    def __str__(self) -> str:
        if self.kind == "memory":
            return "memory:"
        options = [f"max_mb={self.max_mb}"] * (self.max_mb != MAX_MB) + ["sync=full"] * self.is_synced
        return f"{self.kind}:///{self.path}" + ("?" if options else "") + "&".join(options)


def parse_endpoint(name: str, text: str) -> Endpoint:
    """The endpoint that ``text`` names.

    Raises:
        SettingsError: it is no http(s) URL of a server.
    """
    remedy = "write it as https://host, https://host:port or https://host/base"
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname
    except ValueError:
        raise SettingsError(f"{name} is no URL: {remedy}") from None
    if url.scheme not in {"http", "https"} or not host or not text.isascii() or not text.isprintable() or " " in text:
        raise SettingsError(f"{name} must be an http:// or https:// URL: {remedy}")
    if url.username is not None or url.query or url.fragment or "?" in text or "#" in text:
        raise SettingsError(f"{name} may hold neither user, query nor fragment: {remedy}")
    base = url.path.rstrip("/")
    if len(base) > MAX_NAME:
        raise SettingsError(f"{name} has a path of more than {MAX_NAME} characters: {remedy}")
    netloc = f"[{host}]" if ":" in host else host
    origin = f"{url.scheme}://{netloc}" + (f":{port}" if port is not None else "")
    return Endpoint(origin, base, is_private=url.scheme == "https" or is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether a host, without port and brackets, can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # only for hosts that are not the default

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_outbox(name: str, text: str) -> OutboxAddress:
    """The outbox that ``text`` names.

    A relative path is taken from where the process is now, so that a later ``chdir`` changes nothing.

    Raises:
        SettingsError: it names no outbox that there is.
    """
    scheme, _, rest = text.partition(":")
    if text in {"memory:", "memory://"}:
        return OutboxAddress("memory")
    if scheme in {"redis", "rediss", "unix"}:
        raise SettingsError(f"{name} with {scheme}: is not in this version yet: use 'sqlite:///km.db' or 'memory:'")
    if scheme != "sqlite":
        raise SettingsError(f"{name} must be 'memory:' or 'sqlite:///km.db', not one with the scheme {scheme!r}")
    path, _, query = rest.partition("?")
    if not path.startswith("///") or not path[3:] or "\0" in path or path.endswith(("/", ":memory:")):
        remedy = "write sqlite:///km.db for a relative path, sqlite:////var/lib/app/km.db for an absolute one"
        raise SettingsError(f"{name} names no file: {remedy}")
    return OutboxAddress("sqlite", os.path.abspath(path[3:]), *_options(name, query))  # noqa: PTH100 - no link is followed


def _options(name: str, query: str) -> tuple[int, bool]:
    max_mb, is_synced = MAX_MB, False
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option == "max_mb" and value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_MB:
            max_mb = int(value)
        elif option == "sync" and value in {"full", "normal"}:
            is_synced = value == "full"
        else:
            remedy = "the options are max_mb=1024 (1 or more, MiB) and sync=full"
            raise SettingsError(f"{name} has an option that it does not know or cannot use, {option!r}: {remedy}")
    return max_mb, is_synced
