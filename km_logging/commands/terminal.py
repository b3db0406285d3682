"""What a terminal needs: colours only where they are wanted, no control characters of others, Ctrl-C at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "interruptible", "printable"]

#: Where there is no terminal, no line is broken, in characters.
WIDE = 2_000


def console(*, stderr: bool = False, may_be_wide: bool = False) -> Console:
    """A console of rich: plain text is not looked at for markup, and ``NO_COLOR`` is honoured.

    Args:
        stderr: write there, instead of to stdout.
        may_be_wide: break no line where there is no terminal.
    """
    from rich.console import Console  # so that commands without a table start faster

    # rich itself leaves bold type and the like on under NO_COLOR.
    plain = bool(os.environ.get("NO_COLOR"))
    made = Console(stderr=stderr, markup=False, highlight=False, color_system=None if plain else "auto")
    if may_be_wide and not made.is_terminal:
        made.width = WIDE
    return made


def printable(text: str) -> str:
    """The text with what could steer a terminal as escapes: names and persons come from anywhere."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Make Ctrl-C certain where a sender is at work, which takes whatever is raised in it for a failed attempt.

    Yields:
        What to call after each attempt: it raises KeyboardInterrupt if Ctrl-C was pressed.
    """
    is_pressed = False

    def press(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_pressed
        is_pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if is_pressed:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # which a shell asks for, in the background
        signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
