"""The ways to the server that people configure: sessions, adapters, auth, proxies, certificates; and what they show."""

from __future__ import annotations

import logging
import ssl
import threading
from collections import Counter

import pytest
import requests
import requests.adapters
import requests.auth
import responses

from km_logging import wire
from km_logging.calls import Call
from km_logging.senders import Sender, make_sender
from km_logging.senders.requests import RequestsSender
from km_logging.settings import Settings
from support.faults import FaultServer
from support.raw import Proxy, RawServer
from support.servers import Reply, TrackingServer
from support.tls import SecureServer, authority
from support.tracking import GUARD, KEY, KEY_ON_THE_WIRE, Answers, eventually, people, tracker_for

SECRETS = [KEY, KEY_ON_THE_WIRE, "zoe@example.com", "zoe%40example.com", "s3cret plan", "s3cret+plan", "s3cret%20plan"]


def _track(tracker, count: int = 1) -> None:
    """Deliver calls that hold every secret there is."""
    for _ in range(count):
        assert tracker.event("zoe@example.com", "Signed Up", plan="s3cret plan")
    assert tracker.flush()
    assert tracker.stats().delivered == count


# A session of the user's own.


class _Stamping(requests.adapters.HTTPAdapter):
    """An adapter as people write them: it changes each request on its way."""

    def send(self, request, *args, **kwargs):
        request.headers["X-Stamp"] = "stamped"
        return super().send(request, *args, **kwargs)


def test_a_custom_adapter_sends_every_request(server):
    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", _Stamping())
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker, 5)
    assert [headers.get("X-Stamp") for headers in server.headers] == ["stamped"] * 5


def test_an_adapter_that_only_adds_headers_is_asked_to(server):
    class Naming(requests.adapters.HTTPAdapter):
        def add_headers(self, request, **_) -> None:
            request.headers["X-Name"] = "named"

    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", Naming())
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert server.headers[0]["X-Name"] == "named"


def test_a_session_that_prepares_requests_itself_prepares_every_one(server):
    """As those do that sign them."""

    class Signing(requests.Session):
        count = 0

        def prepare_request(self, request):
            prepared = super().prepare_request(request)
            Signing.count += 1
            prepared.headers["X-Signature"] = f"{Signing.count} {prepared.url.count('_p=')}"
            return prepared

    with tracker_for(server.endpoint, session=Signing, senders=1) as tracker:
        _track(tracker, 3)
    assert len({headers["X-Signature"] for headers in server.headers}) == 3
    assert all(headers["X-Signature"].endswith(" 1") for headers in server.headers)


def test_an_auth_class_sees_every_request(server):
    class Signing(requests.auth.AuthBase):
        def __call__(self, request):
            request.headers["X-Signature"] = f"signed {request.path_url.partition('?')[0]}"
            return request

    def session() -> requests.Session:
        session = requests.Session()
        session.auth = Signing()
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker, 3)
    assert [headers["X-Signature"] for headers in server.headers] == ["signed /e"] * 3


def test_basic_auth_is_sent(server):
    def session() -> requests.Session:
        session = requests.Session()
        session.auth = ("user", "password")
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert server.headers[0]["Authorization"] == requests.auth._basic_auth_str("user", "password")


def test_headers_and_cookies_of_the_session_are_sent(server):
    def session() -> requests.Session:
        session = requests.Session()
        session.headers["X-Team"] = "growth"
        session.cookies.set("route", "eu")
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker, 2)
    assert [headers["X-Team"] for headers in server.headers] == ["growth"] * 2
    assert [headers["Cookie"] for headers in server.headers] == ["route=eu"] * 2


def test_parameters_of_the_session_join_those_of_the_call(server):
    def session() -> requests.Session:
        session = requests.Session()
        session.params = {"via": "gateway"}
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert dict(server.queries[0]) | {"_t": ""} == {
        "_k": KEY,
        "_p": "zoe@example.com",
        "_n": "Signed Up",
        "plan": "s3cret plan",
        "_t": "",
        "_d": "1",
        "via": "gateway",
    }


