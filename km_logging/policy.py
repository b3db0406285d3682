"""What happens after an attempt. Pure: time and chance are passed in, each step returns the next state.

`VERDICTS` is the whole decision, row by row, the first that fits. What speaks of the path (no answer, a busy or
missing server, a captive portal) is retried; what speaks of the call itself is rejected after `REJECT_AFTER` tries.
A new kind of answer is a new row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["Answer", "Breaker", "Throttle", "Verdict", "backoff", "remedy", "retry_after", "verdict"]

#: First delay before another try, and the longest one, in seconds; the real one is a random part of it (full jitter).
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

#: How many attempts in a row must fail before all senders pause.
TRIPS_AT = 3

#: After how many refusals for its own sake a call is given up.
REJECT_AFTER = 3

#: A server that asks for more patience than this is not believed, in seconds.
LONGEST_RETRY_AFTER = 86_400.0

#: How much CPU time delivery may save up while it has nothing to do, in seconds.
BURST = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one request.

    Attributes:
        status: the HTTP status, or None if no answer came.
        is_html: whether the body is a page: the tracking server never sends one.
        retry_after: the header as it came, or None.
        error: why no answer came, or an empty text; holds neither key nor query.
    """

    status: int | None
    is_html: bool = False
    retry_after: str | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.status is None:
            return self.error or "no answer"
        return f"HTTP {self.status}" + (" with a page" if self.is_html else "")


class Verdict(Enum):
    """What an answer means for the call."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECT = "reject"


#: From answer to verdict; the first row that fits decides.
VERDICTS: tuple[tuple[str, Callable[[Answer, int], bool], Verdict], ...] = (
    ("no answer: refused, reset, timed out, cut off", lambda answer, _: answer.status is None, Verdict.RETRY),
    ("200 with a page: a captive portal", lambda answer, status: status == 200 and answer.is_html, Verdict.RETRY),
    ("2xx", lambda _, status: 200 <= status < 300, Verdict.DELIVERED),
    ("the call is too large or malformed", lambda _, status: status in {400, 413, 414, 431}, Verdict.REJECT),
    ("redirects, 401 to 407, 408, 425, 429, 5xx, all else", lambda *_: True, Verdict.RETRY),
)


def verdict(answer: Answer) -> Verdict:
    """What the answer means for its call, by the table `VERDICTS`."""
    status = answer.status or 0
    return next(verdict for _, fits, verdict in VERDICTS if fits(answer, status))


#: From an answer that is not "delivered" to what a person may do about it; the first row that fits.
REMEDIES: tuple[tuple[Callable[[Answer, int], bool], str], ...] = (
    (lambda answer, _: answer.status is None, "check endpoint, network and proxy"),
    (
        lambda answer, status: status == 200 and answer.is_html,
        "another server's page came back: log in to the network, or check endpoint",
    ),
    (lambda _, status: 300 <= status < 400, "set endpoint to where the server really is"),
    (lambda _, status: 401 <= status <= 407, "check endpoint and proxy: the tracking server asks for no login"),
    (lambda _, status: status in {400, 413, 414, 431}, "look at the request: km-logging url prints it"),
    (lambda *_: True, "the server cannot take it just now: try again later, or for longer"),
)


def remedy(answer: Answer) -> str:
    """What a person may do about an answer that is not "delivered", by the table `REMEDIES`."""
    return next(remedy for fits, remedy in REMEDIES if fits(answer, answer.status or 0))


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures: exponential, capped, with full jitter.

    Args:
        failures: 1 or more.
        jitter: chance, from 0 to 1.
    """
    return jitter * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 16))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, whether it gives seconds or a date (RFC 9110, 10.2.3).

    Args:
        header: the header's value, or None.
        now: Unix time, seconds.

    Returns:
        None if there is no header or it makes no sense.
    """
    if header is None:
        return None
    try:
        seconds = float(header) if header.strip().isdigit() else _date(header) - now
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _date(header: str) -> float:
    from datetime import timezone  # seldom needed, and slow to import
    from email.utils import parsedate_to_datetime

    moment = parsedate_to_datetime(header)
    # All forms of an HTTP date are in UTC; one of them does not say so.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


@dataclass(frozen=True, slots=True)
class Breaker:
    """Pauses all senders together while the server cannot be reached.

    Closed, everything passes. `TRIPS_AT` failures in a row, or a ``Retry-After``, open it until a moment; then one
    attempt passes as a probe, and its verdict closes it or opens it for longer.

    Attributes:
        failures: failed attempts in a row; those that were under way when it opened do not count.
        until: moment before which nothing is sent, on the clock that is passed in.
        asked: whether the server named that moment itself.
        probing: whether the one attempt after that moment is under way.
    """

    failures: int = 0
    until: float = -math.inf
    asked: bool = False
    probing: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether an attempt has failed since the last success, or the server asked for a pause."""
        return self.failures > 0 or self.asked

    @property
    def is_closed(self) -> bool:
        """Whether everything passes."""
        return self.failures < TRIPS_AT and not self.asked

    def allows(self, now: float) -> bool:
        """Whether an attempt may begin now."""
        return now >= self.until and not self.probing

    def began(self) -> Breaker:
        """The state once an attempt has begun: an open breaker lets only that one pass."""
        return self if self.is_closed else replace(self, probing=True)

    def succeeded(self, now: float) -> Breaker:
        """The state after an answer that speaks well of the path; it does not end a pause that the server asked for."""
        return self if self.asked and now < self.until else Breaker()

    def failed(self, now: float, jitter: float, patience: float | None) -> Breaker:
        """The state after an attempt that failed on its path.

        Args:
            now: on the same clock as `until`.
            jitter: chance, from 0 to 1.
            patience: seconds that the server asked for, or None.
        """
        if patience is not None:
            return Breaker(max(self.failures, TRIPS_AT), max(self.until, now + patience), asked=True)
        if now < self.until:
            return self
        failures = self.failures + 1
        if failures < TRIPS_AT:
            return replace(self, failures=failures)
        return Breaker(failures, now + backoff(failures - TRIPS_AT + 1, jitter))

    def hurried(self) -> Breaker:
        """The state when there is no time left: a pause of our own ends, one that the server asked for stays."""
        return self if self.asked else replace(self, until=-math.inf)


