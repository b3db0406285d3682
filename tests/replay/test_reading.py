"""A line of a log tells the call that was told when it was written, whoever wrote it; nothing else tells any."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

import km_logging as km
from km_logging import wire
from km_logging.calls import Call
from km_logging.replay import Passed, Reading
from km_logging.settings import Settings
from km_logging.tagging import Rules
from km_logging.telling import Told
from support.event_dicts import NOON, event_dicts

HANG = 30.0

ISO = "2023-11-14T22:13:20.500000Z"
SIGNED_UP = Call("event", "bob", "Signed Up", timestamp=NOON, properties={"plan": "pro", "seats": "5"})
FLAT = {"km": "event", "person": "bob", "plan": "pro", "seats": 5}
NESTED = {"km": {"call": "event", "person": "bob", "properties": {"plan": "pro", "seats": 5}}}


def reading(time_field: str | None = None, **given: object) -> Reading:
    return Reading(Rules(Settings.resolve({"mode": "off", **given}, {})), time_field)


def read(line: str | bytes | dict[str, Any], by: Reading | None = None) -> Told | Passed:
    """What a line tells; of two ways to look at it, both must say so."""
    text = json.dumps(line) if isinstance(line, dict) else line
    encoded = text if isinstance(text, bytes) else text.encode()
    by = by or reading()
    told = by.tell(encoded)
    assert isinstance(told, Passed) or list(by.candidates(encoded)) == [(0, len(encoded), encoded)]
    return told


def call_of(line: str | bytes | dict[str, Any], by: Reading | None = None) -> Call:
    told = read(line, by)
    assert isinstance(told, Told), told
    assert told.problems == ()
    assert told.call is not None
    return told.call


def problems_of(line: dict[str, Any], by: Reading | None = None) -> list[tuple[str, str]]:
    told = read(line, by)
    assert isinstance(told, Told), told
    return [(problem.kind, str(problem)) for problem in told.problems]


# Forms.


@pytest.mark.parametrize(
    "line",
    [
        {**FLAT, "event": "Signed Up", "level": "info", "timestamp": ISO},
        {**FLAT, "event": "Signed Up", "logger": "shop", "timestamp": NOON + 0.5},
        {"event": "Signed Up", "timestamp": "2023-11-15T07:13:20.500000+09:00", **NESTED, "request_id": "r-1"},
        {"event": "", "timestamp": ISO, "km": {**NESTED["km"], "name": "Signed Up"}},
        {"_p": "bob", "_n": "Signed Up", "_t": NOON, "plan": "pro", "seats": 5},
        {"_p": "bob", "_n": "Signed Up", "_t": str(NOON), "_d": 1, "_k": "another key", "plan": "pro", "seats": 5},
        {"km": {**NESTED["km"], "name": "Signed Up", "timestamp": NOON}},
        {**NESTED["km"], "name": "Signed Up", "timestamp": NOON},
    ],
    ids=["structlog", "Unix time", "helper", "helper, a name", "Kissmetrics", "parameters", "exported", "bare"],
)
def test_an_event_is_read_in_every_form(line):
    assert call_of(line) == SIGNED_UP


#: Each version of python-json-logger, as it wrote such a record: 2.0.7, 3.3.0 and 4.2.0 on Python 3.12.
WRITTEN = {
    "2, created and msg": '{"created": 1700000000.123456, "levelname": "INFO", "name": "shop", "msg": "Signed Up", '
    '"message": "Signed Up", "taskName": null, "km": "event", "person": "bob", "plan": "pro", "seats": 5}',
    "2, timestamp": '{"message": "Signed Up", "taskName": null, "km": "event", "person": "bob", "plan": "pro", '
    '"seats": 5, "timestamp": "2023-11-14T22:13:20.123456+00:00"}',
    "2, asctime with a zone": '{"asctime": "2023-11-14T22:13:20+0000", "message": "Signed Up", "taskName": null, '
    '"km": "event", "person": "bob", "plan": "pro", "seats": 5}',
    "3, created and msg": '{"created": 1700000000.123456, "levelname": "INFO", "name": "shop", "msg": "Signed Up", '
    '"message": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "seats": 5}',
    "3, timestamp": '{"message": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "seats": 5, '
    '"timestamp": "2023-11-14T22:13:20.123456+00:00"}',
    "4, created, timestamp": '{"created": 1700000000.123456, "message": "Signed Up", "km": "event", "person": "bob", '
    '"plan": "pro", "seats": 5, "timestamp": "2023-11-14T22:13:20.123456+00:00"}',
    "4, nested": '{"msg": "Signed Up", "message": "Signed Up", "km": {"call": "event", "person": "bob", "properties": '
    '{"plan": "pro", "seats": 5}}, "timestamp": "2023-11-14T22:13:20.123456+00:00"}',
}


@pytest.mark.parametrize("line", WRITTEN.values(), ids=WRITTEN)
def test_records_are_read_as_each_version_of_python_json_logger_writes_them(line):
    assert call_of(line) == SIGNED_UP


def test_a_formatted_time_without_a_zone_is_local(monkeypatch):
    """As `logging.Formatter` writes it: with a comma, without a T."""
    line = {"asctime": "2023-11-15 07:13:20,123", "levelname": "INFO", "message": "Signed Up", **FLAT}
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert call_of(line) == SIGNED_UP
    finally:
        monkeypatch.undo()
        time.tzset()


def test_sets_and_aliases_are_read_in_every_form():
    told = Call("set", "bob", timestamp=NOON, properties={"gender": "male"})
    assert call_of({"km": "set", "person": "bob", "gender": "male", "event": "Saved", "timestamp": NOON}) == told
    assert call_of({"created": NOON, "message": "Saved", "km": "set", "person": "bob", "gender": "male"}) == told
    assert call_of({"_p": "bob", "_t": NOON, "gender": "male"}) == told
    for line in (
        {"km": "alias", "person": "bob", "identity": "bob@bob.com", "event": "Linked"},
        {"msg": "Linked", "levelname": "INFO", "km": {"call": "alias", "person": "bob", "identity": "bob@bob.com"}},
        {"_p": "bob", "_p2": "bob@bob.com"},
        {"km": {"call": "alias", "person": "bob", "identity": "bob@bob.com"}},
    ):
        call = call_of(line)
        assert (call.kind, call.person, call.identity, call.properties) == ("alias", "bob", "bob@bob.com", {})


@pytest.mark.parametrize(
    "line",
    [
        "", "\n", "text", "12", "[]", "null", '{"km": "event", "person": "bo', "{}", '{"km": 12.5, "event": "driven"}',
        '{"km": null}', '{"km": true, "_p": 1}', '{"message": "the field \\"km\\""}', '{"_p": "bob"}', '["km"]',
        '{"a": {"km": "event", "person": "bob", "event": "x"}}', '{"call": "event", "other": 1}', '{"call": "a"}',
        '{"km": {"call": "event"}, "km": 3}', "[" * 100_000 + '"km"', '{"km": ' + "9" * 5_000 + "}",
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_everything_else_is_passed_over(line):
    assert isinstance(read(line), Passed)


def test_what_is_no_json_is_told_from_what_is_no_call():
    assert read(b'{"km": "event\xff"}') is Passed.NO_JSON
    assert read('{"km": "event"') is Passed.NO_JSON
    assert read('{"km": 1}') is Passed.NO_CALL


def test_a_byte_order_mark_and_the_line_ends_of_windows_do_no_harm():
    line = json.dumps({**FLAT, "event": "Signed Up", "timestamp": ISO}).encode()
    assert call_of(b"\xef\xbb\xbf" + line + b"\r\n") == SIGNED_UP


def test_the_settings_of_tagging_apply():
    line = {"track": "event", "user_id": "bob", "plan": "pro", "seats": 5, "event": "Signed Up", "timestamp": ISO}
    renamed = {"tag": "track", "person_field": "user_id"}
    assert call_of(line, reading(**renamed)) == SIGNED_UP
    assert call_of(line, reading(**renamed, include=["plan"])).properties == {"plan": "pro"}
    assert call_of(line, reading(**renamed, exclude=["plan"])).properties == {"seats": "5"}
    assert call_of(line, reading(**renamed, properties={"site": "eu"})).properties["site"] == "eu"
    assert read(line) is Passed.NO_CALL
    exported = {"km": {**NESTED["km"], "name": "Signed Up", "timestamp": NOON}}
    assert call_of(exported, reading(**renamed)) == SIGNED_UP, "what is exported has the same form for everybody"


# Which of two: an event dict or a record.


def test_a_property_may_be_named_like_a_field_of_the_other_kind():
    event_dict = {**FLAT, "message": "hello", "event": "Signed Up", "timestamp": ISO}
    assert call_of(event_dict).properties == {**SIGNED_UP.properties, "message": "hello"}
    event_dict = {**FLAT, "created": "today", "event": "Signed Up", "timestamp": ISO}
    assert call_of(event_dict).properties == {**SIGNED_UP.properties, "created": "today"}
    record = {"created": NOON, "message": "Signed Up", **FLAT, "event": "Gala", "level": 3}
    assert call_of(record).properties == {**SIGNED_UP.properties, "event": "Gala", "level": "3"}


def test_a_records_own_timestamp_is_a_property_if_it_is_not_when_it_was_created():
    record = {"created": NOON, "message": "Signed Up", **FLAT}
    assert call_of({**record, "timestamp": "2024-01-01T00:00:00Z"}).properties["timestamp"] == "2024-01-01T00:00:00Z"
    assert call_of({**record, "timestamp": "noon"}).properties["timestamp"] == "noon"
    assert "timestamp" not in call_of({**record, "timestamp": ISO}).properties


# Time.


@pytest.mark.parametrize("field", ["km_timestamp", "timestamp of the nested form"])
@pytest.mark.parametrize("moment", [NOON, NOON + 0.9, "2023-11-14T22:13:20.500000+00:00", "2023-11-14T22:13:20Z"])
def test_an_explicit_time_wins_also_where_a_datetime_became_text(field, moment):
    line = (
        {**FLAT, "km_timestamp": moment} if field == "km_timestamp" else {"km": {**NESTED["km"], "timestamp": moment}}
    )
    assert call_of({**line, "event": "Signed Up", "timestamp": "2020-01-01T00:00:00Z"}) == SIGNED_UP


@pytest.mark.parametrize(
    "line",
    [
        {**FLAT, "event": "Signed Up"},
        {**FLAT, "event": "Signed Up", "timestamp": "10:15"},
        {**FLAT, "message": "Signed Up", "levelname": "INFO"},
        {"_p": "bob", "_n": "Signed Up", "_t": None},
        {"km": {**NESTED["km"], "name": "Signed Up"}},
    ],
    ids=["none", "of one's own", "a record's", "Kissmetrics", "exported"],
)
def test_a_line_without_a_time_is_refused_and_never_told_to_have_happened_now(line):
    [(kind, said)] = problems_of(line)
    assert kind == "bad_timestamp"
    assert "the line holds no time" in said
    assert "--time-field" in said or "have `_t`" in said


@pytest.mark.parametrize(
    ("line", "kind", "remedy"),
    [
        ({"_p": "bob", "_n": "Signed Up"}, "bad_timestamp", "_t"),
        ({"_p": None, "_n": "Signed Up", "_t": NOON}, "no_person", "_p"),
        ({"km": "event", "event": "Signed Up", "timestamp": NOON}, "no_person", "annotate=True"),
        ({"km": "event", "event": "Signed Up", "person": "bob"}, "bad_timestamp", "--time-field"),
    ],
)
def test_the_remedy_is_for_the_line_that_is_there(line, kind, remedy):
    told = reading().tell(json.dumps(line).encode())
    assert isinstance(told, Told)
    [problem] = told.problems
    assert problem.kind == kind
    assert remedy in problem.remedy


def test_the_time_may_stand_in_a_field_of_another_name():
    for field, moment in {"ts": NOON + 0.5, "@timestamp": ISO}.items():
        for line in (
            {"event": "Signed Up"},
            {"msg": "Signed Up", "levelname": "INFO"},
            {"event": "Signed Up", "timestamp": 1},
        ):
            assert call_of({**FLAT, **line, field: moment}, reading(field)) == SIGNED_UP


# Problems.


def test_problems_are_those_of_the_live_path_and_show_no_value():
    written = {"event": "Signed Up", "timestamp": ISO}
    assert problems_of({"km": "evnt", **written})[0][0] == "unknown_call"
    assert problems_of({"km": "event", **written})[0][0] == "no_person"
    assert problems_of({"km": "event", "person": "bob", "timestamp": ISO})[0][0] == "bad_name"
    told = read('{"km": "event", "person": "bob", "event": "x", "timestamp": 1700000000, "secret": NaN, "plan": "pro"}')
    assert isinstance(told, Told)
    assert told.call is not None
    assert told.call.properties == {"plan": "pro"}
    assert told.problems[0].kind == "bad_value"
    [(_, said)] = problems_of({"km": "event", "person": "bob", "plan": ["secret" * 100], **written})
    assert "secret" not in said


# Where to look.


@given(
    tag=st.one_of(st.just("km"), st.text(min_size=1, max_size=4)),
    keys=st.lists(st.text(max_size=4), max_size=3),
    data=st.data(),
)
def test_no_line_that_tells_a_call_is_overlooked(tag, keys, data):
    """Whatever the tag is, and however JSON writes it: any character of a text may be an escape."""
    try:
        by = reading(tag=tag)
    except km.SettingsError:
        return
    tag = tag.strip()

    def written(text: str) -> str:
        characters = []
        for character in text:
            plain = json.dumps(character, ensure_ascii=False)[1:-1]
            escaped = "".join(f"\\u{ord(half):04x}" for half in _halves(character))
            choices = [plain, json.dumps(character)[1:-1], escaped, escaped.upper().replace("\\U", "\\u")]
            choices += ["\\/"] if character == "/" else []
            characters.append(data.draw(st.sampled_from(choices)))
        return '"' + "".join(characters) + '"'

    fields = [f"{written(key)}: 1" for key in keys if key != tag] + [f"{written(tag)}: {written('event')}"]
    line = ("{" + ", ".join(data.draw(st.permutations(fields))) + "}").encode("utf-8", "surrogatepass")
    if by.tell(line) is not Passed.NO_JSON:  # a lone surrogate that is not escaped is no UTF-8
        assert by.tell(line) is not Passed.NO_CALL
        assert [found.text for found in by.candidates(b"text\n" + line + b"\n{}\n")] == [line + b"\n"]


def _halves(character: str) -> str:
    """The character as UTF-16 has it, as JSON's escapes do."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(chr(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2))


