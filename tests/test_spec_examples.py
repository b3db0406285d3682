"""The three example URLs of the specification, byte for byte, at a real server, through every way to say a call."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests
import requests.adapters
import structlog

import km_logging as km
from km_logging import wire
from km_logging.settings import Settings
from support.servers import TrackingServer

MIDNIGHT = 1262304000
HOST = "http://trk.kissmetrics.com"


@dataclass(frozen=True)
class Example:
    """One example of the specification: the request target, the call, the message, and how to write it flat."""

    target: str
    call: km.Call
    message: str
    helper: dict[str, dict[str, object]]
    flat: dict[str, object]
    track: Callable[[km.Tracker], bool]


EXAMPLES = {
    "event": Example(
        target="/e?_k=api-key&_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1",
        call=km.Call("event", "bob", name="Signed Up", timestamp=MIDNIGHT, properties={"gender": "male"}),
        message="Signed Up",
        helper=km.event("bob", timestamp=MIDNIGHT, gender="male"),
        flat={"km": "event", "person": "bob", "gender": "male", "km_timestamp": MIDNIGHT},
        track=lambda tracker: tracker.event("bob", "Signed Up", timestamp=MIDNIGHT, gender="male"),
    ),
    "set": Example(
        target="/s?_k=api-key&_p=bob&gender=male&_t=1262304000&_d=1",
        call=km.Call("set", "bob", timestamp=MIDNIGHT, properties={"gender": "male"}),
        message="Profile saved",
        helper=km.set("bob", timestamp=MIDNIGHT, gender="male"),
        flat={"km": "set", "person": "bob", "gender": "male", "km_timestamp": MIDNIGHT},
        track=lambda tracker: tracker.set("bob", timestamp=MIDNIGHT, gender="male"),
    ),
    "alias": Example(
        target="/a?_k=api-key&_p=User+12345&_n=bob%40bob.com",
        call=km.Call("alias", "User 12345", identity="bob@bob.com"),
        message="Accounts linked",
        helper=km.alias("User 12345", "bob@bob.com"),
        flat={"km": "alias", "person": "User 12345", "identity": "bob@bob.com"},
        track=lambda tracker: tracker.alias("User 12345", "bob@bob.com"),
    ),
}

#: The nested form as the contract prints it, written without an import of ours.
NESTED = {
    "event": {
        "call": "event",
        "person": "bob",
        "name": "Signed Up",
        "timestamp": MIDNIGHT,
        "properties": {"gender": "male"},
    },
    "set": {"call": "set", "person": "bob", "timestamp": MIDNIGHT, "properties": {"gender": "male"}},
    "alias": {"call": "alias", "person": "User 12345", "identity": "bob@bob.com"},
}

Say = Callable[[km.Tracker, str], None]


def _by_handler(fields: Callable[[str], dict[str, object]]) -> Say:
    def say(tracker: km.Tracker, kind: str) -> None:
        logger = logging.getLogger("test.spec")
        logger.setLevel(logging.INFO)
        handler = km.KissmetricsHandler(tracker=tracker)
        logger.addHandler(handler)
        try:
            logger.info(EXAMPLES[kind].message, extra=fields(kind))
        finally:
            logger.removeHandler(handler)
            handler.close()

    return say


def _by_processor(fields: Callable[[str], dict[str, object]]) -> Say:
    def say(tracker: km.Tracker, kind: str) -> None:
        chain = [km.KissmetricsProcessor(tracker=tracker), structlog.processors.JSONRenderer()]
        log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=chain)
        log.info(EXAMPLES[kind].message, **fields(kind))

    return say


def _by_tracker(tracker: km.Tracker, kind: str) -> None:
    assert EXAMPLES[kind].track(tracker)


WAYS: dict[str, Say] = {
    "handler, helper": _by_handler(lambda kind: EXAMPLES[kind].helper),
    "handler, nested": _by_handler(lambda kind: {"km": NESTED[kind]}),
    "handler, flat": _by_handler(lambda kind: EXAMPLES[kind].flat),
    "processor, helper": _by_processor(lambda kind: EXAMPLES[kind].helper),
    "processor, nested": _by_processor(lambda kind: {"km": NESTED[kind]}),
    "processor, flat": _by_processor(lambda kind: EXAMPLES[kind].flat),
    "tracker": _by_tracker,
}

every_way = pytest.mark.parametrize("say", WAYS.values(), ids=WAYS.keys())
every_kind = pytest.mark.parametrize("kind", EXAMPLES)


@every_way
@every_kind
def test_the_request_target_is_the_examples_byte_for_byte(say: Say, kind: str, server: TrackingServer):
    with km.Tracker(api_key="api-key", endpoint=server.endpoint) as tracker:
        say(tracker, kind)
        assert tracker.flush(30)
    assert server.targets == [EXAMPLES[kind].target]


@every_way
@every_kind
def test_the_whole_url_on_the_specifications_host_reaches_an_http_proxy(say: Say, kind: str, server: TrackingServer):
    """A proxy is asked for the whole URL, so this is what leaves the machine for the host of the specification."""

    def session() -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.proxies = {"http": server.endpoint}
        return session

    with km.Tracker(api_key="api-key", endpoint=HOST, session=session) as tracker:
        say(tracker, kind)
        assert tracker.flush(30)
    assert server.targets == [HOST + EXAMPLES[kind].target]


class _Recording(requests.adapters.BaseAdapter):
    """Answers 200 to everything, and keeps the URLs."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str | None] = []

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        self.urls.append(request.url)
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO()
        return response

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def recording() -> Iterator[_Recording]:
    # The record factory that guards a foreign adapter's records is put back: it is one for the whole process.
    factory = logging.getLogRecordFactory()
    yield _Recording()
    logging.setLogRecordFactory(factory)


@every_kind
@pytest.mark.parametrize("host", [HOST, "https://trk.kissmetrics.com"])
def test_the_whole_url_reaches_an_adapter_of_the_users_own(kind: str, host: str, recording: _Recording):
    def session() -> requests.Session:
        session = requests.Session()
        session.mount(host, recording)
        return session

    with km.Tracker(api_key="api-key", endpoint=host, session=session) as tracker:
        WAYS["tracker"](tracker, kind)
        assert tracker.flush(30)
    assert recording.urls == [host + EXAMPLES[kind].target]


@every_kind
def test_wire_and_settings_make_the_whole_url(kind: str):
    """The pure way: what the settings say of the endpoint, then what the wire says of the call."""
    settings = Settings.resolve({"api_key": "api-key", "endpoint": HOST}, {})
    request = wire.encode(EXAMPLES[kind].call)
    target = wire.target(request, "api-key", settings.endpoint.base)
    assert f"{settings.endpoint.origin}{target}" == HOST + EXAMPLES[kind].target
    assert wire.decode(request) == EXAMPLES[kind].call


@every_kind
def test_a_base_path_stands_before_the_examples_target(kind: str, server: TrackingServer):
    with km.Tracker(api_key="api-key", endpoint=f"{server.endpoint}/proxy/") as tracker:
        WAYS["tracker"](tracker, kind)
        assert tracker.flush(30)
    assert server.targets == ["/proxy" + EXAMPLES[kind].target]


def test_without_a_setting_calls_go_to_the_host_of_today():
    assert str(Settings.resolve({"api_key": "api-key"}, {}).endpoint) == "https://trk.kissmetrics.io"
