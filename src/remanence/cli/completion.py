"""`completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click

from remanence.cli.command import Command
from remanence.cli.output import say

__all__ = ["completion"]


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash   eval "$(remanence completion bash)"         in ~/.bashrc
    zsh    eval "$(remanence completion zsh)"          in ~/.zshrc
    fish   remanence completion fish | source          in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells of the choice"
    say(kind(context.find_root().command, {}, "remanence", "_REMANENCE_COMPLETE").source())
