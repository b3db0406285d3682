"""Where calls wait and where they go, as the settings `outbox` and `endpoint` write it. Pure.

Each parser takes the name of the setting or variable, for its errors, and the text.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from km_logging.calls import MAX_NAME
from km_logging.errors import SettingsError

__all__ = ["Endpoint", "OutboxAddress", "StreamAddress", "is_loopback", "parse_endpoint", "parse_outbox"]

#: How large a SQLite outbox may grow unless its address says otherwise, in MiB.
MAX_MB = 1_024
MOST_MB = 1_000_000

#: Where a Redis outbox is unless its address says otherwise, and how many calls may wait there.
PORT = 6379
STREAM = "km"
MOST = 1_000_000

#: What stands for a password where an address is shown.
MASK = "***"

#: Options of a ``rediss://`` address that name files, as redis-py calls them.
CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


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
        kind: ``memory``, ``sqlite`` or ``redis``.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAddress(OutboxAddress):
    """A stream of a Redis server. Neither ``repr`` nor ``str`` shows the password.

    Attributes:
        scheme: ``redis``, ``rediss`` for TLS, or ``unix`` for the socket at `path`.
        host: name or address, without brackets.
        port: of the server.
        database: its number.
        username: may be empty.
        password: may be empty.
        stream: key of the stream; other keys of ours begin with it.
        most: how many calls may wait there.
        certificates: options of `CERTIFICATES` and their values.
    """

    kind: str = "redis"
    scheme: str = "redis"
    host: str = ""
    port: int = PORT
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    stream: str = STREAM
    most: int = MOST
    certificates: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = [f"db={self.database}"] * (self.scheme == "unix" and self.database != 0)
        options += [f"stream={self.stream}"] * (self.stream != STREAM) + [f"max={self.most}"] * (self.most != MOST)
        options += [f"{option}={value}" for option, value in self.certificates]
        user = f"{MASK}@" if self.username or self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = self.path if self.scheme == "unix" else f"{host}:{self.port}/{self.database}"
        return f"{self.scheme}://{user}{place}" + ("?" if options else "") + "&".join(options)


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
        return _stream_address(name, text)
    if scheme != "sqlite":
        kinds = "'memory:', 'sqlite:///km.db' or 'redis://host:6379/0'"
        raise SettingsError(f"{name} must be {kinds}, not one with the scheme {scheme!r}")
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


def _stream_address(name: str, text: str) -> StreamAddress:
    """Errors show nothing of the text: who forgets to encode a password has it anywhere in there."""
    try:
        url = urlsplit(text)
        port, host = url.port or PORT, url.hostname or ""
    except ValueError:
        raise SettingsError(f"{name} names no Redis server: {_HOW_STREAM}") from None
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    is_socket = url.scheme == "unix"
    if url.fragment or "#" in text or not (url.path[1:] and url.path[0] == "/" and not host if is_socket else host):
        raise SettingsError(f"{name} names no Redis server: {_HOW_STREAM}")
    if MASK in {url.username, url.password}:
        raise SettingsError(f"{name} has {MASK} in the place of the password: write the password itself")
    database = options.pop("db", "0") if is_socket else url.path.strip("/") or "0"
    stream, most = options.pop("stream", STREAM), options.pop("max", str(MOST))
    certificates = tuple((option, options.pop(option)) for option in CERTIFICATES if option in options)
    is_sound = stream.isprintable() and 0 < len(stream) <= MAX_NAME and _is_number(database) and _is_number(most)
    if options or not is_sound or int(most) < 1:
        raise SettingsError(f"{name} has a part that it does not know or cannot use: {_HOW_STREAM}")
    if certificates and url.scheme != "rediss":
        raise SettingsError(f"{name} has {certificates[0][0]} without TLS: write it as rediss://")
    return StreamAddress(
        scheme=url.scheme,
        path=unquote(url.path) if is_socket else "",
        host=host,
        port=port,
        database=int(database),
        username=unquote(url.username or ""),
        password=unquote(url.password or ""),
        stream=stream,
        most=int(most),
        certificates=certificates,
    )


_HOW_STREAM = (
    "write redis://host:6379/0?stream=km&max=1000000, rediss://.. for TLS (with ssl_ca_certs=, ssl_certfile=, "
    "ssl_keyfile= as needed), or unix:///run/redis.sock?db=0&stream=km; with a password redis://user:password@host, "
    "in which %40 stands for @, and so on"
)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) + 3
