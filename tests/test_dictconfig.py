"""Configuring from tables, files and the environment; and what `dictConfig` and the like do to a handler at work."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import logging.config
import os
import subprocess
import sys
import textwrap
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

import km_logging as km
from support.ids import shown
from support.servers import Reply, TrackingServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: No wait of these tests is longer; what takes so long hangs.
HANG = 30.0

#: A `drain_timeout` that no test waits for.
TOO_LONG = 600

Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Put everything back, and close what was made: a configuration is about the whole process."""
    root = logging.getLogger()
    loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    states = [(one, list(one.handlers), one.level, one.propagate, one.disabled) for one in [root, *loggers]]
    names, listed = dict(logging._handlers), list(logging._handlerList)
    yield
    made = {
        handler for handler in (ref() for ref in logging._handlerList) if isinstance(handler, km.KissmetricsHandler)
    }
    for handler in made:
        handler.close()
    for one in [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]:
        one.handlers[:], one.disabled, one.propagate = [], False, True
        one.setLevel(logging.NOTSET)
    for one, handlers, level, propagate, disabled in states:
        one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled
        one.setLevel(level)
    logging._handlers.clear()
    logging._handlers.update(names)
    logging._handlerList[:] = listed


@pytest.fixture
def key() -> str:
    """An API key of this test's own: front ends with equal settings share a tracker, and ports come again."""
    return uuid.uuid4().hex


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something to wait at; open at the end of the test, whatever happens."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def hanging(gate: threading.Event) -> Iterator[TrackingServer]:
    """A server that answers nothing before the gate is open."""

    def reply(_number: int, _target: str) -> Reply:
        gate.wait(HANG)
        return Reply()

    with TrackingServer(reply) as server:
        yield server
        gate.set()


def config_of(by: str, **settings: object) -> Config:
    """A configuration with one handler, named by ``class`` or by ``()``, on the logger ``shop``."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"kissmetrics": {by: "km_logging.KissmetricsHandler", **settings}},
        "loggers": {"shop": {"level": "INFO", "handlers": ["kissmetrics"]}},
    }


def configured(config: Config) -> tuple[logging.Logger, km.KissmetricsHandler]:
    """The logger ``shop`` and its handler, after dictConfig."""
    logging.config.dictConfig(config)
    logger = logging.getLogger("shop")
    (handler,) = logger.handlers
    assert isinstance(handler, km.KissmetricsHandler)
    return logger, handler


def persons(server: TrackingServer) -> list[str]:
    return [dict(query)["_p"] for query in server.queries]


def run(code: str, *arguments: str) -> str:
    """What a fresh Python prints that runs this code with warnings as errors."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KM_")}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


by_class_and_by_factory = pytest.mark.parametrize("by", ["class", "()"])


# Where a configuration comes from.

#: Every setting that a file can carry, as a text, a number, a boolean, a list or a table.
JSON = """
{
  "version": 1,
  "disable_existing_loggers": false,
  "filters": {"people": {"name": "shop"}},
  "formatters": {"plain": {"format": "%(message)s"}},
  "handlers": {
    "kissmetrics": {
      "BY": "km_logging.KissmetricsHandler",
      "level": "INFO",
      "filters": ["people"],
      "formatter": "plain",
      "api_key": "KEY",
      "endpoint": "ENDPOINT",
      "mode": "live",
      "outbox": "memory:",
      "durability": "batched",
      "deliver": true,
      "capacity": 1000,
      "overflow": "drop_oldest",
      "block_timeout": 0.5,
      "senders": 4,
      "cpu_share": 0.75,
      "transport": "requests",
      "timeout": [1, 2.5],
      "retry_for": 60,
      "drain_timeout": 7,
      "drain_on_sigterm": false,
      "strict": false,
      "include": ["plan", "seats", "geo"],
      "exclude": ["seats"],
      "person_field": "user_id",
      "tag": "track",
      "value_limit": 100,
      "properties": {"environment": "test", "build": {"number": 7}}
    }
  },
  "loggers": {"shop": {"level": "DEBUG", "handlers": ["kissmetrics"]}}
}
"""