_some_lines = st.lists(
    st.sampled_from(['{"km": 1}', "", "text", '{"_p": 1}', '"call"', '{"a": "\\u006b"}', '"km" "km" "_p"', "{}"]),
    max_size=9,
)


@given(texts=_some_lines, is_whole=st.booleans())
def test_candidates_are_lines_with_their_numbers_and_ends(texts, is_whole):
    """Exactly those that hold a sign, whatever stands around them; of the last one the end may be missing."""
    block = "\n".join(texts).encode() + b"\n" * is_whole
    lines = io.BytesIO(block).readlines()
    expected, end = [], 0
    for number, line in enumerate(lines):
        end += len(line)
        if any(sign in line.decode() for sign in ('"km"', '"_p"', '"call"', "\\u006")):
            expected.append((number, end, line))
    assert list(reading().candidates(block)) == expected


# What was sent, and what a replay would send.


class Live:
    """An application: what it told, and the lines that it wrote."""

    def __init__(self, **given: object) -> None:
        self.calls: list[Call] = []
        self.written = io.StringIO()
        given = {"api_key": "key", "endpoint": "http://127.0.0.1:9", **given}
        self.tracker = km.Tracker(before_send=self._withhold, **given)
        self.reading = Reading(self.tracker.rules)
        names = {name: given[name] for name in ("api_key", "tag", "person_field") if name in given}
        self.plain_reading = Reading(Rules(Settings.resolve(names, {})))

    def _withhold(self, call: Call) -> None:
        self.calls.append(call)

    def chain(self, *before: Any, **processor: bool) -> list[Any]:
        """The processors, ours among them."""
        return [
            *before,
            km.KissmetricsProcessor(tracker=self.tracker, **processor),
            structlog.processors.JSONRenderer(),
        ]

    def structlog(self, *before: Any) -> Any:
        """A structlog logger."""
        return structlog.wrap_logger(structlog.WriteLogger(self.written), processors=self.chain(*before))

    def logging(self, logger: logging.Logger, formatter: logging.Formatter) -> None:
        """Give a logger of the standard library its handlers."""
        writing = logging.StreamHandler(self.written)
        writing.setFormatter(formatter)
        logger.propagate = False
        logger.addHandler(km.KissmetricsHandler(tracker=self.tracker))
        logger.addHandler(writing)

    def assert_reads_again(self, *, plainly: bool = False) -> None:
        """Each line tells the very request that its log call told; ``plainly`` without the application's settings."""
        assert self.tracker.flush(HANG)
        assert self.calls
        reading = self.plain_reading if plainly else self.reading
        read_again = [call_of(line, reading) for line in self.written.getvalue().splitlines()]
        assert [_sent(call) for call in read_again] == [_sent(call) for call in self.calls]


