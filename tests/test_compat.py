"""`km_logging.compat` beside the library whose interface it has: the published package, where it is installed."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import km_logging as km
from km_logging import compat
from km_logging.calls import RESERVED
from support.servers import Reply, TrackingServer, refused
from support.tracking import GUARD, eventually

GUIDE = (Path(__file__).parent.parent / "docs" / "migrating.md").read_text("utf-8")

#: A file of tests that is in that library's repository, and in none of its distributions.
PUBLISHED = os.environ.get("PY_KISSMETRICS_TESTS", "")


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """The library itself, which `make test` installs."""
    return pytest.importorskip("KISSmetrics")


@pytest.fixture
def client(server: TrackingServer):
    client = compat.Client("key", trk_host=f"127.0.0.1:{server.port}", drain_timeout=GUARD)
    yield client
    client.close()


def told(target: str) -> tuple[str, dict[str, str]]:
    """Path and parameters of a request, but for a time that nobody gave."""
    url = urlsplit(target)
    pairs = parse_qsl(url.query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), "each parameter once"
    return url.path, {name: value for name, value in pairs if name not in {"_t", "_d"}}


def timed(target: str) -> dict[str, str]:
    return {name: value for name, value in parse_qsl(urlsplit(target).query) if name in {"_t", "_d"}}


# The builders of queries and URLs.

#: Calls of functions of `request`, and what their URLs say. That library's own test cases ask no more of them.
URLS = [
    ("record", {"event": "fizzed"}, "/e", {"_n": "fizzed"}),
    ("record", {"event": "fizzed", "timestamp": 1381849312}, "/e", {"_n": "fizzed"}),
    ("record", {"event": "fizzed", "timestamp": 1381849312.0}, "/e", {"_n": "fizzed"}),
    ("record", {"event": "fizzed", "timestamp": 1381849312.5}, "/e", {"_n": "fizzed"}),
    ("record", {"event": "fizzed", "timestamp": "1381849312"}, "/e", {"_n": "fizzed"}),
    (
        "record",
        {"event": "fizzed", "properties": {"_t": 1381849312, "_d": 1, "cool": 1}},
        "/e",
        {"_n": "fizzed", "cool": "1"},
    ),
    ("record", {"event": "fizzed", "path": "get"}, "/get", {"_n": "fizzed"}),
    ("set", {"properties": {"cool": "1"}}, "/s", {"cool": "1"}),
    ("set", {"properties": {"cool": "1"}, "timestamp": 1381849312}, "/s", {"cool": "1"}),
    ("set", {"properties": {"cool": "1"}, "path": "get"}, "/get", {"cool": "1"}),
    ("set", {}, "/s", {}),
    ("alias", {"identity": "baz"}, "/a", {"_n": "baz"}),
    ("alias", {"identity": "baz", "path": "get"}, "/get", {"_n": "baz"}),
]


@pytest.mark.parametrize(("function", "arguments", "path", "parameters"), URLS)
def test_a_url_says_what_its_arguments_say(function, arguments, path, parameters):
    url = getattr(compat.request, function)(key="foo", person="bar", **arguments)
    assert told(url) == (path, {"_k": "foo", "_p": "bar", **parameters})
    assert url.startswith("https://trk.kissmetrics.io/")
    if "1381849312" in repr(arguments):
        assert timed(url) == {"_t": "1381849312", "_d": "1"}


@pytest.mark.parametrize(("function", "arguments", "path", "parameters"), URLS)
def test_the_published_library_says_the_same(published, function, arguments, path, parameters):
    """But for a time where nobody gave one."""
    theirs = getattr(published.request, function)(key="foo", person="bar", **arguments)
    ours = getattr(compat.request, function)(key="foo", person="bar", **arguments)
    assert told(theirs) == told(ours)
    assert timed(theirs) in ({}, timed(ours))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
PROPERTIES = st.dictionaries(TEXTS.filter(lambda name: name not in RESERVED), TEXTS | st.integers(), max_size=5)


@given(
    person=TEXTS, event=TEXTS, properties=PROPERTIES, timestamp=st.none() | st.integers(1_230_768_000, 2_000_000_000)
)
def test_whatever_is_sound_is_told_as_there(published, person, event, properties, timestamp):
    arguments = {"event": event, "properties": properties, "timestamp": timestamp}
    theirs = published.query_string.create_query("foo", person, **arguments)
    ours = compat.query_string.create_query("foo", person, **arguments)
    assert told(f"?{theirs}") == told(f"?{ours}")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"person": None}, "no_person"),
        ({"person": "bob", "event": ""}, "bad_name"),
        ({"person": "bob", "identity": "bob"}, "self_alias"),
        ({"person": "bob", "event": "e", "timestamp": 0}, "bad_timestamp"),
        ({"person": "bob", "event": "e", "timestamp": "yesterday"}, "bad_timestamp"),
        ({"person": "bob", "properties": {"_k": "another"}}, "reserved_property"),
        ({"person": "bob", "properties": {"total": float("nan")}}, "bad_value"),
    ],
)
def test_what_cannot_be_told_is_no_url(arguments, kind):
    with pytest.raises(km.ProblemError) as caught:
        compat.query_string.create_query("foo", **arguments)
    assert caught.value.problem.kind == kind


# The clients.


@pytest.mark.parametrize(
    "name",
    [
        "Client.__init__",
        "Client.record",
        "Client.set",
        "Client.alias",
        "ClientCompat.__init__",
        "ClientCompat.identify",
        "ClientCompat.record",
        "ClientCompat.set",
        "ClientCompat.alias",
        "ClientCompat.log_file",
        "ClientCompat.reset",
        "ClientCompat.check_identify",
        "ClientCompat.check_init",
        "ClientCompat.check_id_key",
        "ClientCompat.now",
        "query_string.create_query",
        "request.record",
        "request.set",
        "request.alias",
    ],
)
def test_arguments_and_their_order_are_those_of_the_published_library(published, name):
    """Constructors take our settings as well."""

    def parameters(module: ModuleType) -> list[str]:
        thing = module
        for part in name.split("."):
            thing = getattr(thing, part)
        return [parameter for parameter in inspect.signature(thing).parameters if parameter != "settings"]

    assert parameters(compat) == parameters(published)


def test_every_public_name_of_the_published_library_is_here(published):
    names = {name for name in vars(published) if not name.startswith("_")} - {"client", "client_compat"}
    assert names <= set(compat.__all__)
    constants = {name for name in vars(published.query_string) if name.isupper()}
    assert (published.TRACKING_SCHEME, compat.TRACKING_SCHEME) == ("http", "https")
    assert all(getattr(compat.query_string, name) == getattr(published.query_string, name) for name in constants)


def say(client) -> None:
    """The calls of that library's README, and an alias."""
    client.record("bob@bob.com", "Viewed Homepage")
    client.record("bob@bob.com", "Signed Up", {"Plan": "Pro", "Amount": 99.95})
    client.record("bob@bob.com", "Signed Up", timestamp=1234567890)
    client.record("bob@bob.com", "Upgraded", {"_d": 1, "_t": 1234567890})
    client.set("bob@bob.com", {"gender": "male"})
    client.alias("bob@bob.com", "bob")


