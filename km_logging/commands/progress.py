"""How a replay shows what it has to say: problems and notes as they come, and how far it has come."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

import click

from km_logging.calls import Problem
from km_logging.commands.terminal import console, printable
from km_logging.replay import Replay

if TYPE_CHECKING:
    from rich.progress import Progress
    from typing_extensions import Self

__all__ = ["Showing"]

#: So many problems of one kind are shown; the others are counted.
MOST_SHOWN = 5

#: How often progress is said where there is no terminal, in seconds.
IN_A_LOG = 10.0


class Showing:
    """Shows everything on stderr; a context manager that takes the progress bar away.

    Args:
        total: bytes that are to be read; None if nobody knows.
        done: what becomes of calls, in a word.
        is_quiet: no progress, and no notes.
    """

    def __init__(self, total: int | None, *, done: str, is_quiet: bool) -> None:
        self._total = total
        self._done = done
        self._is_quiet = is_quiet
        self._shown: Counter[str] = Counter()
        self._began = self._said_at = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty() and not self._is_quiet:
            self._bar = _bar()
            self._task = self._bar.add_task("", total=self._total, said="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def problem(self, where: str, problem: Problem) -> None:
        """Show the first ones of each kind."""
        self._show(problem.kind, f"{where}: {problem}")

    def rejected(self, where: str, what: str) -> None:
        """Show the first ones, with what would keep them."""
        remedy = "with --into sqlite:///km.db and a relay such calls are kept, to look at and to try again"
        self._show("rejected", f"{where}: the server refused {what}, which is not delivered: {remedy}")

    def _show(self, kind: str, text: str) -> None:
        self._shown[kind] += 1
        if self._shown[kind] <= MOST_SHOWN:
            click.echo(printable(text), err=True)

    def say_rest(self) -> None:
        """Say how many problems were not shown."""
        for kind, count in self._shown.items():
            if count > MOST_SHOWN:
                click.echo(f"{count - MOST_SHOWN:,} more of the kind {kind}.", err=True)

    def note(self, where: str, text: str) -> None:
        """Say something else of a file."""
        if not self._is_quiet:
            click.echo(printable(f"{where} {text}."), err=True)

    def tick(self, replay: Replay) -> None:
        """Show how far it has come: now on a terminal, else now and then."""
        if self._is_quiet:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=replay.bytes_read, said=self._said(replay), refresh=True)
        elif time.monotonic() - self._said_at >= IN_A_LOG:
            self._said_at = time.monotonic()
            part = f"{replay.bytes_read / max(1, self._total):.0%}, " if self._total is not None else ""
            click.echo(f"{replay.name}: {part}{self._said(replay)}", err=True)

    def _said(self, replay: Replay) -> str:
        lines, stats = replay.counts.lines, replay.stats()
        rate = lines / max(self.seconds, math.ulp(1.0))
        ended = stats.delivered or stats.handed_over or (0 if self._done == "delivered" else replay.counts.calls)
        error = f" ({stats.last_error})" if stats.last_error and stats.pending else ""
        return f"{lines:,} lines, {rate:,.0f} a second, {ended:,} {self._done}{error}"


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )  # only on a terminal

    columns = (
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    return Progress(*columns, console=console(stderr=True), auto_refresh=False, transient=True)
