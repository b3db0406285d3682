"""The command line: one file a command, thin; what a library user would want is elsewhere.

Exit codes: 0 done, 1 something was not delivered or found wrong, 2 usage. Errors go to stderr, with the remedy.
"""

from __future__ import annotations

import sys

import click

from km_logging import __version__
from km_logging.commands.check import check
from km_logging.commands.demo import demo
from km_logging.commands.outbox import outbox
from km_logging.commands.relay import relay
from km_logging.commands.sandbox import sandbox
from km_logging.commands.url import url
from km_logging.errors import KmLoggingError, SettingsError

__all__ = ["cli", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="km_logging")
def cli() -> None:
    """Product analytics from the logs that you already write."""


for command in (demo, sandbox, url, relay, outbox, check):
    cli.add_command(command)


def run() -> None:
    """Run the command line and end the process with its exit code; no error of ours shows a traceback."""
    try:
        cli(prog_name="km-logging")
    except KmLoggingError as error:
        click.echo(f"km-logging: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
