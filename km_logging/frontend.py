"""What handler and processor have in common: a tracker, shared or given, and which of them takes a tagged record."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from km_logging.calls import KINDS, is_a
from km_logging.errors import SettingsError
from km_logging.guard import ours
from km_logging.ledger import Stats
from km_logging.tagging import is_marked, mark
from km_logging.tracker import Tracker, shared

__all__ = ["FrontEnd"]


class FrontEnd:
    """Base of the front ends.

    Args:
        tracker: a tracker of the user's own, or None to share one by settings.
        settings: keyword settings; none if there is a tracker.
    """

    def _join(self, tracker: Tracker | None, settings: Mapping[str, object]) -> None:
        if tracker is not None and settings:
            raise SettingsError("tracker and settings exclude each other: give the settings to the tracker")
        self._tracker = shared(settings) if tracker is None else tracker
        self._owns = tracker is None
        self._tag = self._tracker.settings.tag
        #: What the tags that are said most become once they are taken.
        self._marks = {kind: mark(kind, self._tracker.address) for kind in KINDS}
        self._open = False
        self._reopen()

    def _reopen(self) -> None:
        if not self._open and self._owns:
            self._tracker.retain()
        self._open = True

    def _claims(self, fields: MutableMapping[str, Any]) -> bool:
        """Whether these fields are tagged, and no front end took them before; marks them as taken."""
        tagged = fields[self._tag]
        marked = self._marks.get(tagged) if type(tagged) is str else None
        if marked is None:
            address = self._tracker.address
            if not is_a(tagged, str, Mapping) or is_marked(tagged, address):
                return False
            marked = mark(tagged, address)
        if ours.get():
            return False
        if not self._open:
            self._reopen()
        fields[self._tag] = marked
        return True

    def stats(self) -> Stats:
        """As `Tracker.stats`."""
        return self._tracker.stats()

    def flush(self, timeout: float | None = None) -> bool:
        """As `Tracker.flush`."""
        return self._tracker.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:
        """As `Tracker.aflush`."""
        return await self._tracker.aflush(timeout)

    def close(self) -> None:
        """Deliver what is pending within `drain_timeout`; the next record revives this front end.

        A tracker that others share, or that was given, is flushed and stays open.
        """
        if self._open:
            self._open = False
            self._tracker.release() if self._owns else self._tracker.flush()