def _sent(call: Call) -> Call:
    """The call as the server hears it, to whom an alias has no time, and the order of properties means nothing."""
    return wire.decode(wire.encode(call))


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    made: list[Live] = []

    def make(**given: object) -> Live:
        made.append(Live(**given))
        return made[-1]

    yield make
    for one in made:
        one.tracker.close()


@pytest.mark.parametrize(
    "formatter",
    [
        JsonFormatter("%(created)f %(levelname)s %(name)s %(msg)s %(message)s"),
        JsonFormatter("{created}{levelname}{name}{msg}", style="{"),
        JsonFormatter(["created", "msg", "exc_info", "taskName", "threadName"]),
        JsonFormatter("%(msg)s", timestamp=True),
        JsonFormatter("%(asctime)s %(msg)s"),
    ],
    ids=["documented", "braces", "a list", "timestamp", "asctime"],
)
def test_a_record_that_python_json_logger_wrote_reads_again_as_the_same_call(formatter, live, logger):
    """With the time of the record and its message as it was logged, not as it was formatted."""
    one = live()
    one.logging(logger, formatter)
    logger.info("Order %s placed", 8123, extra={**FLAT, "tags": ["a", "b"], "geo": {"city": "Rome"}, "nothing": None})
    logger.info(
        "Paid", extra={**FLAT, "person": uuid.UUID(int=5), "since": dt.date(2024, 2, 29), "price": Decimal("1.50")}
    )
    logger.info("Came back", extra={**FLAT, "km_timestamp": dt.datetime(2024, 5, 1, tzinfo=dt.timezone.utc)})
    logger.info("Signed Up", extra=km.event("bob", plan="pro", price=Decimal("2.50"), geo={"city": "Rome"}))
    logger.info("Saved", extra=km.set(7, gender="male"))
    logger.info("Linked", extra=km.alias("bob", "bob@bob.com"))
    try:
        raise ValueError
    except ValueError:
        logger.exception("Failed", extra=FLAT)
    one.assert_reads_again()