TOML = """
version = 1
disable_existing_loggers = false

[filters.people]
name = "shop"

[formatters.plain]
format = "%(message)s"

[handlers.kissmetrics]
"BY" = "km_logging.KissmetricsHandler"
level = "INFO"
filters = ["people"]
formatter = "plain"
api_key = "KEY"
endpoint = "ENDPOINT"
mode = "live"
outbox = "memory:"
durability = "batched"
deliver = true
capacity = 1000
overflow = "drop_oldest"
block_timeout = 0.5
senders = 4
cpu_share = 0.75
transport = "requests"
timeout = [1, 2.5]
retry_for = 60
drain_timeout = 7
drain_on_sigterm = false
strict = false
include = ["plan", "seats", "geo"]
exclude = ["seats"]
person_field = "user_id"
tag = "track"
value_limit = 100

[handlers.kissmetrics.properties]
environment = "test"
build = { number = 7 }

[loggers.shop]
level = "DEBUG"
handlers = ["kissmetrics"]
"""


def _as_text(config: Config) -> Config:
    """As a file of texts only would have it, such as YAML with everything quoted."""
    changed = copy.deepcopy(config)
    settings = changed["handlers"]["kissmetrics"]
    for name, value in settings.items():
        if isinstance(value, bool | int | float):
            settings[name] = str(value).lower()
    settings["timeout"] = ["1", "2.5"]
    return changed


READERS: dict[str, Callable[[Callable[[str], str]], Config]] = {
    "JSON": lambda fill: json.loads(fill(JSON)),
    "TOML": lambda fill: tomllib.loads(fill(TOML)),
    "texts": lambda fill: _as_text(json.loads(fill(JSON))),
}


@by_class_and_by_factory
@pytest.mark.parametrize("source", READERS)
def test_a_file_can_carry_every_setting(source, by, key, server):
    def fill(text: str) -> str:
        return text.replace("BY", by).replace("KEY", key).replace("ENDPOINT", server.endpoint)

    logger, handler = configured(READERS[source](fill))
    settings = handler._tracker.settings
    assert settings.capacity == 1000
    assert (settings.overflow, settings.block_timeout) == ("drop_oldest", 0.5)
    assert (settings.senders, settings.cpu_share, settings.timeout) == (4, 0.75, (1.0, 2.5))
    assert (settings.retry_for, settings.drain_timeout) == (60, 7)
    assert (settings.deliver, settings.strict, settings.drain_on_sigterm) == (True, False, False)
    assert handler.level == logging.INFO
    assert handler.formatter is not None
    extra = {"track": "event", "user_id": "bob", "plan": "pro", "seats": 5, "geo": {"city": "Rome"}, "other": 1}
    logger.debug("Below the level", extra=extra)
    logger.info("Signed Up", extra=extra)
    assert handler.flush(HANG)
    (query,) = [dict(query) for query in server.queries]
    said = {"_k": key, "_p": "bob", "_n": "Signed Up", "_d": "1"}
    properties = {"plan": "pro", "geo.city": "Rome", "environment": "test", "build.number": "7"}
    assert query == {**said, **properties, "_t": query["_t"]}


def test_the_sources_are_alike():
    def fill(text: str) -> str:
        return text.replace("BY", "class").replace("KEY", "key").replace("ENDPOINT", "http://127.0.0.1:9")

    assert READERS["JSON"](fill) == READERS["TOML"](fill)


@by_class_and_by_factory
def test_by_class_and_by_factory_share_one_tracker(by, key, server):
    _logger, handler = configured(config_of(by, api_key=key, endpoint=server.endpoint))
    twin = km.KissmetricsHandler(api_key=key, endpoint=server.endpoint)
    assert twin._tracker is handler._tracker
    twin.close()


@by_class_and_by_factory
def test_a_tracker_can_be_given_as_ext(by, key, server, shop_module):
    with km.Tracker(api_key=key, endpoint=server.endpoint) as tracker:
        shop_module.tracker = tracker
        logger, _handler = configured(config_of(by, tracker="ext://shop_module.tracker"))
        logger.info("Signed Up", extra=km.event("bob"))
        assert tracker.flush(HANG)
        assert tracker.stats().delivered == 1


