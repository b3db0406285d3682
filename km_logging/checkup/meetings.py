"""Two of our handlers on the way of one record. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from km_logging.checkup.finding import Finding
from km_logging.checkup.tables import Step, loggers_of, said, way_of
from km_logging.errors import SettingsError
from km_logging.settings import Settings

__all__ = ["meeting_findings"]


def meeting_findings(
    config: Mapping[str, Any], ours: Mapping[str, dict[str, Any]], environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield each pair of our handlers that a record passes both, once, with the first logger whose record does."""
    seen: set[tuple[Step, Step]] = set()
    for name in loggers_of(config):
        for first, second in combinations([step for step in way_of(config, name) if step.handler in ours], 2):
            if (first, second) not in seen:
                seen.add((first, second))
                yield from _meeting(name, first, second, ours, environ)


def _meeting(
    logger: str, first: Step, second: Step, ours: Mapping[str, dict[str, Any]], environ: Mapping[str, str]
) -> Iterator[Finding]:
    try:
        one, other = (Settings.resolve(ours[step.handler], environ) for step in (first, second))
    except SettingsError:
        return  # which is said already
    where = f"a record of {said(logger)} passes the handlers {first.handler!r} and {second.handler!r}"
    if (one.api_key, one.endpoint, one.mode) != (other.api_key, other.endpoint, other.mode):
        yield Finding(f"{where}, which send to two places", "take one away, unless both shall have it", is_note=True)
    elif first.through != second.through and first.through:
        remedy = f"take one away, or put {second.handler!r} before {first.through!r}"
        yield Finding(f"{where}, the first of them as a copy by {first.through!r}, so it is sent twice", remedy)
    elif first.handler == second.handler:
        message = f"a record of {said(logger)} passes the handler {first.handler!r} twice, and is one call"
        yield Finding(message, f"take it away from {said(first.logger)}", is_note=True)
    elif one == other:
        yield Finding(f"{where}, which are alike, and is one call", "take one away", is_note=True)
    else:
        message = f"{where}, and only the first one takes it: the settings of the other are not heeded"
        yield Finding(message, "take one away, or set the same settings for both")
