"""What a configuration would do, and what is wrong with it. Pure: it configures nothing.

`settings_shown` is the table of settings with their sources, the key masked; `findings_of` looks through a dictConfig
for what would drop a tagged record before our handler sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from km_logging.errors import SettingsError
from km_logging.settings import SETTINGS, Settings, source

__all__ = ["Finding", "Shown", "findings_of", "handler_settings", "settings_shown"]

_HANDLER = "KissmetricsHandler"
_OWN = frozenset({"class", "()", "level", "filters", "formatter", "."})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        message: what is wrong.
        remedy: what to do about it.
        is_note: whether it may be meant so.
    """

    message: str
    remedy: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as it may be shown.

    Attributes:
        name: the setting.
        value: its value as text; the key and properties are masked.
        source: ``given``, the name of an environment variable, or ``default``.
    """

    name: str
    value: str
    source: str


def settings_shown(settings: Settings, given: Mapping[str, object], environ: Mapping[str, str]) -> list[Shown]:
    """Each setting, its value and where that comes from."""
    return [Shown(name, _masked(name, getattr(settings, name)), source(name, given, environ)) for name in SETTINGS]


def _masked(name: str, value: object) -> str:
    if value is None or value == ():
        return "-"
    if name == "api_key":
        return "***"
    if name == "properties":
        return ", ".join(f"{key}=***" for key, _ in value)  # type: ignore[attr-defined]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return getattr(value, "__qualname__", None) or str(value)


def handler_settings(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each of our handlers in a dictConfig, by the handler's name."""
    return {
        name: {key: value for key, value in handler.items() if key not in _OWN}
        for name, handler in _table(config, "handlers").items()
        if isinstance(handler, Mapping) and str(handler.get("class") or handler.get("()") or "").endswith(_HANDLER)
    }


def findings_of(config: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with a dictConfig, as far as tracking is concerned."""
    ours = handler_settings(config)
    if not ours:
        yield Finding(f"no handler is a {_HANDLER}", f'add one with "class": "km_logging.{_HANDLER}"')
        return
    for name, given in ours.items():
        try:
            Settings.resolve(given, environ)
        except SettingsError as error:
            yield Finding(f"handler {name!r}", str(error))
        if _level(config["handlers"][name].get("level")) > logging.INFO:
            yield Finding(f"handler {name!r} drops what is below its level", 'set its "level" to "INFO" or lower')
        yield from _unreached(config, name)
    if config.get("disable_existing_loggers", True) and not config.get("incremental"):
        message = "disable_existing_loggers is on: loggers made before the configuration fall silent"
        yield Finding(message, 'set "disable_existing_loggers": false')


def _unreached(config: Mapping[str, Any], handler: str) -> Iterator[Finding]:
    """What keeps records from a handler: nobody has it, a level, or propagation that ends below it."""
    root = _table(config, "root")
    loggers = {name: logger for name, logger in _table(config, "loggers").items() if isinstance(logger, Mapping)}
    having = [name for name, logger in loggers.items() if handler in (logger.get("handlers") or ())]
    on_root = handler in (root.get("handlers") or ())
    if not on_root and not having:
        yield Finding(f"no logger has the handler {handler!r}", 'name it in "root": {"handlers": [..]}')
    for name in having:
        if _effective_level(name, loggers, root) > logging.INFO:
            yield Finding(f"the level of logger {name!r} drops INFO", 'set its "level" to "INFO" or lower')
    if on_root:
        yield from _unreached_root(loggers, root, handler)


def _unreached_root(loggers: Mapping[str, Any], root: Mapping[str, Any], handler: str) -> Iterator[Finding]:
    passing = False
    for name, logger in loggers.items():
        if handler in (logger.get("handlers") or ()):
            continue
        if logger.get("propagate") is False:
            remedy = f'add {handler!r} to its "handlers", or let it propagate, if it logs tagged records'
            yield Finding(f"logger {name!r} does not propagate to the handler {handler!r}", remedy, is_note=True)
        elif _level(logger.get("level")) > logging.INFO:
            remedy = 'set its "level" to "INFO" or lower, if it logs tagged records'
            yield Finding(f"the level of logger {name!r} drops INFO", remedy, is_note=True)
        else:
            passing = passing or _level(logger.get("level")) > logging.NOTSET
    if _level(root.get("level", "WARNING")) > logging.INFO:
        yield Finding("the root logger's level drops INFO", 'set "root": {"level": "INFO"}', is_note=passing)


def _effective_level(name: str, loggers: Mapping[str, Any], root: Mapping[str, Any]) -> int:
    """The level of a logger, or of the nearest one above it that has one."""
    while name:
        if level := _level(_table(loggers, name).get("level")):
            return level
        name = name.rpartition(".")[0]
    return _level(root.get("level", "WARNING"))


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name)
    return table if isinstance(table, Mapping) else {}


def _level(level: object) -> int:
    if isinstance(level, int):
        return level
    number = logging.getLevelName(str(level).upper())
    return number if isinstance(number, int) else logging.NOTSET