# The environment.


@by_class_and_by_factory
def test_the_environment_can_carry_everything_that_is_needed(by, key, server, monkeypatch):
    monkeypatch.setenv("KM_API_KEY", key)
    monkeypatch.setenv("KM_ENDPOINT", server.endpoint)
    logger, handler = configured(config_of(by))
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    assert dict(server.queries[0])["_k"] == key


#: Each variable of the contract, a value that is not the default, and what becomes of it; then a second value.
VARIABLES = {
    "KM_API_KEY": ("api_key", "one", "one", "two", "two"),
    "KM_ENDPOINT": ("endpoint", "http://127.0.0.1:9", "http://127.0.0.1:9", "https://x.test/b", "https://x.test/b"),
    "KM_MODE": ("mode", "print", "print", "off", "off"),
    "KM_OUTBOX": ("outbox", "memory:", "memory:", "memory:", "memory:"),
    "KM_DURABILITY": ("durability", "immediate", "immediate", "batched", "batched"),
    "KM_DELIVER": ("deliver", "true", True, "1", True),
    "KM_CAPACITY": ("capacity", "7", 7, 8, 8),
    "KM_OVERFLOW": ("overflow", "block", "block", "drop_oldest", "drop_oldest"),
    "KM_SENDERS": ("senders", "3", 3, 5, 5),
    "KM_CPU_SHARE": ("cpu_share", "0.25", 0.25, 1, 1.0),
    "KM_TRANSPORT": ("transport", "requests", "requests", "requests", "requests"),
    "KM_RETRY_FOR": ("retry_for", "12.5", 12.5, 0, 0.0),
    "KM_DRAIN_TIMEOUT": ("drain_timeout", "1.5", 1.5, 2, 2.0),
    "KM_STRICT": ("strict", "yes", True, False, False),
}


def _settings(**given: object) -> Any:
    handler = km.KissmetricsHandler(**given)
    settings = handler._tracker.settings
    handler.close()
    return settings


def _plain(value: object) -> object:
    return value if isinstance(value, str | bool | int | float | None) else str(value)


@pytest.mark.parametrize("variable", VARIABLES)
def test_keyword_beats_environment_beats_default(variable, monkeypatch, key):
    name, text, value, keyword, expected = VARIABLES[variable]
    given = {"api_key": key} if name != "api_key" else {}
    default = _plain(getattr(_settings(**given, mode="print"), name)) if name != "mode" else "live"
    monkeypatch.setenv(variable, text)
    assert _plain(getattr(_settings(**given), name)) == value
    assert _plain(getattr(_settings(**{**given, name: keyword}), name)) == expected
    monkeypatch.setenv(variable, "")
    assert _plain(getattr(_settings(**{"api_key": key, **given, "mode": "print", name: None}), name)) in {default, key}


def test_the_defaults_are_those_of_the_contract(key):
    settings = _settings(api_key=key)
    assert str(settings.endpoint) == "https://trk.kissmetrics.io"
    assert (settings.mode, str(settings.outbox), settings.durability, settings.deliver) == (
        "live",
        "memory:",
        "batched",
        True,
    )
    assert (settings.capacity, settings.overflow, settings.block_timeout) == (50_000, "drop_newest", 1)
    assert (settings.senders, settings.cpu_share, settings.transport) == (16, 0.5, "requests")
    assert (settings.timeout, settings.retry_for, settings.drain_timeout) == ((3.05, 10), 300, 5)
    assert (settings.drain_on_sigterm, settings.strict) == (False, False)
    assert (settings.include, settings.exclude, settings.value_limit) == (None, (), 512)
    assert (settings.person_field, settings.tag) == ("person", "km")
    assert (settings.before_send, settings.on_problem, settings.session) == (None, None, None)


# Callables.


@pytest.fixture
def shop_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An application's module, importable as ``shop_module``."""
    module = types.ModuleType("shop_module")
    module.problems = []
    module.redact = lambda call: replace(call, properties={**call.properties, "email": "***"})
    module.on_problem = module.problems.append
    module.Session = type("Session", (requests.Session,), {"made": classmethod(lambda cls: cls())})
    monkeypatch.setitem(sys.modules, "shop_module", module)
    return module


