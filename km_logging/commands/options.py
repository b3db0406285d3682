"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from km_logging.addresses import OutboxAddress, parse_outbox
from km_logging.errors import SettingsError

__all__ = ["as_json", "destination", "outbox"]

Command = TypeVar("Command", bound=Callable[..., Any])


def destination(command: Command) -> Command:
    """The options that say where to; each subcommand has them, so they may stand at the end."""
    command = click.option("--endpoint", help="Else KM_ENDPOINT, else https://trk.kissmetrics.io.")(command)
    return click.option("--api-key", help="Else KM_API_KEY.")(command)


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
