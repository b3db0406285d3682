"""From a snapshot to the request that an outbox keeps: telling the call, asking `before_send`, encoding.

In the listener's thread, or in the caller's where the log call waits for its own commit (`durability="immediate"`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace

from km_logging import wire
from km_logging.calls import Call, Problem, call_problems, type_name
from km_logging.guard import is_our_thread, ours
from km_logging.identity import bound_by_structlog, identified
from km_logging.ledger import Ledger
from km_logging.tagging import Rules, Snapshot, Taken, from_taken, thread_name
from km_logging.telling import Told, recheck

__all__ = ["Intake"]

#: So many times may a `before_send` that logs tracked records itself be inside itself.
DEPTH = 3


#: How many `before_send` this thread is inside of.
_depth: ContextVar[int] = ContextVar("km_logging_depth", default=0)


class Intake:
    """Makes requests.

    Args:
        tell: tells the call of a snapshot, counting and reporting nothing.
        before_send: the user's callback, or None.
        ledger: the books.
        rules: the settings of tagging.
    """

    def __init__(
        self,
        *,
        tell: Callable[[Snapshot], Told],
        before_send: Callable[..., object] | None,
        ledger: Ledger,
        rules: Rules,
    ) -> None:
        self._tell = tell
        self._before_send = before_send
        self._ledger = ledger
        self._rules = rules

    @property
    def is_deep(self) -> bool:
        """Whether this thread is in a `before_send` that goes on calling itself."""
        return _depth.get() >= DEPTH

    def request(self, item: Taken | Snapshot | Call, say: Callable[[Problem], None]) -> str | None:
        """The request of one call; None if it is refused or withheld, which is in the books then. Never raises.

        Args:
            item: a call, or what it can be told from.
            say: has a problem said, wherever that may be done in this thread.
        """
        try:
            if not isinstance(item, Snapshot | Call) and is_our_thread(thread_name(item)):
                self._ledger.turned_away.add()  # the application's own queue has carried it
                return None
            call = item if isinstance(item, Call) else self._told(self._looked_at(item), say)
            sent = None if call is None else self._withheld_or(call, say)
            if call is not None and sent is None:
                self._ledger.dropped["withheld"].add()
            return None if sent is None else wire.encode(sent)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one call costs nothing but that call
            self._ledger.turned_away.add()
            message = f"a call could not be told ({type_name(error)})"
            self._note(Problem("delivery", message, "please report this to the authors of km_logging"), say)
            return None

    def _looked_at(self, item: Taken | Snapshot) -> Snapshot:
        if isinstance(item, Snapshot):
            return item
        item[1].run(ours.set, ours.get())  # in the context of the log call, a finaliser may still be run by this thread
        return from_taken(item, self._rules, identified, bound_by_structlog)

    def _told(self, snapshot: Snapshot, say: Callable[[Problem], None]) -> Call | None:
        told = self._tell(snapshot)
        if told.call is None:
            self._ledger.turned_away.add()  # before it counts as refused: never as both accepted and refused
        for problem in told.problems:
            self._note(problem, say)
        return told.call

    def _note(self, problem: Problem, say: Callable[[Problem], None]) -> None:
        self._ledger.refused[problem.kind].add()
        say(problem)

    def _withheld_or(self, call: Call, say: Callable[[Problem], None]) -> Call | None:
        """What `before_send` makes of the call; None if it withholds it, raises, or returns what is no call."""
        if self._before_send is None:
            return call
        depth = _depth.set(_depth.get() + 1)
        try:
            # A copy: what the callback does to the properties must not reach the problems that name this call.
            changed = self._before_send(replace(call, properties=dict(call.properties)))
        except BaseException as error:
            self._note(_callback_problem(f"raised {type_name(error)}", call), say)
            if not ours.get() and not isinstance(error, Exception):
                self._ledger.dropped["withheld"].add()
                raise  # the application's own thread is being ended, or interrupted
            return None
        finally:
            _depth.reset(depth)
        if changed is None:
            return None
        if not isinstance(changed, Call) or next(call_problems(changed), None) is not None:
            self._note(_callback_problem("returned what is no sound call", call), say)
            return None
        told = recheck(changed, self._rules)
        for problem in told.problems:
            self._note(problem, say)
        return told.call


def _callback_problem(what: str, call: Call) -> Problem:
    message = f"before_send {what}, so its call is withheld"
    return Problem("callback", message, "return the call, a changed copy of it, or None", call)
