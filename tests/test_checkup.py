"""What is wrong with a configuration is named, with the remedy; what may not be shown is masked."""

from __future__ import annotations

import functools
import json
import logging
import logging.config
import logging.handlers
import os
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

import km_logging as km
from km_logging.checkup import (
    code_findings,
    config_findings,
    handler_settings,
    outbox_findings,
    reach,
    settings_findings,
    settings_shown,
    variable_findings,
)
from km_logging.settings import SETTINGS, Settings
from km_logging.tagging import RECORD_FIELDS
from km_logging.testing import capture_calls
from support.redis_server import RedisServer
from support.servers import Reply, TrackingServer, refused

HANDLER: dict[str, Any] = {"class": "km_logging.KissmetricsHandler", "api_key": "secret-key"}
SOUND: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"km": HANDLER},
    "root": {"level": "INFO", "handlers": ["km"]},
}


def found(config: dict[str, Any]) -> list[tuple[str, bool]]:
    findings = [(str(finding), finding.is_note) for finding in config_findings(config, {})]
    assert "secret" not in str(findings)
    return findings


def test_a_sound_configuration_has_no_findings() -> None:
    assert found(SOUND) == []


def with_handler(**settings: object) -> dict[str, Any]:
    return {"handlers": {"km": {**HANDLER, **settings}}}


WRONG = [
    ({"handlers": {"console": {"class": "logging.StreamHandler"}}}, "no handler is a KissmetricsHandler"),
    ({"handlers": {"km": {"()": "km_logging.KissmetricsHandler"}}}, "api_key is missing"),
    (with_handler(level="WARNING"), "drops what is below its level"),
    (with_handler(level="info"), "a level that logging does not know: write it in capitals"),
    (with_handler(sender=3), "did you mean 'senders'?"),
    (with_handler(senders="many"), "senders must be a number"),
    (with_handler(tag="message"), "tag is 'message', and logging refuses an extra of that name"),
    (with_handler(person_field="name"), "person_field is 'name', and logging refuses an extra of that name"),
    (with_handler(endpoint="ext://nowhere.at_all"), "endpoint cannot be resolved"),
    (with_handler(before_send="nowhere.at_all"), "before_send: cannot import"),
    (with_handler(filters=["untracked"]), "handler 'km' names 'untracked', which is none of the filters"),
    (
        {**with_handler(filters=["no_tags"]), "filters": {"no_tags": {"()": f"{__name__}.NoTags"}}},
        "the filter 'no_tags' of handler 'km' drops tagged records",
    ),
    (
        {
            "root": {**SOUND["root"], "filters": ["no_tags"]},
            "filters": {"no_tags": {"()": f"{__name__}.NoTags"}},
        },
        "the filter 'no_tags' of the root logger drops tagged records",
    ),
    ({"root": {"level": "INFO"}}, "no logger has the handler 'km'"),
    (
        {"root": {"level": "INFO", "handlers": ["km", "kms"]}},
        "names 'kms', which is none of the handlers: did you mean",
    ),
    ({"root": {"handlers": ["km"]}}, "the root logger's level drops INFO"),
    ({"disable_existing_loggers": True}, "disable_existing_loggers is on"),
    ({"version": 2}, 'set "version": 1'),
    (
        {
            "handlers": {"km": HANDLER, "other": {**HANDLER, "exclude": ["plan"]}},
            "loggers": {"shop": {"handlers": ["other"]}},
        },
        "a record of logger 'shop' passes the handlers 'other' and 'km', and only the first one takes it",
    ),
    (
        {
            "handlers": {
                "km": HANDLER,
                "queued": HANDLER,
                "queue": {"class": "logging.handlers.QueueHandler", "handlers": ["queued"]},
            },
            "root": {"level": "INFO", "handlers": ["queue", "km"]},
        },
        "as a copy by 'queue', so it is sent twice",
    ),
]


CONSOLE = {"class": "logging.StreamHandler"}


def with_console(**table: object) -> dict[str, Any]:
    made_by = {} if "()" in table else CONSOLE
    return {"handlers": {"km": HANDLER, "console": {**made_by, **table}}}


