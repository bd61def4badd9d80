"""`demo`: the guided tour."""

from __future__ import annotations

from pathlib import Path

import click

from remanence.cli.command import Command, Invocation, leave
from remanence.cli.output import sure

__all__ = ["demo"]


@click.command(cls=Command)
@click.option("--fast", is_flag=True, help="Without the pauses for reading.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Leave the data there.")
@click.option("--model", metavar="NAME", help="On a real model; this spends money.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before money is spent.")
@click.pass_obj
def demo(call: Invocation, *, fast: bool, keep: Path | None, model: str | None, yes: bool) -> None:
    """A guided tour: real crashes, real resumes, in two minutes.

    The model is scripted and says so; everything else is real. Every claim is checked, and the exit code is 1 when one
    does not hold.
    """
    from remanence.demo import tour

    configs = None
    if model is not None:
        from remanence.cli.opening import DEFAULT_MODEL, models_of
        from remanence.models.gateway import Gateway

        configuration = call.configuration
        configs = models_of(configuration)[1]
        if model == DEFAULT_MODEL:
            model = configuration.settings.model
        # A misspelt name is better found now than in each of the eight scenes.
        Gateway(configs, root=configuration.root).resolve(model)
        if not model.startswith("scripted") and not yes:
            sure(
                f"The tour makes about 60 calls to {model}, and they may cost money. Go on?",
                otherwise="Nothing was sent",
            )
    leave(tour.main(fast=fast, keep=keep, model=model, configs=configs))
