"""``km-logging url``: the request URL of a call, key included."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from km_logging import wire
from km_logging.commands import options
from km_logging.commands.saying import Said, add_subcommands, place
from km_logging.direct import Direct

__all__ = ["url"]


@click.group()
def url() -> None:
    r"""Print the request URL of a call.

    Nothing is sent. The URL holds the API key.

    \b
    Example:
      km-logging url event bob "Signed Up" -P plan=pro --api-key KEY
    """


def _print(said: Iterable[Said], *, api_key: str | None, endpoint: str | None) -> None:
    settings = options.settings(api_key=api_key, endpoint=endpoint, mode="live")
    is_whole = True
    with Direct(settings) as direct:
        for each in said:
            request = direct.request(each.call)
            if isinstance(request, str):
                target = wire.target(request, settings.api_key or "", settings.endpoint.base)
                click.echo(settings.endpoint.origin + target)
            else:
                is_whole = False
                click.echo(f"km-logging: {place(each)}{request.message}: {request.remedy}", err=True)
    sys.exit(0 if is_whole else 1)


add_subcommands(url, _print, options.destination)
