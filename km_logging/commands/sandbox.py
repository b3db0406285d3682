"""``km-logging sandbox``: the local tracking server, until Ctrl-C."""

from __future__ import annotations

import click

__all__ = ["sandbox"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8123, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="NAME", help="A Host that may read the API.")
@click.option("--db", metavar="FILE", help="Keep calls in this file (SQLite) from one start to the next.")
def sandbox(host: str, port: int, allow_hosts: tuple[str, ...], db: str | None) -> None:
    r"""Run a local tracking server.

    It checks every call, and shows what it got.

    \b
    Example:
      km-logging sandbox --port 8123
      KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python your_application.py

    Without --db the last 10,000 calls are held in memory, with it the last 100,000 in the file too. No key is kept.
    """
    from km_logging.sandbox.server import serve  # the extra may be missing

    serve(host, port, allow_hosts=allow_hosts, db=db, on_ready=_say_ready)


def _say_ready(endpoint: str) -> None:
    click.echo(f"The sandbox listens: set KM_ENDPOINT={endpoint} and any KM_API_KEY.")
    click.echo(f"Calls as they arrive: {endpoint}/")
    click.echo(f"To build one by hand: {endpoint}/builder")
    click.echo(f"For programs:         {endpoint}/api/calls, {endpoint}/api/problems")
    click.echo("Ctrl-C ends it.")