@by_class_and_by_factory
@pytest.mark.parametrize("prefix", ["ext://", ""], ids=["ext", "dotted"])
def test_callables_may_be_given_as_texts(prefix, by, key, server, shop_module):
    callables = {
        "before_send": f"{prefix}shop_module.redact",
        "on_problem": f"{prefix}shop_module.on_problem",
        "session": f"{prefix}shop_module.Session.made",
    }
    logger, handler = configured(config_of(by, api_key=key, endpoint=server.endpoint, **callables))
    logger.info("Signed Up", extra=km.event("bob", email="bob@bob.com", bad=float("nan")))
    assert handler.flush(HANG)
    assert dict(server.queries[0])["email"] == "***"
    assert [problem.kind for problem in shop_module.problems] == ["bad_value"]
    assert isinstance(handler._tracker.settings.session(), shop_module.Session)


@pytest.mark.parametrize("text", ["ext://shop_module.redact", "shop_module.redact", "shop_module:redact"])
@pytest.mark.parametrize("kind", [km.KissmetricsHandler, km.KissmetricsProcessor, km.Tracker])
def test_callables_may_be_given_as_texts_without_dictconfig(kind, text, key, shop_module):
    front_end = kind(api_key=key, before_send=text)
    tracker = front_end if isinstance(front_end, km.Tracker) else front_end._tracker
    assert tracker.settings.before_send is shop_module.redact
    front_end.close()


# A wrong setting.


@by_class_and_by_factory
@pytest.mark.parametrize(
    ("settings", "name", "remedy"),
    [
        ({"capcity": 5}, "capcity", "'capacity'"),
        ({"nonsense": 5}, "nonsense", "the settings are"),
        ({"capacity": "many"}, "capacity", "number"),
        ({"capacity": 0}, "capacity", "at least 1"),
        ({"capacity": 1.5}, "capacity", "whole"),
        ({"capacity": True}, "capacity", "number"),
        ({"senders": 0}, "senders", "at least 1"),
        ({"cpu_share": 0}, "cpu_share", "above 0"),
        ({"mode": "dry"}, "mode", "'print'"),
        ({"overflow": "explode"}, "overflow", "'drop_newest'"),
        ({"endpoint": "trk.kissmetrics.io"}, "endpoint", "https://host"),
        ({"endpoint": "https://user@host/"}, "endpoint", "https://host"),
        ({"endpoint": "https://host/?x=1"}, "endpoint", "https://host"),
        ({"endpoint": "ftp://host"}, "endpoint", "https://host"),
        ({"timeout": [1, 2, 3]}, "timeout", "[connect, read]"),
        ({"timeout": "soon"}, "timeout", "number"),
        ({"retry_for": -1}, "retry_for", "at least 0"),
        ({"strict": "maybe"}, "strict", "true or false"),
        ({"include": "plan"}, "include", "list"),
        ({"exclude": [5]}, "exclude", "texts"),
        ({"properties": ["plan"]}, "properties", "table"),
        ({"properties": {"since": object()}}, "properties", "since"),
        ({"properties": {"_k": "x"}}, "properties", "_k"),
        ({"properties": {"": "x"}}, "properties", "name"),
        ({"value_limit": 9_000}, "value_limit", "8000"),
        ({"tag": ""}, "tag", "not empty"),
        ({"tag": "person"}, "person_field", "two names"),
        ({"before_send": "no_such_module.redact"}, "before_send", "spelling"),
        ({"before_send": 5}, "before_send", "callable"),
        ({"outbox": "mysql://host"}, "outbox", "memory:"),
        ({"transport": "pigeon"}, "transport", "'requests'"),
        ({"api_key": "two\nlines"}, "api_key", "copy it"),
        ({"api_key": ""}, "api_key", "empty"),
        ({"api_key": None}, "api_key", "KM_API_KEY"),
    ],
    ids=shown,
)
def test_a_wrong_setting_is_named_in_the_chain_of_dictconfigs_error(settings, name, remedy, by, key):
    with pytest.raises(ValueError, match="kissmetrics") as raised:
        logging.config.dictConfig(config_of(by, **{"api_key": key, **settings}))
    error = _settings_error(raised.value)
    assert name in str(error)
    assert remedy in str(error)
    assert key not in str(error)


