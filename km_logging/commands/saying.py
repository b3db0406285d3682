"""How `send` and `url` are told calls: ``event``, ``set`` and ``alias`` of the command line, ``-`` of stdin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from km_logging import helpers, lines
from km_logging.calls import Problem
from km_logging.commands import options

__all__ = ["Said", "add_subcommands", "place"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Said(NamedTuple):
    """One call that a user said.

    Attributes:
        call: what the helpers return under their key, or why there is no such thing.
        line: the number of its line in stdin, from 1; None for a call of the command line.
    """

    call: Mapping[str, object] | Problem
    line: int | None = None


def place(said: Said) -> str:
    """How a message begins that is about this call."""
    return "" if said.line is None else f"line {said.line}: "


#: Does what its command is for, with calls and with the other options.
Act = Callable[..., None]


def add_subcommands(group: click.Group, act: Act, *others: Callable[[Command], Command]) -> None:
    """Add the four subcommands.

    Args:
        group: `send` or `url`.
        act: takes calls, an iterable of `Said`, and the values of ``others``.
        others: options that each of the four has, so that they may stand at the end.
    """
    for name, subcommand in _SUBCOMMANDS.items():
        callback = subcommand(act)
        for option in reversed(others):
            callback = option(callback)
        group.command(name, help=_HELP[name].format(verb=group.name))(callback)


_HELP = {
    "event": """Somebody did something.

    \b
    Example:
      km-logging {verb} event bob "Signed Up" -P plan=pro -P seats=5 --timestamp 2010-01-01T00:00:00Z
    """,
    "set": """Somebody has these properties.

    \b
    Example:
      km-logging {verb} set --person bob -P gender=male
    """,
    "alias": """Two identities are one person. This cannot be undone.

    \b
    Example:
      km-logging {verb} alias "User 12345" bob@bob.com
    """,
    "-": """Calls from stdin, one a line of JSON.

    Each line is what a helper returns, or its inner mapping. A line that holds none, or one that cannot be told, is
    reported by its number, and the others go on. However many they are, one is in memory at a time. What has no
    timestamp happens now.

    \b
    Example:
      echo '{{"km": {{"call": "event", "person": "bob", "name": "Signed Up"}}}}' | km-logging {verb} -
      km-logging outbox export --format calls sqlite:///km.db | km-logging {verb} -
    """,
}


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


def _text(name: str) -> Callable[[Command], Command]:
    """A text that may be given as an argument, in order, or as an option."""

    def decorate(command: Command) -> Command:
        command = click.argument(name, required=False)(command)
        return click.option(f"--{name}", f"{name}_option", help=f"The same as the argument {name.upper()}.")(command)

    return decorate


_PROPERTIES = click.option(
    "-P", "--property", "properties", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="A property."
)
_TIMESTAMP = click.option(
    "-t",
    "--timestamp",
    callback=options.moment,
    metavar="TIME",
    help="Unix seconds or ISO 8601, local if it names no zone; without it, now.",
)


def _event(act: Act) -> Act:
    @_text("person")
    @_text("name")
    @_PROPERTIES
    @_TIMESTAMP
    def event(timestamp: float | None, properties: dict[str, str], **given: Any) -> None:
        person, name = _chosen(given, "person"), _chosen(given, "name")
        _act_on(act, helpers.event(person, name, timestamp=timestamp, properties=properties), given)

    return event


def _set(act: Act) -> Act:
    @_text("person")
    @_PROPERTIES
    @_TIMESTAMP
    def set_(timestamp: float | None, properties: dict[str, str], **given: Any) -> None:
        _act_on(act, helpers.set(_chosen(given, "person"), timestamp=timestamp, properties=properties), given)

    return set_


def _alias(act: Act) -> Act:
    @_text("person")
    @_text("identity")
    def alias(**given: Any) -> None:
        _act_on(act, helpers.alias(_chosen(given, "person"), _chosen(given, "identity")), given)

    return alias


def _from_stdin(act: Act) -> Act:
    def stdin(**given: Any) -> None:
        act((Said(line.said, line.number) for line in lines.read(sys.stdin.buffer)), **given)

    return stdin


def _chosen(given: dict[str, Any], name: str) -> str:
    argument, option = given.pop(name), given.pop(f"{name}_option")
    if (argument is None) == (option is None):
        raise click.UsageError(f"give {name.upper()} once, as an argument or as --{name}")
    return str(option if argument is None else argument)


def _act_on(act: Act, said: Mapping[str, Mapping[str, object]], given: dict[str, Any]) -> None:
    act([Said(said["km"])], **given)


_SUBCOMMANDS: dict[str, Callable[[Act], Act]] = {"event": _event, "set": _set, "alias": _alias, "-": _from_stdin}
