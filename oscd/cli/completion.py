"""Owns the command `completion`: what makes a shell complete the command `oscd`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes your shell complete `oscd`; put it where the shell starts.

    bash: eval "$(oscd completion bash)" in ~/.bashrc; zsh: the same with zsh, in ~/.zshrc, after compinit; fish: oscd
    completion fish > ~/.config/fish/completions/oscd.fish.

    Example: eval "$(oscd completion bash)"
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows these three"
    click.echo(made(context.find_root().command, {}, "oscd", "_OSCD_COMPLETE").source())
