"""asyncio: a thousand tasks at once, each with its own person; the event loop goes on whatever the server does.

What tracking costs the loop is a row of the benchmarks (`loop`).
"""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from support.processes import Script, run
from support.servers import TrackingServer
from support.tracking import GUARD, Answers

TASKS = """
    import asyncio, random
    import structlog
    logging.basicConfig(level=logging.INFO, handlers=[km.KissmetricsHandler()])
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, km.KissmetricsProcessor(drop=True)])
    log = structlog.get_logger()

    async def step(person, name):
        await asyncio.sleep(random.random() / 50)
        logging.info(name, extra=km.event(whose=person))

    async def work(person):
        with km.identify(person):
            await step(person, "Came")
            await asyncio.gather(step(person, "Looked"), step(person, "Chose"))  # tasks of their own
            await asyncio.to_thread(logging.info, "Computed", extra=km.event(whose=person))
            with km.identify(None):
                await asyncio.sleep(0)
                logging.info("Nobody", extra=km.event(whose=person))  # refused
            await log.ainfo("Left", **km.event(whose=person))
            log.info("Gone", km="event", whose=person)

    async def main():
        await asyncio.gather(*[work(f"person-{number}") for number in range(1000)])
        assert await logging.root.handlers[0].aflush()
        report(logging.root.handlers[0].stats())

    asyncio.run(main())
    """

NAMES = ("Came", "Looked", "Chose", "Computed", "Left", "Gone")


def test_a_thousand_tasks_at_once_never_see_each_others_person(tmp_path, sandbox):
    """Through awaits, tasks of a task, threads, structlog's own executor; and where nobody is identified, nobody is."""
    ended = run(tmp_path, TASKS, sandbox.endpoint, KM_DRAIN_TIMEOUT=GUARD)
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
    assert Counter((call.person, call.name) for call in sandbox.calls) == Counter(
        (f"person-{number}", name) for number in range(1000) for name in NAMES
    )
    assert all(call.properties["whose"] == call.person for call in sandbox.calls)
    [books] = ended.reports
    assert books["refused"] == {"no_person": 1000}


@pytest.mark.parametrize(
    "way", ["await handler.aflush()", "async with km.flushing(): pass"], ids=["aflush", "flushing"]
)
def test_the_loop_goes_on_while_a_task_waits_for_delivery(tmp_path, way):
    """No answer comes before the loop has turned so often."""
    turned = threading.Event()
    with TrackingServer(Answers(turned)) as server:
        text = f"""
            import asyncio
            handler = km.KissmetricsHandler()
            logging.basicConfig(level=logging.INFO, handlers=[handler])

            async def wait():
                logging.info("Signed Up", extra=km.event("ann"))
                {way}
                return handler.stats().delivered

            async def main():
                waiting = asyncio.create_task(wait())
                for turn in range(1000):
                    await asyncio.sleep(0)
                assert not waiting.done()
                print("turned", flush=True)
                print(await waiting, flush=True)

            asyncio.run(main())
            """
        with Script(tmp_path, text, server.endpoint, KM_DRAIN_TIMEOUT=GUARD) as script:
            assert script.read_line() == "turned"
            turned.set()
            assert script.read_line() == "1"
            assert script.end().code == 0
