"""Straight from a call to its answer: no queue, no thread, no outbox. For commands, and to try out settings.

The parts are those of the usual way: `intake` makes the request, a sender sends it, and `policy` says what the answer
means. What cannot be told wholly is not sent at all, as with ``strict``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from km_logging import policy
from km_logging.calls import Problem, type_name
from km_logging.errors import SettingsError
from km_logging.intake import Intake
from km_logging.ledger import Ledger
from km_logging.policy import Verdict
from km_logging.senders import Sender, check_transport, make_sender
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_nested
from km_logging.telling import tell

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Direct", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        what: ``delivered``, or ``printed`` in that mode; ``refused``, since it cannot be told; ``withheld``, by
            `before_send`; ``rejected``, by the server for its own sake; ``expired``, not delivered in time.
        message: the answer, or what is wrong.
        remedy: what to do about it; empty if it was delivered.
        status: the HTTP status, or None if there was no answer.
    """

    what: str
    message: str
    remedy: str = ""
    status: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether the call is where it should go."""
        return self.what in {"delivered", "printed"}

    @property
    def words(self) -> str:
        """What became of it, for people."""
        return _WORDS.get(self.what, self.what)


_WORDS = {"printed": "printed, not sent", "refused": "not sent", "expired": "not delivered"}


class Direct:
    """Sends calls one after another, in the caller's thread; a context manager that closes its connections.

    Args:
        settings: all but those of outbox and delivery apply.

    Raises:
        MissingExtraError: the settings ask for a transport that is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        check_transport(settings)
        self._settings = settings
        self._rules = rules = Rules(settings)
        self._intake = Intake(
            tell=lambda snapshot: tell(snapshot, rules),
            before_send=settings.before_send,
            ledger=Ledger(),
            rules=rules,
        )
        self._sender: Sender | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sender is not None:
            self._sender.close()

    def request(self, said: Mapping[str, object] | Problem) -> str | Outcome:
        """The request of a call in the nested form, or why there is none; a problem with it is one reason."""
        problems: list[Problem] = []
        if isinstance(said, Problem):
            return Outcome("refused", said.message, said.remedy)
        snapshot = from_nested(said, self._rules, None, None, time.time())
        request = self._intake.request(snapshot, problems.append)
        if problems:
            return Outcome("refused", problems[0].message, problems[0].remedy)
        return request or Outcome("withheld", "before_send withholds the call", "return the call to have it sent")

    def send(self, request: str, retry_for: float = 0.0) -> Outcome:
        """Send a request and wait for its answer.

        Args:
            request: as `request` makes it.
            retry_for: seconds to try for, as the policy has it: once at least, and a call that the server refuses for
                its own sake three times at most.

        Raises:
            SettingsError: `session` raised.
        """
        sender, until, refusals = self._made(), time.monotonic() + retry_for, 0
        for tries in count(1):
            answer = sender.send(request)
            verdict = policy.verdict(answer)
            refusals += verdict is Verdict.REJECT
            asked = policy.retry_after(answer.retry_after, time.time()) or 0.0
            pause = max(policy.backoff(tries, random.random()), asked)
            is_over = refusals >= policy.REJECT_AFTER or time.monotonic() + pause >= until
            if verdict is Verdict.DELIVERED or is_over:
                break
            time.sleep(pause)
        if self._settings.mode == "print":
            return Outcome("printed", "mode is 'print'")
        if verdict is Verdict.DELIVERED:
            return Outcome("delivered", str(answer), status=answer.status)
        what = "rejected" if verdict is Verdict.REJECT else "expired"
        return Outcome(what, str(answer), policy.remedy(answer), answer.status)

    def _made(self) -> Sender:
        if self._sender is None:
            try:
                self._sender = make_sender(self._settings)
            except Exception as error:
                if self._settings.session is None:
                    raise
                raise SettingsError(f"session raised {type_name(error)}: mend the callback") from error
        return self._sender
