"""What dictConfig itself refuses, so that nothing would be configured at all: it raises at the first of these.

Classes are imported, as dictConfig imports them; none is called, since a handler may open a file or a socket. Values
that begin with ``ext://`` or ``cfg://`` are not judged where a table, a level or a name belongs.
"""

from __future__ import annotations

import inspect
import logging
import logging.config
import logging.handlers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from km_logging.calls import type_name
from km_logging.checkup.finding import Finding
from km_logging.checkup.tables import loggers_of, said, table_of

__all__ = ["refused_findings"]

#: The tables of tables, and how a message calls what is in one.
_KINDS = {"formatters": "formatter", "filters": "filter", "handlers": "handler", "loggers": "logger"}

_SPELLING = "check the spelling, and that its package is installed here"


def refused_findings(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield all that dictConfig would raise for, as far as that can be told without making a handler."""
    if config.get("version") != 1:
        yield Finding("the configuration has no version", 'set "version": 1')
    if config.get("incremental"):
        yield Finding("the configuration is incremental, which makes no handler", 'take "incremental" away')
    yield from _no_tables(config)
    for name, logger in loggers_of(config).items():
        yield from _names(config, "handlers", said(name), logger.get("handlers"))
        yield from _names(config, "filters", said(name), logger.get("filters"))
        yield from _level(said(name), logger.get("level"))
    for kind in ("formatters", "filters", "handlers"):
        for name, table in table_of(config, kind).items():
            if isinstance(table, Mapping):
                yield from _FINDINGS[kind](config, name, f"{_KINDS[kind]} {name!r}", table)


def _no_tables(config: Mapping[str, Any]) -> Iterator[Finding]:
    for kind, one in _KINDS.items():
        tables = config.get(kind, {})
        if not isinstance(tables, Mapping):
            if tables != [] and not _is_reference(tables):
                yield Finding(f"the {kind} are no table", f'write "{kind}": {{"a name": {{..}}}}, or take them away')
            continue
        for name, table in tables.items():
            if not isinstance(table, Mapping) and not _is_reference(table):
                yield Finding(f"{one} {name!r} is no table", "write {..}, or take it away")
            if kind == "loggers" and not isinstance(name, str):
                yield Finding(f"the name of logger {name!r} is no text", f'write "{name}"')
    root = config.get("root")
    if root and not isinstance(root, Mapping) and not _is_reference(root):
        yield Finding('"root" is no table', 'write "root": {"level": "INFO", "handlers": [..]}')


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("ext://", "cfg://"))


def _names(config: Mapping[str, Any], kind: str, where: str, names: object) -> Iterator[Finding]:
    if not names or _is_reference(names):
        return
    if isinstance(names, str) or not isinstance(names, Iterable):
        yield Finding(f"the {kind} of {where} are no list", f'write "{kind}": [{names!r}]')
    else:
        for name in names:
            yield from _name(config, kind, where, name)


def _name(config: Mapping[str, Any], kind: str, where: str, name: object) -> Iterator[Finding]:
    known = table_of(config, kind)
    is_known = _is_reference(name) or (isinstance(name, str | int) and name in known)
    if is_known or (kind == "filters" and callable(getattr(name, "filter", name))):
        return
    near = get_close_matches(name, filter(_is_text, known), n=1) if isinstance(name, str) else []
    remedy = f"did you mean {near[0]!r}?" if near else f'define it in "{kind}"'
    yield Finding(f"{where} names {name!r}, which is none of the {kind}", remedy)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _level(where: str, level: object) -> Iterator[Finding]:
    if level is None or isinstance(level, int) or _is_reference(level):
        return
    if not isinstance(level, str):
        yield Finding(f"the level of {where} is neither a name nor a number", 'write a name, such as "INFO"')
    elif not isinstance(logging.getLevelName(level), int):
        yield Finding(f"{where} has a level that logging does not know", 'write it in capitals, such as "INFO"')


# What a formatter, a filter or a handler is made by.


def _formatter(config: Mapping[str, Any], name: str, where: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    if table.get("()") or table.get("class"):
        yield from _made_by(config, "formatters", name, where)[1]
        return
    try:  # logging's own, whose making does nothing else
        made = logging.config.DictConfigurator(dict(config))
        made.configure_formatter(made.config["formatters"][name])
    except Exception as error:  # noqa: BLE001 - what stands there may be anything
        yield Finding(f"{where} cannot be made ({type_name(error)})", 'check its "format", "style" and "validate"')


def _filter(config: Mapping[str, Any], name: str, where: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    if "()" in table:
        yield from _made_by(config, "filters", name, where)[1]


def _handler(config: Mapping[str, Any], name: str, where: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _names(config, "filters", where, table.get("filters"))
    yield from _level(where, table.get("level"))
    if table.get("formatter"):
        yield from _name(config, "formatters", where, table["formatter"])
    if not ("()" in table or "class" in table):
        yield Finding(f"{where} has no class", 'set "class": "logging.StreamHandler", or another one')
        return
    made_by, findings = _made_by(config, "handlers", name, where)
    yield from findings
    if isinstance(made_by, type) and issubclass(made_by, logging.handlers.QueueHandler):  # of which it makes more
        yield from _names(config, "handlers", where, table.get("handlers"))
    elif callable(made_by):
        yield from _arguments(where, made_by, table)
    if isinstance(made_by, type) and issubclass(made_by, logging.handlers.MemoryHandler) and "target" in table:
        yield from _name(config, "handlers", where, table["target"])


def _arguments(where: str, made_by: Callable[..., object], table: Mapping[str, Any]) -> Iterator[Finding]:
    """Those that a handler is made with, by their names."""
    own = {"formatter", "level", "filters", "()" if "()" in table else "class"}
    try:
        signature = inspect.signature(made_by)
    except (TypeError, ValueError):  # something in C
        return
    try:
        signature.bind(**dict.fromkeys(key for key in table if str(key).isidentifier() and key not in own))
    except TypeError as error:
        if "'stream'" not in str(error):  # which dictConfig passes by another name as well
            yield Finding(f"{where} cannot be made ({error})", "set the arguments that its class has")


def _made_by(config: Mapping[str, Any], kind: str, name: str, where: str) -> tuple[object, list[Finding]]:
    """The class or factory of a table, None if it cannot be had; and what is wrong with it."""
    is_class = "()" not in config[kind][name]
    key = "class" if is_class else "()"
    written = config[kind][name][key]
    try:
        configurator = logging.config.DictConfigurator(dict(config))
        made_by: Any = configurator.config[kind][name][key]
        if not callable(made_by) or (is_class and sys.version_info < (3, 12)):
            made_by = configurator.resolve(made_by)
    except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
        remedy = 'write "class": "km_logging.KissmetricsHandler"' if _is_meant(written) else _SPELLING
        return None, [Finding(f"{where}: {written!r} cannot be imported ({type_name(error)})", remedy)]
    if not callable(made_by):
        return None, [Finding(f"{where}: {written!r} cannot be called", "name a class")]
    if is_class and kind == "handlers" and not inspect.isclass(made_by):
        return None, [Finding(f"{where}: {written!r} is no class", f'write "()": {written!r} instead of "class"')]
    return made_by, []


def _is_meant(written: object) -> bool:
    """Whether it is our handler that somebody meant."""
    return isinstance(written, str) and written.endswith("KissmetricsHandler")


_FINDINGS = {"formatters": _formatter, "filters": _filter, "handlers": _handler}
