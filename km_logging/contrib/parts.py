"""The parts of a response: the application's code makes them, so the person of the request is bound meanwhile.

Not between two parts, which is the server's own time, nor by a generator, which would leave the person bound there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from km_logging.identity import identify

__all__ = ["AsyncParts", "Parts"]


class Parts:
    """What a WSGI server iterates and closes.

    Args:
        parts: the application's; closed with these, if they can be.
        person: of the request.
    """

    def __init__(self, parts: Iterable[bytes], person: identify) -> None:
        self._parts = parts
        self._person = person

    def __iter__(self) -> Iterator[bytes]:
        with self._person:
            self._next = iter(self._parts).__next__
        return self

    def __next__(self) -> bytes:
        with self._person:
            return self._next()

    def close(self) -> None:
        """The server has sent them, or given up."""
        if (close := getattr(self._parts, "close", None)) is not None:
            with self._person:
                close()


class AsyncParts:
    """What an ASGI server iterates; arguments as for `Parts`."""

    def __init__(self, parts: AsyncIterator[bytes], person: identify) -> None:
        self._parts = parts
        self._person = person

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with self._person:
            return await self._parts.__anext__()