def test_both_tell_a_server_the_same(published, server):
    """Over real HTTP; ours with a time in each event and set call."""
    say(published.Client("key", trk_host=f"127.0.0.1:{server.port}"))
    theirs, server.targets = server.targets, []
    client = compat.Client("key", trk_host=f"127.0.0.1:{server.port}")
    say(client)
    assert client.flush(GUARD)
    assert sorted(map(told, server.targets), key=repr) == sorted(map(told, theirs), key=repr)
    assert all(timed(target).keys() == {"_t", "_d"} for target in server.targets if not target.startswith("/a"))
    client.close()


def test_what_a_call_returns_says_whether_it_was_accepted(client):
    accepted = client.record("bob", "Signed Up")
    assert (accepted.status, accepted.data) == (200, b"")
    assert client.set("bob", {"plan": "pro"}).status == client.alias("bob", "ann").status == 200
    assert client.record("", "Signed Up").status == client.alias("bob", "bob").status == 400
    assert client.flush(GUARD)
    assert client.stats().refused == {"bad_person": 1, "self_alias": 1}


def test_where_tracking_is_off_callers_are_not_told_of_a_failure():
    client = compat.Client("key", mode="off")
    assert client.record("bob", "Signed Up").status == 200
    assert client.stats().accepted == 0