def pace(share: float, busy: float) -> float:
    """CPU time that delivery may take, in seconds a second.

    Beside an application that computes, it is to that one's time as ``share`` is to 1; alone, it may take ``share``.

    Args:
        share: most of one core, such as 0.5.
        busy: what the application takes of the core time that is left to it, from 0 to 1.
    """
    return share / (1 + share * busy)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Keeps delivery to its pace. An attempt is paid for when it begins, by what one took lately, and settled later.

    So attempts begin one after the other, as the pace has it, instead of all at once with a pause after them.

    Attributes:
        until: moment before which no attempt may begin.
        price: CPU time of an attempt as it was lately, in seconds.
    """

    until: float = -math.inf
    price: float = 0.0

    def room(self, pace: float, now: float) -> float:
        """How many attempts may begin now; arguments as for `began`."""
        if now < self.until:
            return 0
        # Of the first one it is not known what it will take.
        return 1 if self.price <= 0 else 1 + (now - max(self.until, now - BURST)) * pace // self.price

    def lets(self, attempts: int, pace: float) -> float:
        """The moment from which so many attempts may begin at once."""
        return self.until + (attempts - 1) * self.price / pace

    def began(self, pace: float, now: float) -> Throttle:
        """The state once an attempt has begun.

        Args:
            pace: CPU time that may be taken, seconds a second.
            now: on the same clock as `until`.
        """
        return self.worked(self.price, pace, now)

    def worked(self, cpu: float, pace: float, now: float) -> Throttle:
        """The state after other work than an attempt, which took ``cpu`` seconds."""
        return replace(self, until=max(self.until, now - BURST) + cpu / pace)

    def ended(self, cpu: float, attempts: int, pace: float) -> Throttle:
        """The state after attempts: the price that was paid for them becomes what they took.

        Args:
            cpu: CPU time that they took together, seconds.
            attempts: how many; they may be none.
            pace: CPU time that may be taken, seconds a second.
        """
        took = cpu / attempts if attempts else self.price
        price = self.price + (took - self.price) / _MEMORY if self.price > 0 else took
        return Throttle(self.until + (cpu - attempts * self.price) / pace, price)


#: Over about so many attempts the price of one is remembered.
_MEMORY = 16
