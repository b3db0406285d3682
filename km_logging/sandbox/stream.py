"""Calls as server-sent events, as they come.

A stream holds no calls of its own: it is a position in the store. A slow reader costs no memory, and one that comes
back with the id of the last event it saw goes on from there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from km_logging.sandbox.checks import Received
from km_logging.sandbox.store import Store

__all__ = ["events", "resumed"]


def resumed(store: Store, after: int | None) -> int:
    """The position at which a stream begins.

    Args:
        store: where the calls are.
        after: the id of the last event that the reader saw; None if it is new and wants what comes from now on. One
            that was never given is from before a restart, and everything held is new to that reader.
    """
    if after is None:
        return store.last_id
    return after if after <= store.last_id else 0


async def events(store: Store, after: int, heartbeat: float) -> AsyncIterator[str]:
    """Every call with an id above ``after``, one event each, until the store is closed.

    Args:
        store: where the calls are.
        after: as `resumed` gives it.
        heartbeat: seconds after which a comment is sent where there is no call, so that both sides notice a
            connection that is gone.
    """
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    with store.watched(wake):
        yield ": every call as it comes\n\n"
        while True:
            woken.clear()
            closed = store.closed  # before reading: a call that came before the end is still told
            for call in store.calls(after):
                yield _event(call)
                after = call.id
            if closed:
                return
            try:
                await asyncio.wait_for(woken.wait(), heartbeat)
            except asyncio.TimeoutError:
                yield ": still here\n\n"


def _event(call: Received) -> str:
    return f"id: {call.id}\ndata: {json.dumps(call.as_dict())}\n\n"