def test_a_client_that_was_closed_goes_on_with_the_next_call(client, server):
    client.record("bob", "Signed Up")
    client.close()
    client.record("ann", "Signed Up")
    client.close()
    assert [told(target)[1]["_p"] for target in server.targets] == ["bob", "ann"]


def test_clients_share_a_tracker_with_each_other_and_with_handlers(monkeypatch):
    """So one that is made for every call costs no connection."""
    monkeypatch.setenv("KM_API_KEY", "key")
    monkeypatch.setenv("KM_ENDPOINT", "http://127.0.0.1:9")
    clients = compat.Client("key"), compat.Client(None), compat.KM("key").client
    assert {client._tracker for client in clients} == {km.KissmetricsHandler()._tracker}


@pytest.mark.parametrize(
    ("arguments", "endpoint"),
    [
        ({}, "https://trk.kissmetrics.io"),
        ({"trk_scheme": "http"}, "https://trk.kissmetrics.io"),
        ({"trk_host": "trk.kissmetrics.com"}, "https://trk.kissmetrics.com"),
        ({"trk_host": "proxy.example.com:8080/base", "trk_scheme": "http"}, "http://proxy.example.com:8080/base"),
        ({"trk_host": "localhost:8123"}, "http://localhost:8123"),
        ({"trk_host": "[::1]:8123"}, "http://[::1]:8123"),
        ({"trk_host": "127.0.0.1", "trk_scheme": "https"}, "https://127.0.0.1"),
        ({"endpoint": "http://10.0.0.1"}, "http://10.0.0.1"),
    ],
)
def test_where_a_client_sends(arguments, endpoint):
    client = compat.Client("key", **arguments)
    assert f"{client.trk_scheme}://{client.trk_host}" == endpoint


