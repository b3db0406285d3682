"""The tables of a dictConfig, whatever is in them, and the way that a record takes through them. Pure.

A *way* is what a record passes from the logger that made it: that logger's handlers, then those of the loggers above it
while they propagate, the root logger's last. A handler *leads* to another one if it hands records on to it, as
`QueueHandler` does to its ``handlers`` and `MemoryHandler` to its ``target``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["ROOT", "Step", "class_of", "level_of", "loggers_of", "names_of", "next_of", "said", "table_of", "way_of"]

#: The name of the root logger.
ROOT = ""


class Step(NamedTuple):
    """One handler on a way.

    Attributes:
        handler: its name.
        logger: which has it, or has one that leads to it.
        through: the one that leads to it; empty for none.
    """

    handler: str
    logger: str
    through: str = ""


def way_of(config: Mapping[str, Any], name: str) -> Iterator[Step]:
    """The way of a record that the logger of this name makes."""
    loggers = loggers_of(config)
    while True:
        logger = table_of(loggers, name)
        for handler in names_of(logger, "handlers"):
            yield Step(handler, name)
            yield from (Step(after, name, handler) for after in next_of(config, handler))
        if name == ROOT or logger.get("propagate") is False:
            return
        name = name.rpartition(".")[0]


def next_of(config: Mapping[str, Any], handler: str) -> list[str]:
    """The handlers to which one leads."""
    table = table_of(table_of(config, "handlers"), handler)
    target = table.get("target")
    return [*names_of(table, "handlers"), *([target] if isinstance(target, str) else [])]


def loggers_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """All loggers that the configuration names, the root logger first, which is always there."""
    loggers = table_of(config, "loggers").items()
    named = {name: logger for name, logger in loggers if isinstance(name, str) and isinstance(logger, Mapping)}
    root = {**named.pop(ROOT, {}), **table_of(config, "root")}
    return {ROOT: root, **named}


def said(logger: str) -> str:
    """How a message calls a logger."""
    return f"logger {logger!r}" if logger else "the root logger"


def class_of(handler: Mapping[str, Any]) -> str:
    """What makes a handler, as text."""
    made_by = handler.get("class") or handler.get("()") or ""
    return made_by if isinstance(made_by, str) else getattr(made_by, "__name__", "")


def table_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table in a table; an empty one if there is none."""
    table = config.get(name)
    return table if isinstance(table, Mapping) else {}


def names_of(table: Mapping[str, Any], name: str) -> list[str]:
    """The names in a list; none if it is no list."""
    names = table.get(name)
    return [item for item in names if isinstance(item, str)] if isinstance(names, list | tuple) else []


def level_of(level: object) -> int:
    """A level as a number; that of NOTSET if there is none."""
    if isinstance(level, int):
        return level
    number = logging.getLevelName(str(level).upper())
    return number if isinstance(number, int) else logging.NOTSET
