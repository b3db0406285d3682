"""The curl sender: many requests under way in one thread, proxies and certificates, what it shows, and forks."""

from __future__ import annotations

import logging
import os
import resource
import ssl
import threading
import time
from types import SimpleNamespace

import pycurl
import pytest

from km_logging import wire
from km_logging.calls import Call
from km_logging.senders.curl import CurlSender
from km_logging.settings import Settings
from support.faults import FaultServer
from support.processes import run
from support.raw import Proxy, RawServer
from support.servers import Reply, TrackingServer, refused
from support.tls import SecureServer, authority
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, Meeting, eventually, people

SECRETS = [KEY, KEY_ON_THE_WIRE, "zoe@example.com", "zoe%40example.com", "s3cret plan", "s3cret+plan"]

REQUEST = wire.encode(
    Call("event", "zoe@example.com", "Signed Up", timestamp=1262304000, properties={"p": "s3cret plan"})
)


def _sender(endpoint: str, **settings: object) -> CurlSender:
    return CurlSender(Settings.resolve({"api_key": KEY, "endpoint": endpoint, **settings}, {}))


def _request(person: str) -> str:
    return wire.encode(Call("set", person, timestamp=1262304000))


def _wait_for(sender: CurlSender, count: int) -> dict[object, int | None]:
    """Ticket to status, of so many requests that end."""
    ended: dict[object, int | None] = {}
    until = time.monotonic() + GUARD
    while len(ended) < count and time.monotonic() < until:
        ended |= {ticket: answer.status for ticket, answer in sender.wait(1)}
    return ended


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No proxy or certificates of the environment that the tests run in."""
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# Many under way.


def test_as_many_requests_as_it_is_wide_are_under_way_at_once():
    """The server answers none of them before the last has arrived."""
    with TrackingServer(Meeting(64)) as server:
        sender = _sender(server.endpoint, senders=64)
        assert sender.width == 64
        for number in range(64):
            sender.begin(_request(f"p{number}"), number)
        assert _wait_for(sender, 64) == dict.fromkeys(range(64), 200)
        sender.close()
    assert sorted(people(server)) == sorted(f"p{number}" for number in range(64))


def test_connections_are_kept(server):
    """Each request arrives once, on no more connections than requests are under way."""
    sender = _sender(server.endpoint, senders=8)
    ended = {}
    for first in range(0, 400, 8):
        for number in range(first, first + 8):
            sender.begin(_request(f"p{number}"), number)
        ended |= _wait_for(sender, 8)
    assert ended == dict.fromkeys(range(400), 200)
    assert sorted(people(server)) == sorted(f"p{number}" for number in range(400))
    assert server.connections <= 8
    sender.close()


def test_each_answer_comes_with_its_ticket():
    """Statuses that differ, in an order that is not the one of the requests."""
    replies = Answers(a=[Reply(503, delay=0.2)], b=[Reply(404, delay=0.1)], c=[Reply(200)], d=[Reply(hang_up=True)])
    with TrackingServer(replies) as server:
        sender = _sender(server.endpoint)
        for person in "abcd":
            sender.begin(_request(person), person)
        assert _wait_for(sender, 4) == {"a": 503, "b": 404, "c": 200, "d": None}
        sender.close()


def test_a_request_that_fails_leaves_the_others_alone():
    held = threading.Event()
    with TrackingServer(Answers(a=[held])) as server:
        sender = _sender(server.endpoint)
        sender.begin(_request("a"), "a")
        sender.begin("/e?\0", "no URL")
        ((ticket, answer),) = sender.wait(GUARD)
        assert (ticket, answer.status, answer.error) == ("no URL", None, "libcurl: ValueError")
        held.set()
        assert _wait_for(sender, 1) == {"a": 200}
        sender.close()


def test_where_libcurl_itself_fails_every_request_has_an_answer(server):
    """And the next requests are sent as if nothing had been."""

    def perform() -> None:
        raise pycurl.error(4, f"internal error with {KEY}")

    sender = _sender(server.endpoint)
    sender.begin(REQUEST, "a")
    sender.begin(REQUEST, "b")
    sender._multi = SimpleNamespace(perform=perform, close=lambda: None)
    ended = dict(sender.wait(GUARD))
    assert [(answer.status, answer.error) for answer in ended.values()] == [(None, "libcurl: error")] * 2
    assert set(ended) == {"a", "b"}
    assert sender.wait(0) == []
    assert sender.send(REQUEST).status == 200
    sender.close()


def test_descriptors_that_libcurl_cannot_tell_are_looked_after(server):
    """A process may have more than a thousand files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2_048)), hard))
    source = os.open(os.devnull, os.O_RDONLY)
    taken = [source]
    try:
        while taken[-1] < 1_100:
            taken.append(os.dup(source))
        sender = _sender(server.endpoint)
        for number in range(20):
            sender.begin(REQUEST, number)
        assert _wait_for(sender, 20) == dict.fromkeys(range(20), 200)
        sender.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Waiting, waking and closing.