def test_hooks_of_the_session_see_every_answer(server):
    seen = []

    def session() -> requests.Session:
        session = requests.Session()
        session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker, 3)
    assert seen == [200] * 3


def test_a_hook_that_comes_later_sees_answers_from_then_on(server):
    """The requests before and after it arrive alike, byte for byte but for their time."""
    seen, sessions = [], []

    def session() -> requests.Session:
        sessions.append(requests.Session())
        return sessions[-1]

    with tracker_for(server.endpoint, session=session, senders=1) as tracker:
        for late in [False, True]:
            if late:
                sessions[0].hooks["response"].append(lambda response, **_: seen.append(response.status_code))
            tracker.event("bob", "Signed Up", timestamp=1262304000)
            assert tracker.flush()
    assert seen == [200]
    assert len(sessions) == 1
    assert set(server.targets) == {f"/e?_k={KEY_ON_THE_WIRE}&_p=bob&_n=Signed+Up&_t=1262304000&_d=1"}


def test_a_mocked_session_is_told_the_calls():
    """With the `responses` library, as application tests use it, nothing leaves the process."""
    with responses.RequestsMock() as mocked:
        mocked.add(responses.GET, "http://tracking.test/e", body=b"GIF89a")
        with tracker_for("http://tracking.test") as tracker:
            _track(tracker)
        url = mocked.calls[0].request.url
    assert url.startswith(f"http://tracking.test/e?_k={KEY_ON_THE_WIRE}&_p=zoe%40example.com&_n=Signed+Up&")


def test_mocking_may_begin_and_end_at_any_time(server):
    """What is sent before and after goes to the server, and only what is sent in between to the mock."""
    with tracker_for(server.endpoint, senders=1) as tracker:
        tracker.event("before", "Signed Up")
        assert tracker.flush()
        with responses.RequestsMock() as mocked:
            mocked.add(responses.GET, f"{server.endpoint}/e", body=b"GIF89a")
            tracker.event("mocked", "Signed Up")
            assert tracker.flush()
        tracker.event("after", "Signed Up")
        assert tracker.flush()
    assert people(server) == ["before", "after"]
    assert all(target.endswith("&_d=1") for target in server.targets)


def _shared_session(server: TrackingServer, requests_before: int) -> requests.Session:
    """A session with idle connections to the server, from requests that ran at once."""
    session = requests.Session()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(session.get(f"{server.endpoint}/before").status_code))
        for _ in range(requests_before)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert answers == [200] * requests_before
    return session


@pytest.mark.parametrize("open_before", [1, 6])
def test_a_session_with_open_connections_loses_no_query(open_before):
    """Each call arrives once and whole, and nothing but the calls does, whichever connection carries it."""
    with TrackingServer(lambda *_: Reply(delay=0.01)) as server:
        session = _shared_session(server, open_before)
        with tracker_for(server.endpoint, session=lambda: session, senders=4) as tracker:
            for number in range(60):
                tracker.event(f"p{number}", "Signed Up", timestamp=1262304000)
            assert tracker.flush()
            stats = tracker.stats()
    start, end = f"/e?_k={KEY_ON_THE_WIRE}&_p=", "&_n=Signed+Up&_t=1262304000&_d=1"
    assert Counter(server.targets[open_before:]) == Counter(f"{start}p{number}{end}" for number in range(60))
    assert (stats.delivered, stats.retried) == (60, 0)


