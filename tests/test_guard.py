"""What is logged while a call is delivered is never tracked itself, and shows no request."""

from __future__ import annotations

import logging
import threading

import pytest
import requests
import requests.adapters
import structlog

import km_logging as km
from km_logging import guard
from km_logging.guard import ours, secrets
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, Answers, people, tracker_for


class _TagsEverything(logging.Filter):
    """As an application may: every record of the process is tagged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen.append(record.name)
        if not hasattr(record, "km"):
            record.km = "event"
            record.person = record.name
        return True


class _LoggingAdapter(requests.adapters.HTTPAdapter):
    """It logs tagged records while it sends."""

    def send(self, *args, **kwargs):
        logging.getLogger("adapter").warning("Sent", extra=km.event("adapter"))
        return super().send(*args, **kwargs)


def _logging_session() -> requests.Session:
    """It logs tagged records while it is made, too."""
    logging.getLogger("session").warning("Made", extra=km.event("session"))
    session = requests.Session()
    session.mount("http://", _LoggingAdapter())
    return session


@pytest.fixture
def root_at_debug():
    """The root logger lets everything through, and is as it was afterwards."""
    level, handlers = logging.root.level, logging.root.handlers[:]
    logging.root.setLevel(logging.DEBUG)
    yield logging.root
    logging.root.setLevel(level)
    for handler in logging.root.handlers[:]:
        if handler not in handlers:
            logging.root.removeHandler(handler)
            handler.close()


@pytest.mark.parametrize("session", [None, _logging_session], ids=["pool", "Session.send"])
@pytest.mark.parametrize("reply", [Reply(), Reply(503)], ids=["200", "503"])
def test_records_of_the_http_client_are_never_tracked(root_at_debug, session, reply):
    """Although the application tags every record, urllib3's included, only its own become calls."""
    tagging = _TagsEverything()
    with TrackingServer(Answers(application=[reply])) as server:
        handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint, session=session)
        handler.addFilter(tagging)
        root_at_debug.addFilter(tagging)
        watcher = logging.NullHandler()
        watcher.handle = tagging.filter
        root_at_debug.addHandler(watcher)
        root_at_debug.addHandler(handler)
        logging.getLogger("application").info("Signed Up", extra=km.event("application"))
        assert handler.flush()
        stats = handler.stats()
        root_at_debug.removeFilter(tagging)
    assert "urllib3.connectionpool" in tagging.seen
    assert session is None or {"adapter", "session"} <= set(tagging.seen)
    assert set(people(server)) == {"application"}
    assert (stats.accepted, stats.delivered) == (1, 1)


def test_our_own_records_are_never_tracked(root_at_debug, server):
    """The logger ``km_logging`` says a problem; tagged or not, it makes no call."""
    tagging = _TagsEverything()
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint)
    watcher = logging.NullHandler()
    watcher.handle = tagging.filter
    root_at_debug.addHandler(watcher)
    root_at_debug.addHandler(handler)
    logging.getLogger("application").info("Signed Up", extra=km.event("bob", request=object()))
    assert handler.flush()
    stats = handler.stats()
    assert "km_logging" in tagging.seen
    assert people(server) == ["bob"]
    assert (stats.accepted, stats.refused) == (1, {"bad_value": 1})


def test_records_that_the_application_logs_through_the_same_libraries_are_tracked(root_at_debug, server):
    """The guard goes by thread, not by name: the application's own use of urllib3 is its own business."""
    tagging = _TagsEverything()
    handler = km.KissmetricsHandler(api_key=KEY, endpoint=server.endpoint)
    watcher = logging.NullHandler()
    watcher.handle = tagging.filter
    root_at_debug.addHandler(watcher)
    root_at_debug.addHandler(handler)
    requests.get(f"{server.endpoint}/own", timeout=GUARD)
    assert handler.flush()
    assert "urllib3.connectionpool" in people(server)


def test_structlog_in_a_callback_is_not_tracked(server):
    """`before_send` logs a tagged event through the same processor."""
    chain = []

    def before_send(call: km.Call) -> km.Call:
        chain.append(call)
        log.info("Withheld", km="event", person="bob")
        return call

    processor = km.KissmetricsProcessor(api_key=KEY, endpoint=server.endpoint, before_send=before_send)
    log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[processor])
    log.info("Signed Up", km="event", person="bob")
    assert processor.flush()
    processor.close()
    assert len(chain) == 1
    assert people(server) == ["bob"]


