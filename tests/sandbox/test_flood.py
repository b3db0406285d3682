"""Ten thousand calls, as fast as the library sends them."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import requests

import km_logging as km
from km_logging.sandbox import Sandbox

COUNT = 10_000
TIMEOUT = 60


def streamed(lines: Iterator[str], listening: threading.Event) -> list[int]:
    """The ids that a stream tells, until it ends."""
    ids: list[int] = []
    for line in lines:
        listening.set()
        ids += map(int, re.findall("^id: ([0-9]+)$", line))
    return ids


@pytest.mark.parametrize(
    "transport",
    [
        pytest.param("curl", marks=pytest.mark.skipif(find_spec("pycurl") is None, reason="pycurl is not here")),
        pytest.param("requests", marks=pytest.mark.slow),
    ],
)
def test_none_of_ten_thousand_calls_is_missing_and_a_stream_tells_each_once(
    logger: logging.Logger, transport: str
) -> None:
    """As many as a sandbox holds in memory, by a real handler; with somebody who watches."""
    with Sandbox() as sandbox, ThreadPoolExecutor(1) as threads:
        answer = requests.get(f"{sandbox.endpoint}/api/stream", stream=True, timeout=TIMEOUT)
        listening = threading.Event()
        reader = threads.submit(streamed, answer.iter_lines(chunk_size=65_536, decode_unicode=True), listening)
        assert listening.wait(TIMEOUT)
        handler = km.KissmetricsHandler(api_key="any", endpoint=sandbox.endpoint, transport=transport)
        logger.addHandler(handler)
        for number in range(COUNT):
            logger.info("Ordered", extra=km.event(f"p{number % 100}", number=number))
        assert handler.flush(TIMEOUT)
        assert handler.stats().retried == 0
        calls = requests.get(f"{sandbox.endpoint}/api/calls", timeout=TIMEOUT).json()["calls"]
        sandbox.stop()
        ids = reader.result(TIMEOUT)
        answer.close()
    assert {int(call["properties"]["number"]) for call in calls} == set(range(COUNT))
    assert sorted(ids) == ids == [call["id"] for call in calls] == list(range(1, COUNT + 1))
    assert not any(call["problems"] for call in calls)