def test_a_connection_that_the_application_gives_back_later_loses_no_query(server):
    """It was open before the session was ours, and comes and goes while we send."""
    session = requests.Session()
    borrowed = session.get(f"{server.endpoint}/own", stream=True)
    with tracker_for(server.endpoint, session=lambda: session, senders=1) as tracker:

        def track(person: str) -> None:
            tracker.event(person, "Signed Up", timestamp=1262304000)
            assert tracker.flush()

        track("a")
        assert borrowed.content
        track("b")
        borrowed = session.get(f"{server.endpoint}/own", stream=True)
        track("c")
        assert borrowed.content
        track("d")
    told = [target for target in server.targets if "_p=" in target]
    assert told == [f"/e?_k={KEY_ON_THE_WIRE}&_p={it}&_n=Signed+Up&_t=1262304000&_d=1" for it in "abcd"]


def test_a_session_that_the_application_uses_too_stays_as_it_was(server):
    """Its own requests to the same host arrive as it made them."""
    session = requests.Session()
    with tracker_for(server.endpoint, session=lambda: session) as tracker:
        _track(tracker, 3)
        session.get(f"{server.endpoint}/own")
        session.get(f"{server.endpoint}/own", params={"a": "b"})
    assert server.targets[3:] == ["/own", "/own?a=b"]


def test_two_trackers_may_share_a_session(server):
    session = requests.Session()
    with (
        tracker_for(server.endpoint, session=lambda: session) as one,
        tracker_for(server.endpoint, session=lambda: session, api_key="another") as other,
    ):
        for number in range(30):
            one.event(f"one-{number}", "Signed Up")
            other.event(f"other-{number}", "Signed Up")
        assert one.flush()
        assert other.flush()
    keys = Counter((query[0], query[1][1].partition("-")[0]) for query in server.queries)
    assert keys == {(("_k", KEY), "one"): 30, (("_k", "another"), "other"): 30}


def test_a_session_callable_that_raises_is_called_again(server, monkeypatch):
    """Calls wait meanwhile, and a problem is said."""
    monkeypatch.setattr("km_logging.policy.FIRST_DELAY", 0.01)
    problems, raised = [], [ValueError("no vault"), SystemExit(1), KeyboardInterrupt()]

    def session() -> requests.Session:
        if raised:
            raise raised.pop()
        return requests.Session()

    with tracker_for(server.endpoint, session=session, on_problem=problems.append, senders=1) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert people(server) == ["bob"]
    assert (stats.delivered, stats.dropped) == (1, {})
    assert [problem.kind for problem in problems] == ["callback"] * 3
    assert "no vault" not in repr((problems, stats))


def test_a_session_callable_that_hangs_holds_up_neither_the_log_call_nor_close(server, capsys):
    asked, never = threading.Event(), threading.Event()

    def session() -> requests.Session:
        asked.set()
        never.wait(2 * GUARD)
        return requests.Session()

    tracker = tracker_for(server.endpoint, session=session, drain_timeout=0.2)
    assert tracker.event("bob", "Signed Up")
    assert asked.wait(GUARD)
    assert tracker.event("eve", "Signed Up")
    assert not tracker.flush(0.1)
    tracker.close()
    assert tracker.stats().dropped == {"closed": 2}
    assert capsys.readouterr().err.count("\n") == 1
    never.set()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_adapter_that_raises_costs_one_try(server, monkeypatch, error):
    """Whatever it raises: the only sender goes on, the call is tried again, and so are the others."""
    monkeypatch.setattr("km_logging.policy.FIRST_DELAY", 0.01)
    raised = [error(f"{KEY} of zoe@example.com")]

    class Raising(requests.adapters.HTTPAdapter):
        def send(self, request, *args, **kwargs):
            if raised:
                raise raised.pop()
            return super().send(request, *args, **kwargs)

    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", Raising())
        return session

    with tracker_for(server.endpoint, session=session, senders=1, drain_timeout=0) as tracker:
        tracker.event("bob", "Signed Up")
        tracker.event("eve", "Signed Up")
        assert tracker.flush(GUARD / 3)
        stats = tracker.stats()
    assert sorted(people(server)) == ["bob", "eve"]
    assert (stats.delivered, stats.retried) == (2, 1)
    assert error.__name__ in stats.last_error
    assert not [secret for secret in SECRETS if secret in stats.last_error]