@pytest.mark.parametrize("stamper", [{"fmt": "iso"}, {"fmt": "iso", "utc": False}, {"fmt": None}], ids=str)
def test_a_line_of_structlog_reads_again_as_the_same_call(stamper, live):
    """Also without `annotate`, if nothing comes from the context and JSON knows the values."""
    one = live(properties={"site": "eu"})
    log = one.structlog(structlog.processors.add_log_level, structlog.processors.TimeStamper(**stamper))
    log.info("Signed Up", **FLAT, tags=["a", "b"], geo={"city": "Rome"}, nothing=None, price=5.0)
    log.info("Signed Up", **km.event("bob", plan="pro", since=dt.date(2024, 2, 29)))
    log.info("Linked", **km.alias("bob", "bob@bob.com"))
    one.assert_reads_again()


#: Settings that change what is told, each of an application of its own.
TELLING = [
    {},
    {"properties": {"plan": "free"}, "exclude": ["geo.city"]},
    {"include": ["plan"]},
    {"include": ["geo.city", "tags"], "properties": {"environment": "test"}},
    {"exclude": ["plan", "geo"]},
    {"value_limit": 3},
]


@given(event_dict=event_dicts(), is_bound=st.booleans(), which=st.integers(0, len(TELLING) - 1))
@example(event_dict={"event": "x", "km": "set", "person": "bob", "message": "m", "created": 1}, is_bound=False, which=1)
@example(
    event_dict={"event": "x", "km": "event", "person": "bob", "msg": "m", "levelname": "l"}, is_bound=False, which=1
)
@example(event_dict={"km": "set", "person": "bob", "message": "m"}, is_bound=False, which=1)
@example(event_dict={**FLAT, "event": "x", "pw": "hunter2"}, is_bound=False, which=2)
@example(event_dict={**FLAT, "event": "x", "geo": {"city": "Rome", "zip": "1"}}, is_bound=False, which=3)
@example(event_dict={**FLAT, "event": "x"}, is_bound=False, which=3)
@example(event_dict={**FLAT, "event": "x", "geo": {"city": "Rome"}}, is_bound=True, which=4)
@example(event_dict={**FLAT, "event": "x", "pw": "hunter2"}, is_bound=False, which=5)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_sent_and_what_a_replay_would_send_are_the_same_calls(annotating, event_dict, is_bound, which):
    """For every line that was written with `annotate`, whoever was identified, whatever was bound or is a setting.

    A replay need not know these settings: what they withheld stays withheld.
    """
    one = annotating[which]
    one.calls.clear()
    one.written.truncate(0)
    one.written.seek(0)
    chain = one.chain(*[structlog.contextvars.merge_contextvars] * is_bound, annotate=True)
    bound = {"request_id": "r-1", "plan": "bound", "geo": {"city": "Rome"}} if is_bound else {}
    with structlog.contextvars.bound_contextvars(**bound), km.identify("eve"):
        for processor in chain:
            event_dict = processor(None, "info", event_dict)
    one.written.write(event_dict)
    one.assert_reads_again()
    one.assert_reads_again(plainly=True)