def test_wait_ends_when_its_time_is_over():
    held = threading.Event()
    with TrackingServer(Answers(held)) as server:
        sender = _sender(server.endpoint)
        assert sender.wait(0) == sender.wait(0.01) == []
        sender.begin(REQUEST, "a")
        assert sender.wait(0) == sender.wait(0.01) == []
        held.set()
        assert _wait_for(sender, 1) == {"a": 200}
        sender.close()


@pytest.mark.parametrize("under_way", [0, 3])
def test_wake_ends_a_wait(under_way):
    """One that has begun, and else the next one; several calls are one, and later ones count again."""
    held = threading.Event()
    with TrackingServer(Answers(held)) as server:
        sender = _sender(server.endpoint)
        for number in range(under_way):
            sender.begin(REQUEST, number)
        for _ in range(3):
            sender.wake()
            sender.wake()
            assert sender.wait(2 * GUARD) == []
        for _ in range(3):
            timer = threading.Timer(0.05, sender.wake)
            timer.start()
            assert sender.wait(2 * GUARD) == []
            timer.join()
        assert sender.wait(0.01) == []
        held.set()
        assert _wait_for(sender, under_way) == dict.fromkeys(range(under_way), 200)
        sender.close()


def test_close_closes_what_is_idle():
    """Also while the thread waits; and who sends again has a new connection."""
    with FaultServer() as server:
        sender = _sender(server.endpoint)
        assert sender.send(REQUEST).status == 200
        assert server.open
        sender.close()
        eventually(lambda: not server.open, "the end of the connection")
        assert sender.send(REQUEST).status == 200
        thread = threading.Thread(target=sender.wait, args=(2 * GUARD,))
        thread.start()
        sender.close()
        sender.wake()
        thread.join(GUARD)
        eventually(lambda: not server.open, "the end of the connection")


def test_close_waits_for_what_is_under_way_and_closes_then():
    with FaultServer("slow") as server:
        sender = _sender(server.endpoint)
        sender.begin(REQUEST, "a")
        assert sender.wait(0) == []
        sender.close()
        assert _wait_for(sender, 1) == {"a": 200}
        eventually(lambda: not server.open, "the end of the connection")


# What is asked for, and how much of the answer is read.


