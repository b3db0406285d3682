"""Requests through libcurl (extra ``curl``): many under way on kept connections, driven by one thread.

`CurlSender.begin` hands a *transfer* to libcurl, `CurlSender.wait` lets it work on all of them until one has ended; the
interpreter's lock is free while libcurl works and waits. What all requests share is set once for each transfer, and
transfers are used again. libcurl is driven by `perform`, not by its socket callbacks: up to 256 under way that takes no
more CPU time, calls into Python less often, and leaves nothing in the kernel that a forked child would share.

As in the requests sender, redirects are not followed, and certificates and proxies are those that requests would take
from the environment, once. The whole of an answer is bounded: connecting may take the connect timeout, and everything
together that and twice the read timeout; a server that sends nothing at all is given up after the read timeout, in
whole seconds. Nothing is retried here, but libcurl itself sends a request again that went to a kept connection which
the server had just closed without a byte of an answer.

An error is shown by its name only, since libcurl's texts hold URLs.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import pycurl  # type: ignore[import-untyped]

from km_logging import wire
from km_logging.policy import Answer
from km_logging.senders import is_page
from km_logging.settings import Settings

__all__ = ["CurlSender"]

#: How much of an answer's body is read, in bytes, so that its connection can be used again; the GIF has under 50.
_BODY = 4_096

#: How often the read timeout an answer may take in all.
_PATIENCE = 2

#: How often to look after what cannot be waited for, in seconds: libcurl tells of no descriptor above 1,023.
_GLANCE = 0.01

#: The names of libcurl's errors, as its documentation has them; of several for one, the first of the alphabet.
_ERRORS = {
    code: f"CURLE_{name[2:]}"
    for name, code in sorted(vars(pycurl).items(), reverse=True)
    if name.startswith("E_") and not name.startswith("E_MULTI_")
}

_DELIVERED = Answer(200)

#: Of parents of this process.
_abandoned: list[pycurl.CurlMulti] = []

Ended = list[tuple[object, Answer]]


class CurlSender:
    """Sends through one stack of libcurl's multi interface.

    `begin` and `wait` are for one thread; all that is under way moves in `wait` only. The rest is for any thread.

    Args:
        settings: `endpoint`, `api_key`, `timeout`, `senders`.
    """

    def __init__(self, settings: Settings) -> None:
        self.width = settings.senders
        self._api_key = settings.api_key or ""
        self._origin, self._base = settings.endpoint.origin, settings.endpoint.base
        self._options = _options(settings, os.environ)
        self._bell = _Bell()
        self._alone = threading.Lock()  # held by whoever sends one request and waits for it
        self._turn = threading.Lock()  # held by whoever uses libcurl; guards everything below
        self._open()
        self._idle: list[_Transfer] = []
        self._under_way: set[_Transfer] = set()
        self._failed: Ended = []
        self._closing = False
        self._running = 0

    def begin(self, request: str, ticket: object) -> None:
        """Start a request. Never raises: what goes wrong is an answer.

        Args:
            request: as `km_logging.wire.encode` makes it.
            ticket: comes back from `wait` with the answer.
        """
        with self._turn:
            try:
                transfer = self._idle.pop() if self._idle else _Transfer(self._options)
                transfer.begin(ticket, self._origin + wire.target(request, self._api_key, self._base))
                self._multi.add_handle(transfer)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others under way must not suffer
                self._failed.append((ticket, _failure(error)))
            else:
                self._under_way.add(transfer)

    def wait(self, seconds: float) -> Ended:
        """Let libcurl work until a request has ended, the time is over, or `wake` was called since the last time.

        Args:
            seconds: at most.

        Returns:
            What has ended: tickets and answers.
        """
        until = time.monotonic() + seconds
        with self._turn:
            ended, self._failed = self._failed, []
            try:
                while not self._work(ended) and (left := until - time.monotonic()) > 0 and not self._rest(left):
                    pass
            except Exception as error:  # noqa: BLE001 - nothing may be left without an answer
                ended += [(transfer.ticket, _failure(error)) for transfer in self._under_way]
                self._renew()
        if self._closing:
            self.close()
        return ended

    def wake(self) -> None:
        """Have `wait` return at once, or the next one; from any thread, and from a signal handler."""
        self._bell.ring()

    def send(self, request: str) -> Answer:
        """As every sender's; one after another, and not while another thread drives this one by `begin` and `wait`."""
        ticket = object()
        with self._alone:
            self.begin(request, ticket)
            while True:
                for ended, answer in self.wait(60):
                    if ended is ticket:
                        return answer

    def close(self) -> None:
        """Close the connections that are idle; if something is under way, they are closed when it has ended."""
        self._closing = True  # seen by whoever has the turn once it is over
        if self._turn.acquire(blocking=False):
            try:
                if not self._under_way:
                    self._closing = False
                    self._renew()
            finally:
                self._turn.release()

    def abandon(self) -> None:
        # To end libcurl's stack is to say goodbye on its TLS connections, which the parent goes on using. So it never
        # ends here, not even with the process.
        _abandoned.append(self._multi)
        with suppress(ImportError):
            import ctypes  # only in a forked child

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_abandoned))
        self._open()
        self._under_way = set()
        self._alone, self._turn, self._bell = threading.Lock(), threading.Lock(), _Bell()

    # The rest is done by whoever has the turn.

    def _open(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self.width)
        self._watched: tuple[list[int], list[int]] | None = None

    def _renew(self) -> None:
        """Close all connections, and give up what is under way."""
        self._under_way.clear()
        with suppress(pycurl.error):
            self._multi.close()
        self._open()

    def _work(self, ended: Ended) -> bool:
        """Let libcurl do what can be done now; whether anything has ended."""
        _, self._running = self._multi.perform()
        _, succeeded, failed = self._multi.info_read()
        for transfer in succeeded:
            self._end(transfer, transfer.answer(), ended)
        for transfer, code, _ in failed:
            self._end(transfer, transfer.failure(code), ended)
        return bool(ended)

    def _end(self, transfer: _Transfer, answer: Answer, ended: Ended) -> None:
        ended.append((transfer.ticket, answer))
        self._under_way.remove(transfer)
        self._multi.remove_handle(transfer)
        self._idle.append(transfer)

    def _rest(self, seconds: float) -> bool:
        """Wait until there is something for libcurl to do; whether it was the bell."""
        readable, writable, _ = self._multi.fdset()
        if (readable, writable) != self._watched:
            self._watched = readable, writable
            self._poll = select.poll()
            self._poll.register(self._bell.ear, select.POLLIN)
            for descriptor in {*readable, *writable}:
                events = select.POLLIN * (descriptor in readable) | select.POLLOUT * (descriptor in writable)
                self._poll.register(descriptor, events)
        pauses = [min(seconds, 60.0) * 1_000]
        if (own := self._multi.timeout()) >= 0:
            pauses.append(own)
        if len(readable) < self._running:
            pauses.append(_GLANCE * 1_000)
        ready = self._poll.poll(min(pauses))
        return any(descriptor == self._bell.ear for descriptor, _ in ready) and self._bell.hush()


