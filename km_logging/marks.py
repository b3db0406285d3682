"""Who waits for the calls before a mark to be gone: `flush`, and the end of a replay's batch."""

from __future__ import annotations

from km_logging.outbox import Entry, Outbox
from km_logging.queueing import Mark

__all__ = ["Marks"]


class Marks:
    """The marks that were reached and are waited for. The lock of `delivery` guards it.

    Args:
        outbox: whose entries are counted.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._moves = outbox.moves
        self._marks: list[Mark] = []

    def add(self, mark: Mark) -> None:
        """Everything before the mark is in the outbox, or has ended."""
        self._measure(mark)
        self._marks.append(mark)
        self._release()

    def follow(self) -> None:
        """Where entries got new numbers, who waits for some waits for all that are there now."""
        if self._moves != self._outbox.moves:
            self._moves = self._outbox.moves
            for mark in self._marks:
                self._measure(mark)
            self._release()

    def ended(self, entry: Entry) -> None:
        """An entry is no longer pending."""
        if self._marks:
            for mark in self._marks:
                mark.left -= entry.is_own and entry.number in mark.span
            self._release()

    def give_up(self) -> None:
        """Nothing will end any more: nobody need wait."""
        for mark in self._marks:
            mark.done.set()
        self._marks.clear()

    def _measure(self, mark: Mark) -> None:
        mark.left = -1
        while mark.left != self._outbox.pending:  # a log call that commits itself came in between
            mark.left, mark.span = self._outbox.pending, self._outbox.span

    def _release(self) -> None:
        for mark in self._marks:
            if mark.left <= 0:
                mark.done.set()
        self._marks = [mark for mark in self._marks if not mark.done.is_set()]