def test_code_that_names_no_server_follows_the_environment(monkeypatch):
    monkeypatch.setenv("KM_ENDPOINT", "http://127.0.0.1:8123")
    assert compat.Client("key", trk_scheme="https").trk_host == compat.KM("key").client.trk_host == "127.0.0.1:8123"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: compat.Client("key", trk_scheme="ssh"), "trk_scheme must be one of 'http', 'https'"),
        (lambda: compat.Client("key", "host", endpoint="http://other"), "trk_host and endpoint exclude each other"),
        (lambda: compat.Client("key", "a b"), "endpoint must be an http"),
        (lambda: compat.Client("key", "[::1"), "endpoint is no URL"),
        (lambda: compat.Client(None), "api_key is missing"),
        (lambda: compat.Client("key", durabilty="batched"), "did you mean 'durability'"),
        (lambda: compat.KM("key", host="trk.kissmetrics.io:22"), "80 or 443"),
        (lambda: compat.Client("key", mode="off").record("bob", "e", path="get"), "write a base path into trk_host"),
        (lambda: compat.Client("key", mode="off").alias("bob", "ann", path="e"), "path must be 'a'"),
    ],
)
def test_a_mistake_in_the_arguments_is_a_value_error_with_its_remedy(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make()
    assert isinstance(caught.value, km.SettingsError)


def test_another_key_is_for_the_calls_that_follow(client, server):
    client.record("bob", "Signed Up")
    assert client.flush(GUARD)
    client.key = "another"
    client.record("bob", "Signed Up")
    assert client.flush(GUARD)
    assert [told(target)[1]["_k"] for target in server.targets] == ["key", "another"]
    assert "another" not in repr(client)


def test_the_client_with_a_state(server):
    """As in that library's README."""
    client = compat.KM("key", endpoint=server.endpoint, http_timeout=5, logging=False)
    assert client.client._tracker.settings.timeout == (5, 5)
    with pytest.raises(km.KmLoggingError, match="identify"):
        client.record("Viewed Homepage")
    client.identify("bob@bob.com")
    assert (client.key, client.identity) == ("key", "bob@bob.com")
    assert client.check_id_key() is None
    assert client.record("Viewed Homepage") is None
    assert client.record("Signed Up", {"Plan": "Pro", "Amount": 99.95}, resp=True).status == 200
    assert client.record("Signed Up", {"_d": 1, "_t": 1234567890}) is None
    assert client.set({"gender": "male"}, resp=True).status == client.alias("bob", "ann", resp=True).status == 200
    client.client.close()
    assert len(server.targets) == 5
    assert {"_t": "1234567890", "_d": "1"} in map(timed, server.targets)


def test_after_a_reset_it_wants_key_and_person_again():
    client = compat.KM("key", mode="off")
    client.identify("bob")
    client.reset()
    assert (client.key, client.identity) == (None, None)
    for call in (lambda: client.record("e"), lambda: client.set({}), lambda: client.alias("a", "b"), client.check_init):
        with pytest.raises(km.KmLoggingError, match="set the attribute key first"):
            call()
    client.key = "another"
    client.identify("ann")
    assert client.record("e", resp=True).status == 200
    assert client.client.key == "another"


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("trk.kissmetrics.io:443", "https://trk.kissmetrics.io"), ("proxy.example.com:80", "http://proxy.example.com")],
)
def test_its_host_has_a_port_that_says_the_scheme(host, endpoint):
    client = compat.KM("key", host=host).client
    assert f"{client.trk_scheme}://{client.trk_host}" == endpoint


def test_its_small_things():
    client = compat.ClientCompat("key", mode="off")
    assert compat.KM is compat.ClientCompat
    assert client.log_file() == "/tmp/kissmetrics_error.log"
    assert client.now().tzinfo is None
    assert abs((client.now() - datetime.now(timezone.utc).replace(tzinfo=None)).total_seconds()) < GUARD


# What is better than there: each as it is with the published library, and as it is here.


def arrived(server: TrackingServer, client, call) -> dict[str, str]:
    """The parameters of the one request that a call makes; none if there is none."""
    server.targets.clear()
    call(client)
    if isinstance(client, compat.Client):
        assert client.flush(GUARD)
    assert len(server.targets) <= 1
    return dict(parse_qsl(urlsplit(server.targets[0]).query)) if server.targets else {}


DEFECTS = {
    "a property replaces the key": (lambda it: it.record("bob", "e", {"_k": "x"}), {"_k": "x"}, {"_k": "key"}),
    "a property replaces the person": (lambda it: it.record("bob", "e", {"_p": "x"}), {"_p": "x"}, {"_p": "bob"}),
    "a property replaces the name": (lambda it: it.record("bob", "e", {"_n": "x"}), {"_n": "x"}, {"_n": "e"}),
    "the time 0 is none": (lambda it: it.record("bob", "e", timestamp=0), {"_p": "bob", "_t": None}, {"_p": None}),
    "nobody is somebody": (lambda it: it.record(None, "e"), {"_p": "None"}, {"_p": None}),
    "a call has no time": (lambda it: it.record("bob", "e"), {"_d": None}, {"_d": "1"}),
    "no value is a value": (lambda it: it.set("bob", {"plan": None}), {"plan": "None"}, {"plan": None}),
    "values are Python": (lambda it: it.set("bob", {"paid": True}), {"paid": "True"}, {"paid": "true"}),
}


@pytest.mark.parametrize(("call", "there", "here"), DEFECTS.values(), ids=DEFECTS)
def test_a_known_defect_is_not_here(client, server, call, there, here):
    parameters = arrived(server, client, call)
    assert {name: parameters.get(name) for name in here} == here