def test_a_session_that_cannot_be_closed_does_not_hinder_close(server):
    class Unclosable(requests.Session):
        def close(self) -> None:
            raise RuntimeError("not now")

    tracker = tracker_for(server.endpoint, session=Unclosable)
    _track(tracker)
    tracker.close()
    assert not tracker._pipeline.is_running


# Proxies.


@pytest.fixture
def no_proxies(monkeypatch):
    """No proxy or certificates of the environment that the tests run in."""
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("base", ["", "/collector"])
def test_a_proxy_of_the_environment_is_asked_for_the_whole_url(server, no_proxies, monkeypatch, base):
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with tracker_for(server.endpoint + base) as tracker:
            _track(tracker, 3)
        assert proxy.asked == [("GET", server.endpoint + target) for target in server.targets]
    assert all(target.startswith(f"{base}/e?_k={KEY_ON_THE_WIRE}&") for target in server.targets)
    assert [headers["Via"] for headers in server.headers] == ["1.1 test"] * 3


def test_a_proxy_of_the_session_is_used(server, no_proxies):
    with Proxy() as proxy:

        def session() -> requests.Session:
            session = requests.Session()
            session.proxies = {"http": proxy.url}
            return session

        with tracker_for(server.endpoint, session=session) as tracker:
            _track(tracker)
        assert proxy.asked == [("GET", server.endpoint + server.targets[0])]


def test_a_custom_adapter_goes_through_the_proxy_too(server, no_proxies, monkeypatch):
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)

        def session() -> requests.Session:
            session = requests.Session()
            session.mount("http://", _Stamping())
            return session

        with tracker_for(server.endpoint, session=session) as tracker:
            _track(tracker)
        assert proxy.asked == [("GET", server.endpoint + server.targets[0])]


def test_no_proxy_is_heeded(server, no_proxies, monkeypatch):
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with tracker_for(server.endpoint) as tracker:
            _track(tracker)
        assert proxy.asked == []


def test_through_a_proxy_the_requests_of_a_secure_endpoint_stay_secret(tmp_path, no_proxies, monkeypatch):
    """The proxy is asked for a tunnel, and sees neither key nor query."""
    signer, file = authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
    with SecureServer(signer) as server, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with tracker_for(server.endpoint, senders=1) as tracker:
            _track(tracker, 3)
        assert proxy.asked == [("CONNECT", f"127.0.0.1:{server.port}")]
    assert len(server.targets) == 3
    assert all(target.startswith(f"/e?_k={KEY_ON_THE_WIRE}&") for target in server.targets)


# Certificates.


def test_the_certificates_of_the_environment_are_trusted(tmp_path, no_proxies, monkeypatch):
    signer, file = authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
    with SecureServer(signer) as server, tracker_for(server.endpoint) as tracker:
        _track(tracker)
    assert people(server) == ["zoe@example.com"]


def test_the_certificates_of_the_session_are_trusted(tmp_path, no_proxies):
    signer, file = authority(tmp_path)

    def session() -> requests.Session:
        session = requests.Session()
        session.verify = file
        return session

    with SecureServer(signer) as server, tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert people(server) == ["zoe@example.com"]


def test_a_session_may_trust_anybody(tmp_path, no_proxies, recwarn):
    """It is asked to, and warned of by urllib3."""
    signer, _ = authority(tmp_path)

    def session() -> requests.Session:
        session = requests.Session()
        session.verify = False
        return session

    with SecureServer(signer) as server, tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert people(server) == ["zoe@example.com"]
    assert not [warning for warning in recwarn if KEY in str(warning.message)]


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, no_proxies):
    """No request is sent, and the reason is known."""
    signer, _ = authority(tmp_path)
    with SecureServer(signer) as server, tracker_for(server.endpoint, retry_for=0) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        stats = tracker.stats()
    assert server.targets == []
    assert "SSLCertVerificationError" in stats.last_error
    assert (stats.delivered, stats.dropped) == (0, {"expired": 1})


