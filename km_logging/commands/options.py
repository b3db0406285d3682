"""Arguments and options that several commands have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from km_logging.addresses import OutboxAddress, parse_outbox
from km_logging.calls import EARLIEST, LATEST
from km_logging.errors import SettingsError
from km_logging.settings import Settings

__all__ = ["Finite", "as_json", "bound", "destination", "into", "moment", "outbox", "quiet", "settings"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Finite(click.FloatRange):
    """A number within bounds, which NaN and infinity are not, although they compare as if."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error if it is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number: give one such as 100, or leave the option out", param, ctx)
        return number


def destination(command: Command) -> Command:
    """The options that say where to; each subcommand has them, so they may stand at the end."""
    command = click.option("--endpoint", help="Else KM_ENDPOINT, else https://trk.kissmetrics.io.")(command)
    return click.option("--api-key", help="Else KM_API_KEY.")(command)


def settings(**given: object) -> Settings:
    """The settings of a command that sends by itself: those given, completed from the environment.

    Raises:
        SettingsError: one is wrong, or there is no key.
    """
    mode = given.get("mode") or os.environ.get("KM_MODE") or "live"
    if not given["api_key"] and not os.environ.get("KM_API_KEY") and mode == "live":
        raise SettingsError("api_key is missing: pass --api-key, or set KM_API_KEY")
    alone = {"outbox": "memory:", "deliver": True, "durability": "batched"}  # whatever the application does
    return Settings.resolve(given | alone, os.environ)


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> OutboxAddress:
    if text is None:
        raise click.UsageError("OUTBOX is missing: name one, such as sqlite:///km.db, or set KM_OUTBOX")
    try:
        address = parse_outbox("OUTBOX", text)
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None
    if not address.lasts:
        raise click.BadParameter("'memory:' ends with its process: name an outbox such as sqlite:///km.db")
    return address


#: On a command line everybody could read its password, so it may be in the environment.
outbox = click.argument("outbox", metavar="OUTBOX", required=False, callback=_address, envvar="KM_OUTBOX")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

quiet = click.option("-q", "--quiet", is_flag=True, help="Print only what went wrong.")


def _into(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None:
        _address(context, parameter, text)
    return text


into = click.option(
    "--into",
    metavar="OUTBOX",
    callback=_into,
    help="Put the calls into an outbox, such as sqlite:///km.db; send nothing.",
)


def moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """The callback of an option that takes a time: Unix seconds, or ISO 8601, local if it names no zone."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds(text)
    if not math.isfinite(seconds):
        raise click.BadParameter("give Unix seconds, or a time such as 2010-01-01T00:00:00Z")
    return seconds


def bound(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """As `moment`, of a time between which and another one there can be calls."""
    seconds = moment(context, parameter, text)
    if seconds is not None and not EARLIEST <= seconds < LATEST:
        what = "is in milliseconds: divide by 1,000" if seconds >= LATEST else "is before 2009, where no call can be"
        raise click.BadParameter(f"{text} {what}, or give a time such as 2010-01-01T00:00:00Z")
    return seconds


def _seconds(text: str) -> float:
    try:
        # Before 3.11, fromisoformat() does not know the Z.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan
