"""What delivery relies on in every kind of sender: one contract suite, real servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from km_logging import wire
from km_logging.calls import Call
from km_logging.senders import Sender, make_sender
from km_logging.senders.curl import CurlSender
from km_logging.settings import Settings
from support.raw import GOOD, RawServer
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, Meeting

REQUEST = wire.encode(Call("event", "bob", "Signed Up", timestamp=1262304000, properties={"plan": "pro"}))


def _session_with_a_hook() -> requests.Session:
    """A session that must be asked to send itself, since somebody wants to see its answers."""
    session = requests.Session()
    session.hooks["response"].append(lambda *_, **__: None)
    return session


Make = Callable[[Settings], Sender]

#: Kind of sender, and way through it, to what makes it and the settings that choose it.
KINDS: dict[str, tuple[Make, dict[str, Any]]] = {
    "requests, by its pool": (make_sender, {}),
    "requests, by Session.send": (make_sender, {"session": _session_with_a_hook}),
    "curl": (CurlSender, {}),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def make(request: pytest.FixtureRequest):
    """Makes senders of one kind, and closes them at the end."""
    made: list[Sender] = []
    kind, chosen = request.param

    def make(endpoint: str, **settings: object) -> Sender:
        given = {"api_key": KEY, "endpoint": endpoint, **chosen, **settings}
        made.append(kind(Settings.resolve(given, {})))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


@pytest.fixture
def held():
    """What a request waits for; at the end of the test it is let go."""
    held = threading.Event()
    yield held
    held.set()


def test_the_gif_is_an_answer(make, server):
    answer = make(server.endpoint).send(REQUEST)
    assert (answer.status, answer.is_html, answer.retry_after, answer.error) == (200, False, None, "")


NASTY = {
    "example": Call("event", "bob", "Signed Up", timestamp=1262304000, properties={"gender": "male"}),
    "alias": Call("alias", "User 12345", identity="bob@bob.com"),
    "no properties": Call("set", "bob", timestamp=1262304000),
    "delimiters": Call("set", "a&b=c?d#e", timestamp=1262304000, properties={"x=y&z": "1+1=2 100% /?#[]@!$'()*,;~"}),
    "encoded already": Call("set", "%41%2f%zz", timestamp=1262304000, properties={"%2e%2e/": "../%2e%2e/"}),
    "all of Unicode": Call("event", "Zoë 😀", "naïve ﷽", timestamp=1262304000, properties={"\x00\r\n\t\x7f": "\u2028"}),
    "empty value": Call("set", "bob", timestamp=1262304000, properties={"plan": ""}),
    "long": Call("set", "bob", timestamp=1262304000, properties={str(i): "x" * 500 for i in range(14)}),
}


@pytest.mark.parametrize("base", ["", "/", "/collector/v2", "/a%20b/~c"])
@pytest.mark.parametrize("call", NASTY.values(), ids=NASTY)
def test_the_target_arrives_byte_for_byte(make, server, call, base):
    request = wire.encode(call)
    assert make(server.endpoint + base).send(request).status == 200
    assert server.targets == [wire.target(request, KEY, base.rstrip("/"))]


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 303, 307, 308, 400, 403, 404, 408, 413, 429, 500, 503])
def test_every_status_is_an_answer_and_no_redirect_is_followed(make, status):
    body = b"" if status == 204 else b"x"
    with TrackingServer(lambda *_: Reply(status, {"Location": "/elsewhere"}, body)) as server:
        assert make(server.endpoint).send(REQUEST).status == status
    assert server.targets == [wire.target(REQUEST, KEY)]


@pytest.mark.parametrize("location", ["", "http://[", "http://127.0.0.1:1/e", "/" + "x" * 9_000, "gopher://x/"])
def test_where_a_redirect_leads_does_not_matter(make, location):
    with TrackingServer(lambda *_: Reply(302, {"Location": location}, b"")) as server:
        answer = make(server.endpoint).send(REQUEST)
    assert answer.status in {302, None}
    assert len(server.targets) == 1


def test_what_the_server_asks_for_comes_back_as_it_is(make):
    with TrackingServer(lambda *_: Reply(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})) as server:
        assert make(server.endpoint).send(REQUEST).retry_after == "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("kind", "body", "is_html"),
    [
        ("text/html", b"anything", True),
        ("TEXT/HTML; charset=utf-8", b"anything", True),
        ("application/xhtml+xml", b"anything", True),
        ("image/gif", b"GIF89a", False),
        ("text/plain", b"\r\n <!DOCTYPE html>", True),
        ("text/plain", b"<HTML><head>", True),
        ("text/plain", b"", False),
        ("text/plain", b"ok <html>", False),
    ],
)
def test_a_page_is_told_from_everything_else(make, kind, body, is_html):
    with TrackingServer(lambda *_: Reply(200, {"Content-Type": kind}, body)) as server:
        assert make(server.endpoint).send(REQUEST).is_html is is_html


def test_only_the_beginning_of_a_large_answer_is_read(make):
    """The sender does not wait for the end of a body that never comes to one."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000
    with RawServer(endless) as server:
        sender = make(server.url)
        assert sender.send(REQUEST).status == 200
        assert sender.send(REQUEST).status == 200


