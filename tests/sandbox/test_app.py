"""What the sandbox answers, over real HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote_from_bytes, urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from km_logging.sandbox import Sandbox, Store
from km_logging.sandbox.app import create_app
from km_logging.sandbox.assets import assets
from km_logging.sandbox.beacons import GIF
from km_logging.sandbox.checks import receive
from km_logging.sandbox.query import MAX_QUERY
from km_logging.sandbox.store import Position
from km_logging.sandbox.stream import events
from km_logging.wire import PATHS

KEY = "s3cr3t-Key"
EVENT = f"_k={KEY}&_p=bob&_n=Signed+Up&plan=pro&_t=1262304000&_d=1"
SET = f"_k={KEY}&_p=ann&plan=pro&_t=1262304000&_d=1"
ALIAS = f"_k={KEY}&_p=bob&_n=bob%40bob.com"
TIMEOUT = 30


def get(sandbox: Sandbox, target: str, **options: object) -> requests.Response:
    return requests.get(sandbox.endpoint + target, timeout=TIMEOUT, **options)


def send_all_kinds(sandbox: Sandbox) -> None:
    for target in (f"/e?{EVENT}", f"/s?{SET}", f"/a?{ALIAS}"):
        get(sandbox, target)


def raw(sandbox: Sandbox, request: bytes) -> bytes:
    """The answer to bytes that no HTTP client would send; ``Connection: close`` must be among them."""
    url = urlsplit(sandbox.endpoint)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# The beacons.


@pytest.mark.parametrize("path", ["/e", "/s", "/a"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_a_beacon_answers_the_gif_by_any_method(sandbox: Sandbox, path: str, method: str) -> None:
    """Every request is answered alike, and held."""
    answer = requests.request(method, f"{sandbox.endpoint}{path}?{EVENT}", timeout=TIMEOUT)
    assert answer.status_code == 200
    assert answer.content == (b"" if method == "HEAD" else GIF)
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-length"] == str(len(GIF))
    assert [call.person for call in sandbox.calls] == ["bob"]


def test_the_gif_is_one_pixel() -> None:
    assert GIF[:6] == b"GIF89a"
    assert GIF[6:10] == b"\x01\x00\x01\x00"
    assert GIF[-1:] == b";"


@pytest.mark.parametrize("host", ["evil.example", "trk.kissmetrics.io", "", "[", "a b", "\xff"])
def test_a_beacon_answers_under_any_host(sandbox: Sandbox, host: str) -> None:
    assert get(sandbox, f"/e?{EVENT}", headers={"Host": host}).content == GIF


@pytest.mark.parametrize(("path", "kind"), [("/e", "event"), ("/s", "set"), ("/a", "alias")])
def test_the_path_says_the_kind(sandbox: Sandbox, path: str, kind: str) -> None:
    get(sandbox, f"{path}?{ALIAS}")
    assert [call.kind for call in sandbox.calls] == [kind]


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "application/X-WWW-form-URLencoded; a=b"]
)
def test_a_form_in_the_body_is_read_like_a_query(sandbox: Sandbox, content_type: str) -> None:
    answer = requests.post(
        f"{sandbox.endpoint}/e?_k={KEY}&_p=bob",
        b"_n=Signed+Up",
        headers={"Content-Type": content_type},
        timeout=TIMEOUT,
    )
    [call] = sandbox.calls
    assert answer.content == GIF
    assert (call.person, call.name, call.problems) == ("bob", "Signed Up", ())


def test_a_body_without_a_type_is_taken_for_a_form(sandbox: Sandbox) -> None:
    requests.post(f"{sandbox.endpoint}/s", SET.encode(), timeout=TIMEOUT)
    [call] = sandbox.calls
    assert (call.person, call.problems) == ("ann", ())


def test_any_other_body_is_ignored_and_said(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.endpoint}/s?{SET}", json={"_k": KEY, "plan": "free"}, timeout=TIMEOUT)
    [call] = sandbox.calls
    assert answer.content == GIF
    assert call.properties == {"plan": "pro"}
    assert [problem.kind for problem in call.problems] == ["bad_body"]


def test_of_a_long_body_only_the_start_is_looked_at(sandbox: Sandbox) -> None:
    body = SET.encode() + b"&a=" + b"x" * MAX_QUERY * 10
    answer = requests.post(f"{sandbox.endpoint}/s", body, timeout=TIMEOUT)
    [call] = sandbox.calls
    assert answer.content == GIF
    assert call.person == "ann"
    assert len(call.properties["a"]) < MAX_QUERY
    assert "long_request" in [problem.kind for problem in call.problems]


def test_a_body_without_end_is_answered_before_its_end(sandbox: Sandbox) -> None:
    """What is not looked at is not waited for, and takes no memory."""
    url = urlsplit(sandbox.endpoint)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as connection:
        head = b"POST /s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 999999999999\r\n\r\n"
        connection.sendall(head + SET.encode() + b"x" * MAX_QUERY)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert [call.person for call in sandbox.calls] == ["ann"]


def test_a_long_query_is_answered_too(sandbox: Sandbox) -> None:
    assert get(sandbox, f"/s?{SET}&a={'x' * 500_000}").content == GIF
    [call] = sandbox.calls
    assert (call.person, len(call.properties["a"]) < MAX_QUERY) == ("ann", True)


def test_a_body_that_never_comes_whole_is_no_call() -> None:
    """A client that hangs up in the middle of its body has sent no request."""
    with Sandbox() as sandbox:
        url = urlsplit(sandbox.endpoint)
        with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as connection:
            head = b"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head)
            assert connection.recv(1_000).startswith(b"HTTP/1.1 100")  # the sandbox waits for the body now
            connection.sendall(SET.encode())
    assert sandbox.calls == []


@pytest.mark.parametrize("query", ["_p=Zoë".encode(), b"_p=Zo\xc3\xab", b"_p=Zo%C3%AB"])
def test_bytes_above_ascii_may_stand_in_a_url_as_they_are(sandbox: Sandbox, query: bytes) -> None:
    """Curl sends them so, and a tracking server takes them."""
    answer = raw(sandbox, b"GET /s?" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(GIF)
    assert [call.person for call in sandbox.calls] == ["Zoë"]


def test_bytes_above_ascii_in_a_body_stay_as_they_are(sandbox: Sandbox) -> None:
    """Quoting a body would make it longer than its head says."""
    url = urlsplit(sandbox.endpoint)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as connection:
        head = b"POST /s?_k=key HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100")  # the sandbox waits for the body now
        connection.sendall("_p=Zoë".encode())
        assert [call.person for call in sandbox.wait(1, TIMEOUT)] == ["Zoë"]


def test_bytes_above_ascii_may_come_in_pieces_and_after_another_request(sandbox: Sandbox) -> None:
    """A request line is quoted wherever it is cut."""
    url = urlsplit(sandbox.endpoint)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as connection:
        for last in (False, True):
            for piece in (b"POST /s?_k=key&_p=Z", b"o\xc3", b"\xab HTTP/1.1\r\nHost: x\r\n"):
                connection.sendall(piece)
            connection.sendall(b"Connection: close\r\n" if last else b"Connection: keep-alive\r\n")
            connection.sendall(b"Content-Length: 7\r\n\r\n" + "&a=ë\n".encode() + b"z")
            assert len(sandbox.wait(2 if last else 1, TIMEOUT)) == (2 if last else 1)
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answers.count(GIF) == 2
    assert [(call.person, call.properties) for call in sandbox.calls] == [("Zoë", {"a": "ë\nz"})] * 2


def test_no_query_is_left_for_whoever_serves_the_application_to_log() -> None:
    """Access logs are written from the scope when the answer begins; any ASGI server may write them."""
    scope = {"type": "http", "method": "GET", "path": "/e", "query_string": EVENT.encode(), "headers": []}
    queries: list[object] = []

    async def no_body() -> dict[str, object]:
        return {"type": "http.request"}

    async def note_query(_message: object) -> None:
        queries.append(scope["query_string"])

    store = Store()
    asyncio.run(create_app(store)(scope, no_body, note_query))
    assert queries == [b"", b""]
    assert [call.person for call in store.calls()] == ["bob"]
    scope |= {"path": "/api/check/event", "query_string": EVENT.encode(), "headers": [(b"host", b"localhost")]}
    asyncio.run(create_app(store)(scope, no_body, note_query))
    assert queries == [b""] * 4


def test_any_asgi_server_may_serve_the_application() -> None:
    """Ours does not ask for it, but most tell an application that they start and end."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    answers: list[str] = []

    async def next_message() -> dict[str, str]:
        return next(messages)

    async def note(message: dict[str, str]) -> None:
        answers.append(message["type"])

    asyncio.run(create_app(Store())({"type": "lifespan", "app": None, "state": {}}, next_message, note))
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@settings(deadline=None)
@given(
    path=st.sampled_from(["/e", "/s", "/a"]),
    before=st.binary(max_size=60),
    name=st.sampled_from([b"_k", b"_K", b"%5Fk", b"%255fK", b"amp;_k", b"+_k"]),
    after=st.binary(max_size=60),
    quoted=st.booleans(),
)
def test_any_bytes_are_answered_and_never_show_the_key(
    running: Sandbox, path: str, before: bytes, name: bytes, after: bytes, *, quoted: bool
) -> None:
    """Quoted or as they are, but for the end of the line."""
    running.store.clear()
    junk = [quote_from_bytes(it).encode() if quoted else it.replace(b"\n", b"") for it in (before, after)]
    target = path.encode() + b"?" + junk[0] + b"&" + name + b"=" + KEY.encode() + b"&" + junk[1]
    answer = raw(running, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(GIF)
    for api in ("/api/calls", "/api/problems"):
        shown = get(running, api).text
        assert KEY not in shown
    assert len(running.calls) == 1


# Reading.


def test_calls_are_told_oldest_first_sound_or_not(sandbox: Sandbox) -> None:
    send_all_kinds(sandbox)
    get(sandbox, "/e?nonsense")
    calls = get(sandbox, "/api/calls").json()["calls"]
    assert [(call["kind"], call["person"], call["name"], call["identity"]) for call in calls] == [
        ("event", "bob", "Signed Up", None),
        ("set", "ann", None, None),
        ("alias", "bob", None, "bob@bob.com"),
        ("event", "", None, None),
    ]
    assert calls == [call.as_dict() for call in sandbox.calls]
    assert [bool(call["problems"]) for call in calls] == [False, False, False, True]


def test_a_call_is_told_whole(sandbox: Sandbox) -> None:
    get(sandbox, f"/e?{EVENT}")
    get(sandbox, f"/e?{EVENT}")
    first, second = get(sandbox, "/api/calls").json()["calls"]
    assert isinstance(first.pop("received_at"), float)
    assert second["id"] == first.pop("id") + 1
    assert second["duplicate"] is True
    assert first == {
        "kind": "event",
        "person": "bob",
        "name": "Signed Up",
        "identity": None,
        "timestamp": 1_262_304_000,
        "properties": {"plan": "pro"},
        "problems": [],
        "duplicate": False,
    }


@pytest.mark.parametrize(
    ("query", "people"),
    [
        ("", ["bob", "ann", "bob"]),
        ("?kind=event", ["bob"]),
        ("?kind=alias&person=bob", ["bob"]),
        ("?person=ann", ["ann"]),
        ("?person=Ann", []),
        ("?name=signed%20UP", ["bob"]),
        ("?name=bob@bob.com", []),
        ("?since=0", ["bob", "ann", "bob"]),
        ("?since=99999999999", []),
    ],
)
def test_calls_are_chosen_by_the_query(sandbox: Sandbox, query: str, people: list[str]) -> None:
    send_all_kinds(sandbox)
    assert [call["person"] for call in get(sandbox, f"/api/calls{query}").json()["calls"]] == people


def test_since_and_after_choose_what_came_later(sandbox: Sandbox) -> None:
    """`since` a time, that moment included; `after` an id, that call excluded."""
    send_all_kinds(sandbox)
    first, second, third = sandbox.calls
    told = get(sandbox, f"/api/calls?since={second.received_at!r}").json()["calls"]
    assert {call["id"] for call in told} >= {second.id, third.id}
    assert (first.id in {call["id"] for call in told}) == (first.received_at == second.received_at)
    assert [call["id"] for call in get(sandbox, f"/api/calls?after={first.id}").json()["calls"]] == [
        second.id,
        third.id,
    ]


@pytest.mark.parametrize(
    "query", ["kind=events", "since=yesterday", "since=nan", "after=x", "after=-1", f"after={'9' * 30}", "after=%D9%A1"]
)
@pytest.mark.parametrize("path", ["/api/calls", "/api/problems"])
def test_a_query_that_means_nothing_is_a_clear_error(sandbox: Sandbox, path: str, query: str) -> None:
    answer = get(sandbox, f"{path}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.text


def test_problems_are_told_with_their_calls(sandbox: Sandbox) -> None:
    send_all_kinds(sandbox)
    get(sandbox, f"/s?{SET}&json=[]&list=[1]")
    [call] = get(sandbox, "/api/calls?after=" + str(sandbox.calls[2].id)).json()["calls"]
    problems = get(sandbox, "/api/problems").json()["problems"]
    assert [problem.pop("call") for problem in problems] == [call, call]
    assert problems == call["problems"]
    assert get(sandbox, "/api/problems?kind=event").json() == {"problems": []}


def test_delete_forgets_the_calls(sandbox: Sandbox) -> None:
    send_all_kinds(sandbox)
    assert requests.delete(f"{sandbox.endpoint}/api/calls", timeout=TIMEOUT).ok
    assert get(sandbox, "/api/calls").json() == {"calls": []}


def test_the_status_says_how_full_the_sandbox_is() -> None:
    with Sandbox(capacity=2) as sandbox:
        send_all_kinds(sandbox)
        status = {"held": 2, "capacity": 2, "forgotten": 1, "last_id": 3, "db": None}
        assert get(sandbox, "/api/status").json() == status | {"started_at": sandbox.store.status()["started_at"]}


def test_a_person_is_told_with_all_that_is_aliased_to_them(sandbox: Sandbox) -> None:
    send_all_kinds(sandbox)
    get(sandbox, "/s?_k=key&_p=bob@bob.com&gender=male")
    told = get(sandbox, "/api/person?id=bob%40bob.com").json()
    event, _, alias, last = (call.as_dict() for call in sandbox.calls)
    assert told == {
        "person": "bob@bob.com",
        "identities": ["bob", "bob@bob.com"],
        "properties": {"plan": "pro", "gender": "male"},
        "calls": [event, alias, last],
    }
    assert get(sandbox, "/api/person?id=").json()["calls"] == []


def test_whose_page_it_is_must_be_said(sandbox: Sandbox) -> None:
    answer = get(sandbox, "/api/person?person=bob")
    assert (answer.status_code, "?id=bob" in answer.text) == (400, True)


@pytest.mark.parametrize(("kind", "query"), [("event", f"{EVENT}&_t=5"), ("set", SET), ("alias", "_p=bob&_n=bob")])
def test_a_check_says_what_a_beacon_would_and_stores_nothing(sandbox: Sandbox, kind: str, query: str) -> None:
    told = get(sandbox, f"/api/check/{kind}?{query}").json()
    assert KEY not in json.dumps(told)
    assert sandbox.calls == []
    get(sandbox, f"{PATHS[kind]}?{query}")
    [call] = sandbox.calls
    unlike = {"received_at": told["call"]["received_at"], "id": 0}
    assert told == {"call": call.as_dict() | unlike, "problems": call.as_dict()["problems"]}


def test_there_is_no_check_of_what_is_no_call(sandbox: Sandbox) -> None:
    assert get(sandbox, "/api/check/events").status_code == 404


#: The words of the issue that asked for the sandbox, with what is sent and which problem must be said.
LISTED = [
    ("a missing parameter", ["/e?_k=key&_n=A"], "bad_person"),
    ("an empty parameter", ["/e?_k=key&_p=bob&_n="], "bad_name"),
    ("an over-long value", ["/s?_k=key&_p=bob&a=" + "x" * 513], "long_value"),
    ("a reserved name", ["/s?_k=key&_p=bob&_T=5"], "reserved_property"),
    ("a time without _d", ["/e?_k=key&_p=bob&_n=A&_t=1262304000"], "untimed"),
    ("milliseconds", ["/e?_k=key&_p=bob&_n=A&_t=1262304000000&_d=1"], "bad_timestamp"),
    ("before 2009", ["/e?_k=key&_p=bob&_n=A&_t=1230767999&_d=1"], "bad_timestamp"),
    ("a comma that becomes a space", ["/e?_k=key&_p=bob&_n=A,B"], "separator"),
    ("a colon that becomes a space", ["/s?_k=key&_p=bob&a:b=1"], "separator"),
    ("event names that differ only in case", ["/e?_k=key&_p=bob&_n=Paid", "/e?_k=key&_p=bob&_n=paid"], "case_variant"),
    ("property names that differ only in case", ["/s?_k=key&_p=bob&plan=1", "/s?_k=key&_p=bob&Plan=2"], "case_variant"),
    ("JSON in a value", ["/s?_k=key&_p=bob&a=%7B%22b%22:1%7D"], "json_value"),
    ("a name that looks formatted", [f"/e?_k=key&_p=bob&_n=Order+{it}+paid" for it in range(6)], "formatted_name"),
]


@pytest.mark.parametrize(("targets", "kind"), [row[1:] for row in LISTED], ids=[row[0] for row in LISTED])
def test_each_mistake_that_people_make_is_said_with_the_remedy(sandbox: Sandbox, targets: list[str], kind: str) -> None:
    """By the last request, and by no other before it."""
    for target in targets:
        get(sandbox, target)
    [problem] = get(sandbox, "/api/problems").json()["problems"]
    assert (problem["kind"], problem["call"]["id"]) == (kind, sandbox.store.last_id)
    assert problem["message"]
    assert problem["remedy"]


@pytest.mark.parametrize("path", ["/e/", "/x", "/api", "/api/calls/", "//e"])
def test_what_is_not_there_is_not_found_and_not_redirected(sandbox: Sandbox, path: str) -> None:
    answer = get(sandbox, f"{path}?{EVENT}", allow_redirects=False)
    assert answer.status_code == 404
    assert KEY not in answer.text + str(answer.headers)


# Who may read.

API = [
    "/api/calls",
    "/api/problems",
    "/api/stream",
    "/api/status",
    "/api/person?id=bob",
    "/api/check/event",
    "/api",
    "/api/nowhere",
]
PAGES = ["/", "/builder", "/person?id=bob"]
PRIVATE = [*API, *PAGES, "/static/nothing.js", "/nowhere"]


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "192.168.0.1", ""])
def test_another_machines_name_is_refused_with_the_remedy(sandbox: Sandbox, path: str, host: str) -> None:
    """DNS rebinding: a page on the web gives its own name this machine's address."""
    send_all_kinds(sandbox)
    answer = get(sandbox, path, headers={"Host": host})
    assert answer.status_code == 403
    assert "--allow-host" in answer.text
    assert "bob" not in answer.text


