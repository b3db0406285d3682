"""Calls as server-sent events, as they come.

A stream holds no calls of its own: it is a position in the store. A slow reader costs no memory, and one that comes
back with the id of the last event it saw goes on from there. That calls were cleared is an event of a type of its own,
so that whoever reads only calls does not see it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from km_logging.sandbox.checks import Received
from km_logging.sandbox.store import Position, Store

__all__ = ["events"]

#: So many calls go out in one piece at most.
CHUNK = 250


async def events(store: Store, position: Position, heartbeat: float) -> AsyncIterator[str]:
    """Every call behind a position, one event each, until the store is closed.

    Args:
        store: where the calls are.
        position: as `Store.resumed` gives it.
        heartbeat: seconds after which a comment is sent where there is no call, so that both sides notice a
            connection that is gone.
    """
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        if not woken.is_set():
            loop.call_soon_threadsafe(woken.set)

    with store.watched(wake):
        yield ": every call as it comes\n\n"
        while True:
            woken.clear()
            closed = store.closed  # before reading: a call that came before the end is still told
            cleared, calls, position = store.news(position)
            if cleared is not None:
                yield f'event: clear\ndata: {{"last_id": {cleared}}}\n\n'
            for begin in range(0, len(calls), CHUNK):
                yield "".join(map(_event, calls[begin : begin + CHUNK]))
            if closed:
                return
            try:
                await asyncio.wait_for(woken.wait(), heartbeat)
            except asyncio.TimeoutError:
                yield ": still here\n\n"


def _event(call: Received) -> str:
    return f"id: {call.id}\ndata: {json.dumps(call.as_dict())}\n\n"