# What is asked for, and what is shown.


def test_the_user_agent_names_us(server):
    with tracker_for(server.endpoint) as tracker:
        _track(tracker)
    assert server.headers[0]["User-Agent"] == f"km_logging ({requests.utils.default_user_agent()})"
    assert server.headers[0]["Host"] == f"127.0.0.1:{server.port}"


def test_a_session_of_the_user_s_own_names_itself(server):
    def session() -> requests.Session:
        session = requests.Session()
        session.headers["User-Agent"] = "shop/1.0"
        return session

    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker)
    assert server.headers[0]["User-Agent"] == "shop/1.0"


def test_no_more_senders_than_the_adapter_of_the_session_keeps_connections():
    """A session that keeps two connections has no more than two requests under way, and opens no third."""
    answers = Answers(Reply(delay=0.01))

    def session() -> requests.Session:
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=2))
        return session

    with TrackingServer(answers) as server, tracker_for(server.endpoint, session=session, senders=8) as tracker:
        for number in range(40):
            tracker.event(f"p{number}", "Signed Up")
        assert tracker.flush()
    assert len(server.targets) == 40
    assert server.connections <= 2


class _Logging(requests.adapters.HTTPAdapter):
    """An adapter that logs what it sends, in every careless way there is."""

    def send(self, request, *args, **kwargs):
        logger = logging.getLogger("careless.adapter")
        logger.debug("sending %s", request.url)
        logger.info("%(method)s %(url)s", {"method": request.method, "url": request.url})
        logger.warning(f"path {request.path_url}")
        try:
            raise ValueError(request.url)
        except ValueError:
            logger.exception("again")
        return super().send(request, *args, **kwargs)


def _careless_session() -> requests.Session:
    session = requests.Session()
    session.mount("http://", _Logging())
    return session


@pytest.mark.parametrize("session", [None, _careless_session], ids=["pool", "Session.send"])
@pytest.mark.parametrize("reply", [Reply(), Reply(503), Reply(301, {"Location": "/e"}), Reply(hang_up=True)])
def test_no_log_record_shows_key_or_query(caplog, session, reply):
    """Not at DEBUG, not in a traceback, whatever the answer is."""
    caplog.set_level(logging.DEBUG)
    answers = Answers(**{"zoe@example.com": [reply]})
    with (
        TrackingServer(answers) as server,
        tracker_for(server.endpoint, session=session, on_problem=lambda _: None) as tracker,
    ):
        _track(tracker)
    names = {record.name for record in caplog.records}
    assert "urllib3.connectionpool" in names
    assert session is None or "careless.adapter" in names
    text = caplog.text + "".join(map(repr, (vars(record) for record in caplog.records)))
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("session", [None, _careless_session], ids=["pool", "Session.send"])
def test_a_head_that_urllib3_complains_of_shows_neither_key_nor_query(caplog, session):
    """urllib3 warns of headers that cannot be parsed, and names the URL that they came from."""
    with RawServer(b"HTTP/1.1 200 OK\r\nContent-Ty") as server, tracker_for(server.url, session=session) as tracker:
        _track(tracker)
    assert "Failed to parse headers" in caplog.text
    assert not [secret for secret in SECRETS if secret in caplog.text]


@pytest.mark.parametrize("session", [None, _careless_session], ids=["pool", "Session.send"])
def test_no_error_shows_key_or_query(caplog, monkeypatch, session):
    """Neither `last_error` nor a problem, whatever fails."""
    monkeypatch.setattr("km_logging.policy.FIRST_DELAY", 0.01)
    caplog.set_level(logging.DEBUG)
    problems = []
    with tracker_for(
        "http://127.0.0.1:1", session=session, on_problem=problems.append, retry_for=0.1, drain_timeout=1
    ) as tracker:
        tracker.event("zoe@example.com", "Signed Up", plan="s3cret plan")
        assert tracker.flush()
        text = f"{tracker.stats()!r} {tracker!r} {tracker.settings!r} {problems!r} {caplog.text}"
    assert "refused" in text
    assert not [secret for secret in SECRETS if secret in text]


