"""``km-logging outbox``: look into an outbox, and mend what is in it."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from km_logging import lines, wire
from km_logging.addresses import OutboxAddress
from km_logging.calls import Call
from km_logging.commands import options
from km_logging.commands.output import output as to_write
from km_logging.commands.terminal import console, printable
from km_logging.outbox.opening import opened
from km_logging.outbox.store import Row

__all__ = ["outbox"]

#: How the names of an outbox's own files end; SQLite makes all but the first and the last.
FILE_ENDS = ("", "-wal", "-shm", "-journal", "-lock")

_DEAD = click.option("--dead", is_flag=True, help="Only calls that the server refused for their own sake.")


@click.group()
def outbox() -> None:
    r"""Look into an outbox, and mend it.

    \b
    Example:
      km-logging outbox status sqlite:////var/lib/app/km.db
    """


@outbox.command()
@options.outbox
@options.as_json
def status(outbox: OutboxAddress, *, as_json: bool) -> None:
    r"""How many calls wait, and whether anybody delivers them.

    \b
    Example:
      km-logging outbox status sqlite:////var/lib/app/km.db --json
    """
    with opened(outbox) as file:
        waiting, dead, size = file.count(), file.count(dead=True), file.size
        first, is_delivered = next(file.each(dead=False), None), file.is_delivered
    oldest = max(0.0, time.time() - first.accepted_at) if first else None
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
    r"""The calls that wait or are dead, oldest first.

    \b
    Example:
      km-logging outbox list --dead --limit 100 sqlite:///km.db
    """
    with opened(outbox) as file:
        rows = list(islice(file.each(dead=dead or None), limit))
        total = file.count(dead=True) + (0 if dead else file.count())
    if as_json:
        click.echo(json.dumps([_listed(row) for row in rows]))
        return
    from rich.table import Table  # so that the other commands start faster

    table = Table("accepted", "state", "kind", "person", "name", "time", box=None)
    for row in rows:
        table.add_row(_moment(row.accepted_at), _state(row), *map(printable, _shown(row)))
    console(may_be_wide=True).print(table)
    if total > len(rows):
        click.echo(f"{total - len(rows):,} more: --limit shows them.", err=True)


@outbox.command()
@options.outbox
@_DEAD
@click.option(
    "--format",
    "form",
    type=click.Choice(["kissmetrics", "calls"]),
    default="kissmetrics",
    show_default=True,
    help="As Kissmetrics imports them, or as the helpers return them.",
)
@click.option("-o", "--output", metavar="FILE", help="A file, made for its owner only; without it, stdout.")
def export(outbox: OutboxAddress, form: str, output: str | None, *, dead: bool) -> None:
    r"""Write the calls as lines of JSON; they stay in the outbox.

    The format kissmetrics is for uploading a backlog by hand, the format calls for km-logging send; km-logging replay
    reads both. Whatever is sent again is counted once, since it has its time. A FILE that is there already is replaced
    once all is written.

    \b
    Examples:
      km-logging outbox export -o calls.json sqlite:////var/lib/app/km.db
      km-logging outbox export --format calls --dead sqlite:///km.db
    """
    if output is not None:
        _refuse_outbox(outbox, Path(output))
    write = lines.call_line if form == "calls" else lines.import_line
    damaged = lacking = 0
    with opened(outbox) as file, to_write(output) as stream:
        for row in file.each(dead=dead or None):
            call = _call(row)
            if call is None:
                damaged += 1
                continue
            stream.write(write(call) + "\n")
            lacking += form == "kissmetrics" and bool(lines.left_out(call))
        stream.flush()
    if damaged:
        click.echo(f"km-logging: {_calls(damaged)} left out as damaged: km-logging outbox list shows them", err=True)
    if lacking:
        message = f"{_calls(lacking)} without the property '_p2', which would make an alias of its line"
        click.echo(f"km-logging: {message}: --format calls keeps it", err=True)
    sys.exit(1 if damaged or lacking else 0)


@outbox.command()
@options.outbox
@options.quiet
def retry(outbox: OutboxAddress, *, quiet: bool) -> None:
    r"""Have dead calls tried again.

    \b
    Example:
      km-logging outbox retry sqlite:///km.db
    """
    with opened(outbox) as file:
        revived = file.revive(time.time())
    if not quiet:
        click.echo(f"{_calls(revived)} to be tried again.")


@outbox.command()
@options.outbox
@click.option("--person", help="Only calls that name this person, as either identity.")
@_DEAD
@click.option("--yes", is_flag=True, help="Ask nothing.")
@options.quiet
def purge(outbox: OutboxAddress, *, person: str | None, dead: bool, yes: bool, quiet: bool) -> None:
    r"""Forget calls for good.

    Their bytes leave the file, with those of all that was delivered before. With --person, damaged calls are forgotten
    as well: they may name anybody, and cannot be delivered. A process that delivers just now may have read the next
    few hundred calls already.

    \b
    Examples:
      km-logging outbox purge --person bob sqlite:///km.db
      km-logging outbox purge --dead --yes sqlite:///km.db
    """
    with opened(outbox) as file:
        numbers = [row.number for row in file.each(dead=dead or None) if person is None or _may_name(row, person)]
        if person is None and not yes:
            _ask(f"Forget {_calls(len(numbers))} not delivered yet?")
        file.purge(numbers)
    if not quiet:
        click.echo(f"{_calls(len(numbers))} forgotten.")


def _ask(question: str) -> None:
    """Go on only after a yes; where nobody can answer, as in a crontab line, say how to do without."""
    try:
        is_sure = click.confirm(question, err=True)
    except click.Abort:  # no line came
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise click.UsageError("nobody is there to answer: pass --yes") from None
    if not is_sure:
        raise click.Abort


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _refuse_outbox(address: OutboxAddress, output: Path) -> None:
    """Its own files are what an export would destroy."""
    for own in (Path(f"{address.path}{end}") for end in FILE_ENDS if address.kind == "sqlite"):
        is_same = own.exists() and output.exists() and own.samefile(output)
        if is_same or os.path.realpath(own) == os.path.realpath(output):
            raise click.BadParameter(f"{output} is the outbox itself: name another file", param_hint="--output")


def _call(row: Row) -> Call | None:
    """The call of a row; None if the row is damaged."""
    try:
        return wire.decode(row.request) if row.request.isascii() else None
    except (ValueError, LookupError):
        return None


def _may_name(row: Row, person: str) -> bool:
    call = _call(row)
    return call is None or person in (call.person, call.identity)


def _shown(row: Row) -> tuple[str, str, str, str]:
    call = _call(row)
    if call is None:
        return "damaged", "-", "-", "-"
    happened = _moment(call.timestamp) if call.timestamp else "-"
    return call.kind, call.person, call.name or call.identity or "-", happened


def _listed(row: Row) -> dict[str, Any]:
    call = _call(row)
    told = {"call": None} if call is None else lines.nested(call)
    return {"accepted_at": row.accepted_at, "state": _state(row), **told}


def _state(row: Row) -> str:
    return "dead" if row.is_dead else "waiting"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
