"""``km-logging check``: what the configuration would do, and whether the endpoint answers. Sends no call."""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from km_logging.addresses import Endpoint
from km_logging.checkup import Finding, Shown, findings_of, handler_settings, settings_shown
from km_logging.errors import SettingsError
from km_logging.settings import Settings

__all__ = ["check"]

_CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--config", type=_CONFIG, help="A dictConfig in a JSON or TOML file; without it, the environment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, *, as_json: bool) -> None:
    r"""Say what the configuration would do, what is wrong with it, and whether the endpoint answers.

    \b
    Example:
      km-logging check --config logging.json
    """
    sys.path.insert(0, str(Path.cwd()))  # where the application's own callables are
    table = _read(config) if config else {}
    findings = list(findings_of(table, os.environ)) if config else []
    given = next(iter(handler_settings(table).values()), {}) if config else {}
    shown: list[Shown] = []
    answer = None
    try:
        settings = Settings.resolve(given, os.environ)
        shown = settings_shown(settings, given, os.environ)
        if settings.mode == "live":
            answer = _answer(settings.endpoint, findings)
    except SettingsError as error:
        if not config:
            findings.append(Finding("the environment", str(error)))
    _print(shown, answer, findings, as_json=as_json)
    sys.exit(0 if all(finding.is_note for finding in findings) else 1)


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix not in {".json", ".toml"}:
        raise click.BadParameter(f"{path} is neither .json nor .toml: write the dictConfig as one of these")
    try:
        table = json.loads(path.read_bytes()) if path.suffix == ".json" else _toml(path)
    except ValueError as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from error
    if not isinstance(table, Mapping):
        raise click.BadParameter(f"{path} holds no table: write a dictConfig")
    # A TOML file of an application keeps it in a table of its own.
    inner = table.get("logging", table.get("LOGGING"))
    return inner if "version" not in table and isinstance(inner, Mapping) else table


def _toml(path: Path) -> Any:
    try:
        import tomllib  # from Python 3.11
    except ModuleNotFoundError:
        try:
            import tomli as tomllib  # type: ignore[no-redef]  # the same, before it was in the library
        except ModuleNotFoundError:
            raise click.BadParameter("TOML needs Python 3.11 or the package tomli: pip install tomli") from None
    return tomllib.loads(path.read_text("utf-8"))


def _answer(endpoint: Endpoint, findings: list[Finding]) -> str | None:
    """What the endpoint's root answers; nothing is tracked there."""
    try:
        with urllib.request.urlopen(f"{endpoint}/", timeout=10) as response:  # noqa: S310 - http or https, checked
            return f"HTTP {response.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        findings.append(Finding(f"{endpoint} does not answer ({reason})", "check endpoint, network and proxy"))
        return None


def _print(shown: list[Shown], answer: str | None, findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        settings = {row.name: {"value": row.value, "source": row.source} for row in shown}
        wrong = [
            {"message": finding.message, "remedy": finding.remedy, "is_note": finding.is_note} for finding in findings
        ]
        click.echo(json.dumps({"settings": settings, "endpoint_answers": answer, "findings": wrong}))
        return
    if shown:
        table = Table("setting", "value", "from", box=None)
        for row in shown:
            table.add_row(row.name, row.value, row.source)
        Console(markup=False).print(table)
    if answer:
        click.echo(f"The endpoint answers: {answer}.")
    for finding in findings:
        click.echo(f"{'Note' if finding.is_note else 'Wrong'}: {finding}", err=True)
    if all(finding.is_note for finding in findings):
        click.echo("Nothing is wrong.")