def _settings_error(error: BaseException | None) -> km.SettingsError:
    while error is not None:
        if isinstance(error, km.SettingsError):
            return error
        error = error.__cause__
    pytest.fail("no SettingsError in the chain")


@by_class_and_by_factory
def test_a_wrong_variable_is_named_as_it_is_written(by, key, monkeypatch):
    monkeypatch.setenv("KM_CAPACITY", "many")
    with pytest.raises(ValueError, match="kissmetrics") as raised:
        logging.config.dictConfig(config_of(by, api_key=key))
    assert "KM_CAPACITY" in str(_settings_error(raised.value))


@by_class_and_by_factory
def test_a_configuration_that_failed_can_be_mended(by, key, server):
    """The half-made handler is in nobody's way: not in that of dictConfig, nor of `logging.shutdown`."""
    with pytest.raises(ValueError, match="kissmetrics"):
        logging.config.dictConfig(config_of(by, api_key=key, capacity="many"))
    logger, handler = configured(config_of(by, api_key=key, endpoint=server.endpoint))
    logger.info("Signed Up", extra=km.event("bob"))
    assert handler.flush(HANG)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})


# Again and again.


class Passing(logging.Filter):
    """Lets everything pass, and keeps whose records reached the handler."""

    seen: list[str] = []  # noqa: RUF012 - one for all instances: dictConfig makes new ones

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen.append(record.km["person"])
        return True


