"""asyncio: many tasks at once, each with its own person; at the end, a wait that leaves the event loop free.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_asyncio.py
"""

import asyncio
import logging

import km_logging as km

logger = logging.getLogger("shop")


async def visit(person: str) -> None:
    """Whatever a task awaits or starts logs for the task's person, and no other task does."""
    with km.identify(person):
        logger.info("Came", extra=km.event())
        await asyncio.gather(look("tea"), look("cup"))


async def look(thing: str) -> None:
    """A task of its own, of the same person."""
    await asyncio.sleep(0.01)
    logger.info("Looked", extra=km.event(thing=thing))


async def main() -> None:
    """Two visits at once."""
    async with km.flushing():
        await asyncio.gather(visit("ann"), visit("bob"))


if __name__ == "__main__":
    logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()])
    asyncio.run(main())