def test_records_of_other_threads_are_left_alone(server, caplog):
    """While a request is under way, the application may log its own key where it likes."""
    with tracker_for(server.endpoint, session=_careless_session) as tracker:
        _track(tracker)
        logging.getLogger("application").warning("our key is %s", KEY)
    assert f"our key is {KEY}" in caplog.text


@pytest.mark.parametrize(("session", "straight"), [(None, True), (requests.Session, True), (_careless_session, False)])
def test_the_straight_way_is_taken_where_nothing_stands_in_it(server, monkeypatch, session, straight):
    """It costs less than half of `Session.send`."""
    ways = []
    by_session = RequestsSender._send_by_session
    monkeypatch.setattr(
        RequestsSender, "_send_by_session", lambda self, target: ways.append(target) or by_session(self, target)
    )
    with tracker_for(server.endpoint, session=session) as tracker:
        _track(tracker, 3)
    assert len(ways) == (0 if straight else 3)


# Answers that trickle in, each byte in time.

TRICKLES = ["drips its status", "drips its headers", "drips its body"]

REQUEST = wire.encode(Call("event", "bob", "Signed Up", timestamp=1262304000))


def _hooked_session() -> requests.Session:
    session = requests.Session()
    session.hooks["response"].append(lambda *_, **__: None)
    return session


def _hasty(endpoint: str, session=None, read: float = 0.2) -> Sender:
    """A sender that waits a fifth of a second for each byte."""
    given = {"api_key": KEY, "endpoint": endpoint, "session": session, "timeout": [GUARD, read]}
    return make_sender(Settings.resolve(given, {}))


@pytest.mark.parametrize("mode", TRICKLES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("session", [None, _hooked_session, _careless_session])
def test_an_answer_that_trickles_in_is_given_up(tmp_path, no_proxies, monkeypatch, session, scheme, mode):
    """It would take minutes; it is no answer, its connection is closed, and the next request has another one."""
    context = None
    if scheme == "https":
        signer, file = authority(tmp_path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        signer.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(mode, context=context) as server:
        sender = _hasty(server.endpoint, session)
        answer = sender.send(REQUEST)
        assert (answer.status, "imeout" in answer.error) == (None, True)
        eventually(lambda: not server.open, "the end of the connection")
        server.become("good")
        assert sender.send(REQUEST).status == 200
        sender.close()
    assert [seen.target for seen in server.seen] == [wire.target(REQUEST, KEY)] * 2


@pytest.mark.parametrize("session", [None, _hooked_session])
def test_a_proxy_that_trickles_is_given_up(no_proxies, monkeypatch, session):
    """Also while it is asked to connect, for which it has the connect timeout for each byte."""
    with FaultServer("drips its status") as proxy:
        monkeypatch.setenv("https_proxy", proxy.endpoint)
        sender = _hasty("https://tracking.test", session)
        answer = sender.send(REQUEST)
        assert (answer.status, "imeout" in answer.error) == (None, True)
        eventually(lambda: not proxy.open, "the end of the connection")
        sender.close()
    assert [seen.target for seen in proxy.seen] == ["tracking.test:443"]


@pytest.mark.parametrize("hooked", [False, True])
def test_the_application_s_own_requests_may_trickle(hooked):
    """By the same session, to the same server, in the same thread: they take longer than ours may."""
    session = _hooked_session() if hooked else requests.Session()
    with FaultServer("slow") as server:
        sender = _hasty(server.endpoint, lambda: session, read=0.01)
        assert sender.send(REQUEST).status is None
        assert session.get(f"{server.endpoint}/own", timeout=GUARD).status_code == 200
        session.close()
