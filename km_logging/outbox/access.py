"""How one process uses the file of an outbox.

It opens the file when it is needed, stands for election, and lets the file alone for a while after a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from km_logging.addresses import OutboxAddress
from km_logging.outbox.database import FAULTS, Database, fault_of, inherited
from km_logging.outbox.election import Election

__all__ = ["Access"]

#: First and longest pause before a file that failed is tried again, in seconds.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0

#: What passes by itself, and leaves what is in the file readable: on a full disk it could not even be opened again.
_PASSING = ("locked", "full")

#: Connections of a parent: closing them, or having them collected, would take away its locks.
_leaked: list[Database] = []


class Access:
    """See the module; the outbox guards it by its lock.

    Args:
        address: of the file.
        creates: whether to make it if it is not there.
        patience: how long to wait while another process writes, in seconds.
        stands: whether to stand for election.
        api_key: to say when the file was opened with another one before; empty to say nothing.
        tell: says what is wrong, and what to do about it.
        won: is called in another thread when it may be this one's turn to lead.

    Attributes:
        file: the connection, while there is one.
        leads: whether this one delivers for all.
    """

    def __init__(
        self,
        address: OutboxAddress,
        *,
        creates: bool,
        patience: float,
        stands: bool,
        api_key: str,
        tell: Callable[[str, str], None],
        won: Callable[[], None],
    ) -> None:
        self._address = address
        self._creates = creates
        self._patience = patience
        self._stands = stands
        self._api_key = api_key
        self._tell = tell
        self._won = won
        self.file: Database | None = None
        self.leads = False
        self._serial: tuple[int, int, bytes] | None = None  # of the last file
        self._election: Election | None = None
        self._is_key_checked = False
        self._faults = 0
        self._retry_at = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the file is let alone after a fault."""
        return time.monotonic() < self._retry_at

    @property
    def is_lost(self) -> bool:
        """Whether the file that is open was deleted or replaced."""
        return self.file is not None and not self.file.is_there()

    def open(self) -> bool:
        """Open the file; whether it is the one of the last time, if there was one. Raises any of `FAULTS`."""
        self.file = Database(self._address, creates=self._creates, patience=self._patience)
        is_same = self._serial in {None, self.file.serial}
        self._serial = self.file.serial
        return is_same

    def worked(self) -> None:
        """The next fault is the first one again."""
        self._faults = 0

    def failed(self, error: BaseException) -> None:
        """The file cannot be used for a while: say so."""
        self._retry_at = time.monotonic() + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._faults, 10))
        self._faults += 1
        message, remedy = fault_of(error)
        if not any(passing in message for passing in _PASSING):
            self.close()  # what is wrong may be wrong with this connection only
        self.tell_unusable(message, remedy)

    def tell_unusable(self, message: str, remedy: str) -> None:
        """Say that calls go on in memory, and why."""
        self._tell(f"the outbox {self._address.path} cannot be used ({message}), so calls wait in memory", remedy)

    def retry(self) -> None:
        """Try the file again, whatever was."""
        self._retry_at = 0.0

    def close(self) -> None:
        """Close the connection; the next `open` goes on with the same file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def forget(self) -> None:
        """The file is another's affair now: close it, and begin anew with whatever is at the path."""
        self.close()
        self._serial = None
        self._is_key_checked = False
        self.withdraw()

    # The election.

    @property
    def is_deposed(self) -> bool:
        """Whether the election was over with the file of its lock, so that another one may lead, too."""
        return self._election is not None and self._election.is_over

    def stand(self) -> bool:
        """Stand for election; whether this one was elected just now."""
        if not self._stands or self.leads or self.file is None:
            return False
        try:
            if self._election is None:
                self._election = Election(self._address.path, self.file.mode)
            self.leads = self._election.try_win()
        except FAULTS as error:
            message, remedy = fault_of(error)
            self._tell(f"{self._address.path}-lock cannot be used ({message}), so others must deliver", remedy)
            return False
        if not self.leads:
            self._election.wait(self._won)
        return self.leads

    def withdraw(self) -> None:
        """Let another one lead."""
        self.leads = False
        if self._election is not None:
            self._election.withdraw()
            self._election = None

    def check_key(self) -> None:
        """Whoever leads says so if the file was opened with another key before. Raises any of `FAULTS`."""
        if self._is_key_checked or not self.leads or self.file is None:
            return
        if self._api_key and not self.file.is_key_known(self._api_key):
            message = f"{self._address.path} was opened with another api_key before"
            self._tell(message, "what is in it goes to this key now: use one file for each product")
        self._is_key_checked = True

    def abandon(self) -> None:
        """In a forked child: let go, without touching what is the parent's."""
        if self.file is not None:
            inherited.add(self.file.identity)
            _leaked.append(self.file)
        if self._election is not None:
            self._election.withdraw()
