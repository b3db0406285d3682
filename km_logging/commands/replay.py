"""``km-logging replay``: send the calls that stand in logs."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from km_logging import checkup
from km_logging.commands import configs, options
from km_logging.commands.progress import Showing
from km_logging.commands.terminal import console, printable
from km_logging.errors import SettingsError
from km_logging.problems import Reporter, insecure
from km_logging.replay import Nowhere, PlaceFile, Replay, Sending, Sink, Source, Stop, Storing, Wanted
from km_logging.senders import check_transport
from km_logging.settings import Settings

__all__ = ["replay"]

STDIN = "-"

#: What the file of a place is called, after the file whose place it is.
SUFFIX = ".km-replay"

_CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)

#: Settings of tagging, of which a replay needs those of the application.
_TAGGING = ("tag", "person_field", "include", "exclude", "value_limit", "properties")

#: Settings of a log call, which a replay does not make.
_PLAIN = {"durability": "batched", "strict": False, "drain_on_sigterm": False}

#: Why a call was not delivered that should have been.
_FAILURES = ("expired", "rejected")


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option("-n", "--dry-run", is_flag=True, help="Send nothing, and say what would be sent; needs no key.")
@click.option(
    "--since", callback=options.bound, metavar="TIME", help="Only calls from then on: Unix seconds or ISO 8601."
)
@click.option("--until", callback=options.bound, metavar="TIME", help="Only calls before then.")
@click.option("--name", "names", multiple=True, help="Only events of this name; repeatable.")
@click.option("--person", "people", multiple=True, help="Only calls of this person; repeatable.")
@click.option("--rate", type=options.Finite(0, min_open=True), metavar="NUMBER", help="Most calls a second.")
@click.option("--resume", is_flag=True, help="Go on where the last replay of FILE stopped, however it ended.")
@click.option("--state", metavar="PATH", help="Where that place is kept; else beside it, as FILE.km-replay.")
@options.into
@options.destination
@click.option("--transport", type=click.Choice(["requests", "curl"]), help="Else KM_TRANSPORT; curl is the faster one.")
@click.option("--senders", type=int, help="Most requests under way; else KM_SENDERS, else 16, or 64 with curl.")
@click.option("--retry-for", type=float, help="Seconds that a call is tried; else KM_RETRY_FOR, else 300.")
@click.option(
    "--config", type=_CONFIG, metavar="FILE", help="The application's dictConfig, whose settings apply here, too."
)
@click.option("--tag", help="What the application's settings call the field km.")
@click.option("--person-field", help="What the application's settings call the field person.")
@click.option("--include", multiple=True, help="The only properties that may be sent; repeatable.")
@click.option("--exclude", multiple=True, help="A property that may not be sent; repeatable.")
@click.option("--time-field", help="The field of tagged lines that holds their time, if it is one of another name.")
@options.quiet
@options.as_json
def replay(files: tuple[str, ...], *, dry_run: bool, resume: bool, into: str | None, **given: Any) -> None:
    r"""Send the tracking calls that stand in logs.

    With their original times: Kissmetrics counts equal calls once, so that to send one again does no harm. FILE is a
    file of JSON lines, plain or gzip, or - for stdin: of structlog's JSONRenderer, of python-json-logger, in
    Kissmetrics' format of import and export, or from km-logging outbox export. All other lines are passed over.

    \b
    Examples:
      km-logging replay --dry-run app.log app.log.1.gz
      km-logging replay --resume --since 2024-05-01T00:00:00Z --until 2024-05-02T00:00:00Z app.log
    """
    is_quiet, as_json, state = (given.pop(name) for name in ("quiet", "as_json", "state"))
    rate, time_field = given.pop("rate"), given.pop("time_field")
    wanted = _wanted(given)
    settings = _settings(given, into, dry_run=dry_run)
    job = _job(settings, into, wanted, time_field)
    places = _places(files, state, job, dry_run=dry_run, resume=resume)
    stop = _stop_on_signals()
    with Showing(_total(files), done=_word(into, dry_run=dry_run), is_quiet=is_quiet) as showing:
        sink = _sink(settings, into, dry_run=dry_run)
        rate = math.inf if rate is None else rate
        replaying = Replay(settings, sink, showing, wanted=wanted, rate=rate, time_field=time_field, stop=stop)
        try:
            for name in files:
                if not replaying.is_over:
                    with _opened(name, stop) as source:
                        replaying.read(source, places.get(name), resumes=resume)
        finally:
            is_complete = replaying.finish()
    if is_complete and not resume:
        for place in places.values():
            with suppress(OSError):  # a directory that cannot be written, of which there was a note
                place.remove()
    showing.say_rest()
    told = _told(replaying, showing.seconds, is_complete=is_complete)
    if as_json:
        click.echo(json.dumps(told))
    elif not is_quiet:
        _print(told, into, dry_run=dry_run)
    if not is_complete:
        # Of a stream without --state, and in a dry run, no place was kept.
        keeps = not dry_run and all(name in places or name.endswith(SUFFIX) for name in files)
        click.echo(_how_to_go_on(replaying, settings, _GOES_ON if keeps else _BEGINS_AGAIN), err=True)
    is_wrong = (
        not is_complete or told["untold"] or told["lost"] or any(told["dropped"].get(reason) for reason in _FAILURES)
    )
    sys.exit(1 if is_wrong else 0)


def _places(
    files: tuple[str, ...], state: str | None, job: str, *, dry_run: bool, resume: bool
) -> dict[str, PlaceFile]:
    """Where the places of these files are kept."""
    if state and len(files) > 1:
        raise click.UsageError("--state keeps the place of one file: give one FILE, or leave it out")
    if resume and STDIN in files and not state:
        raise click.UsageError("--resume of stdin needs --state PATH, where its place is kept")
    # A pattern such as app.log* finds the files of places as well.
    named = files if state else [name for name in files if _is_file(name) and not name.endswith(SUFFIX)]
    places = {name: PlaceFile(Path(state or name + SUFFIX), job, is_fixed=dry_run) for name in named}
    for name, place in places.items():
        is_read = state and _is_file(name) and place.path.exists() and place.path.samefile(name)
        why = f"{place.path} is FILE itself" if is_read else place.objection()
        if why:
            raise click.UsageError(f"{why}: move it away, or name a file that is not there yet by --state")
    return places


def _wanted(given: dict[str, Any]) -> Wanted:
    since, until, names, people = (given.pop(name) for name in ("since", "until", "names", "people"))
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until, so that there is no time in between: exchange them?")
    bounds = {name: moment for name, moment in {"since": since, "until": until}.items() if moment is not None}
    return Wanted(**bounds, names=frozenset(names) or None, people=frozenset(people) or None)


def _settings(given: dict[str, Any], into: str | None, *, dry_run: bool) -> Settings:
    """The settings of the application, but for what concerns its own delivery."""
    table = _configured(given.pop("config"))
    alone = {"mode": "off" if dry_run else "live", "outbox": into or "memory:", "deliver": into is None}
    if not (dry_run or into or given["api_key"] or table.get("api_key") or os.environ.get("KM_API_KEY")):
        raise SettingsError("api_key is missing: pass --api-key, or set KM_API_KEY; --dry-run and --into need none")
    said = {name: value for name, value in given.items() if value not in (None, ())}
    settings = Settings.resolve({**table, **said, **alone, **_PLAIN}, os.environ)
    check_transport(settings)
    return settings


def _configured(config: Path | None) -> dict[str, Any]:
    """The settings of the one handler of a dictConfig."""
    if config is None:
        return {}
    sys.path.insert(0, str(Path.cwd()))  # where the application's own callables are
    handlers = checkup.handler_settings(configs.read(config))
    if len(handlers) != 1:
        names = f" ({', '.join(handlers)})" if handlers else ""
        message = f"{config} has {len(handlers)} handlers of ours{names}, not one"
        raise click.UsageError(f"{message}: leave --config out, and give --tag, --include and the like")
    return next(iter(handlers.values()))


def _job(settings: Settings, into: str | None, wanted: Wanted, time_field: str | None) -> str:
    """What is done with a file, in a text: places of another job are no use."""
    where = str(settings.outbox) if into else [str(settings.endpoint), settings.api_key]
    which = [wanted.since, wanted.until, sorted(wanted.names or ()), sorted(wanted.people or ()), time_field]
    return json.dumps([where, which, [getattr(settings, name) for name in _TAGGING]])


def _word(into: str | None, *, dry_run: bool) -> str:
    return "to send" if dry_run else "put into the outbox" if into else "delivered"


def _stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it in the background
            signal.signal(number, lambda *_: stop.ask())
    return stop


def _total(files: tuple[str, ...]) -> int | None:
    return sum(Path(name).stat().st_size for name in files) if all(map(_is_file, files)) else None


def _is_file(name: str) -> bool:
    """Not stdin, nor a pipe, which a shell may name as well: <(zcat app.log.gz)."""
    return name != STDIN and Path(name).is_file()


def _sink(settings: Settings, into: str | None, *, dry_run: bool) -> Sink:
    if dry_run:
        return Nowhere()
    if into is not None:
        return Storing(settings)
    report = Reporter(None).report
    if not settings.endpoint.is_private:
        report(insecure(settings.endpoint))
    return Sending(settings, report)


@contextmanager
def _opened(name: str, stop: Stop) -> Iterator[Source]:
    if name == STDIN and sys.stdin is not None:
        yield Source(sys.stdin.buffer, "stdin", stop.during)  # type: ignore[arg-type]  # of what Python opens, it is one
    else:
        with Path(os.devnull if name == STDIN else name).open("rb") as file:
            yield Source(file, name, stop.during)


def _told(replaying: Replay, seconds: float, *, is_complete: bool) -> dict[str, Any]:
    """What became of lines and calls, as ``--json`` prints it."""
    counts, stats = replaying.counts, replaying.stats()
    return {
        "is_complete": is_complete,
        "lines": counts.lines,
        "passed_over": counts.passed_over,
        "broken": counts.broken,
        "too_long": counts.too_long,
        "lost": counts.lost,
        "unwanted": counts.unwanted,
        "untold": counts.untold,
        "calls": counts.calls,
        "delivered": stats.delivered,
        "put": stats.handed_over,
        "dropped": {reason: count for reason, count in stats.dropped.items() if reason != "closed"},
        "retried": stats.retried,
        "problems": counts.problems,
        "names": [{"kind": kind, "name": name, "calls": count} for (kind, name), count in counts.names.most_common()],
        "seconds": round(seconds, 3),
        "last_error": stats.last_error,
    }


def _print(told: dict[str, Any], into: str | None, *, dry_run: bool) -> None:
    dropped = "".join(f", {count:,} {reason}" for reason, count in told["dropped"].items())
    if dry_run:
        _print_names(told["names"])
        click.echo(f"{told['calls']:,} to send{dropped}; nothing was sent.")
    elif into:
        click.echo(f"{told['put']:,} put into the outbox{dropped}.")
    else:
        click.echo(f"{told['delivered']:,} delivered{dropped}.")
    others = {"of other times, names or people": told["unwanted"], "that cannot be told": told["untold"]}
    more = "".join(f", {count:,} {what}" for what, count in others.items() if count)
    damaged = told["broken"] + told["too_long"]
    odd = f" ({damaged:,} of them cut off or too long)" if damaged else ""
    lines, seconds, passed_over = told["lines"], told["seconds"], told["passed_over"]
    rate = f"{lines:,} lines in {seconds:,.1f} s ({lines / max(seconds, 0.001):,.0f} a second)"
    click.echo(f"{rate}: {passed_over:,} passed over{odd}{more}.")


def _print_names(names: list[dict[str, Any]]) -> None:
    from rich.table import Table  # so that the other commands start faster

    table = Table("call", "name", box=None)
    table.add_column("calls", justify="right")
    for row in names:
        table.add_row(row["kind"], printable(row["name"]), f"{row['calls']:,}")
    if names:
        console(may_be_wide=True).print(table)


_GOES_ON = "the same command with --resume goes on"
_BEGINS_AGAIN = (
    "no place was kept (of - that takes --state PATH); give it all again: what was delivered already is counted once"
)


def _how_to_go_on(replaying: Replay, settings: Settings, how: str) -> str:
    if replaying.has_given_up:
        error = replaying.stats().last_error
        remedy = f"check endpoint, network and proxy; {how}"
        return f"km-logging: for {settings.retry_for:,.0f} s a call could not be delivered ({error}): {remedy}"
    if replaying.counts.faults:
        return f"km-logging: not everything could be read: mend the files; {how}"
    return f"Stopped: {how}."
