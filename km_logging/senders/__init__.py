"""Seam 2: how a request reaches the server. One small file a kind; only the requests sender imports requests."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from km_logging.errors import MissingExtraError
from km_logging.importing import importing
from km_logging.policy import Answer

if TYPE_CHECKING:
    from km_logging.settings import Settings

__all__ = ["ManySender", "Sender", "check_transport", "is_page", "load_sender", "make_sender", "unfit_for_curl"]


class Sender(Protocol):
    """Sends requests; used by several threads at once.

    Attributes:
        width: how many requests it can have under way at once.
    """

    width: int

    def send(self, request: str) -> Answer:
        """Send one request and wait for its answer. Never raises: what went wrong is an answer as well.

        Args:
            request: as `km_logging.wire.encode` makes it.
        """

    def close(self) -> None:
        """Close the connections that are idle."""

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's, and whatever lock a thread held at the fork stays so."""


@runtime_checkable
class ManySender(Sender, Protocol):
    """Has many requests under way in one thread, which is the only one that uses it, but for `wake`."""

    def begin(self, request: str, ticket: object) -> None:
        """Begin with one request; never more than `width` at once."""

    def wait(self, seconds: float) -> list[tuple[object, Answer]]:
        """Wait until requests have ended, so many seconds at most, or until `wake`; the tickets and their answers."""

    def wake(self) -> None:
        """Have `wait` return at once."""


def is_page(content_type: str, body: bytes) -> bool:
    """Whether an answer is a page: a captive portal's, since the tracking server never sends one."""
    return "html" in content_type.lower() or body.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


def check_transport(settings: Settings) -> None:
    """Raises MissingExtraError if what the settings ask for is not installed."""
    if settings.transport == "curl" and settings.mode == "live" and find_spec("pycurl") is None:
        raise MissingExtraError("transport 'curl'", "curl")


def unfit_for_curl(settings: Settings) -> str | None:
    """Why the requests sender serves, although the settings ask for curl; None if it does not."""
    if settings.transport != "curl":
        return None
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "gevent is in use, whose other greenlets libcurl would stop"
    return None if settings.session is None else "there is a `session`, which is requests'"


def load_sender(settings: Settings) -> None:
    """Import what delivery will need, if it will."""
    if settings.mode == "live" and settings.deliver:
        make_sender(replace(settings, session=None)).close()


def make_sender(settings: Settings) -> Sender:
    """The sender that the settings ask for; imports what it needs, so call it where an import may take its time."""
    if settings.mode == "print":
        from km_logging.senders.printing import PrintingSender  # only in this mode

        return PrintingSender()
    if settings.transport == "curl" and unfit_for_curl(settings) is None:
        with importing:
            from km_logging.senders.curl import CurlSender  # the extra may be missing

            return CurlSender(settings)
    with importing:
        from km_logging.senders.requests import RequestsSender  # requests takes 100 ms to import

        if settings.session is None:
            return RequestsSender(settings)
    return RequestsSender(settings)  # a session of the user's own may take its time
