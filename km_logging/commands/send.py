"""``km-logging send``: send calls now, and say what came back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click

from km_logging.calls import Problem, brief
from km_logging.commands import options
from km_logging.commands.saying import Said, add_subcommands, place
from km_logging.commands.terminal import interruptible
from km_logging.direct import Direct, Outcome
from km_logging.errors import SettingsError
from km_logging.problems import insecure
from km_logging.settings import Settings

__all__ = ["send"]

_RETRY_FOR = click.option(
    "--retry-for",
    type=options.Finite(0),
    default=0.0,
    metavar="SECONDS",
    help="How long each call is tried, with pauses in between; without it, once.",
)


@click.group()
def send() -> None:
    r"""Send calls now.

    One after another, saying what came back for each. Nothing is kept: what was not delivered is said, and the exit
    code is 1. Of the settings in the environment those
    of sending apply, KM_MODE=print among them. For many calls, or for logs, there is km-logging replay.

    \b
    Examples:
      km-logging send event bob "Signed Up" -P plan=pro
      km-logging send - < calls.jsonl
    """


def _send(
    said: Iterable[Said],
    *,
    api_key: str | None,
    endpoint: str | None,
    retry_for: float,
    quiet: bool,
    as_json: bool,
) -> None:
    settings = _settings(api_key, endpoint)
    say = _say_in_json if as_json else _say_in_words
    done = left = 0
    each = None
    with Direct(settings) as direct, interruptible() as check:
        for each in said:
            request = direct.request(each.call)
            outcome = direct.send(request, retry_for) if isinstance(request, str) else request
            check()
            done, left = done + outcome.is_done, left + (not outcome.is_done)
            if not (outcome.is_done and quiet):
                say(each, outcome)
    if each is not None and each.line is not None and not (quiet or as_json):
        click.echo(f"{done:,} {'printed' if settings.mode == 'print' else 'delivered'}, {left:,} not.")
    sys.exit(1 if left else 0)


def _settings(api_key: str | None, endpoint: str | None) -> Settings:
    settings = options.settings(api_key=api_key, endpoint=endpoint)
    if settings.mode == "off":
        raise SettingsError("mode is 'off', so nothing would be sent: unset KM_MODE, or set it to 'live'")
    if settings.mode == "live" and not settings.endpoint.is_private:
        click.echo(f"km-logging: {insecure(settings.endpoint)}", err=True)
    return settings


def _subject(said: Said) -> str:
    """The call as a message may name it: without the person, and without properties."""
    kind = "" if isinstance(said.call, Problem) else said.call.get("call")
    if kind == "event" and not isinstance(said.call, Problem):
        return f"event {brief(said.call.get('name'))}"
    return kind if kind in ("set", "alias") else "call"


def _say_in_words(said: Said, outcome: Outcome) -> None:
    words = f"{place(said)}{outcome.words}: "
    if outcome.what == "refused":
        click.echo(f"km-logging: {words}{outcome.message}: {outcome.remedy}", err=True)
    elif outcome.remedy:
        click.echo(f"km-logging: {words}{_subject(said)} ({outcome.message}): {outcome.remedy}", err=True)
    else:
        click.echo(f"{words}{_subject(said)} ({outcome.message})")


def _say_in_json(said: Said, outcome: Outcome) -> None:
    line = {} if said.line is None else {"line": said.line}
    told = {"outcome": outcome.what, "status": outcome.status, "message": outcome.message, "remedy": outcome.remedy}
    click.echo(json.dumps(line | told))


add_subcommands(send, _send, options.destination, _RETRY_FOR, options.quiet, options.as_json)