def test_another_machines_name_clears_nothing(sandbox: Sandbox) -> None:
    send_all_kinds(sandbox)
    answer = requests.delete(f"{sandbox.endpoint}/api/calls", headers={"Host": "evil.example"}, timeout=TIMEOUT)
    assert (answer.status_code, len(sandbox.calls)) == (403, 3)


def test_a_request_without_a_host_reads_nothing(sandbox: Sandbox) -> None:
    answer = raw(sandbox, b"GET /api/calls HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8123", "LOCALHOST:99"])
def test_this_machines_names_may_read(sandbox: Sandbox, host: str) -> None:
    assert get(sandbox, "/api/calls", headers={"Host": host}).json() == {"calls": []}


def test_a_name_that_was_allowed_may_read() -> None:
    with Sandbox(allow_hosts=["Sandbox.Internal"]) as sandbox:
        assert get(sandbox, "/", headers={"Host": "sandbox.internal:8123"}).ok
        assert get(sandbox, "/", headers={"Host": "other.internal"}).status_code == 403


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize("path", [*PRIVATE, "/e", "/s", "/a"])
def test_no_answer_lets_other_origins_read_it(sandbox: Sandbox, method: str, path: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    answer = requests.request(method, sandbox.endpoint + path, headers=headers, timeout=TIMEOUT)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("path", API)
def test_a_page_of_another_origin_neither_reads_nor_clears(
    sandbox: Sandbox, path: str, headers: dict[str, str]
) -> None:
    """Not even where its browser would hide the answer from it; one line says why."""
    send_all_kinds(sandbox)
    for method in ("GET", "HEAD", "DELETE", "POST"):
        answer = requests.request(method, sandbox.endpoint + path, headers=headers, timeout=TIMEOUT)
        assert answer.status_code == 403
        assert answer.text.startswith("403: a page of another origin may not ask here") or method == "HEAD"
        assert answer.text.count("\n") == (method != "HEAD")
    assert len(sandbox.calls) == 3


def test_the_sandboxs_own_pages_and_programs_may_ask(sandbox: Sandbox) -> None:
    own = {"Origin": sandbox.endpoint, "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own, {"Sec-Fetch-Site": "none"}):
        assert get(sandbox, "/api/calls", headers=headers).ok
        assert requests.delete(f"{sandbox.endpoint}/api/calls", headers=headers, timeout=TIMEOUT).ok


def test_a_link_on_another_site_may_lead_to_a_page(sandbox: Sandbox) -> None:
    for path in PAGES:
        assert get(sandbox, path, headers={"Sec-Fetch-Site": "cross-site"}).ok


def test_websites_may_call_the_beacons(sandbox: Sandbox) -> None:
    """Their browsers may use the answer as an image."""
    headers = {"Host": "evil.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for target in (f"/e?{EVENT}", f"/s?{SET}", f"/a?{ALIAS}"):
        answer = get(sandbox, target, headers=headers)
        assert (answer.content, answer.headers["cross-origin-resource-policy"]) == (GIF, "cross-origin")
        assert "content-security-policy" not in answer.headers
    assert len(sandbox.calls) == 3


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_no_answer_loads_anything_from_elsewhere_or_is_framed(sandbox: Sandbox, path: str, host: str) -> None:
    """Refusals, errors and what is not found, too."""
    with get(sandbox, path, headers={"Host": host}, stream=True) as answer:
        policy = answer.headers["content-security-policy"]
        assert policy.split("; ") == [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"


# The pages.


@pytest.mark.parametrize("path", PAGES)
def test_there_is_a_page(sandbox: Sandbox, path: str) -> None:
    answer = get(sandbox, path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.lower().startswith("<!doctype html>")


def test_what_the_pages_load_is_told_as_what_it_is(sandbox: Sandbox) -> None:
    for path, asset in assets().items():
        answer = get(sandbox, path)
        assert (answer.content, answer.headers["content-type"]) == asset
        head = requests.head(sandbox.endpoint + path, timeout=TIMEOUT)
        assert head.headers["content-length"] == str(len(asset.content))


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/live.html",
        "/static/../store.py",
        "/static/..%2Fstore.py",
        "/static/%2E%2E/store.py",
        "/static/..%5Cstore.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/" + "x" * 5_000,
        "/pages/live.html",
        "/live.html",
    ],
)
def test_nothing_else_is_served(sandbox: Sandbox, path: str) -> None:
    """The paths are sent as they are; an HTTP client would tidy them up."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(sandbox, request.encode()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", [*PAGES, "/api/status", "/api/person?id=bob", "/api/check/set", "/api/problems"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
def test_what_only_reads_takes_no_other_method(sandbox: Sandbox, path: str, method: str) -> None:
    answer = requests.request(method, sandbox.endpoint + path, timeout=TIMEOUT)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


# The stream.


def told(lines: Iterator[str], count: int) -> list[dict[str, str]]:
    """The next events of a stream, as their fields."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = next(lines)
        if line:
            name, _, value = line.partition(": ")
            fields |= {name: value} if name else {}
        elif fields:
            found.append(fields)
            fields = {}
    return found


@contextmanager
def stream(sandbox: Sandbox, query: str = "", **headers: str) -> Iterator[Iterator[str]]:
    """The lines of a stream."""
    with get(sandbox, f"/api/stream{query}", stream=True, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.iter_lines(chunk_size=1, decode_unicode=True)


def test_a_stream_tells_each_call_as_it_comes(sandbox: Sandbox) -> None:
    get(sandbox, f"/s?{SET}")
    with stream(sandbox) as lines:
        for target in (f"/e?{EVENT}", "/e?line%0Abreak=1"):
            get(sandbox, target)
            [event] = told(lines, 1)
            assert json.loads(event["data"]) == sandbox.calls[-1].as_dict()
            assert event["id"] == str(sandbox.calls[-1].id)
    assert len(sandbox.calls) == 3


def test_several_streams_tell_the_same(sandbox: Sandbox) -> None:
    with stream(sandbox) as some, stream(sandbox) as others:
        get(sandbox, f"/e?{EVENT}")
        assert told(some, 1) == told(others, 1)


@pytest.mark.parametrize(
    "how", [{"query": "?after={}"}, {"Last-Event-ID": "{}"}, {"query": "?after=0", "Last-Event-ID": "{}"}]
)
def test_a_stream_goes_on_after_the_event_seen_last(sandbox: Sandbox, how: dict[str, str]) -> None:
    send_all_kinds(sandbox)
    first, *rest = sandbox.calls
    with stream(sandbox, **{name: value.format(first.id) for name, value in how.items()}) as lines:
        assert [event["id"] for event in told(lines, 2)] == [str(call.id) for call in rest]


def test_an_open_stream_tells_nothing_but_the_head_to_who_asks_for_the_head(sandbox: Sandbox) -> None:
    with requests.Session() as session:
        answer = session.head(f"{sandbox.endpoint}/api/stream", timeout=TIMEOUT)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert session.get(f"{sandbox.endpoint}/api/calls", timeout=TIMEOUT).ok


def test_a_silent_stream_says_that_it_is_there() -> None:
    async def first_lines() -> list[str]:
        lines = events(Store(), Position(0, 0), heartbeat=0.001)
        return [await anext(lines) for _ in range(3)]

    assert asyncio.run(first_lines()) == [": every call as it comes\n\n", ": still here\n\n", ": still here\n\n"]


def test_a_stream_tells_what_came_before_the_end_and_ends() -> None:
    async def all_lines() -> list[str]:
        store = Store()
        store.add(receive("event", EVENT.encode(), 0))
        store.close()
        return [line async for line in events(store, Position(0, 0), heartbeat=TIMEOUT)]

    _comment, event = asyncio.run(all_lines())
    assert event.startswith("id: 1\ndata: {")


def test_many_calls_that_wait_go_out_together() -> None:
    """A piece for each call would take longer than the calls."""

    async def pieces() -> list[str]:
        store = Store()
        for number in range(501):
            store.add(receive("set", f"_k=key&_p=p{number}".encode(), 0))
        store.close()
        return [piece async for piece in events(store, Position(0, 0), heartbeat=TIMEOUT)]

    _comment, *found = asyncio.run(pieces())
    assert len(found) == 3
    assert [event.split("\n")[0] for event in "".join(found).split("\n\n")[:-1]] == [
        f"id: {number}" for number in range(1, 502)
    ]


def test_each_stream_is_told_of_clearing_between_the_calls(sandbox: Sandbox) -> None:
    """What was told before is gone; calls come after it as before."""
    with stream(sandbox) as some, stream(sandbox, "?after=0") as others:
        get(sandbox, f"/e?{EVENT}")
        assert [told(some, 1)[0]["id"], told(others, 2)[-1]["id"]] == [str(sandbox.store.last_id)] * 2
        last_id = sandbox.store.last_id
        requests.delete(f"{sandbox.endpoint}/api/calls", timeout=TIMEOUT)
        assert told(some, 1) == told(others, 1) == [{"event": "clear", "data": f'{{"last_id": {last_id}}}'}]
        get(sandbox, f"/s?{SET}")
        assert told(some, 1)[0]["id"] == told(others, 1)[0]["id"] == str(last_id + 1)


def test_a_reader_that_was_away_while_calls_were_cleared_is_told_when_it_comes_back(sandbox: Sandbox) -> None:
    """Also if it had seen them all."""
    send_all_kinds(sandbox)
    seen = sandbox.store.last_id
    requests.delete(f"{sandbox.endpoint}/api/calls", timeout=TIMEOUT)
    get(sandbox, f"/s?{SET}")
    with stream(sandbox, **{"Last-Event-ID": str(seen)}) as lines:
        cleared, call = told(lines, 2)
        assert (cleared["event"], call["id"], call.get("event")) == ("clear", str(seen + 1), None)
    with stream(sandbox, **{"Last-Event-ID": str(seen + 1)}) as lines:
        get(sandbox, f"/s?{SET}")
        assert told(lines, 1)[0]["id"] == str(seen + 2)


def test_a_stream_whose_reader_has_gone_watches_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for a reader that closed its page."""
    over = threading.Event()
    watched = Store.watched

    @contextmanager
    def watched_until_over(store: Store, callback: Callable[[], object]) -> Iterator[None]:
        with watched(store, callback):
            try:
                yield
            finally:
                over.set()

    monkeypatch.setattr(Store, "watched", watched_until_over)
    with Sandbox() as sandbox:
        url = urlsplit(sandbox.endpoint)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT)
        connection.request("GET", "/api/stream")
        answer = connection.getresponse()
        assert answer.readline().startswith(b": ")
        assert not over.is_set()
        answer.close()
        connection.close()
        assert over.wait(TIMEOUT)
