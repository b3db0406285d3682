"""``/api/..``: what the beacons took, for programs and for the pages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from km_logging.calls import KINDS
from km_logging.sandbox.checks import Received
from km_logging.sandbox.people import person
from km_logging.sandbox.store import Store
from km_logging.sandbox.stream import events

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Api"]

_ID = re.compile("[0-9]{1,18}")
_EVENTS = "text/event-stream"


class Api:
    """The answers.

    Args:
        store: where calls are kept.
        heartbeat: seconds between comments on a silent stream.
    """

    def __init__(self, store: Store, heartbeat: float) -> None:
        self._store = store
        self._heartbeat = heartbeat

    async def status(self, _request: Request) -> Response:
        """See `Store.status`."""
        return JSONResponse(self._store.status())

    async def calls(self, request: Request) -> Response:
        """``{"calls": [..]}``, oldest first."""
        return await _big(lambda: {"calls": [call.as_dict() for call in self._chosen(request.query_params)]})

    async def clear(self, _request: Request) -> Response:
        """Forgets all calls."""
        self._store.clear()
        return JSONResponse({"calls": []})

    async def problems(self, request: Request) -> Response:
        """``{"problems": [..]}``, each with its call."""
        return await _big(lambda: {"problems": list(self._problems(request.query_params))})

    def _problems(self, query: QueryParams) -> Iterator[dict[str, object]]:
        for call in self._chosen(query):
            for it in call.problems:
                yield {"kind": it.kind, "message": it.message, "remedy": it.remedy, "call": call.as_dict()}

    async def person(self, request: Request) -> Response:
        """One person, with all that is aliased to them; see `people.Person`."""
        identity = request.query_params.get("id")
        if identity is None:
            raise HTTPException(400, "400: id is missing: an identity of the person, as in ?id=bob\n")
        return await _big(lambda: person(self._store.calls(), identity).as_dict())

    async def stream(self, request: Request) -> Response:
        """Calls as they come; see `stream.events`."""
        if request.method == "HEAD":  # there is no end to wait for without a body to read
            return Response(media_type=_EVENTS)
        seen = request.headers.get("last-event-id") or request.query_params.get("after")
        position = self._store.resumed(None if seen is None else _whole("after", seen))
        return StreamingResponse(events(self._store, position, self._heartbeat), media_type=_EVENTS)

    def _chosen(self, query: QueryParams) -> Iterator[Received]:
        """The calls that a query asks for."""
        kind, person, name = query.get("kind"), query.get("person"), query.get("name")
        if kind is not None and kind not in KINDS:
            raise HTTPException(400, f"400: kind is one of {', '.join(KINDS)}\n")
        since = _seconds("since", query.get("since", "0"))
        return (
            call
            for call in self._store.calls(_whole("after", query.get("after", "0")))
            if call.received_at >= since
            and kind in {None, call.kind}
            and person in {None, call.person}
            and (name is None or (call.name is not None and call.name.lower() == name.lower()))
        )


async def _big(content: Callable[[], dict[str, object]]) -> Response:
    """An answer that may be large: made in a thread, so that beacons are answered meanwhile."""
    return await run_in_threadpool(lambda: JSONResponse(content()))


def _whole(name: str, text: str) -> int:
    if not _ID.fullmatch(text):
        raise HTTPException(400, f"400: {name} is the id of a call, a whole number\n")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise HTTPException(400, f"400: {name} is Unix time in seconds\n")
    return seconds
