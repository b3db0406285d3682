"""What is wrong with a configuration is named, with the remedy; what may not be shown is masked."""

from __future__ import annotations

from typing import Any

import pytest

from km_logging.checkup import findings_of, handler_settings, settings_shown
from km_logging.settings import SETTINGS, Settings

SOUND: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"km": {"class": "km_logging.KissmetricsHandler", "api_key": "secret-key"}},
    "root": {"level": "INFO", "handlers": ["km"]},
}


def messages(config: dict[str, Any]) -> list[str]:
    return [str(finding) for finding in findings_of(config, {})]


def test_a_sound_configuration_has_no_findings() -> None:
    assert messages(SOUND) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"handlers": {"console": {"class": "logging.StreamHandler"}}}, "no handler is a KissmetricsHandler"),
        ({"handlers": {"km": {"()": "km_logging.KissmetricsHandler"}}}, "api_key is missing"),
        ({"handlers": {"km": {**SOUND["handlers"]["km"], "level": "WARNING"}}}, "drops what is below its level"),
        ({"root": {"level": "INFO"}}, "no logger has the handler 'km'"),
        ({"root": {"handlers": ["km"]}}, "the root logger's level drops INFO"),
        ({"loggers": {"shop": {"level": "ERROR"}}}, "the level of logger 'shop' drops INFO"),
        ({"loggers": {"shop": {"propagate": False}}}, "logger 'shop' does not propagate"),
        ({"disable_existing_loggers": True}, "disable_existing_loggers is on"),
    ],
)
def test_each_mistake_is_the_one_finding(change: dict[str, Any], message: str) -> None:
    found = messages({**SOUND, **change})
    assert len(found) == 1
    assert message in found[0]
    assert "secret-key" not in found[0]


def test_disable_existing_loggers_is_on_unless_it_is_said() -> None:
    config = {key: value for key, value in SOUND.items() if key != "disable_existing_loggers"}
    assert any("disable_existing_loggers" in message for message in messages(config))


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
    assert [message for message in messages({**SOUND, "loggers": {"shop": logger}}) if "propagate" in message] == []


def test_the_settings_of_each_handler_without_what_is_dictconfigs_own() -> None:
    handlers = {"km": {"class": "km_logging.KissmetricsHandler", "level": "INFO", "senders": 3}, "x": {"class": "y.Z"}}
    assert handler_settings({"handlers": handlers}) == {"km": {"senders": 3}}


def test_every_setting_is_shown_with_its_source_and_without_secrets() -> None:
    given = {"api_key": "secret-key", "properties": {"environment": "secret-value"}, "strict": True}
    environ = {"KM_SENDERS": "3"}
    shown = settings_shown(Settings.resolve(given, environ), given, environ)
    assert [row.name for row in shown] == list(SETTINGS)
    rows = {row.name: (row.value, row.source) for row in shown}
    assert rows["api_key"] == ("***", "given")
    assert rows["properties"] == ("environment=***", "given")
    assert rows["senders"] == ("3", "KM_SENDERS")
    assert rows["strict"] == ("true", "given")
    assert rows["timeout"] == ("3.05, 10.0", "default")
    assert "secret" not in str(shown)
