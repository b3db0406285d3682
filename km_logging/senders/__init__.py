"""Seam 2: how a request reaches the server. One small file a kind; only the requests sender imports requests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from km_logging.policy import Answer

if TYPE_CHECKING:
    from km_logging.settings import Settings

__all__ = ["Sender", "importing", "make_sender"]

#: Held while a sender is imported. A fork waits for it: a child forked in the middle of an import, whose thread it does
#: not have, could never import that module itself.
importing = threading.Lock()


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


def make_sender(settings: Settings) -> Sender:
    """The sender that the settings ask for; imports what it needs, so call it where an import may take its time."""
    if settings.mode == "print":
        from km_logging.senders.printing import PrintingSender  # only in this mode

        return PrintingSender()
    with importing:
        from km_logging.senders.requests import RequestsSender  # requests takes 100 ms to import

        if settings.session is None:
            return RequestsSender(settings)
    return RequestsSender(settings)  # a session of the user's own may take its time
