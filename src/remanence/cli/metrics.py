"""`metrics`: the figures that a monitoring system scrapes, printed once."""

from __future__ import annotations

import sys

import click

from remanence.cli.command import Command, Invocation, asynchronous

__all__ = ["metrics"]


@click.command(cls=Command)
@asynchronous
async def metrics(call: Invocation) -> None:
    """Print the figures for Prometheus, in its text format.

    Sessions, records, calls, tokens and money of the whole database, all projects. Where a server runs it also says
    what it has counted since its start; GET /admin/v1/metrics answers the same.
    """
    async with call.reach() as reach:
        text = await reach.figures.metrics()
    sys.stdout.write(text)