@by_class_and_by_factory
@pytest.mark.parametrize("times", [2, 10])
def test_dictconfig_again_while_threads_log_loses_nothing_and_sends_nothing_twice(by, times, key, server):
    """Whatever reached a handler is sent; what found the logger without one, as dictConfig leaves it for a moment, not.

    A handler that was attached by code gets every record: dictConfig closes it as well, but lets it be.
    """
    Passing.seen.clear()
    config = config_of(by, api_key=key, endpoint=server.endpoint, filters=["passing"], drain_timeout=TOO_LONG)
    config["filters"] = {"passing": {"()": Passing}}
    logger, handler = configured(config)
    attached_logger = logging.getLogger("by_code")
    attached_logger.setLevel(logging.INFO)
    attached = km.KissmetricsHandler(api_key=key, endpoint=server.endpoint, drain_timeout=TOO_LONG)
    attached_logger.addHandler(attached)
    budget = threading.Semaphore(0)
    numbers = itertools.count()
    logged: list[str] = []

    def log() -> None:
        while budget.acquire(timeout=HANG) and (number := next(numbers)) < 60 * times:
            logger.info("Signed Up", extra=km.event(f"{number}"))
            logged.append(f"{number} by code")
            attached_logger.info("Signed Up", extra=km.event(f"{number} by code"))

    threads = [threading.Thread(target=log) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(times):
        budget.release(60)
        logging.config.dictConfig(config)
    budget.release(len(threads))
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive()
    (handler,) = logger.handlers
    assert handler.flush(HANG)
    assert attached.flush(HANG)
    assert len(logged) == 60 * times
    arrived = persons(server)
    assert len(arrived) == len(set(arrived))
    assert set(arrived) == set(Passing.seen) | set(logged)
    assert handler.stats().dropped == {}
    assert handler.stats().delivered == len(arrived)
    attached_logger.removeHandler(attached)


def _within_the_hang_guard(action: Callable[[], object]) -> None:
    """Do it in a thread, so that what stalls fails here and not at the end of everything."""
    failure: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised below
            failure.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(HANG)
    assert not thread.is_alive(), "it stalls"
    if failure:
        raise failure[0]


@by_class_and_by_factory
def test_dictconfig_does_not_wait_for_a_server_that_hangs_and_loses_no_call(by, key, hanging, gate):
    logging.getLogger("urllib3").setLevel(logging.DEBUG)  # its records need the lock that dictConfig holds
    config = config_of(by, api_key=key, endpoint=hanging.endpoint, drain_timeout=TOO_LONG)
    config["loggers"]["urllib3"] = {"level": "DEBUG"}
    logger, _handler = configured(config)
    for number in range(20):
        logger.info("Signed Up", extra=km.event(number))
    hanging.wait(1)
    for _ in range(2):
        _within_the_hang_guard(lambda: logging.config.dictConfig(config))
    assert not gate.is_set()
    logger.info("Signed Up", extra=km.event("after"))
    gate.set()
    (handler,) = logger.handlers
    assert handler.flush(HANG)
    assert sorted(persons(hanging)) == sorted([*map(str, range(20)), "after"])
    assert handler.stats().dropped == {}


@by_class_and_by_factory
def test_dictconfig_without_the_handler_still_delivers_what_was_logged_before(by, key, hanging, gate):
    """The handler is gone, but its calls are not; nothing but the tracker is left to deliver them."""
    logger, handler = configured(config_of(by, api_key=key, endpoint=hanging.endpoint, drain_timeout=TOO_LONG))
    logger.info("Signed Up", extra=km.event("bob"))
    hanging.wait(1)
    without = {"version": 1, "disable_existing_loggers": False}
    _within_the_hang_guard(lambda: logging.config.dictConfig(without))
    gate.set()
    assert handler.flush(HANG)
    assert handler.stats().delivered == 1


@by_class_and_by_factory
def test_basicconfig_with_force_does_not_wait_either(by, key, hanging, gate):
    logger, handler = configured(config_of(by, api_key=key, endpoint=hanging.endpoint, drain_timeout=TOO_LONG))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logger.info("Signed Up", extra=km.event("bob"))
    hanging.wait(1)
    _within_the_hang_guard(lambda: logging.basicConfig(force=True, handlers=[logging.NullHandler()]))
    assert not gate.is_set()
    assert handler not in root.handlers
    logger.info("Signed In", extra=km.event("eve"))
    gate.set()
    assert handler.flush(HANG)
    assert sorted(persons(hanging)) == ["bob", "eve"]
    assert handler.stats().dropped == {}


@by_class_and_by_factory
def test_django_configures_twice_its_own_first_and_then_the_projects(by, key, server):
    """With records in between, from apps that are loaded meanwhile."""
    own = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.NullHandler"}},
        "loggers": {"django": {"handlers": ["console"], "level": "INFO"}},
    }
    projects = config_of(by, api_key=key, endpoint=server.endpoint)
    logger = logging.getLogger("shop")
    logging.config.dictConfig(own)
    logging.config.dictConfig(projects)
    logger.info("Signed Up", extra=km.event("bob"))
    logging.config.dictConfig(own)
    logging.config.dictConfig(projects)
    logger.info("Signed In", extra=km.event("bob"))
    (handler,) = logger.handlers
    assert handler.flush(HANG)
    assert sorted(dict(query)["_n"] for query in server.queries) == ["Signed In", "Signed Up"]


@by_class_and_by_factory
def test_other_settings_the_second_time_apply_from_then_on(by, key, server):
    logger, before = configured(config_of(by, api_key=key, endpoint=server.endpoint, properties={"release": "1"}))
    logger.info("Signed Up", extra=km.event("bob"))
    logger, after = configured(config_of(by, api_key=key, endpoint=server.endpoint, properties={"release": "2"}))
    logger.info("Signed In", extra=km.event("bob"))
    assert before.flush(HANG)
    assert after.flush(HANG)
    assert sorted((dict(query)["_n"], dict(query)["release"]) for query in server.queries) == [
        ("Signed In", "2"),
        ("Signed Up", "1"),
    ]


@by_class_and_by_factory
def test_an_incremental_configuration_changes_the_level_of_the_handler(by, km_calls):
    logger, _handler = configured(config_of(by))
    logging.config.dictConfig({"version": 1, "incremental": True, "handlers": {"kissmetrics": {"level": "ERROR"}}})
    logger.info("Below", extra=km.event("bob"))
    logger.error("At", extra=km.event("bob"))
    assert [call.name for call in km_calls] == ["At"]