@pytest.fixture(scope="module")
def annotating() -> Iterator[list[Live]]:
    made = [Live(**given) for given in TELLING]
    yield made
    for one in made:
        one.tracker.close()


def test_without_annotate_the_line_knows_no_context(live):
    """The person that was identified is not in it, and what was bound cannot be told from properties."""
    one = live()
    log = one.structlog(structlog.contextvars.merge_contextvars, structlog.processors.TimeStamper(fmt="iso"))
    with structlog.contextvars.bound_contextvars(request_id="r-1"), km.identify("eve"):
        log.info("Signed Up", km="event", plan="pro")
        log.info("Signed Up", **FLAT)
    assert one.tracker.flush(HANG)
    assert [call.person for call in one.calls] == ["eve", "bob"]
    first, second = (one.reading.tell(line.encode()) for line in one.written.getvalue().splitlines())
    assert isinstance(first, Told)
    assert [problem.kind for problem in first.problems] == ["no_person"]
    assert isinstance(second, Told)
    assert second.call is not None
    assert second.call.properties == {**one.calls[1].properties, "request_id": "r-1"}
    narrow = Reading(Rules(Settings.resolve({"mode": "off", "include": ["plan", "seats"]}, {})))
    told = narrow.tell(one.written.getvalue().splitlines()[1].encode())
    assert isinstance(told, Told)
    assert told.call == one.calls[1]