def test_a_request_has_what_it_needs_and_no_more(monkeypatch, tmp_path):
    """No cookie of an earlier answer, and no password of the user's files."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login zoe password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with TrackingServer(lambda *_: Reply(200, {"Set-Cookie": "a=b"})) as server:
        sender = _sender(server.endpoint)
        sender.send(REQUEST)
        sender.send(REQUEST)
        sender.close()
    agent = "km_logging (" + " ".join(pycurl.version.split()[:2]).lower() + ")"
    assert server.headers == [{"Host": f"127.0.0.1:{server.port}", "User-Agent": agent, "Accept": "*/*"}] * 2


@pytest.mark.parametrize(("size", "connections"), [(4_096, 1), (4_097, 2)])
def test_a_connection_is_kept_if_its_answer_was_read_to_the_end(size, connections):
    with TrackingServer(lambda *_: Reply(200, {}, b"x" * size)) as server:
        sender = _sender(server.endpoint)
        assert [sender.send(REQUEST).status for _ in range(2)] == [200, 200]
        sender.close()
    assert server.connections == connections


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_a_header_has_no_case_and_does_not_outlast_its_answer(name):
    replies = [Reply(503, {name: " 7 "}), Reply(503, {"Retry": "1", "R": "2"})]
    with TrackingServer(lambda number, _: replies[number]) as server:
        sender = _sender(server.endpoint)
        assert [sender.send(REQUEST).retry_after for _ in replies] == ["7", None]
        sender.close()


def test_what_is_no_text_in_a_header_does_no_harm():
    odd = b"HTTP/1.1 503 \xff\r\nContent-Type: \xff\xfe\r\nRetry-After: \xff\r\nContent-Length: 0\r\n\r\n"
    with RawServer(odd) as server:
        sender = _sender(server.url)
        answer = sender.send(REQUEST)
        sender.close()
    assert (answer.status, answer.is_html, answer.retry_after) == (503, False, "\xff")


@pytest.mark.parametrize("mode", ["hangs", "drips its status", "drips its headers", "drips its body"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_takes_too_long_is_given_up(tmp_path, monkeypatch, scheme, mode):
    """It would take minutes, or for ever; its connection is closed, and the next request has another one."""
    context = None
    if scheme == "https":
        signer, file = authority(tmp_path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        signer.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(mode, context=context) as server:
        sender = _sender(server.endpoint, timeout=[1.5, 0.1])
        answer = sender.send(REQUEST)
        assert (answer.status, answer.error) == (None, "CURLE_OPERATION_TIMEDOUT (timeout)")
        eventually(lambda: not server.open, "the end of the connection")
        server.become("good")
        assert sender.send(REQUEST).status == 200
        sender.close()
    assert [seen.target for seen in server.seen] == [wire.target(REQUEST, KEY)] * 2


# Proxies.


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_asked_for_the_whole_url(server, monkeypatch, name):
    with Proxy() as proxy:
        monkeypatch.setenv(name, proxy.url)
        sender = _sender(server.endpoint + "/collector")
        assert [sender.send(REQUEST).status for _ in range(2)] == [200, 200]
        sender.close()
        assert proxy.asked == [("GET", server.endpoint + target) for target in server.targets]
    assert server.targets == [wire.target(REQUEST, KEY, "/collector")] * 2


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "127.0.0.0/8", "example.com,127.0.0.1:{port}"])
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_heeded(server, monkeypatch, name, exception):
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv(name, exception.format(port=server.port))
        sender = _sender(server.endpoint)
        assert sender.send(REQUEST).status == 200
        sender.close()
        assert proxy.asked == []


def test_in_a_cgi_script_a_header_of_the_request_is_no_proxy(server, monkeypatch):
    """A client that sends a header ``Proxy`` sets ``HTTP_PROXY`` there."""
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    sender = _sender(server.endpoint)
    assert sender.send(REQUEST).status == 200
    sender.close()


def test_through_a_proxy_the_requests_of_a_secure_endpoint_stay_secret(tmp_path, monkeypatch):
    """The proxy is asked for a tunnel, once, and sees neither key nor query."""
    signer, file = authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
    with SecureServer(signer) as server, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        sender = _sender(server.endpoint)
        assert [sender.send(REQUEST).status for _ in range(3)] == [200] * 3
        sender.close()
        assert proxy.asked == [("CONNECT", f"127.0.0.1:{server.port}")]


# Certificates.


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_certificates_of_the_environment_are_trusted(tmp_path, monkeypatch, name):
    signer, file = authority(tmp_path)
    monkeypatch.setenv(name, file)
    with SecureServer(signer) as server:
        sender = _sender(server.endpoint)
        assert [sender.send(REQUEST).status for _ in range(3)] == [200] * 3
        sender.close()
    assert server.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, monkeypatch, host):
    """Neither one of an unknown authority nor one for another host; no request is sent."""
    signer, file = authority(tmp_path)
    if host == "localhost":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
    with SecureServer(signer) as server:
        sender = _sender(f"https://{host}:{server.port}")
        answer = sender.send(REQUEST)
        sender.close()
    assert answer.status is None
    assert answer.error in {"CURLE_PEER_FAILED_VERIFICATION", "CURLE_SSL_CACERT"}  # as older versions have it
    assert server.targets == []


def test_certificates_that_are_not_there_are_no_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    signer, _ = authority(tmp_path)
    with SecureServer(signer) as server:
        sender = _sender(server.endpoint)
        assert sender.send(REQUEST).error == "CURLE_SSL_CACERT_BADFILE"
        sender.close()


# What is shown.


def test_nothing_shows_key_or_query(caplog, capfd):
    """No error, no representation, no log record, nothing that libcurl might write by itself."""
    caplog.set_level(logging.DEBUG)
    replies = [Reply(), Reply(503), Reply(301, {"Location": "/e"}), Reply(hang_up=True)]
    shown = []
    with TrackingServer(lambda number, _: replies[min(number, 3)]) as server, refused() as nowhere:
        for endpoint in [server.endpoint] * len(replies) + [nowhere, server.endpoint.replace("http", "https")]:
            sender = _sender(endpoint)
            answer = sender.send(REQUEST)
            shown += [repr(answer), str(answer), repr(sender), repr(sender._idle), repr(sender._multi)]
            sender.close()
    text = "".join(shown) + caplog.text + "".join(capfd.readouterr())
    assert "refused" in text
    assert "GIF" not in text
    assert not [secret for secret in SECRETS if secret in text]


# Forks.

FORK = """
from km_logging.senders.curl import CurlSender
from km_logging.settings import Settings

