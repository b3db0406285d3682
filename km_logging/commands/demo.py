"""``km-logging demo``: an application that logs, a sandbox that receives, and what arrived."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import sys
from typing import TYPE_CHECKING, Any

import click

import km_logging as km
from km_logging.commands.terminal import console

if TYPE_CHECKING:
    from km_logging.sandbox.checks import Received

__all__ = ["demo"]

#: Long enough for a slow machine; it usually takes under a second.
TIMEOUT = 30.0

#: Any text will do: the sandbox checks that there is a key, and keeps none.
API_KEY = "demo-key"


@click.command()
def demo() -> None:
    r"""See the whole way, once, on this machine.

    Starts a sandbox, runs an application that logs through dictConfig and structlog, and shows what arrived.

    \b
    Example:
      km-logging demo
    """
    from km_logging.sandbox.server import Sandbox  # the extra may be missing

    for name in [name for name in os.environ if name.startswith("KM_") or name.lower().endswith("_proxy")]:
        del os.environ[name]  # the demo is the same whatever the environment says

    with Sandbox() as sandbox:
        click.echo(f"A sandbox listens at {sandbox.endpoint}.\n")
        expected = _application_with_logging(sandbox.endpoint) + _application_with_structlog(sandbox.endpoint)
        logging.shutdown()
        received = sandbox.wait(expected, TIMEOUT)
    _show(received)
    if len(received) != expected or any(call.problems for call in received):
        click.echo(f"Expected {expected} calls without a problem.", err=True)
        sys.exit(1)
    click.echo(f"\nAll {expected} calls arrived.")


def _application_with_logging(endpoint: str) -> int:
    config = f"""
{{
  "version": 1,
  "disable_existing_loggers": false,
  "handlers": {{
    "kissmetrics": {{"class": "km_logging.KissmetricsHandler", "api_key": "{API_KEY}", "endpoint": "{endpoint}"}}
  }},
  "loggers": {{"shop": {{"handlers": ["kissmetrics"], "level": "INFO"}}}}
}}"""
    click.echo("1. Standard logging, configured by this JSON dictConfig:\n" + config.replace(API_KEY, "***") + "\n")
    logging.config.dictConfig(json.loads(config))
    logger = logging.getLogger("shop")
    logger.info("Signed Up", extra=km.event("bob", plan="pro", seats=5))
    logger.info("Profile saved", extra=km.set("bob", gender="male"))
    logger.info("Accounts linked", extra=km.alias("bob", "bob@bob.com"))
    logger.info("This line is for people only")
    return 3


def _application_with_structlog(endpoint: str) -> int:
    import structlog  # so that the command starts fast

    click.echo("2. structlog, with KissmetricsProcessor before JSONRenderer; its own lines:\n")
    processor: Any = km.KissmetricsProcessor(api_key=API_KEY, endpoint=endpoint)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            processor,
            structlog.processors.JSONRenderer(),
        ],
    )
    log = structlog.get_logger()
    with km.identify("ann@example.com"):
        log.info("Ordered", km="event", total=12.5, items=["tea", "cup"])
        log.info("Address changed", km="set", address={"city": "Paris"})
        log.info("Logged in by phone", km="alias", identity="+33 1 23 45 67 89")
        log.info("This line is for people only")
    processor.close()
    structlog.reset_defaults()
    return 3


def _show(received: list[Received]) -> None:
    from rich.table import Table  # so that the other commands start faster

    click.echo("\nWhat the sandbox received:\n")
    table = Table("call", "person", "name or identity", box=None)
    table.add_column("properties", overflow="fold")
    table.add_column("time")
    for call in sorted(received, key=lambda call: (call.person, call.kind)):
        properties = ", ".join(f"{name}={value}" for name, value in call.properties.items())
        table.add_row(call.kind, call.person, call.name or call.identity, properties, str(call.timestamp or ""))
    console().print(table)
