"""The command line: one file a command, thin; what a library user would want is elsewhere.

Exit codes: 0 done, 1 something was not delivered or found wrong, 2 usage. Errors go to stderr, with the remedy. Nothing
that a user may meet shows a traceback: neither a mistake, nor Ctrl-C, a pipe that is closed or a disk that is full.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

from km_logging import __version__
from km_logging.commands.check import check
from km_logging.commands.completion import completion
from km_logging.commands.demo import demo
from km_logging.commands.outbox import outbox
from km_logging.commands.relay import relay
from km_logging.commands.replay import replay
from km_logging.commands.sandbox import sandbox
from km_logging.commands.send import send
from km_logging.commands.url import url
from km_logging.errors import KmLoggingError, SettingsError

__all__ = ["cli", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="km_logging")
def cli() -> None:
    r"""Product analytics from the logs that you already write.

    \b
    Examples:
      km-logging demo
      km-logging COMMAND --help
    """


for command in (demo, sandbox, url, send, replay, relay, outbox, check, completion):
    cli.add_command(command)


def _keep_examples(command: click.Command) -> None:
    r"""Have click leave the lines after a ``\b`` as they are: it knows the character, and docstrings hold its name."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for subcommand in getattr(command, "commands", {}).values():
        _keep_examples(subcommand)


_keep_examples(cli)


def run() -> None:
    """Run the command line and end the process with its exit code; no error of a user's shows a traceback."""
    _prepare_streams()
    try:
        try:
            cli(prog_name="km-logging")
        finally:
            sys.stdout.flush()
    except KmLoggingError as error:
        click.echo(f"km-logging: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except BrokenPipeError:  # whoever reads has seen enough
        _end_output()
        sys.exit(1)
    except OSError as error:
        _end_output()
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or type(error).__name__
        click.echo(f"km-logging: {what}: check the path, its permissions and the disk", err=True)
        sys.exit(1)


def _prepare_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):  # in the order of their descriptors
        if getattr(sys, name) is None:
            # It was closed; a file that is opened later, such as an outbox, must not get its descriptor.
            stream = Path(os.devnull).open("r" if name == "stdin" else "w")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):  # whose encoding may know fewer characters than there are names
        sys.stdout.reconfigure(errors="backslashreplace")


def _end_output() -> None:
    """Have nothing written to stdout any more: Python would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