def test_a_bare_tracker_in_a_callback_is_not_tracked(server):
    said = []
    with tracker_for(
        server.endpoint, before_send=lambda call: said.append(tracker.event("eve", "X")) or call
    ) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
        assert tracker.stats().accepted == 1
    assert said == [False]
    assert people(server) == ["bob"]


def test_a_callback_that_waits_for_us_does_not_wait_for_itself(server):
    """Flush, stats and close in a callback return; nobody could do what they wait for."""
    results = []

    def before_send(call: km.Call) -> km.Call:
        results.append(tracker.flush(4 * GUARD))
        results.append(tracker.stats().pending)
        return call

    with tracker_for(server.endpoint, before_send=before_send) as tracker:
        tracker.event("bob", "Signed Up")
        assert tracker.flush()
    assert results == [False, 1]
    assert people(server) == ["bob"]


def test_other_threads_are_not_ours():
    seen = []
    ours.set(True)
    try:
        thread = threading.Thread(target=lambda: seen.append(ours.get()))
        thread.start()
        thread.join(GUARD)
    finally:
        ours.set(False)
    assert seen == [False]


# Cloaking.


@pytest.fixture
def cloaking():
    """Records made by this thread show no ``s3cret``; the record factory is as it was afterwards."""
    before = logging.getLogRecordFactory()
    guard.cloak_records()
    secrets.set(("s3cret",))
    yield
    secrets.set(())
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("a s3cret", ()),
        ("a %s", ("s3cret",)),
        ("%(what)s", ({"what": "s3cret"},)),
        ("%r %d", (["s3cret"], 5)),
        (["s3cret"], ()),
        ("%s and too few", ("s3cret", "s3cret")),
        ("%d", ("s3cret",)),
    ],
)
def test_a_secret_is_cloaked_wherever_it_stands(cloaking, caplog, message, args):
    logging.getLogger("careless").warning(message, *args)
    assert "careless" in caplog.text
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr([vars(record) for record in caplog.records])


def test_a_traceback_keeps_its_form_without_the_secret(cloaking, caplog):
    try:
        raise ValueError("https://example.com/?s3cret")
    except ValueError:
        logging.getLogger("careless").exception("Failed")
    assert "Traceback (most recent call last)" in caplog.text
    assert "ValueError: https://example.com/?***" in caplog.text


def test_a_record_without_a_secret_says_what_it_said(cloaking, caplog):
    logging.getLogger("careful").warning("%s of %d", "part", 3)
    assert caplog.messages == ["part of 3"]


def test_a_record_factory_of_the_application_stays_in_force(cloaking, caplog):
    """Whether it was set before or after ours."""
    ours = logging.getLogRecordFactory()

    def stamping(*args, **kwargs):
        record = ours(*args, **kwargs)
        record.stamp = "stamped"
        return record

    logging.setLogRecordFactory(stamping)
    guard.cloak_records()
    logging.getLogger("careless").warning("a s3cret")
    assert caplog.records[0].stamp == "stamped"
    assert caplog.messages == ["a ***"]


def test_cloaking_twice_cloaks_once():
    before = logging.getLogRecordFactory()
    try:
        guard.cloak_records()
        once = logging.getLogRecordFactory()
        guard.cloak_records()
        assert logging.getLogRecordFactory() is once
    finally:
        logging.setLogRecordFactory(before)


def test_the_record_factory_is_left_alone_where_nothing_needs_cloaking(server):
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    try:
        with tracker_for(server.endpoint) as tracker:
            tracker.event("bob", "Signed Up")
            assert tracker.flush()
        assert logging.getLogRecordFactory() is logging.LogRecord
    finally:
        logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    "value", [{"url": "/e?s3cret"}, ["/e?s3cret"], ("/e?s3cret", 1)], ids=["dict", "list", "tuple"]
)
def test_containers_in_extra_show_no_secret_either(cloaking, caplog, value):
    logging.getLogger("careless").warning("sending", extra={"request": value, "number": 5, "names": ["a"]})
    (record,) = caplog.records
    assert "s3cret" not in repr(vars(record))
    assert (record.number, record.names) == (5, ["a"])
