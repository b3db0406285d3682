"""``km-logging relay``: deliver from an outbox that applications fill."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import click

from km_logging.addresses import OutboxAddress
from km_logging.commands import options
from km_logging.commands.terminal import console, printable
from km_logging.errors import OutboxError
from km_logging.ledger import Stats
from km_logging.relay import Relay
from km_logging.settings import Settings

__all__ = ["relay"]

#: How often the counters are shown, in seconds: on a terminal, and in a log.
ON_A_TERMINAL = 0.5
IN_A_LOG = 60.0

#: Has a terminal begin its last line anew.
ANEW = "\r\x1b[K"


@click.command()
@options.outbox
@click.option("--once", is_flag=True, help="Try each call that is there once, and end: for a crontab line.")
@click.option("--drain", is_flag=True, help="End once nothing is left.")
@options.destination
@click.option("--senders", type=int, help="Most requests under way; else KM_SENDERS, else 16.")
@click.option("--cpu-share", type=float, help="Most of one core to use; else KM_CPU_SHARE, else 1.")
@click.option("--retry-for", type=float, help="Seconds that a call is tried; else KM_RETRY_FOR, else 7 days.")
@options.quiet
@options.as_json
def relay(outbox: OutboxAddress, *, once: bool, drain: bool, quiet: bool, as_json: bool, **given: object) -> None:
    r"""Deliver from an outbox until told to stop.

    SIGTERM and Ctrl-C do. One process delivers from a file; if that is another one, this one takes over when it ends.
    The file is never made. From a stream of a Redis server any number of relays deliver together, on any machine; what
    one of them had in its hands when it died, the others take over within 15 seconds. Without OUTBOX it is KM_OUTBOX:
    a password that is written on a command line is there for everybody to read.

    \b
    Examples:
      km-logging relay sqlite:////var/lib/app/km.db
      km-logging relay "redis://cache.internal:6379/0?stream=km"
      * * * * * km-logging relay --once sqlite:////var/lib/app/km.db
    """
    if once and drain:
        raise click.UsageError("--once and --drain exclude each other")
    if given["cpu_share"] is None and not os.environ.get("KM_CPU_SHARE"):
        given["cpu_share"] = 1.0
    given |= {"outbox": outbox, "mode": "live", "deliver": True}
    relaying = Relay(Settings.resolve(given, os.environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relaying.stop())
    show_no_more = _nothing if quiet else _showing(relaying)
    try:
        (relaying.run_once if once else relaying.drain if drain else relaying.run)()
    finally:
        is_other = relaying.has_others
        stats = relaying.close()
        show_no_more()
    left = _left(relaying, may_fail=not (once or drain))
    # What another process delivers, and what is left on request, is no failure.
    has_failed = (once or drain) and bool(stats.dropped or (left and not is_other))
    if not quiet or has_failed:
        _print(stats, left, as_json=as_json)
    if is_other and not (stats.accepted or as_json or quiet):
        click.echo("Another process delivers from this outbox.", err=True)
    sys.exit(1 if has_failed else 0)


def _left(relaying: Relay, *, may_fail: bool) -> int | None:
    """How many calls are left; None if nobody knows, which is no reason for a clean stop to fail."""
    try:
        return relaying.waiting()
    except OutboxError as error:
        if not may_fail:
            raise
        click.echo(f"km-logging: {error}", err=True)
        return None


def _nothing() -> None:
    pass


def _showing(relaying: Relay) -> Callable[[], None]:
    """Show the counters now and then: one line that changes on a terminal, else a line of JSON a minute.

    Returns:
        What ends it.
    """
    say, every = (_on_terminal(), ON_A_TERMINAL) if sys.stderr.isatty() else (_in_log, IN_A_LOG)
    ended, turn = threading.Event(), threading.Lock()

    def tick() -> None:
        while not ended.wait(every):
            stats, waiting = relaying.stats(), _waiting(relaying)
            with turn, suppress(OSError):  # nobody reads it any more
                if not ended.is_set():
                    say(stats, waiting, relaying.leads)

    def end() -> None:
        with turn:
            ended.set()
        if sys.stderr.isatty():
            click.echo(ANEW, nl=False, err=True)

    threading.Thread(target=tick, name="relay-progress", daemon=True).start()
    return end


def _on_terminal() -> Callable[[Stats, int | None, bool], None]:
    terminal = console(stderr=True)

    def say(stats: Stats, waiting: int | None, leads: bool) -> None:  # noqa: FBT001 - as the other one
        there = "?" if waiting is None else f"{waiting:,}"
        role = "delivers" if leads else "waits"
        line = f"{role}: {stats.delivered:,} delivered, {there} waiting, {stats.retried:,} retried"
        error = f" ({stats.last_error})" if stats.last_error and stats.pending else ""
        click.echo(ANEW + printable(line + error)[: terminal.width - 1], nl=False, err=True)

    return say


def _in_log(stats: Stats, waiting: int | None, _leads: bool) -> None:  # noqa: FBT001 - as the other one
    click.echo(json.dumps({"waiting": waiting, **dataclasses.asdict(stats)}))


def _waiting(relaying: Relay) -> int | None:
    """How many calls wait; None while the outbox cannot be used, which the relay has said already."""
    with suppress(OutboxError):
        return relaying.waiting()
    return None


def _print(stats: Stats, left: int | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"left": left, **dataclasses.asdict(stats)}))
        return
    dropped = "".join(f", {count:,} {reason}" for reason, count in stats.dropped.items())
    error = f" (last error: {stats.last_error})" if stats.last_error and (left or stats.dropped) else ""
    there = "" if left is None else f", {left:,} left"
    click.echo(f"{stats.delivered:,} delivered{dropped}{there}{error}.")
