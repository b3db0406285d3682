"""``km-logging url``: the request URL of one call, key included."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import click

from km_logging import helpers, wire
from km_logging.commands.options import destination
from km_logging.errors import ProblemError, SettingsError
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_nested
from km_logging.telling import tell

__all__ = ["url"]

Command = TypeVar("Command", bound=Callable[..., Any])


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise click.BadParameter("give Unix seconds, or a time such as 2010-01-01T00:00:00Z") from None


def _pairs(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} has no '=': write name=value")
        if name in pairs:
            raise click.BadParameter(f"{name!r} is given twice: a property has one value")
        pairs[name] = value
    return pairs


def _person_and(other: str) -> Callable[[Command], Command]:
    """Two texts that may be given in this order, or as options."""

    def decorate(command: Command) -> Command:
        command = click.argument(other, required=False)(command)
        command = click.argument("person", required=False)(command)
        command = click.option(f"--{other}", f"{other}_option", help=f"The same as the argument {other.upper()}.")(
            command
        )
        return click.option("--person", "person_option", help="The same as the argument PERSON.")(command)

    return decorate


_PROPERTIES = click.option(
    "-P", "--property", "properties", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="A property."
)
_TIMESTAMP = click.option(
    "-t", "--timestamp", callback=_seconds, metavar="TIME", help="Unix seconds or ISO 8601; without it, now."
)


@click.group()
def url() -> None:
    r"""Print the request URL of one call. It holds the API key.

    \b
    Example:
      km-logging url event bob "Signed Up" -P plan=pro --api-key KEY
    """


@url.command()
@_person_and("name")
@_PROPERTIES
@_TIMESTAMP
@destination
def event(timestamp: float | None, properties: dict[str, str], **texts: str | None) -> None:
    """Somebody did something: km-logging url event PERSON NAME."""
    person, name = _chosen(texts, "person"), _chosen(texts, "name")
    _print(texts, helpers.event(person, name, timestamp=timestamp, properties=properties))


@url.command()
@click.argument("person", required=False)
@click.option("--person", "person_option", help="The same as the argument PERSON.")
@_PROPERTIES
@_TIMESTAMP
@destination
def set(timestamp: float | None, properties: dict[str, str], **texts: str | None) -> None:
    """Somebody has these properties: km-logging url set PERSON -P NAME=VALUE."""
    _print(texts, helpers.set(_chosen(texts, "person"), timestamp=timestamp, properties=properties))


@url.command()
@_person_and("identity")
@destination
def alias(**texts: str | None) -> None:
    """Two identities are one person: km-logging url alias PERSON IDENTITY."""
    _print(texts, helpers.alias(_chosen(texts, "person"), _chosen(texts, "identity")))


def _chosen(texts: Mapping[str, str | None], name: str) -> str:
    argument, option = texts.get(name), texts.get(f"{name}_option")
    if (argument is None) == (option is None):
        raise click.UsageError(f"give {name.upper()} once, as an argument or as --{name}")
    return (argument or "") + (option or "")


def _print(texts: Mapping[str, str | None], nested: Mapping[str, Mapping[str, object]]) -> None:
    given = {"api_key": texts["api_key"], "endpoint": texts["endpoint"], "mode": "live"}
    if not given["api_key"] and not os.environ.get("KM_API_KEY"):
        raise SettingsError("api_key is missing: pass --api-key, or set KM_API_KEY")
    settings = Settings.resolve(given, os.environ)
    rules = Rules(settings)
    told = tell(from_nested(nested["km"], rules, None, None, time.time()), rules)
    if told.problems:
        raise ProblemError(told.problems[0])
    assert told.call is not None
    target = wire.target(wire.encode(told.call), settings.api_key or "", settings.endpoint.base)
    click.echo(settings.endpoint.origin + target)
