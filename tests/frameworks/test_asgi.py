"""FastAPI, and Starlette under it: the example under uvicorn and hypercorn, from request to sandbox."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.web import Crowd, Web, calls, each_once

for needed in ("fastapi", "hypercorn", "uvicorn"):
    pytest.importorskip(needed, reason=f"pip install {needed}")

EXAMPLE = "fastapi_shop"

SERVERS = {"uvicorn": "uvicorn --fd {fd}", "hypercorn": "hypercorn --bind fd://{fd}"}
each_server = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)


def crowd_of(web: Web, size: int, most: int) -> Crowd:
    names = [f"visitor-{number}" for number in range(size)]
    return Crowd({name: web.visitor(Authorization=f"Bearer {name}") for name in names}, most)


# Servers.


@pytest.mark.parametrize(
    ("server", "workers"),
    [(SERVERS["uvicorn"], 1), (SERVERS["uvicorn"], 2), (SERVERS["hypercorn"], 2)],
    ids=["uvicorn", "uvicorn, two workers", "hypercorn, two workers"],
)
def test_every_order_arrives_once_with_its_person(server, workers, folder, sandbox):
    """Also those of the last moment: uvicorn's workers, and hypercorn's but one, end by a signal that runs nothing."""
    with Web(folder, f"{server} --workers {workers} shop:app", sandbox) as web:
        with crowd_of(web, 4, 40) as crowd:
            crowd.finish()
        web.stop()
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)


@pytest.mark.slow
@each_server
def test_a_server_that_stops_under_load_loses_nothing(server, folder, sandbox):
    with Web(folder, f"{server} --workers 2 shop:app", sandbox) as web:
        with crowd_of(web, 6, 2_000) as crowd:
            crowd.wait(200)
            web.send(signal.SIGTERM)
            web.refuse()
            crowd.finish()
        web.ended()
    assert len(crowd.ordered) >= 200
    each_once(sandbox, crowd)


@pytest.mark.slow
@pytest.mark.parametrize(
    "server",
    ["uvicorn --fd {fd} --limit-max-requests 15", "hypercorn --bind fd://{fd} --max-requests 15"],
    ids=SERVERS,
)
def test_workers_that_are_replaced_after_so_many_requests_lose_nothing(server, folder, sandbox):
    with Web(folder, f"{server} --workers 2 shop:app", sandbox) as web:
        with crowd_of(web, 4, 1_000) as crowd:
            crowd.wait(50)
        web.stop()
    each_once(sandbox, crowd)


# The middleware.


def extended(folder: Path, views: str) -> str:
    """The example with more views, as a server names it."""
    (folder / "more.py").write_text(
        "from typing import Annotated\nfrom fastapi import Depends, Header, Request\n"
        "import km_logging as km\nfrom shop import app, logger, sign_in\n" + views
    )
    return "more:app"


MEETINGS = {
    "async": """
import asyncio

here, both_here = [], [asyncio.Event() for _ in range(3)]

@app.get("/meeting", dependencies=[Depends(sign_in)])
async def meet(request: Request):
    for time in range(3):
        here.append(time)
        if here.count(time) == 2:
            both_here[time].set()
        await asyncio.wait_for(both_here[time].wait(), 20)
        logger.info("Met", extra=km.event(name=request.state.user, time=time))
    return "Bye"
""",
    "threads": """
from threading import Barrier

both_here = Barrier(2)

@app.get("/meeting", dependencies=[Depends(sign_in)])
def meet(request: Request):
    for time in range(3):
        both_here.wait(20)
        logger.info("Met", extra=km.event(name=request.state.user, time=time))
    return "Bye"
""",
}


@each_server
@pytest.mark.parametrize("views", MEETINGS.values(), ids=MEETINGS)
def test_two_requests_at_once_do_not_see_each_others_person(server, views, folder, sandbox):
    with Web(folder, f"{server} {extended(folder, views)}", sandbox) as web:
        visitors = crowd_of(web, 2, 0).visitors.values()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda visitor: visitor.get("/meeting"), visitors)) == ['"Bye"', '"Bye"']
        web.stop()
    met = calls(sandbox, "Met")
    assert sorted(call.properties["time"] for call in met) == ["0", "0", "1", "1", "2", "2"]
    assert all(call.person == call.properties["name"] for call in met)
    assert len({call.person for call in met}) == 2


def test_what_is_logged_after_the_answer_is_still_of_that_person(folder, sandbox):
    """While the response is streamed, in threads and in the event loop, and by background tasks."""
    application = extended(
        folder,
        """
from fastapi import BackgroundTasks
from fastapi.responses import StreamingResponse

def parts(how):
    for part in range(2):
        logger.info("Streamed", extra=km.event(how=how, part=part))
        yield "."

async def parts_async():
    for part in parts("async"):
        yield part

async def later():
    logger.info("Done", extra=km.event())

@app.get("/stream", dependencies=[Depends(sign_in)])
def stream(tasks: BackgroundTasks):
    return StreamingResponse(parts("threads"))

@app.get("/stream-async", dependencies=[Depends(sign_in)])
async def stream_async():
    return StreamingResponse(parts_async())

@app.get("/later", dependencies=[Depends(sign_in)])
async def do_later(tasks: BackgroundTasks):
    tasks.add_task(later)
    return "Bye"
""",
    )
    with Web(folder, f"{SERVERS['uvicorn']} {application}", sandbox) as web:
        [visitor] = crowd_of(web, 1, 0).visitors.values()
        assert [visitor.get(path) for path in ("/stream", "/stream-async", "/later")] == ["..", "..", '"Bye"']
        web.stop()
    told = [(call.person, call.name, call.properties.get("how"), call.properties.get("part")) for call in sandbox.calls]
    assert sorted(told, key=str) == [
        ("visitor-0", "Done", None, None),
        ("visitor-0", "Streamed", "async", "0"),
        ("visitor-0", "Streamed", "async", "1"),
        ("visitor-0", "Streamed", "threads", "0"),
        ("visitor-0", "Streamed", "threads", "1"),
    ]
