"""Filters of a dictConfig that would drop tagged records.

They are made as dictConfig makes them, and asked about such records: what they would say cannot be told otherwise.
"""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator, Mapping
from typing import Any

from km_logging import helpers
from km_logging.calls import type_name
from km_logging.checkup.finding import Finding
from km_logging.checkup.tables import loggers_of, names_of, said, table_of, way_of

__all__ = ["filter_findings", "logger_filter_findings"]


def logger_filter_findings(config: Mapping[str, Any], ours: Mapping[str, Any], tag: str) -> Iterator[Finding]:
    """Of loggers whose records reach our handlers: a logger's filters see what is logged there, and nothing else."""
    for name, logger in loggers_of(config).items():
        if any(step.handler in ours for step in way_of(config, name)):
            for filter_name in names_of(logger, "filters"):
                yield from filter_findings(config, filter_name, said(name), name or "root", tag)


def filter_findings(config: Mapping[str, Any], name: str, where: str, logger: str, tag: str) -> Iterator[Finding]:
    """Yield what is wrong with one filter.

    Args:
        config: the whole dictConfig.
        name: of the filter.
        where: who has it.
        logger: the name of the logger of the records that are tried.
        tag: the field that tags a record.
    """
    definition = table_of(table_of(config, "filters"), name)
    if not definition:
        return  # `refused_findings` says so
    if "()" not in definition:
        below = str(definition.get("name") or "")
        if below:
            message = f"the filter {name!r} of {where} lets only records of the logger {below!r} and below pass"
            yield Finding(message, "take it away, if others log tagged records", is_note=True)
        return
    try:
        made = logging.config.DictConfigurator(dict(config))
        asked: Any = made.configure_filter(made.config["filters"][name])
        answers = [getattr(asked, "filter", asked)(record) for record in _tagged(logger, tag)]
    except Exception as error:  # noqa: BLE001 - the application's own code may raise anything
        message = f"the filter {name!r} of {where} cannot be tried here ({type_name(error)})"
        yield Finding(message, f"see to it that records with the field {tag!r} pass", is_note=True)
        return
    if not all(answers):
        message = f"the filter {name!r} of {where} drops tagged records: one was tried, at INFO"
        yield Finding(message, f"have it let records with the field {tag!r} pass")


def _tagged(logger: str, tag: str) -> list[logging.LogRecord]:
    """Records as log calls make them, by a helper and in the flat form."""
    made = logging.getLogRecordFactory()
    records = [made(logger, logging.INFO, __file__, 1, "Signed Up", (), None, "checkup") for _ in range(2)]
    records[0].__dict__.update({tag: helpers.event("someone")["km"]})
    records[1].__dict__.update({tag: "event", "person": "someone"})
    return records