#: What dictConfig raises for, and what is said of it.
REFUSED = [
    (
        {"handlers": {"km": {**HANDLER, "class": "km_logging.handlr.KissmetricsHandler"}}},
        'cannot be imported (ValueError): write "class": "km_logging.KissmetricsHandler"',
    ),
    (
        with_console(**{"class": "logging.handler.FileHandler"}),
        "handler 'console': 'logging.handler.FileHandler' cannot",
    ),
    (with_console(**{"class": None}), "handler 'console': None cannot be imported"),
    (with_console(**{"class": "logging.getLogger"}), "'logging.getLogger' is no class: write \"()\""),
    (with_console(**{"()": "nowhere.at_all"}), "'nowhere.at_all' cannot be imported (ValueError): check the spelling"),
    (with_console(**{"()": "logging.INFO"}), "'logging.INFO' cannot be called"),
    ({"handlers": {"km": HANDLER, "console": {}}}, "handler 'console' has no class"),
    (with_console(**{"class": "logging.FileHandler"}), "cannot be made (missing a required argument: 'filename')"),
    (with_console(file="log"), "cannot be made (got an unexpected keyword argument 'file')"),
    (with_console(formatter="nope"), "names 'nope', which is none of the formatters"),
    (with_console(formatter=["a"]), "names ['a'], which is none of the formatters"),
    (with_console(filters=["nope"]), "names 'nope', which is none of the filters"),
    (with_console(filters=[None]), "names None, which is none of the filters"),
    (with_console(level=["INFO"]), "the level of handler 'console' is neither a name nor a number"),
    (with_console(level=1.5), "the level of handler 'console' is neither a name nor a number"),
    (
        with_console(**{"class": "logging.handlers.MemoryHandler", "capacity": 10, "target": "kms"}),
        "handler 'console' names 'kms', which is none of the handlers: did you mean 'km'?",
    ),
    ({"handlers": {"km": HANDLER, "console": None}}, "handler 'console' is no table"),
    ({"formatters": {"a": {"class": "nowhere.Formatter"}}}, "formatter 'a': 'nowhere.Formatter' cannot be imported"),
    ({"formatters": {"a": {"format": "no field"}}}, "formatter 'a' cannot be made (ValueError): check its \"format\""),
    ({"formatters": {"a": "plain"}}, "formatter 'a' is no table"),
    ({"formatters": None}, "the formatters are no table"),
    ({"filters": {"a": {"()": "nowhere.Filter"}}}, "filter 'a': 'nowhere.Filter' cannot be imported"),
    ({"filters": {"a": None}}, "filter 'a' is no table"),
    ({"loggers": {"a": None}}, "logger 'a' is no table"),
    ({"loggers": {1: {}}}, "the name of logger 1 is no text"),
    ({"loggers": None}, "the loggers are no table"),
    ({"loggers": {"a": {"level": ["INFO"]}}}, "the level of logger 'a' is neither a name nor a number"),
    ({"loggers": {"a": {"level": "loud"}}}, "logger 'a' has a level that logging does not know"),
    ({"loggers": {"a": {"handlers": 3}}}, "the handlers of logger 'a' are no list"),
    ({"loggers": {"a": {"handlers": [{}]}}}, "logger 'a' names {}, which is none of the handlers"),
    ({"incremental": True}, "the configuration is incremental, which makes no handler: take"),
    ({"version": "1"}, 'set "version": 1'),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_what_dictconfig_refuses_is_the_one_finding(change: dict[str, Any], message: str) -> None:
    """It raises for each of these, in a process of its own."""
    findings = found({**SOUND, **change})
    assert len(findings) == 1, findings
    assert message in findings[0][0]
    assert findings[0][1] is False
    assert configured({**SOUND, **change}) != 0


def configured(config: dict[str, Any]) -> int:
    """The exit code of a process that uses a configuration."""
    script = f"import logging.config; logging.config.dictConfig({config!r})"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False).returncode


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"root": {**SOUND["root"], "filters": None}, "loggers": {"a": {"level": None, "handlers": []}}},
    {"loggers": {"a": {"level": 15}, "b": {"level": "DEBUG"}}},
    {"formatters": {"a": {"()": "logging.Formatter"}, "b": {"class": "logging.Formatter"}, "c": {}}},
    {"levels": {"low": "DEBUG"}, "loggers": {"a": {"level": "cfg://levels.low"}}},
    {"formatters": {"a": {"format": "%(message)s"}}, **with_console(formatter="a", stream="ext://sys.stdout")},
    with_console(**{"()": "ext://logging.StreamHandler"}),
    with_console(**{"class": "logging.NullHandler", ".": {"note": 1}}),
    with_console(formatter=None, level="INFO", filters=[]),
]


