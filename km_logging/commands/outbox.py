"""``km-logging outbox``: look into an outbox, and mend what is in it."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table

from km_logging import wire
from km_logging.addresses import OutboxAddress
from km_logging.calls import Call
from km_logging.commands import options
from km_logging.errors import OutboxError
from km_logging.outbox.database import Database, Row, fault_of
from km_logging.outbox.election import is_won

__all__ = ["outbox"]

_DEAD = click.option("--dead", is_flag=True, help="Only calls that the server refused for their own sake.")

#: Where there is no terminal, no line is broken, in characters.
WIDE = 2_000

#: How long to wait while another process writes, in seconds.
PATIENCE = 10.0


@click.group()
def outbox() -> None:
    r"""Look into an outbox: what waits in it, what is dead, and who delivers.

    \b
    Example:
      km-logging outbox status sqlite:////var/lib/app/km.db
    """


@contextmanager
def _opened(address: OutboxAddress) -> Iterator[Database]:
    file = Database(address, creates=False, patience=PATIENCE)
    try:
        yield file
    except sqlite3.Error as error:
        raise OutboxError(*fault_of(error)) from error
    finally:
        file.close()


@outbox.command()
@options.outbox
@options.as_json
def status(outbox: OutboxAddress, *, as_json: bool) -> None:
    """How many calls wait, since when, how many are dead, and whether anybody delivers."""
    with _opened(outbox) as file:
        waiting, dead, size = file.count(), file.count(dead=True), file.size
        first = next(file.each(dead=False), None)
    oldest = max(0.0, time.time() - first.accepted_at) if first else None
    is_delivered = is_won(outbox.path)
    if as_json:
        found = {"waiting": waiting, "dead": dead, "oldest_s": oldest, "bytes": size, "is_delivered": is_delivered}
        click.echo(json.dumps(found))
        return
    since = "" if oldest is None else f", the oldest for {oldest:,.0f} s"
    click.echo(f"Waiting:  {waiting:,}{since}")
    click.echo(f"Dead:     {dead:,}" + (" (km-logging outbox retry tries them again)" if dead else ""))
    click.echo(f"Size:     {size:,} bytes")
    click.echo(f"Delivers: {'a process' if is_delivered else 'nobody (km-logging relay, or an application, does)'}")


@outbox.command("list")
@options.outbox
@_DEAD
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Most calls shown.")
@options.as_json
def list_(outbox: OutboxAddress, *, dead: bool, limit: int, as_json: bool) -> None:
    """The calls that wait, and those that are dead; oldest first."""
    with _opened(outbox) as file:
        rows = list(islice(file.each(dead=dead or None), limit))
        total = file.count(dead=True) + (0 if dead else file.count())
    if as_json:
        click.echo(json.dumps([_listed(row) for row in rows]))
        return
    table = Table("accepted", "state", "kind", "person", "name", "time", box=None)
    for row in rows:
        call = wire.decode(row.request)
        happened = _moment(call.timestamp) if call.timestamp else "-"
        named = call.name or call.identity or "-"
        table.add_row(_moment(row.accepted_at), _state(row), call.kind, call.person, named, happened)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
    if total > len(rows):
        click.echo(f"{total - len(rows):,} more: --limit shows them.", err=True)


@outbox.command()
@options.outbox
@_DEAD
@click.option("-o", "--output", metavar="FILE", help="A file, made for its owner only; without it, stdout.")
def export(outbox: OutboxAddress, output: str | None, *, dead: bool) -> None:
    """Write the calls as lines of JSON, in the form that a log record's field km takes."""
    with _opened(outbox) as file, _private(output) as lines:
        for row in file.each(dead=dead or None):
            lines.write(json.dumps(_told(wire.decode(row.request))) + "\n")


@outbox.command()
@options.outbox
def retry(outbox: OutboxAddress) -> None:
    """Have dead calls tried again."""
    with _opened(outbox) as file:
        revived = file.revive(time.time())
    click.echo(f"{_calls(revived)} to be tried again.")


@outbox.command()
@options.outbox
@click.option("--person", help="Only calls that name this person, as either identity.")
@_DEAD
@click.option("--yes", is_flag=True, help="Ask nothing.")
def purge(outbox: OutboxAddress, *, person: str | None, dead: bool, yes: bool) -> None:
    r"""Forget calls for good: their bytes leave the file, with those of all that was delivered before.

    A process that delivers just now may have read the next few hundred calls already.

    \b
    Examples:
      km-logging outbox purge --person bob sqlite:///km.db
      km-logging outbox purge --dead --yes sqlite:///km.db
    """
    with _opened(outbox) as file:
        numbers = [
            row.number
            for row in file.each(dead=dead or None)
            if person is None or person in _people(wire.decode(row.request))
        ]
        if person is None and not yes:
            click.confirm(f"Forget {_calls(len(numbers))} not delivered yet?", abort=True, err=True)
        file.purge(numbers)
    click.echo(f"{_calls(len(numbers))} forgotten.")


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


@contextmanager
def _private(path: str | None) -> Iterator[TextIO]:
    """A file that nobody else can read, new or not; stdout for None."""
    if path is None:
        yield sys.stdout
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)
        yield file


def _people(call: Call) -> tuple[str, str | None]:
    return call.person, call.identity


def _told(call: Call) -> dict[str, Any]:
    told: dict[str, Any] = {"call": call.kind, "person": call.person}
    if call.kind == "alias":
        return told | {"identity": call.identity}
    named = {"name": call.name} if call.kind == "event" else {}
    return told | named | {"timestamp": call.timestamp, "properties": call.properties}


def _listed(row: Row) -> dict[str, Any]:
    return {"accepted_at": row.accepted_at, "state": _state(row), **_told(wire.decode(row.request))}


def _state(row: Row) -> str:
    return "dead" if row.is_dead else "waiting"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
