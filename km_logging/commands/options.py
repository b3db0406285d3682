"""Arguments and options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from km_logging.addresses import OutboxAddress, parse_outbox
from km_logging.errors import SettingsError
from km_logging.settings import Settings

__all__ = ["as_json", "destination", "outbox", "quiet", "settings"]

Command = TypeVar("Command", bound=Callable[..., Any])


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


def _address(_context: click.Context, _parameter: click.Parameter, text: str) -> OutboxAddress:
    try:
        address = parse_outbox("OUTBOX", text)
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None
    if not address.lasts:
        raise click.BadParameter("'memory:' ends with its process: name an outbox such as sqlite:///km.db")
    return address


outbox = click.argument("outbox", metavar="OUTBOX", callback=_address)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

quiet = click.option("-q", "--quiet", is_flag=True, help="Print only what went wrong.")