@pytest.mark.parametrize("change", ACCEPTED, ids=str)
def test_what_dictconfig_accepts_is_no_finding(change: dict[str, Any]) -> None:
    assert found({**SOUND, **change}) == []
    assert configured({**SOUND, **change}) == 0


def test_looking_for_what_is_refused_makes_no_handler(tmp_path: Path) -> None:
    """One that would open a file opens none."""
    assert found({**SOUND, **with_console(**{"class": "logging.FileHandler", "filename": f"{tmp_path}/log"})}) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_each_mistake_is_the_one_finding(change: dict[str, Any], message: str) -> None:
    findings = found({**SOUND, **change})
    assert len(findings) == 1, findings
    assert message in findings[0][0]
    assert findings[0][1] is False


NOTES = [
    ({"loggers": {"shop": {"level": "ERROR"}}}, "the level of logger 'shop' drops INFO"),
    ({"loggers": {"shop": {"propagate": False}}}, "logger 'shop' does not propagate"),
    (with_handler(include=["plan", "name"]), "include names 'name', and logging refuses an extra of that name"),
    (with_handler(endpoint="http://example.com"), "unencrypted, with the key"),
    (with_handler(transport="curl", session="requests.Session"), "transport is 'curl', but there is a `session`"),
    (
        {**with_handler(filters=["shop"]), "filters": {"shop": {"name": "shop"}}},
        "the filter 'shop' of handler 'km' lets only records of the logger 'shop' and below pass",
    ),
    (
        {**with_handler(filters=["debug"]), "filters": {"debug": {"()": f"{__name__}.raising"}}},
        "the filter 'debug' of handler 'km' cannot be tried here (RuntimeError)",
    ),
    (
        {"handlers": {"km": HANDLER, "other": HANDLER}, "loggers": {"shop": {"handlers": ["other"]}}},
        "which are alike, and is one call",
    ),
    (
        {"handlers": {"km": HANDLER, "other": {**HANDLER, "api_key": "x"}}, "loggers": {"a": {"handlers": ["other"]}}},
        "which send to two places",
    ),
    ({"loggers": {"shop": {"handlers": ["km"]}}}, "passes the handler 'km' twice, and is one call"),
]


RENDERERS: list[Any] = [
    structlog.stdlib.render_to_log_kwargs,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    structlog.processors.JSONRenderer(),
]


@pytest.mark.parametrize("renderer", RENDERERS, ids=["kwargs", "formatter", "json"])
@pytest.mark.parametrize("way", ["at once", "by a queue"])
def test_a_processor_in_front_of_a_handler_is_nothing_to_look_for(renderer: Any, way: str) -> None:
    """A record that passes both is one call, also as the copy that a QueueHandler makes."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logger = logging.getLogger("test.processor.and.handler")
    logger.setLevel(logging.INFO)
    with capture_calls() as calls:
        handler = km.KissmetricsHandler(api_key="k")
        logger.handlers[:] = [logging.handlers.QueueHandler(records) if way == "by a queue" else handler]
        chain = [km.KissmetricsProcessor(api_key="k"), renderer]
        log = structlog.wrap_logger(logger, processors=chain, wrapper_class=structlog.stdlib.BoundLogger)
        log.info("Signed Up", km="event", person="bob")
        if way == "by a queue":
            handler.handle(records.get_nowait())
        logger.handlers.clear()
    assert [(call.person, call.name) for call in calls] == [("bob", "Signed Up")]


@pytest.mark.parametrize(("change", "message"), NOTES, ids=[message[:40] for _, message in NOTES])
def test_what_may_be_meant_so_is_a_note(change: dict[str, Any], message: str) -> None:
    findings = found({**SOUND, **change})
    assert len(findings) == 1, findings
    assert message in findings[0][0]
    assert findings[0][1] is True


class NoTags(logging.Filter):
    """Drops what is tagged."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not hasattr(record, "km")


class Tags(logging.Filter):
    """Lets only pass what is tagged."""

    def filter(self, record: logging.LogRecord) -> bool:
        return hasattr(record, "km")


def raising() -> logging.Filter:
    raise RuntimeError("secret")


def test_a_filter_that_lets_tagged_records_pass_is_no_finding() -> None:
    """Whatever it is made by; what it drops otherwise is its own affair."""
    filters = {"tags": {"()": f"{__name__}.Tags"}, "all": {"name": ""}, "unused": {"()": f"{__name__}.NoTags"}}
    handlers = {"km": {**HANDLER, "filters": ["tags", "all"]}, "console": {"class": "logging.StreamHandler"}}
    shop = {"handlers": ["console"], "filters": ["unused"], "propagate": False}
    changed = {"filters": filters, "handlers": handlers, "loggers": {"shop": shop}}
    assert [message for message, _ in found({**SOUND, **changed}) if "filter" in message] == []


def test_every_mistake_is_named_at_once() -> None:
    config = {
        **SOUND,
        "handlers": {"km": {**HANDLER, "sender": 3, "capacity": 0, "level": "ERROR"}},
        "root": {"handlers": ["km"]},
        "disable_existing_loggers": True,
    }
    text = "\n".join(message for message, _ in found(config))
    for expected in ("'sender'", "capacity", "below its level", "level drops INFO", "disable_existing_loggers"):
        assert expected in text


def test_a_text_where_a_list_belongs_is_named() -> None:
    """DictConfig would take it letter by letter."""
    assert any("write \"handlers\": ['km']" in message for message, _ in found({**SOUND, "root": {"handlers": "km"}}))


def test_a_handler_behind_a_queue_is_reached() -> None:
    """By way of a QueueHandler's `handlers` or a MemoryHandler's `target`, whose levels count as well."""
    queue = {"class": "logging.handlers.QueueHandler", "handlers": ["km"]}
    memory = {"class": "logging.handlers.MemoryHandler", "capacity": 10, "target": "km"}
    root = {"level": "INFO", "handlers": ["way"]}
    for way in (queue, memory):
        assert found({**SOUND, "handlers": {"km": HANDLER, "way": way}, "root": root}) == []
        [(message, _)] = found({**SOUND, "handlers": {"km": HANDLER, "way": {**way, "level": "ERROR"}}, "root": root})
        assert "handler 'way' drops what is below its level" in message


@pytest.mark.parametrize("config", [{}, {"handlers": 3}, {"handlers": {"km": None}, "loggers": []}, {"root": []}])
def test_what_is_no_dictconfig_is_no_error(config: dict[str, Any]) -> None:
    assert found(config)


def test_disable_existing_loggers_is_on_unless_it_is_said() -> None:
    config = {key: value for key, value in SOUND.items() if key != "disable_existing_loggers"}
    assert any("disable_existing_loggers" in message for message, _ in found(config))


@pytest.mark.parametrize(
    "logger",
    [
        {"level": "DEBUG"},
        {"level": 10},
        {"propagate": False, "handlers": ["km"]},
        {"level": "ERROR", "propagate": True},
    ],
)
def test_a_logger_that_has_the_handler_or_lets_records_pass_is_no_finding(logger: dict[str, Any]) -> None:
    assert [message for message, _ in found({**SOUND, "loggers": {"shop": logger}}) if "propagate" in message] == []


def test_what_is_found_to_be_refused_is_refused() -> None:
    """Each field that is called so raises in a log call, and each that is not does not."""
    logger = logging.getLogger("test.refused")
    later = {"taskName"} if sys.version_info < (3, 12) else set()
    for name in sorted(RECORD_FIELDS - later):
        with pytest.raises(KeyError):
            logger.error("x", extra={name: 1})
    for name in ("person", "identity", "km_name", "km_timestamp", "event", "level"):
        logger.debug("x", extra={name: 1})


