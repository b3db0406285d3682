"""``km-logging completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the completion script of a shell.

    It has Tab complete commands, options and files, in bash (4.4 or newer), zsh and fish.

    \b
    Examples:
      eval "$(km-logging completion bash)"     # in ~/.bashrc
      eval "$(km-logging completion zsh)"      # in ~/.zshrc, after compinit
      km-logging completion fish > ~/.config/fish/completions/km-logging.fish
    """
    found, root = get_completion_class(shell), context.find_root()
    assert found is not None
    click.echo(found(root.command, {}, "km-logging", "_KM_LOGGING_COMPLETE").source(), nl=False)
