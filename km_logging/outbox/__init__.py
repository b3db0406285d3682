"""Seam 1: where accepted calls wait. One small file a kind; they hold requests, that is neither key nor endpoint.

An outbox only keeps: when something is tried again is `delivery`'s business. It does the books of what it keeps: calls
that are handed over to other processes, find no room, or are given up with it.

`delivery` calls every method under its own lock, one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

from km_logging.addresses import StreamAddress

if TYPE_CHECKING:
    from km_logging.calls import Problem
    from km_logging.ledger import Ledger
    from km_logging.settings import Settings

__all__ = ["Entry", "LastingOutbox", "Outbox", "check_outbox", "make_lasting", "make_outbox"]


class Entry(NamedTuple):
    """One call in an outbox.

    Attributes:
        request: as `km_logging.wire.encode` makes it.
        accepted_at: Unix time, seconds.
        number: tells the entries of one outbox apart; later ones have higher ones, but for those below zero.
        tries: attempts so far.
        refusals: how often the server refused it for its own sake.
        is_own: whether this process answers for it in its books; not if another process handed it over.
    """

    request: str
    accepted_at: float
    number: int
    tries: int = 0
    refusals: int = 0
    is_own: bool = True


class Outbox(Protocol):
    """What delivery needs of every kind of outbox.

    Attributes:
        lasts: whether what is in it outlives the process, and its methods may wait for a disk or a server.
        moves: changes when entries get new numbers.
        poll: after how many seconds `look` may find something that nobody told of; infinite if never.
        wake: set by delivery; called, in whatever thread, when it is worth a look before that.
    """

    lasts: bool
    moves: int
    wake: Callable[[], None]

    @property
    def poll(self) -> float:
        """See above."""

    def put(self, requests: Sequence[str], now: float) -> None:
        """Keep new calls, accepted at ``now``, Unix time."""

    def look(self) -> None:
        """See what other processes have put, or ended; mend what was broken. Cheap, so it may be called often."""

    def claim(self, limit: int) -> Sequence[Entry]:
        """Take up to ``limit`` entries, oldest first; each is claimed once, until it is settled."""

    def settle(self, entry: Entry) -> None:
        """Forget a claimed entry: it was delivered, or is given up."""

    def bury(self, entry: Entry) -> None:
        """Forget a claimed entry that the server refused for its own sake; what lasts keeps it, to be looked at."""

    def sync(self) -> None:
        """There is nothing more to do right now: write down what was settled."""

    def holds(self, entry: Entry) -> bool:
        """Whether a claimed entry takes up the room of calls in memory."""

    def evict(self) -> Entry | None:
        """Forget the oldest entry in memory that is not claimed and return it; None if there is none to give."""

    def stop_at_last(self) -> None:
        """The end is near: look at once, and leave what other processes put from now on to them."""

    def keep_rest(self) -> None:
        """There is no more time: what lasts shall hold everything that it can."""

    def close(self, under_way: Collection[Entry] = ()) -> None:
        """Give up what is here, or leave it to other processes, but for what is under way: see `finish`."""

    def finish(self, entry: Entry, *, is_delivered: bool) -> bool:
        """After `close`: an entry is no longer under way. Whether it was still in the books, and is delivered now."""

    def before_fork(self) -> None:
        """Leave nothing open that a child must not inherit, until `after_fork`."""

    def after_fork(self) -> None:
        """In the parent: go on."""

    def abandon(self) -> None:
        """In a forked child: let go, without touching what is the parent's. Takes no lock."""

    @property
    def is_held(self) -> bool:
        """Whether this thread is in the middle of something that others wait for."""

    @property
    def waiting(self) -> int:
        """How many entries can be claimed, as far as `look` knows; never more than that."""

    @property
    def pending(self) -> int:
        """How many own entries are not settled."""

    @property
    def lasting(self) -> int:
        """How many of these do not end with this process."""

    @property
    def oldest(self) -> float | None:
        """When the oldest own entry that is not claimed was accepted, Unix time; None if there is none."""

    @property
    def span(self) -> range:
        """The numbers of all own entries that there are, and of more that are gone."""


class LastingOutbox(Outbox, Protocol):
    """What a relay needs of it as well.

    Attributes:
        end: the last number that is delivered; infinite unless somebody sets it.
    """

    end: float

    @property
    def leads(self) -> bool:
        """Whether this process delivers."""

    @property
    def has_others(self) -> bool:
        """Whether other processes deliver."""


def check_outbox(settings: Settings) -> None:
    """Raises MissingExtraError if what the settings ask for is not installed."""
    if settings.mode == "live" and settings.outbox.kind == "redis":
        from km_logging.outbox.line import check_redis

        check_redis()


def make_outbox(
    settings: Settings, *, ledger: Ledger, left: Callable[[int], None], report: Callable[[Problem], None]
) -> Outbox:
    """The outbox that the settings ask for; opens nothing yet.

    Args:
        settings: `outbox`, `durability`, `deliver`, `api_key`.
        ledger: the books.
        left: is told how many calls no longer take up room in memory.
        report: says a problem, in whatever thread.
    """
    if settings.mode != "live" or not settings.outbox.lasts:
        return MemoryOutbox(ledger, left)
    return make_lasting(settings, ledger=ledger, left=left, report=report)


def make_lasting(
    settings: Settings,
    *,
    ledger: Ledger,
    left: Callable[[int], None],
    report: Callable[[Problem], None],
    is_relay: bool = False,
) -> LastingOutbox:
    """The same, where it outlives the process; for a relay one that answers for all calls, and makes no file."""
    address = settings.outbox
    common = _Common(
        ledger=ledger,
        left=left,
        report=report,
        delivers=settings.deliver or is_relay,
        api_key=settings.api_key or "",
        is_relay=is_relay,
    )
    # Either opens what it needs, so only where it is asked for.
    if isinstance(address, StreamAddress):
        from km_logging.outbox.redis import RedisOutbox

        return RedisOutbox(address, **common)
    from km_logging.outbox.sqlite import SqliteOutbox

    is_immediate = settings.durability == "immediate" and not is_relay
    return SqliteOutbox(address, is_immediate=is_immediate, **common)


class _Common(TypedDict):
    ledger: Ledger
    left: Callable[[int], None]
    report: Callable[[Problem], None]
    delivers: bool
    api_key: str
    is_relay: bool


# Needs what is above. With the package, since constructing a tracker shall open no file, not even a module's.
from km_logging.outbox.memory import MemoryOutbox  # noqa: E402