def test_checking_configures_nothing() -> None:
    before = logging.getLogger().handlers[:], set(logging.root.manager.loggerDict)
    found({**SOUND, "loggers": {"test.never.made": {"handlers": ["km"]}}})
    assert (logging.getLogger().handlers[:], set(logging.root.manager.loggerDict)) == before


def test_the_settings_of_each_handler_without_what_is_dictconfigs_own() -> None:
    """References are resolved, as dictConfig does."""
    own = {"class": "km_logging.KissmetricsHandler", "level": "INFO", "senders": 3, "api_key": "cfg://keys.km"}
    handlers = {"km": {**own, "session": "ext://requests.Session"}, "x": {"class": "y.Z"}}
    import requests

    settings = handler_settings({"handlers": handlers, "keys": {"km": "k"}})
    assert settings == {"km": {"senders": 3, "api_key": "k", "session": requests.Session}}


# The settings.


def test_every_setting_is_shown_with_its_source_and_without_secrets() -> None:
    given = {"api_key": "secret-key", "properties": {"environment": "secret-value"}, "strict": True}
    environ = {"KM_SENDERS": "3"}
    shown = settings_shown(given, environ, "logging.json")
    assert [row.name for row in shown] == list(SETTINGS)
    rows = {row.name: (row.value, row.source) for row in shown}
    assert rows["api_key"] == ("***", "logging.json")
    assert rows["properties"] == ("environment=***", "logging.json")
    assert rows["senders"] == ("3", "KM_SENDERS")
    assert rows["strict"] == ("true", "logging.json")
    assert rows["timeout"] == ("3.05, 10.0", "default")
    assert rows["retry_for"] == ("300.0", "default")
    assert "secret" not in str(shown)


def test_settings_are_shown_also_if_some_are_wrong() -> None:
    rows = {row.name: row.value for row in settings_shown({"senders": "secret", "capacity": 5}, {})}
    assert (rows["api_key"], rows["senders"], rows["capacity"]) == ("-", "(wrong)", "5")


def test_arguments_of_a_callable_are_not_shown() -> None:
    given = {"api_key": "k", "before_send": functools.partial(print, "secret"), "session": os.getcwd}
    rows = {row.name: row.value for row in settings_shown(given, {})}
    assert (rows["before_send"], rows["session"]) == ("partial", "getcwd")


def test_a_variable_that_nobody_reads_is_a_note_if_it_is_like_one_of_ours() -> None:
    notes = list(variable_findings({"KM_SENDER": "3", "KM_ENDPOINT": "x", "KM_UNRELATED_THING": "x", "PATH": ""}))
    assert [str(note) for note in notes] == ["the variable KM_SENDER is none of ours: did you mean KM_SENDERS?"]
    assert all(note.is_note for note in notes)


def test_a_transport_that_is_not_installed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("km_logging.senders.find_spec", lambda _: None)
    [finding] = settings_findings("here", {"api_key": "k", "transport": "curl"}, {})
    assert "pip install 'km_logging[curl]'" in str(finding)


# The code.


CODE = """
import logging
logger = logging.getLogger(__name__)
logger.info("x", extra={"km": "event", "person": "bob", "name": "Signed Up"})
logger.log(20, "x", extra=dict(km="event", person="bob", module="shop"))
logging.LoggerAdapter(logger, extra={"message": "x", "args": 1})
logger.info("x", extra={"km": "event", "person": "bob", "plan": "pro", **{"name": 1}})
logger.info("x", extra=km.event("bob", name="x"))
model.configure(extra={"name": "x"})
"""


def test_log_calls_that_logging_refuses_are_found_in_the_code() -> None:
    """With file and line; other things than log calls may take what they like."""
    assert [finding.message for finding in code_findings("shop.py", CODE)] == [
        "shop.py:4: logging refuses the extra key 'name'",
        "shop.py:5: logging refuses the extra key 'module'",
        "shop.py:6: logging refuses the extra key 'message'",
        "shop.py:6: logging refuses the extra key 'args'",
    ]


@pytest.mark.parametrize("source", ["def", b"\xff\xfe", "\0", "(" * 10_000])
def test_what_is_no_python_is_a_note(source: str | bytes) -> None:
    [finding] = code_findings("shop.py", source)
    assert finding.is_note


