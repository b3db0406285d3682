"""The settings: where each value comes from, what is refused and how that is said, and when two are equal."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import logging.config
import math
import os.path
import pickle
import traceback

import pytest

from km_logging.addresses import Endpoint, OutboxAddress
from km_logging.checkup import settings_shown
from km_logging.errors import KmLoggingError, SettingsError
from km_logging.settings import SETTINGS, Settings, resolve_callable, source
from km_logging.tagging import Rules, from_event_dict
from km_logging.telling import tell
from support.ids import shown

KEY = "0123456789abcdef-the-secret-key"

#: The contract's table: setting, default, environment variable.
TABLE = {
    "api_key": (None, "KM_API_KEY"),
    "endpoint": (Endpoint("https://trk.kissmetrics.io", "", is_private=True), "KM_ENDPOINT"),
    "mode": ("live", "KM_MODE"),
    "outbox": (OutboxAddress("memory"), "KM_OUTBOX"),
    "durability": ("batched", "KM_DURABILITY"),
    "deliver": (True, "KM_DELIVER"),
    "capacity": (50_000, "KM_CAPACITY"),
    "overflow": ("drop_newest", "KM_OVERFLOW"),
    "block_timeout": (1.0, None),
    "senders": (16, "KM_SENDERS"),
    "cpu_share": (0.5, "KM_CPU_SHARE"),
    "transport": ("requests", "KM_TRANSPORT"),
    "timeout": ((3.05, 10.0), None),
    "retry_for": (300.0, "KM_RETRY_FOR"),
    "drain_timeout": (5.0, "KM_DRAIN_TIMEOUT"),
    "drain_on_sigterm": (False, None),
    "strict": (False, "KM_STRICT"),
    "include": (None, None),
    "exclude": ((), None),
    "person_field": ("person", None),
    "tag": ("km", None),
    "value_limit": (512, None),
    "properties": ((), None),
    "before_send": (None, None),
    "on_problem": (None, None),
    "session": (None, None),
}


def resolve(environ=None, **given):
    return Settings.resolve(given, {"KM_API_KEY": KEY, **(environ or {})})


def refused(environ=None, **given):
    """The message of the error that these settings raise."""
    with pytest.raises(SettingsError) as caught:
        resolve(environ, **given)
    return str(caught.value)


# The table.


def test_the_settings_are_those_of_the_contract():
    assert set(SETTINGS) == set(TABLE)
    assert {field.name for field in dataclasses.fields(Settings)} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_the_defaults_and_variables_are_those_of_the_contract(name):
    default, variable = TABLE[name]
    assert SETTINGS[name].environment == variable
    if name != "api_key":
        assert getattr(resolve(), name) == default


#: A text for the environment and a keyword, both other than the default, and what becomes of them.
CARRIED = {
    "api_key": ("key-e", "key-e", "key-k", "key-k"),
    "endpoint": (
        "http://localhost:8123",
        Endpoint("http://localhost:8123", "", is_private=True),
        "https://example.com/km/",
        Endpoint("https://example.com", "/km", is_private=True),
    ),
    "mode": ("off", "off", "print", "print"),
    "durability": ("immediate", "immediate", "batched", "batched"),
    "deliver": ("yes", True, True, True),
    "capacity": ("10", 10, 20, 20),
    "overflow": ("block", "block", "drop_oldest", "drop_oldest"),
    "senders": ("2", 2, 3, 3),
    "cpu_share": ("0.25", 0.25, 1, 1.0),
    "transport": ("requests", "requests", "requests", "requests"),
    "outbox": ("memory:", OutboxAddress("memory"), "memory://", OutboxAddress("memory")),
    "retry_for": ("60", 60.0, 3600, 3600.0),
    "drain_timeout": ("0.5", 0.5, 0, 0.0),
    "strict": ("true", True, False, False),
}


def test_every_setting_with_a_variable_is_tried():
    assert set(CARRIED) == {name for name, (_, variable) in TABLE.items() if variable}


@pytest.mark.parametrize("name", CARRIED)
def test_keyword_beats_environment_beats_default(name):
    text, from_environment, keyword, from_keyword = CARRIED[name]
    variable = TABLE[name][1]
    assert getattr(resolve({variable: text}), name) == from_environment
    assert getattr(resolve({variable: text}, **{name: keyword}), name) == from_keyword
    assert source(name, {}, {}) == "default"
    assert source(name, {}, {variable: text}) == variable
    assert source(name, {name: keyword}, {variable: text}) == "given"


@pytest.mark.parametrize("name", [name for name in CARRIED if name not in {"api_key", "endpoint"}])
def test_a_bad_variable_matters_only_where_nothing_is_given(name):
    """And the message names the variable, since that is what has to be mended."""
    variable = TABLE[name][1]
    assert variable in refused({variable: "nonsense:"})
    assert getattr(resolve({variable: "nonsense:"}, **{name: CARRIED[name][2]}), name) == CARRIED[name][3]


@pytest.mark.parametrize("name", [name for name in CARRIED if name != "api_key"])
def test_an_empty_variable_counts_as_not_given(name):
    assert getattr(resolve({TABLE[name][1]: ""}), name) == TABLE[name][0]


@pytest.mark.parametrize("name", [name for name in TABLE if name != "api_key"])
def test_none_counts_as_not_given(name):
    assert getattr(resolve(**{name: None}), name) == TABLE[name][0]


@pytest.mark.parametrize("name", [name for name, (_, variable) in TABLE.items() if variable is None])
def test_settings_without_a_variable_cannot_be_set_by_the_environment(name):
    assert resolve({f"KM_{name.upper()}": "nonsense"}) == resolve()


@pytest.mark.parametrize("text", ["true", "True", " TRUE ", "1", "yes", "on"])
def test_a_boolean_may_be_written_in_the_usual_ways(text):
    assert resolve(strict=text).strict is True
    assert resolve({"KM_STRICT": text}).strict is True


@pytest.mark.parametrize("text", ["false", "False", " FALSE ", "0", "no", "off"])
def test_so_may_its_opposite(text):
    assert resolve({"KM_STRICT": "1"}, strict=text).strict is False
    assert resolve({"KM_STRICT": text}).strict is False


@pytest.mark.parametrize("name", ["mode", "overflow", "durability", "transport", "outbox", "endpoint"])
def test_blanks_around_a_text_and_capitals_in_a_choice_do_not_matter(name):
    _, __, keyword, value = CARRIED[name]
    assert getattr(resolve(**{name: f" {keyword} "}), name) == value
    if name not in {"endpoint", "outbox"}:
        assert getattr(resolve(**{name: keyword.upper()}), name) == value


@pytest.mark.parametrize(("timeout", "both"), [([1, 2.5], (1.0, 2.5)), ((1, 2), (1.0, 2.0)), (4, (4.0, 4.0))], ids=str)
def test_a_timeout_is_for_connecting_and_reading(timeout, both):
    assert resolve(timeout=timeout).timeout == both


# The API key.


@pytest.mark.parametrize("mode", ["print", "off"])
def test_no_key_is_needed_where_nothing_is_sent(mode):
    assert Settings.resolve({"mode": mode}, {}).api_key is None


@pytest.mark.parametrize("environ", [{}, {"KM_DELIVER": "false"}], ids=["keyword", "environment"])
def test_calls_in_memory_that_nobody_would_deliver_are_a_mistake(environ):
    """Only an outbox that another process can open may be left to be delivered by it."""
    message = refused(environ, outbox="memory:", **({} if environ else {"deliver": False}))
    assert "deliver" in message
    assert "memory:" in message


def test_a_stream_is_left_to_relays_unless_deliver_says_otherwise():
    """An application that only fills it needs no key; and its calls are tried for days, as in a file."""
    settings = Settings.resolve({"outbox": "redis://shop"}, {})
    assert (settings.deliver, settings.api_key, settings.retry_for) == (False, None, 7 * 86_400)
    assert resolve(outbox="redis://shop", deliver=True).deliver is True
    assert resolve(outbox="sqlite:///km.db").deliver is True


def test_a_log_call_that_would_wait_for_the_network_is_a_mistake():
    """Immediate commits are for a file."""
    assert "sqlite:///" in refused(outbox="redis://shop", durability="immediate")


def test_a_password_of_an_outbox_appears_in_no_repr_and_no_table():
    settings = resolve(outbox="redis://ann:s3cret@shop")
    shown = settings_shown({"outbox": "redis://ann:s3cret@shop"}, {})
    assert "s3cret" not in f"{settings!r} {settings} {shown}"
    assert "shop" in repr(shown)


def test_a_missing_key_is_said_with_the_remedy():
    with pytest.raises(SettingsError, match=r"api_key.*KM_API_KEY"):
        Settings.resolve({}, {})


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "a\0b", "k" * 256, 5, b"key", ["key"]], ids=ascii)
def test_a_key_that_is_none_is_refused_without_being_shown(key):
    message = refused(api_key=key)
    assert "api_key" in message
    assert not isinstance(key, str) or not key.strip() or key.strip() not in message


def test_the_key_appears_in_no_repr():
    settings = resolve(properties={"a": "secret-value"})
    assert KEY not in repr(settings) + str(settings) + f"{settings}"
    assert "secret-value" not in repr(settings)
    assert settings.api_key == KEY


BAD = {
    "api_key": ["", " ", 5, "a\nb", "k" * 256],
    "endpoint": [
        "",
        5,
        "trk.kissmetrics.io",
        "ftp://trk.kissmetrics.io",
        "https://",
        "https:///path",
        "https://host:port",
        "https://host:99999",
        "https://[::1",
        "https://user@host",
        "https://user:password@host",
        "https://host/?a=b",
        "https://host/e?_k=key",
        "https://host?",
        "https://host#fragment",
        "https://host#",
        "https://ho st",
        "https://host/a\nb",
        "https://höst",
        "https://host/" + "x" * 300,
    ],
    "mode": ["", "Life", "printing", 5, True, ["off"]],
    "outbox": ["", "memory", "file:///km.db", "km.db", 5],
    "durability": ["", "full", 5],
    "deliver": ["", "maybe", 2, 0.5, [], "None"],
    "capacity": ["", 0, -1, 1.5, "many", "50,000", math.nan, math.inf, True, [5], 10**10, 10**400],
    "overflow": ["", "drop", "drop-oldest", 5],
    "block_timeout": ["", -1, "soon", math.nan, math.inf, False],
    "senders": ["", 0, -1, 2.5, 10**6, "all", True],
    "cpu_share": ["", 0, -0.5, "half", math.nan, math.inf, 1_000],
    "transport": ["", "urllib", "http", 5],
    "timeout": ["", 0, -1, [], [1], [1, 2, 3], [0, 1], [1, "soon"], [1, math.nan], "1,2", True, {"connect": 1}, {1, 2}],
    "retry_for": ["", -1, "for ever", math.nan, True, [300]],
    "drain_timeout": ["", -1, "soon", math.nan, math.inf],
    "drain_on_sigterm": ["", "maybe", 5],
    "strict": ["", "very", 5, "tru"],
    "include": ["plan", 5, [5], [None], {"plan": 1}, ["plan", b"seats"]],
    "exclude": ["plan", 5, [5], [["plan"]]],
    "person_field": ["", " ", 5, ["person"]],
    "tag": ["", " ", 5, None.__class__],
    "value_limit": [0, -1, 1.5, 8_001, "long", True],
    "properties": [
        "environment",
        5,
        ["a"],
        {5: "a"},
        {"a": object()},
        {"a": math.nan},
        {"a": [[1]]},
        {"a": "\ud800"},
        {"a": {"b": object()}},
        {"_k": "x"},
        {"_p": "x"},
        {"_n": "x"},
        {"_t": "x"},
        {"_d": "x"},
        {"": "x"},
        {"x" * 256: "x"},
        {"\ud800": "x"},
        {"a": "x" * 8_001},
    ],
    "before_send": ["", "no.such.module", "os.path.nothing", "ext://os.path", 5, [len], "os path", "."],
    "on_problem": ["", "no.such.module", "ext://", 5],
    "session": ["", "no.such.module:Session", 5],
}


def test_every_setting_has_bad_values():
    assert set(BAD) == set(TABLE)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: shown(value)[:30],
)
def test_a_bad_value_is_refused_by_name_with_a_remedy_and_without_the_key(name, value):
    """Neither the message nor what the error came from shows the key."""
    given = {"api_key": KEY, name: value}
    with pytest.raises(SettingsError) as caught:
        Settings.resolve(given, {})
    assert name in str(caught.value)
    assert len(str(caught.value)) > len(name) + 15  # it says more than the name
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert isinstance(caught.value, KmLoggingError)
    assert isinstance(caught.value, ValueError)


def test_a_value_too_large_to_be_shown_is_refused_as_well():
    """Python writes no integer of more than 4,300 digits."""
    for name in ("capacity", "retry_for", "strict", "mode"):
        assert name in refused(**{name: -(10**9_999)})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("apikey", "api_key"),
        ("api_keys", "api_key"),
        ("end_point", "endpoint"),
        ("sender", "senders"),
        ("capcity", "capacity"),
        ("drain_time_out", "drain_timeout"),
        ("personfield", "person_field"),
        ("before_sent", "before_send"),
        ("exclud", "exclude"),
        ("property", "properties"),
    ],
)
def test_an_unknown_setting_suggests_the_near_one(name, hint):
    message = refused(**{name: "x"})
    assert repr(name) in message
    assert repr(hint) in message


def test_an_unknown_setting_that_is_near_to_none_lists_them_all():
    message = refused(zzz=1)
    assert all(name in message for name in TABLE)


def test_an_unknown_setting_does_not_show_its_value():
    assert KEY not in refused(apikey=KEY)


def test_tag_and_person_field_must_differ():
    message = refused(tag="who", person_field="who")
    assert "tag" in message
    assert "person_field" in message


def test_no_default_property_is_ever_sent_under_a_name_or_with_a_value_that_a_call_may_not_have():
    """What is refused in a call must not come in through the settings: above all no second `_k`."""
    for properties in ({"_k": "x"}, {"": "x"}, {"x" * 256: "x"}, {"a": "x" * 513}):
        try:
            rules = Rules(resolve(properties=properties))
        except SettingsError:
            continue
        fields = {"event": "Signed Up", "km": "event", "person": "bob"}
        assert tell(from_event_dict(fields, rules, None, dict, 1_262_304_000), rules).call.properties == {}


# The endpoint.


@pytest.mark.parametrize(
    ("url", "origin", "base", "is_private"),
    [
        ("https://trk.kissmetrics.io", "https://trk.kissmetrics.io", "", True),
        ("https://trk.kissmetrics.io/", "https://trk.kissmetrics.io", "", True),
        ("HTTPS://TRK.Kissmetrics.IO", "https://trk.kissmetrics.io", "", True),
        ("http://trk.kissmetrics.com", "http://trk.kissmetrics.com", "", False),
        ("https://host:8443/base/path/", "https://host:8443", "/base/path", True),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8123", "", True),
        ("http://127.9.8.7", "http://127.9.8.7", "", True),
        ("http://localhost:8123", "http://localhost:8123", "", True),
        ("http://km.localhost", "http://km.localhost", "", True),
        ("http://[::1]:8123", "http://[::1]:8123", "", True),
        ("http://[2001:db8::1]", "http://[2001:db8::1]", "", False),
        ("http://10.0.0.1", "http://10.0.0.1", "", False),
        ("http://localhost.example.com", "http://localhost.example.com", "", False),
        ("http://127.0.0.1.example.com", "http://127.0.0.1.example.com", "", False),
    ],
)
def test_an_endpoint_is_scheme_host_port_and_base_path(url, origin, base, is_private):
    endpoint = resolve(endpoint=url).endpoint
    assert (endpoint.origin, endpoint.base, endpoint.is_private) == (origin, base, is_private)
    assert str(endpoint) == origin + base


def test_an_error_about_the_endpoint_shows_neither_password_nor_query():
    for url in ("https://user:hunter2@host", "https://host/?token=hunter2", "https://host/#hunter2"):
        assert "hunter2" not in refused(endpoint=url)


# Callables.


def named(call):
    return call


@pytest.mark.parametrize("name", ["before_send", "on_problem", "session"])
@pytest.mark.parametrize(
    "value", ["ext://os.path.join", "os.path.join", "os.path:join", " ext://os.path.join ", os.path.join]
)
def test_a_callable_may_be_given_as_text(name, value):
    assert getattr(resolve(**{name: value}), name) is os.path.join


@pytest.mark.parametrize("value", [named, functools.partial(named), dict, [].append], ids=shown)
def test_a_callable_may_be_anything_that_can_be_called(value):
    assert resolve(before_send=value).before_send is value


def test_what_is_named_but_cannot_be_imported_is_said_with_the_spelling():
    message = refused(before_send="ext://no.such.module")
    assert "before_send" in message
    assert "no.such.module" in message
    with pytest.raises(SettingsError):
        resolve_callable("session", "os.path.nothing")


# dictConfig: lists and tables come as its own types, which convert what is in them only when asked.

CONFIGURATION = {
    "api_key": KEY,
    "endpoint": "http://localhost:8123",
    "timeout": [1, "2.5"],
    "include": ["plan", "seats"],
    "exclude": ["card"],
    "properties": {"environment": "test", "release": {"number": 5, "tags": ["a", "b"]}},
    "before_send": "ext://os.path.join",
    "on_problem": "os.path.join",
    "strict": True,
    "capacity": 10,
}
RESOLVED = Settings.resolve({**CONFIGURATION, "before_send": os.path.join, "on_problem": os.path.join}, {})


class Capturing(logging.NullHandler):
    """A handler that takes settings as keywords, as ours do."""

    seen: list[Settings] = []  # noqa: RUF012

    def __init__(self, **settings):
        super().__init__()
        self.seen.append(Settings.resolve(settings, {}))


@pytest.mark.parametrize("key", ["class", "()"])
@pytest.mark.parametrize("through_json", [False, True])
def test_what_dict_config_hands_over_is_understood(key, through_json, monkeypatch):
    """By `class` and by `()`, from Python and from JSON: the settings are the same, and equal for sharing."""
    monkeypatch.setattr(Capturing, "seen", [])
    handler = {key: Capturing if key == "()" else f"{__name__}.Capturing", **CONFIGURATION}
    if key == "class":
        monkeypatch.setattr(logging, "Capturing", Capturing, raising=False)
        handler["class"] = "logging.Capturing"
    elif through_json:
        handler["()"] = "logging.Capturing"
        monkeypatch.setattr(logging, "Capturing", Capturing, raising=False)
    configuration = {
        "version": 1,
        "disable_existing_loggers": False,
        "incremental": False,
        "handlers": {"km": handler},
        "loggers": {"test_settings": {"handlers": ["km"]}},
    }
    configuration = json.loads(json.dumps(configuration)) if through_json else configuration
    logging.config.dictConfig(configuration)
    logging.getLogger("test_settings").handlers.clear()
    (settings,) = Capturing.seen
    assert settings == RESOLVED
    assert hash(settings) == hash(RESOLVED)


def test_what_dict_config_converts_inside_lists_and_tables_is_converted():
    """`cfg://` refers to another part of the configuration."""
    configurator = logging.config.DictConfigurator(
        {
            "version": 1,
            "shared": {"environment": "test", "connect": 1.5},
            "given": {
                "timeout": ["cfg://shared.connect", 2],
                "properties": {"environment": "cfg://shared.environment", "all": "cfg://shared"},
            },
        }
    )
    given = configurator.config["given"]
    settings = resolve(timeout=given["timeout"], properties=given["properties"])
    assert settings.timeout == (1.5, 2.0)
    assert dict(settings.properties) == {"environment": "test", "all.environment": "test", "all.connect": "1.5"}


# Equal settings share one tracker.


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({}, {"mode": "live", "capacity": 50_000}),
        ({}, {"endpoint": "https://trk.kissmetrics.io/"}),
        ({"timeout": [1, 2]}, {"timeout": (1.0, "2")}),
        ({"include": ["a", "b"]}, {"include": ("b", "a")}),
        ({"include": ["a"]}, {"include": {"a"}}),
        ({"exclude": []}, {}),
        ({"properties": {"a": 1}}, {"properties": {"a": "1"}}),
        ({"before_send": named}, {"before_send": named}),
        ({"before_send": os.path.join}, {"before_send": "ext://os.path.join"}),
        ({"capacity": "10"}, {"capacity": 10.0}),
        ({"strict": "true"}, {"strict": True}),
    ],
    ids=shown,
)
def test_settings_that_mean_the_same_are_equal_and_hash_alike(given, same):
    assert resolve(**given) == resolve(**same)
    assert hash(resolve(**given)) == hash(resolve(**same))


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": "another"},
        {"endpoint": "https://example.com"},
        {"mode": "print"},
        {"capacity": 10},
        {"include": []},
        {"exclude": ["plan"]},
        {"properties": {"a": 1}},
        {"before_send": named},
        {"before_send": lambda call: call},
        {"timeout": [1, 2]},
        {"strict": True},
    ],
    ids=shown,
)
def test_settings_that_differ_in_anything_are_not_equal(given):
    assert resolve(**given) != resolve()


def test_settings_are_frozen_and_keep_nothing_of_the_callers():
    include, properties = ["plan"], {"a": 1}
    settings = resolve(include=include, properties=properties)
    include.append("secret")
    properties["b"] = 2
    assert settings == resolve(include=["plan"], properties={"a": 1})
    for field in dataclasses.fields(settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, None)


def test_settings_may_be_copied_and_changed():
    settings = resolve()
    assert copy.copy(settings) == pickle.loads(pickle.dumps(settings)) == settings
    assert dataclasses.replace(settings, mode="print") == resolve(mode="print")
