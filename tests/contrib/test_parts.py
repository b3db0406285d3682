"""The parts of a response that an event loop iterates; those of WSGI are in test_wsgi.py."""

from __future__ import annotations

import asyncio

from km_logging.contrib.parts import AsyncParts
from km_logging.identity import identified, identify


def test_the_person_is_bound_while_a_part_is_made_and_not_between_two():
    seen, between = [], []

    async def parts():
        for part in (b"a", b"b"):
            seen.append(identified())
            await asyncio.sleep(0)
            yield part
        seen.append(identified())

    async def send():
        between.extend([(part, identified()) async for part in AsyncParts(parts(), identify("bob"))])

    asyncio.run(send())
    assert seen == ["bob"] * 3
    assert between == [(b"a", None), (b"b", None)]