BROKEN = {
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "status cut off": b"HTTP/1.1 20",
    "body cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\nGIF",
    "body missing": b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n",
    "chunk cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2b\r\nGIF",
    "chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nGIF\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\nContent-Length: 44\r\n\r\nGIF",
    "a line without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 700_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 60_000 + b"\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_no_answer_and_says_why(make, answer):
    with RawServer(answer) as server:
        sender = make(server.url)
        broken = sender.send(REQUEST)
        assert broken.status is None
        _is_discreet(broken.error)
        assert sender.send(REQUEST).status == 200


def _is_discreet(error: str) -> None:
    """Say something, and neither key nor person nor property."""
    assert error
    for secret in [KEY, KEY_ON_THE_WIRE, "bob", "Signed", "plan", "pro=", "_k", "?"]:
        assert secret not in error


def test_nothing_that_listens_is_no_answer(make):
    with refused() as endpoint:
        answer = make(endpoint).send(REQUEST)
    assert answer.status is None
    assert "refused" in answer.error
    _is_discreet(answer.error)


def test_a_host_without_an_address_is_no_answer(make, monkeypatch):
    """The resolver is a double: a real one would be asked outside loopback. libcurl asks none for this domain."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    answer = make("http://no-such-host.onion:9").send(REQUEST)
    assert answer.status is None
    _is_discreet(answer.error)


def test_the_read_timeout_bounds_the_wait_for_an_answer(make):
    with TrackingServer(lambda *_: Reply(delay=GUARD / 3)) as server:
        answer = make(server.endpoint, timeout=[1, 0.2]).send(REQUEST)
    assert answer.status is None
    assert "imeout" in answer.error
    _is_discreet(answer.error)


def test_the_connect_timeout_does_not_bound_the_wait_for_an_answer(make):
    with TrackingServer(lambda *_: Reply(delay=0.6)) as server:
        assert make(server.endpoint, timeout=[0.2, GUARD]).send(REQUEST).status == 200


def test_one_connection_carries_many_requests(make, server):
    sender = make(server.endpoint)
    assert {sender.send(REQUEST).status for _ in range(20)} == {200}
    assert len(server.targets) == 20
    assert server.connections == 1


@pytest.mark.parametrize("status", [204, 301, 400, 404, 503])
def test_a_connection_outlives_every_answer(make, status):
    with TrackingServer(lambda *_: Reply(status, {}, b"")) as server:
        sender = make(server.endpoint)
        for _ in range(5):
            sender.send(REQUEST)
    assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(make):
    with RawServer(*[GOOD] * 10) as server:
        sender = make(server.url)
        statuses = [sender.send(REQUEST).status for _ in range(10)]
    # Whether a closing is noticed before the next request is a race: a sender may fail, but not for ever.
    assert statuses.count(200) >= 5


def _send_in_threads(sender: Sender, requests_: list[str]) -> list[int | None]:
    answers = []
    threads = [threading.Thread(target=lambda it=it: answers.append(sender.send(it))) for it in requests_]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    return [answer.status for answer in answers]


def test_several_threads_may_send(make, server):
    requests_ = [wire.encode(Call("set", f"p{number}", timestamp=1262304000)) for number in range(8)]
    assert _send_in_threads(make(server.endpoint), requests_) == [200] * 8
    assert sorted(server.targets) == sorted(wire.target(request, KEY) for request in requests_)


@pytest.mark.parametrize("make", [kind for name, kind in KINDS.items() if name != "curl"], indirect=True)
def test_several_threads_send_at_once(make):
    """As many as the sender is wide wait for each other at the server, each with its own request."""
    requests_ = [wire.encode(Call("set", f"p{number}", timestamp=1262304000)) for number in range(8)]
    with TrackingServer(Meeting(8)) as server:
        sender = make(server.endpoint, senders=8)
        assert sender.width >= 8
        assert _send_in_threads(sender, requests_) == [200] * 8
    assert sorted(server.targets) == sorted(wire.target(request, KEY) for request in requests_)


def test_close_lets_a_request_under_way_end(make, held):
    with TrackingServer(Answers(held)) as server:
        sender = make(server.endpoint)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(sender.send(REQUEST)))
        thread.start()
        server.wait(1)
        sender.close()
        held.set()
        thread.join(GUARD)
    assert [answer.status for answer in answers] == [200]


def test_close_can_be_repeated(make, server):
    sender = make(server.endpoint)
    sender.send(REQUEST)
    sender.close()
    sender.close()
