"""The outbox at an address, opened to be looked into. What each kind needs is imported when it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from km_logging.addresses import OutboxAddress, StreamAddress
from km_logging.errors import OutboxError
from km_logging.outbox.store import Store

__all__ = ["opened"]

#: How long to wait while another process writes, or for a server, in seconds.
PATIENCE = 10.0


@contextmanager
def opened(address: OutboxAddress) -> Iterator[Store]:
    """The outbox at an address, which is never made.

    Raises:
        OutboxError: it cannot be used; says what to do about it.
        MissingExtraError: what it needs is not installed.
    """
    if isinstance(address, StreamAddress):
        from km_logging.outbox.line import stream_at

        try:
            with closing(stream_at(address, patience=PATIENCE)) as stream:
                yield stream
        except OutboxError as error:
            raise OutboxError(f"{address}: {error.message}", error.remedy) from None
        return
    import sqlite3

    from km_logging.outbox.database import Database, fault_of

    file = Database(address, creates=False, patience=PATIENCE)
    try:
        yield file
    except sqlite3.Error as error:  # an OSError is the caller's own
        raise OutboxError(*fault_of(error)) from error
    finally:
        file.close()