# disable_existing_loggers.


@by_class_and_by_factory
def test_disable_existing_loggers_silences_a_logger_but_not_the_handler(by, km_calls):
    forgotten = logging.getLogger("forgotten")
    forgotten.setLevel(logging.INFO)
    config = config_of(by)
    config["disable_existing_loggers"] = True
    logger, handler = configured(config)
    forgotten.addHandler(handler)
    forgotten.info("Silenced", extra=km.event("bob"))
    logger.info("Signed Up", extra=km.event("bob"))
    assert [call.name for call in km_calls] == ["Signed Up"]


@by_class_and_by_factory
def test_problems_are_said_also_where_dictconfig_disables_existing_loggers_as_it_does_by_default(by):
    """Nobody means this library's own logger by it: it exists only because the configuration has imported us."""
    said = run(
        """
        import logging, logging.config, sys
        logging.config.dictConfig({
            "version": 1,
            "handlers": {
                "console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
                "kissmetrics": {sys.argv[1]: "km_logging.KissmetricsHandler", "mode": "print"},
            },
            "root": {"level": "INFO", "handlers": ["console", "kissmetrics"]},
        })
        logging.info("Nobody's", extra={"km": "event"})
        logging.getLogger().handlers[1].flush(30)
        """,
        by,
    )
    assert "nobody is named" in said


# The end.


def test_logging_shutdown_delivers_and_a_handler_revives_after_it(server):
    """Calls `logging.shutdown` twice, as a careful application and the interpreter do."""
    printed = run(
        """
        import logging, logging.config, sys
        import km_logging as km
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"kissmetrics": {
                "class": "km_logging.KissmetricsHandler",
                "api_key": "key",
                "endpoint": sys.argv[1],
                "drain_timeout": 30,
            }},
            "root": {"level": "INFO", "handlers": ["kissmetrics"]},
        })
        (handler,) = logging.getLogger().handlers
        for number in range(100):
            logging.info("Signed Up", extra=km.event(number))
        logging.shutdown()
        print(handler.stats().delivered, handler.stats().pending)
        logging.info("Signed Up", extra=km.event("late"))
        """,
        server.endpoint,
    )
    assert printed.split() == ["100", "0"]
    assert sorted(persons(server)) == sorted([*map(str, range(100)), "late"])


def test_logging_shutdown_ends_within_drain_timeout_though_the_server_hangs(key, hanging, gate, capsys):
    logger, handler = configured(config_of("class", api_key=key, endpoint=hanging.endpoint, drain_timeout=0.1))
    logger.info("Signed Up", extra=km.event("bob"))
    hanging.wait(1)
    _within_the_hang_guard(logging.shutdown)
    assert not gate.is_set()
    assert handler.stats().dropped == {"closed": 1}
    assert "1 call" in capsys.readouterr().err


def test_the_end_of_the_process_delivers_also_what_dictconfig_has_unlisted(server):
    """A handler attached by code, closed and forgotten by dictConfig, which `logging.shutdown` knows no more."""
    run(
        """
        import logging, logging.config, sys
        import km_logging as km
        logger = logging.getLogger("shop")
        logger.setLevel(logging.INFO)
        logger.addHandler(km.KissmetricsHandler(api_key="key", endpoint=sys.argv[1], drain_timeout=30))
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        for number in range(100):
            logger.info("Signed Up", extra=km.event(number))
        """,
        server.endpoint,
    )
    assert sorted(map(int, persons(server))) == list(range(100))


def test_configuring_alone_starts_nothing_and_says_nothing(key):
    before = set(threading.enumerate())
    config = config_of("class", api_key=key, endpoint="http://127.0.0.1:9")
    for _ in range(3):
        logging.config.dictConfig(config)
    logging.getLogger("shop").info("no call")
    assert set(threading.enumerate()) <= before
    assert (
        run(f"""
        import logging.config, sys, threading
        opened = []
        sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
        logging.config.dictConfig({config!r})
        logging.shutdown()
        print(opened, threading.active_count(), [name for name in ("requests", "structlog") if name in sys.modules])
    """).split("\n")[0]
        == "[] 1 []"
    )