sender = CurlSender(Settings.resolve({}, os.environ))
statuses = [sender.send("/s?_p=before&_t=1262304000&_d=1").status]
if os.environ["UNDER_WAY"]:
    sender.begin("/s?_p=during&_t=1262304000&_d=1", None)
    sender.wait(0)
child = os.fork()
if not child:
    sender.abandon()
    sender.wake()
    sender.close()
    del sender
    sys.exit(7)
statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
if os.environ["UNDER_WAY"]:
    statuses += [answer.status for _, answer in sender.wait(20)]
statuses.append(sender.send("/s?_p=after&_t=1262304000&_d=1").status)
print(json.dumps({"statuses": statuses}))
"""


@pytest.mark.parametrize("during", [[], ["during"]], ids=["idle", "under way"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_forked_child_leaves_the_connections_of_its_parent_alone(tmp_path, scheme, during):
    """It ends as processes do, and the parent goes on with the connection that it has."""
    signer, file = authority(tmp_path)
    with SecureServer(signer) if scheme == "https" else TrackingServer() as server:
        server._reply = Answers(during=[Reply(delay=0.5)])
        ended = run(tmp_path, FORK, server.endpoint, REQUESTS_CA_BUNDLE=file, UNDER_WAY="".join(during))
    assert (ended.code, ended.err) == (0, "")
    assert ended.reports == [{"statuses": [200, 7, *[200 for _ in during], 200]}]
    assert people(server) == ["before", *during, "after"]
    assert server.connections == 1


def test_a_forked_child_may_send_by_itself(tmp_path, server):
    """On connections of its own, whatever lock was held at the fork."""
    text = """
    from km_logging.senders.curl import CurlSender
    from km_logging.settings import Settings

    sender = CurlSender(Settings.resolve({}, os.environ))
    assert sender.send("/s?_p=parent&_t=1262304000&_d=1").status == 200
    sender._alone.acquire()
    sender._turn.acquire()
    child = os.fork()
    if not child:
        sender.abandon()
        os._exit(sender.send("/s?_p=child&_t=1262304000&_d=1").status != 200)
    print(json.dumps({"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}))
    """
    ended = run(tmp_path, text, server.endpoint)
    assert (ended.code, ended.err, ended.reports) == (0, "", [{"code": 0}])
    assert people(server) == ["parent", "child"]
    assert server.connections == 2
