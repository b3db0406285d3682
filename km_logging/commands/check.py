"""``km-logging check``: what a configuration would do, what is wrong with it, and whether the endpoint answers."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any

import click

from km_logging import checkup, helpers
from km_logging.addresses import Endpoint
from km_logging.checkup import Finding, Reached, Shown
from km_logging.commands import options
from km_logging.commands.configs import read
from km_logging.commands.terminal import console, printable
from km_logging.direct import Direct, Outcome
from km_logging.errors import KmLoggingError, SettingsError
from km_logging.settings import Settings, resolved

__all__ = ["check"]

#: What ``--send`` sends: names that nobody takes for a user's doing.
TEST_EVENT = helpers.event("km-logging-check", "km-logging check")

_CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)
_CODE = click.Path(exists=True, path_type=Path)


@dataclass
class _FrontEnd:
    """One handler of a dictConfig, or the environment by itself, and what was found out about it."""

    name: str
    given: Mapping[str, object]
    place: str
    shown: list[Shown] = field(default_factory=list)
    reached: Reached | None = None
    sent: Outcome | None = None


@click.command()
@click.option("--config", type=_CONFIG, help="A dictConfig in a JSON, TOML or YAML file; without it, the environment.")
@click.option("--code", type=_CODE, multiple=True, help="Look through a Python file, or a folder of them, as well.")
@click.option("--send", is_flag=True, help="Send the event 'km-logging check' of the person 'km-logging-check'.")
@options.quiet
@options.as_json
def check(config: Path | None, code: tuple[Path, ...], *, send: bool, quiet: bool, as_json: bool) -> None:
    r"""Check a configuration, and the endpoint.

    Shows each setting with its value and where it comes from, names each mistake with its remedy, and asks whether the
    endpoint answers. Classes, callables and filters are imported, from the current directory, too; nothing is
    configured, and no call is sent but by --send. The exit code is 1 if something is wrong; notes do not count.

    A KissmetricsProcessor of structlog in front of a KissmetricsHandler is no mistake, and none is looked for: a record
    that passes both is one call.

    \b
    Examples:
      km-logging check
      km-logging check --config logging.yaml --code src --send
    """
    sys.path.insert(0, str(Path.cwd()))  # where the application's own callables are
    findings: list[Finding] = []
    front_ends = _of_file(config, findings) if config else _of_environment(findings)
    findings += checkup.variable_findings(os.environ)
    for path in code:
        findings += _in_code(path)
    known: dict[str, Reached] = {}
    for front_end in front_ends:
        front_end.shown = checkup.settings_shown(front_end.given, os.environ, front_end.place)
        findings += _look_around(front_end, known, send=send)
    if as_json:
        _print_json(front_ends, findings)
    else:
        _print(front_ends, findings, quiet=quiet)
    sys.exit(0 if all(finding.is_note for finding in findings) else 1)


def _of_environment(findings: list[Finding]) -> list[_FrontEnd]:
    findings += checkup.settings_findings("the environment", {}, os.environ)
    return [_FrontEnd("the environment", {}, "given")]


def _of_file(path: Path, findings: list[Finding]) -> list[_FrontEnd]:
    table = read(path)
    findings += checkup.config_findings(table, os.environ)
    try:
        handlers = checkup.handler_settings(table)
    except SettingsError:  # which is among the findings
        return []
    return [_FrontEnd(f"handler {name!r}", given, path.name) for name, given in handlers.items()]


def _in_code(path: Path) -> Iterator[Finding]:
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        if not any(part.startswith(".") or part == "site-packages" for part in file.relative_to(path).parts):
            yield from checkup.code_findings(str(file), file.read_bytes())


def _look_around(front_end: _FrontEnd, known: dict[str, Reached], *, send: bool) -> Iterator[Finding]:
    """Network and disk, as far as the settings are sound; each endpoint is asked once."""
    yield from _reach(front_end, known)
    try:
        settings = Settings.resolve(front_end.given, os.environ)
    except SettingsError:  # which is among the findings
        return
    yield from checkup.outbox_findings(front_end.name, settings)
    if send:
        yield from _send(front_end, settings)


def _reach(front_end: _FrontEnd, known: dict[str, Reached]) -> Iterator[Finding]:
    """Ask the endpoint, for which nothing else needs to be right."""
    try:
        mode, endpoint, session = (
            resolved(name, front_end.given, os.environ) for name in ("mode", "endpoint", "session")
        )
    except SettingsError:  # which is among the findings
        return
    if mode == "live" and isinstance(endpoint, Endpoint):
        is_new = str(endpoint) not in known
        if is_new:
            known[str(endpoint)] = checkup.reach(endpoint, is_sure=session is None)
        front_end.reached = known[str(endpoint)]
        if is_new and front_end.reached.finding is not None:
            yield front_end.reached.finding


def _send(front_end: _FrontEnd, settings: Settings) -> Iterator[Finding]:
    if settings.mode == "off" or (settings.mode == "live" and settings.api_key is None):
        why = "its mode is 'off'" if settings.mode == "off" else "another process delivers, and there is no api_key"
        yield Finding(f"{front_end.name} sends nothing: {why}", "check where calls are sent", is_note=True)
        return
    try:
        with Direct(settings) as direct:
            request = direct.request(TEST_EVENT["km"])
            outcome = direct.send(request) if isinstance(request, str) else request
    except KmLoggingError as error:
        yield Finding(f"{front_end.name} could not send the test event", str(error))
        return
    front_end.sent = outcome
    if not outcome.is_done:
        yield Finding(f"{front_end.name}: the test event was {outcome.words} ({outcome.message})", outcome.remedy)


def _print_json(front_ends: list[_FrontEnd], findings: list[Finding]) -> None:
    told: list[dict[str, Any]] = [
        {
            "name": front_end.name,
            "settings": {row.name: {"value": row.value, "source": row.source} for row in front_end.shown},
            "endpoint": _reached(front_end.reached),
            "sent": front_end.sent and dataclasses.asdict(front_end.sent),
        }
        for front_end in front_ends
    ]
    click.echo(dumps({"front_ends": told, "findings": [dataclasses.asdict(finding) for finding in findings]}))


def _reached(reached: Reached | None) -> dict[str, object] | None:
    if reached is None:
        return None
    return {
        "url": reached.endpoint,
        "addresses": reached.addresses,
        "proxy": reached.proxy,
        "answer": reached.answer,
    }


def _print(front_ends: list[_FrontEnd], findings: list[Finding], *, quiet: bool) -> None:
    for front_end in [] if quiet else front_ends:
        _print_one(front_end)
    for finding in findings:
        if not (quiet and finding.is_note):
            _print_finding(finding)
    if not quiet and all(finding.is_note for finding in findings):
        click.echo("Nothing is wrong.")


def _print_finding(finding: Finding) -> None:
    from rich.text import Text  # so that the other commands start faster

    label, style = ("Note", "yellow") if finding.is_note else ("Wrong", "red")
    text = Text.assemble((f"{label}: ", style), printable(str(finding)))
    console(stderr=True, may_be_wide=True).print(text)


def _print_one(front_end: _FrontEnd) -> None:
    from rich.table import Table  # so that the other commands start faster

    click.echo(f"{front_end.name[0].upper()}{front_end.name[1:]}:")
    table = Table("setting", "value", "from", box=None)
    for row in front_end.shown:
        table.add_row(row.name, printable(row.value), row.source)
    console(may_be_wide=True).print(table)
    if (reached := front_end.reached) is not None:
        if reached.addresses:
            click.echo(f"{reached.endpoint} is at {', '.join(reached.addresses)}.")
        if reached.proxy:
            click.echo(f"It is asked by way of the proxy {reached.proxy}.")
        if reached.answer:
            click.echo(f"The endpoint answers: {reached.answer}.")
    if front_end.sent is not None and front_end.sent.is_done:
        click.echo(f"The test event was {front_end.sent.words}: {front_end.sent.message}.")