# The surroundings.


def test_an_endpoint_is_resolved_and_asked_for_nothing_that_tracks(server: TrackingServer) -> None:
    reached = reach(Settings.resolve({"api_key": "k", "endpoint": f"{server.endpoint}/base"}, {}).endpoint)
    assert (reached.addresses, reached.answer, reached.finding) == (("127.0.0.1",), "HTTP 200", None)
    assert server.targets == ["/base/"]


@pytest.mark.parametrize("status", [302, 404, 503])
def test_any_answer_is_one(status: int) -> None:
    """Redirects are not followed, as they are not when calls are sent."""
    reply = Reply(status, headers={"Location": "http://127.0.0.1:9/"} if status == 302 else {})
    with TrackingServer(lambda *_: reply) as server:
        reached = reach(Settings.resolve({"api_key": "k", "endpoint": server.endpoint}, {}).endpoint)
    assert (reached.answer, reached.finding) == (f"HTTP {status}", None)
    assert len(server.targets) == 1


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 80])
def test_a_name_that_does_not_resolve_is_found(host: str) -> None:
    reached = reach(Settings.resolve({"api_key": "k", "endpoint": f"https://{host}"}, {}).endpoint)
    assert reached.answer is None
    assert "does not resolve" in str(reached.finding)


def test_a_proxy_is_gone_through_and_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, server: TrackingServer
) -> None:
    """It resolves the name, so that nothing is wrong if we cannot."""
    monkeypatch.setenv("http_proxy", server.endpoint.replace("//", "//user:secret@"))
    reached = reach(Settings.resolve({"api_key": "k", "endpoint": "http://nowhere.invalid"}, {}).endpoint)
    assert (reached.answer, reached.finding) == ("HTTP 200", None)
    assert reached.proxy == server.endpoint.replace("//", "//***@")
    assert server.targets == ["http://nowhere.invalid/"]


def test_with_a_session_of_ones_own_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a proxy, so that what is found is a note."""
    with refused() as endpoint:
        settings = Settings.resolve({"api_key": "k", "endpoint": endpoint}, {})
        assert reach(settings.endpoint).finding.is_note is False
        assert reach(settings.endpoint, is_sure=False).finding.is_note is True


def outbox_of(path: Path) -> list[str]:
    settings = Settings.resolve({"api_key": "k", "outbox": f"sqlite:///{path}"}, {})
    return [str(finding) for finding in outbox_findings("here", settings)]


def test_an_outbox_that_cannot_be_used_or_made_is_found(tmp_path: Path) -> None:
    """Nothing is made by looking."""
    assert outbox_of(tmp_path / "km.db") == []
    assert list(tmp_path.iterdir()) == []
    assert "make the directory" in outbox_of(tmp_path / "nowhere" / "km.db")[0]
    (tmp_path / "notes.txt").write_text(json.dumps("no database") * 100)
    (tmp_path / "notes.txt").chmod(0o600)
    assert "the outbox cannot be used" in outbox_of(tmp_path / "notes.txt")[0]
    (tmp_path / "empty.db").touch(0o600)
    assert outbox_of(tmp_path / "empty.db") == []
    with km.Tracker(outbox=f"sqlite:///{tmp_path}/km.db", deliver=False) as tracker:
        tracker.set("bob")
    assert outbox_of(tmp_path / "km.db") == []
    (tmp_path / "km.db").chmod(0o644)
    assert "chmod o-rwx" in outbox_of(tmp_path / "km.db")[0]


def test_a_redis_server_is_looked_at_too(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it answers, and what it needs; nothing is made there, and no password is shown."""

    def found(address: str) -> str:
        settings = Settings.resolve({"outbox": address}, {})
        return " ".join(map(str, outbox_findings("here", settings)))

    assert found(redis_server.address) == ""
    with redis_server.client() as client:
        assert client.keys() == []
    wrong = found(redis_server.address.replace("//", "//ann:s3cret@"))
    assert "refuses this user and password" in wrong
    assert "s3cret" not in wrong
    monkeypatch.setattr("km_logging.outbox.line.find_spec", lambda _: None)
    assert "pip install 'km_logging[redis]'" in found(redis_server.address)
