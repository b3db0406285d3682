"""Requests that nobody would send: no answer is ever an error of the server, and a beacon always answers the GIF.

Over real sockets, so that uvicorn and h11 are in it. The quick tests take a few seconds; the long ones are slow.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from km_logging.sandbox import Sandbox
from km_logging.sandbox.assets import assets
from km_logging.sandbox.beacons import GIF

TIMEOUT = 30
QUICK = settings(max_examples=200, deadline=None)
LONG = settings(max_examples=4_000, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def _no_errors_logged() -> Iterator[None]:
    """An error after the head of an answer has gone out is only logged."""
    errors: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(self.format(record))

    logger, collector = logging.getLogger("uvicorn.error"), Collector(logging.ERROR)
    logger.addHandler(collector)
    yield
    logger.removeHandler(collector)
    assert errors == []


def connected(sandbox: Sandbox) -> socket.socket:
    url = urlsplit(sandbox.endpoint)
    return socket.create_connection((url.hostname, url.port), timeout=TIMEOUT)


def head_of(sandbox: Sandbox, request: bytes) -> bytes:
    """The head of the answer; a stream has no end to wait for."""
    with connected(sandbox) as connection:
        connection.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
            head += data
        return head


def whole(sandbox: Sandbox, request: bytes) -> bytes:
    with connected(sandbox) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def unspaced(data: bytes) -> bytes:
    """Without what ends a URL, or a line, in HTTP."""
    return re.sub(rb"[\s\0]", b"", data)


# What may be asked.

PATHS = ["/e", "/s", "/a", "/api/calls", "/api/problems", "/api/stream", "/api/person", "/api/status", "/api/check/set"]
NAMES = ["kind", "person", "name", "since", "after", "id", "_k", "_p", "_n", "_t", "_d"]
VALUES = [b"", b"0", b"-1", b"1e400", b"inf", b"nan", "٣".encode(), b"9" * 30, b"event", b"%", b"\0", b"\xed\xa0\x80"]

methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"]) | st.from_regex(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", fullmatch=True
)
known_paths = st.sampled_from([*PATHS, *assets()]).map(str.encode)
junk = st.binary(max_size=40).map(unspaced)
quoted_junk = st.binary(max_size=40).map(lambda data: quote_from_bytes(data).encode())
paths = (
    known_paths | st.builds(bytes.__add__, known_paths, junk | quoted_junk) | junk.map(lambda data: b"/" + data) | junk
)
pairs = st.tuples(
    st.sampled_from(NAMES).map(str.encode) | quoted_junk,
    st.sampled_from(VALUES).map(lambda value: quote_from_bytes(value).encode()) | quoted_junk | junk,
).map(b"=".join)
queries = st.lists(pairs, max_size=5).map(b"&".join)
header_values = st.sampled_from([b"localhost", b"null", b"cross-site", b"text/html", b"0", b"1", b"bytes=0-1"]) | junk
headers = st.dictionaries(
    st.sampled_from(
        [b"Accept", b"Origin", b"Sec-Fetch-Site", b"Last-Event-ID", b"Content-Type", b"Range", b"If-None-Match",
         b"Cookie", b"Upgrade", b"Expect", b"Forwarded", b"X-Forwarded-Host", b"X-Forwarded-For"]
    ),
    header_values,
    max_size=4,
)  # fmt: skip
odd_hosts = st.sampled_from([b"", b"[", b"[::1", b"evil.example", b"localhost:x"]) | junk
hosts = st.sampled_from(range(5)).flatmap(lambda number: odd_hosts if number == 4 else st.just(b"localhost"))
bodies = st.just(b"") | st.binary(max_size=60)


@st.composite
def requests_for(draw: st.DrawFn, paths: st.SearchStrategy[bytes]) -> bytes:
    target = draw(paths) + draw(st.sampled_from([b"", b"?"])) + draw(queries)
    fields = {b"Host": draw(hosts), b"Connection": b"close"} | draw(headers)
    body = draw(bodies)
    if body:
        fields[b"Content-Length"] = str(len(body)).encode()
    lines = [draw(methods).encode() + b" " + target + b" HTTP/1.1", *(b": ".join(field) for field in fields.items())]
    return b"\r\n".join([*lines, b"", b""]) + body


def is_answered(sandbox: Sandbox, request: bytes) -> None:
    head = head_of(sandbox, request)
    status = re.match(rb"HTTP/1\.1 ([1-4][0-9]{2}) ", head)
    assert status, (request, head[:200])


@QUICK
@given(request=requests_for(paths))
def test_no_request_is_an_error_of_the_server(running: Sandbox, request: bytes) -> None:
    """Any method, path, parameters, headers and body."""
    is_answered(running, request)


@QUICK
@given(request=requests_for(known_paths))
def test_no_parameter_or_header_is_an_error_of_the_server(running: Sandbox, request: bytes) -> None:
    """The same, where there is something."""
    is_answered(running, request)


@pytest.mark.slow
@LONG
@given(request=requests_for(paths))
def test_no_request_of_thousands_is_an_error_of_the_server(running: Sandbox, request: bytes) -> None:
    is_answered(running, request)


@pytest.mark.slow
@LONG
@given(request=requests_for(known_paths))
def test_no_parameter_or_header_of_thousands_is_an_error_of_the_server(running: Sandbox, request: bytes) -> None:
    is_answered(running, request)


# What may be told.

raw_queries = st.binary(max_size=300).map(lambda data: data.replace(b"\n", b""))  # which ends a request line
beacon_queries = raw_queries | st.binary(max_size=200).map(quote_from_bytes).map(str.encode)
beacon_paths = st.sampled_from([b"/e", b"/s", b"/a"])


def is_taken(sandbox: Sandbox, path: bytes, query: bytes, method: str, host: bytes) -> None:
    sandbox.store.clear()
    before = sandbox.store.last_id
    target = path + b"?" + query
    request = b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (method.encode(), target, host)
    answer = whole(sandbox, request)
    assert answer.startswith(b"HTTP/1.1 200 "), (request, answer)
    assert answer.endswith(b"\r\n\r\n" if method == "HEAD" else GIF)
    assert sandbox.store.last_id == before + 1
    can_be_read(sandbox, before)


def can_be_read(sandbox: Sandbox, after: int) -> None:
    """What was told is no trouble to who reads it, in whatever way."""
    [call] = requests.get(f"{sandbox.endpoint}/api/calls?after={after}", timeout=TIMEOUT).json()["calls"]
    assert requests.get(f"{sandbox.endpoint}/api/problems?after={after}", timeout=TIMEOUT).ok
    person = requests.get(f"{sandbox.endpoint}/api/person", {"id": call["person"]}, timeout=TIMEOUT)
    assert call in person.json()["calls"]
    with requests.get(f"{sandbox.endpoint}/api/stream?after={after}", stream=True, timeout=TIMEOUT) as answer:
        lines = answer.iter_lines(chunk_size=1)
        told = next(line.removeprefix(b"data: ") for line in lines if line.startswith(b'data: {"kind"'))
        assert json.loads(told) == call


@settings(QUICK, max_examples=100)
@given(path=beacon_paths, query=beacon_queries, method=methods, host=junk)
def test_any_bytes_are_taken_by_a_beacon(running: Sandbox, path: bytes, query: bytes, method: str, host: bytes) -> None:
    """200 and the GIF, by any method and under any host; and the call can be read by everybody."""
    is_taken(running, path, query, method, host)


@pytest.mark.slow
@settings(LONG, max_examples=2_000)
@given(path=beacon_paths, query=beacon_queries, method=methods, host=junk)
def test_any_bytes_of_thousands_are_taken_by_a_beacon(
    running: Sandbox, path: bytes, query: bytes, method: str, host: bytes
) -> None:
    is_taken(running, path, query, method, host)