@pytest.mark.parametrize(("call", "there", "here"), DEFECTS.values(), ids=DEFECTS)
def test_a_known_defect_is_there(published, server, call, there, here):
    """Or the guide says what is no longer true."""
    parameters = arrived(server, published.Client("key", trk_host=f"127.0.0.1:{server.port}"), call)
    assert {name: parameters.get(name) for name in there} == there


def test_a_call_does_not_wait_for_the_answer(published):
    """Which is held back until our call has returned, and theirs has not."""
    go_on = threading.Event()

    def reply(_number: int, _target: str) -> Reply:
        return Reply(200 if go_on.wait(GUARD) else 500)

    with TrackingServer(reply) as server:
        theirs = published.Client("key", trk_host=f"127.0.0.1:{server.port}")
        waiting = threading.Thread(target=theirs.record, args=("bob", "Signed Up"))
        waiting.start()
        client = compat.Client("key", endpoint=server.endpoint)
        client.record("bob", "Signed Up")
        server.wait(2)
        assert waiting.is_alive()
        go_on.set()
        waiting.join()
        client.close()
        assert (client.stats().delivered, client.stats().retried) == (1, 0)


def test_a_server_that_is_down_raises_nothing_and_gets_the_call_when_it_is_back(published):
    """There, the application gets the HTTP client's error."""
    with refused() as endpoint:
        port = int(endpoint.rpartition(":")[2])
        with pytest.raises(Exception, match="Connection refused"):
            published.Client("key", trk_host=f"127.0.0.1:{port}").record("bob", "Signed Up")
        client = compat.Client("key", trk_host=f"127.0.0.1:{port}")
        assert client.record("bob", "Signed Up").status == 200
        eventually(lambda: client.stats().last_error, "a first failure")
    with TrackingServer(port=port) as server:
        server.wait(1)
        client.close()


# The guide.

FENCES = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("before", "after"), [FENCES[:2], FENCES[2:]], ids=["client", "logging"])
def test_before_and_after_in_the_guide_tell_the_same(published, server, tmp_path, before, after, monkeypatch):
    there = f"import KISSmetrics; KISSmetrics.Client.__init__.__defaults__ = ('127.0.0.1:{server.port}', 'http')\n"
    arrived = []
    for script in (there + before, after):
        (tmp_path / "script.py").write_text(script)
        environ = {**os.environ, "KM_ENDPOINT": server.endpoint, "KM_API_KEY": "mySuperSecretApiKey"}
        subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environ, check=True, timeout=2 * GUARD)
        arrived.append(sorted(map(told, server.targets), key=repr))
        server.targets.clear()
    assert arrived[0] == arrived[1] != []


def test_each_problem_and_setting_that_the_guide_names_is_there():
    problems = re.findall(r"problems? `(\w+)`(?: or `(\w+)`)?", GUIDE)
    assert {kind for pair in problems for kind in pair if kind} <= set(km.calls.PROBLEMS)
    assert len(problems) > 5


# That library's own tests.

#: They ask httpbin.org.
OF_THE_INTERNET = ("test_client_http_object", "test_client_compat_http_object")


@pytest.mark.skipif(not PUBLISHED, reason="PY_KISSMETRICS_TESTS is not the path of py-KISSmetrics' test_kissmetrics.py")
def test_its_own_test_cases_pass(tmp_path):
    """All but those of the public internet, with our module in the place of theirs."""
    program = f"""if True:
        import sys, unittest
        from km_logging import compat
        sys.modules["KISSmetrics"] = compat
        sys.path.insert(0, {str(Path(PUBLISHED).parent)!r})
        suite = unittest.defaultTestLoader.loadTestsFromName({Path(PUBLISHED).stem!r})
        cases = [case for group in suite for case in group if case._testMethodName not in {OF_THE_INTERNET!r}]
        result = unittest.TextTestRunner().run(unittest.TestSuite(cases))
        sys.exit(not result.wasSuccessful() or result.testsRun < 26)
    """
    environ = {**os.environ, "TZ": "UTC"}  # one compares local time with UTC
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
