"""`deploy`: which versions of agents answer."""

from __future__ import annotations

import click

from remanence.cli.agents import specs_of_code
from remanence.cli.command import Format, Group, Invocation, asynchronous
from remanence.cli.output import show, table
from remanence.commands.deployments import DeploymentShape

__all__ = ["deploy"]


@click.group(cls=Group)
def deploy() -> None:
    """Which version of an agent answers new sessions, and where.

    This release has one environment, in which one version of each agent takes everything.
    """


@deploy.command("list", shape=list[DeploymentShape])
@click.argument("agent", metavar="[NAME]", required=False)
@asynchronous
async def list_(call: Invocation, agent: str | None, *, output: Format) -> None:
    """What answers for each agent, or for one: what code declares, and else the version its name stands for."""
    async with call.reach() as reach:
        found = await reach.agents.deployments(agent, {} if reach.url else specs_of_code(call))
    rows = [
        (
            one.agent,
            one.environment,
            f"{one.agent}@{share.number}" if share.number else "not registered",
            share.version[:12],
            f"{share.percent} %",
            one.declared,
        )
        for one in found
        for share in one.shares
    ]
    columns = ("AGENT", "ENVIRONMENT", "VERSION", "DIGEST", "SHARE", "DECLARED")
    show(found, output, lambda: table(columns, rows, empty="There is no agent yet. Begin with: remanence init NAME"))
