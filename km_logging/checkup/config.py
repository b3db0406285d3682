"""What in a dictConfig would keep a tagged record from our handler, or bring it there twice. Configures nothing."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator, Mapping
from typing import Any

from km_logging.calls import type_name
from km_logging.checkup.filters import filter_findings, logger_filter_findings
from km_logging.checkup.finding import Finding
from km_logging.checkup.meetings import meeting_findings
from km_logging.checkup.refused import refused_findings
from km_logging.checkup.settings import settings_findings
from km_logging.checkup.tables import ROOT, class_of, level_of, loggers_of, names_of, next_of, said, table_of
from km_logging.errors import SettingsError

__all__ = ["config_findings", "handler_settings"]

_HANDLER = "KissmetricsHandler"
_OWN = frozenset({"class", "()", "level", "filters", "formatter", "."})


def handler_settings(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each of our handlers in a dictConfig, by the handler's name; ``ext://`` and ``cfg://`` resolved.

    Raises:
        SettingsError: one of these cannot be resolved.
    """
    found = {}
    for name, handler in table_of(config, "handlers").items():
        if isinstance(handler, Mapping) and class_of(handler).endswith(_HANDLER):
            table = logging.config.DictConfigurator(dict(config)).config["handlers"][name]
            found[name] = {key: _converted(table, name, key) for key in table if key not in _OWN}
    return found


def _converted(table: Any, handler: str, key: str) -> object:
    try:
        return table[key]
    except Exception as error:  # a module may raise anything while it is imported
        message = f"handler {handler!r}: {key} cannot be resolved ({type_name(error)})"
        raise SettingsError(f"{message}: check the spelling of what follows ext:// or cfg://") from error


def config_findings(config: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with a dictConfig, as far as tracking is concerned."""
    try:
        ours = handler_settings(config)
    except SettingsError as error:
        yield Finding("the configuration", str(error))
        return
    if not ours:
        yield Finding(f"no handler is a {_HANDLER}", f'add one with "class": "km_logging.{_HANDLER}"')
        return
    yield from refused_findings(config)
    for name, given in ours.items():
        yield from settings_findings(f"handler {name!r}", given, environ)
    tag = str(next(iter(ours.values())).get("tag") or "km")
    for name in _leading(config, ours):
        yield from _handler_findings(config, name, tag)
    for name in ours:
        yield from _unreached(config, name)
    yield from logger_filter_findings(config, ours, tag)
    yield from meeting_findings(config, ours, environ)
    if config.get("disable_existing_loggers", True) and not config.get("incremental"):
        message = "disable_existing_loggers is on: loggers that modules made before the configuration fall silent"
        yield Finding(message, 'set "disable_existing_loggers": false, or name each of them in "loggers"')


def _leading(config: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Our handlers, and those that lead to them."""
    return [
        name for name in table_of(config, "handlers") if any(name == it or it in next_of(config, name) for it in ours)
    ]


def _handler_findings(config: Mapping[str, Any], name: str, tag: str) -> Iterator[Finding]:
    handler = table_of(table_of(config, "handlers"), name)
    if level_of(handler.get("level")) > logging.INFO:
        yield Finding(f"handler {name!r} drops what is below its level", 'set its "level" to "INFO" or lower')
    for filter_name in names_of(handler, "filters"):
        yield from filter_findings(config, filter_name, f"handler {name!r}", "shop", tag)


def _unreached(config: Mapping[str, Any], handler: str) -> Iterator[Finding]:
    """What keeps records from a handler: nobody has it, a level, or propagation that ends below it."""
    loggers = loggers_of(config)
    having = [name for name, logger in loggers.items() if _has(config, logger, handler)]
    if not having:
        yield Finding(f"no logger has the handler {handler!r}", 'name it in "root": {"handlers": [..]}')
    for name in having:
        if name != ROOT and _effective_level(name, loggers) > logging.INFO:
            yield Finding(f"the level of {said(name)} drops INFO", 'set its "level" to "INFO" or lower')
    if ROOT in having:
        yield from _unreached_root(config, handler)


def _has(config: Mapping[str, Any], logger: Mapping[str, Any], handler: str) -> bool:
    return any(name == handler or handler in next_of(config, name) for name in names_of(logger, "handlers"))


def _unreached_root(config: Mapping[str, Any], handler: str) -> Iterator[Finding]:
    loggers, passing = loggers_of(config), False
    for name, logger in loggers.items():
        if name == ROOT or _has(config, logger, handler):
            continue
        if logger.get("propagate") is False:
            remedy = f'add {handler!r} to its "handlers", or let it propagate, if it logs tagged records'
            yield Finding(f"{said(name)} does not propagate to the handler {handler!r}", remedy, is_note=True)
        elif level_of(logger.get("level")) > logging.INFO:
            remedy = 'set its "level" to "INFO" or lower, if it logs tagged records'
            yield Finding(f"the level of {said(name)} drops INFO", remedy, is_note=True)
        else:
            passing = passing or level_of(logger.get("level")) > logging.NOTSET
    if level_of(loggers[ROOT].get("level", "WARNING")) > logging.INFO:
        yield Finding("the root logger's level drops INFO", 'set "root": {"level": "INFO"}', is_note=passing)


def _effective_level(name: str, loggers: Mapping[str, Any]) -> int:
    """The level of a logger, or of the nearest one above it that has one."""
    while name:
        if level := level_of(table_of(loggers, name).get("level")):
            return level
        name = name.rpartition(".")[0]
    return level_of(loggers[ROOT].get("level", "WARNING"))