class _Transfer(pycurl.Curl):  # type: ignore[misc]
    """One request at a time, and its answer.

    Args:
        options: of libcurl, the same for all requests.
    """

    def __init__(self, options: Mapping[int, object]) -> None:
        super().__init__()
        self.ticket: object = None
        self._head: list[bytes] = []
        self._body = b""
        for option, value in options.items():
            self.setopt(option, value)
        self.setopt(pycurl.HEADERFUNCTION, self._head.append)  # the cheapest: it is called for each line
        self.setopt(pycurl.WRITEFUNCTION, self._take_body)

    def begin(self, ticket: object, url: str) -> None:
        self.ticket, self._body = ticket, b""
        self._head.clear()
        self.setopt(pycurl.URL, url)

    def answer(self) -> Answer:
        status = self.getinfo(pycurl.RESPONSE_CODE)
        is_html = is_page((self.getinfo_raw(pycurl.CONTENT_TYPE) or b"").decode("latin-1"), self._body)
        if status == 200 and not is_html:  # noqa: PLR2004 - an HTTP status
            return _DELIVERED
        if not status:
            return Answer(None, error="not HTTP/1.1")  # but 0.9, which libcurl took before 7.66
        asked = [line[12:].strip().decode("latin-1") for line in self._head if line[:12].lower() == b"retry-after:"]
        return Answer(status, is_html, asked[-1] if asked else None)

    def failure(self, code: int) -> Answer:
        """Why no answer came, unless there was more of it than is read."""
        if code == pycurl.E_WRITE_ERROR and len(self._body) > _BODY:
            return self.answer()
        reason, errno = "", self.getinfo(pycurl.OS_ERRNO)
        if code == pycurl.E_COULDNT_CONNECT and errno:
            reason = f" ({os.strerror(errno)})"
        elif code == pycurl.E_OPERATION_TIMEDOUT:
            reason = " (timeout)"
        return Answer(None, error=_ERRORS.get(code, f"CURLE {code}") + reason)

    def _take_body(self, data: bytes) -> int | None:
        """Read enough, and then no more: the connection is closed."""
        self._body += data
        return None if len(self._body) <= _BODY else 0


class _Bell:
    """Ends a `poll` of another thread: a pipe that is readable once somebody has rung."""

    def __init__(self) -> None:
        self.ear, self._rope = os.pipe()
        os.set_blocking(self.ear, False)
        os.set_blocking(self._rope, False)
        self._rung = False

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            with suppress(BlockingIOError):
                os.write(self._rope, b"!")

    def hush(self) -> bool:
        """Wait for the next ring; true."""
        with suppress(BlockingIOError):
            os.read(self.ear, 4_096)
        self._rung = False  # last: a ring since then is heard by who returns now
        return True

    def __del__(self) -> None:
        os.close(self.ear)
        os.close(self._rope)


def _options(settings: Settings, environ: Mapping[str, str]) -> dict[int, object]:
    """What is the same for all requests."""
    connect, read = settings.timeout
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or certifi.where()
    is_folder = Path(bundle).is_dir()
    return {
        pycurl.NOSIGNAL: 1,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.PATH_AS_IS: 1,
        pycurl.USERAGENT: f"km_logging ({' '.join(pycurl.version.split()[:2]).lower()})",
        pycurl.CONNECTTIMEOUT_MS: max(1, round(connect * 1_000)),
        pycurl.TIMEOUT_MS: max(1, round((connect + _PATIENCE * read) * 1_000)),
        # Nothing at all for so long, in whole seconds.
        pycurl.LOW_SPEED_LIMIT: 1,
        pycurl.LOW_SPEED_TIME: max(1, math.ceil(read)),
        pycurl.PROXY: _proxy(settings.endpoint.origin),
        pycurl.CAPATH if is_folder else pycurl.CAINFO: bundle,
        pycurl.PROXY_CAPATH if is_folder else pycurl.PROXY_CAINFO: bundle,
    }


def _proxy(origin: str) -> str:
    """The proxy of the environment as requests knows it; libcurl would not know ``HTTP_PROXY`` in capitals.

    An empty text for none. libcurl heeds ``NO_PROXY``, too: it knows networks, and this does ports.
    """
    scheme, netloc, *_ = urlsplit(origin)
    if proxy_bypass(netloc):
        return ""
    proxies = getproxies()
    return proxies.get(scheme) or proxies.get("all") or ""


def _failure(error: Exception) -> Answer:
    """The kind of an error, not its text; the code of a `pycurl.error` may be of either of two lists."""
    return Answer(None, error=f"libcurl: {type(error).__name__}")
