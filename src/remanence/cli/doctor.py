"""`doctor`: whether this installation can do its work, and what to mend when it cannot."""

from __future__ import annotations

import os

import click

from remanence.cli.checks import (
    Finding,
    check_agents,
    check_data,
    check_installation,
    check_models,
    check_port,
    check_server,
)
from remanence.cli.command import Command, Format, Invocation, asynchronous, leave
from remanence.cli.output import bold, clean, dim, red, say, show
from remanence.errors import RemanenceError

__all__ = ["doctor"]


@click.command(cls=Command, shape=list[Finding])
@asynchronous
async def doctor(call: Invocation, *, output: Format) -> None:
    """Check this installation and say what to mend.

    Looks at Python, the settings, agents, models and their keys (which are never shown), the port, the server if one
    runs, the disk, the clock, the database, its pages, some journals, and the sessions that wait. Nothing is changed
    and nothing is spent. Exit code 1 when something is wrong.
    """
    findings = await _findings(call)
    show(findings, output, lambda: _print(findings))
    if any(finding.state == "wrong" for finding in findings):
        leave(1)


async def _findings(call: Invocation) -> list[Finding]:
    from remanence.runtime.clock import SystemClock

    found = list(check_installation())
    try:
        configuration = call.configuration
    except RemanenceError as error:
        return [*found, Finding("settings", "wrong", error.message, "The rest is not looked at before that is mended.")]
    place = str(configuration.file) if configuration.file else f"no file in {configuration.root}: the defaults hold"
    found.append(Finding("settings", "ok", place))
    found += check_agents(configuration)
    found += [finding async for finding in check_models(configuration, os.environ)]
    found += check_port(configuration)
    if not call.direct:
        found += [finding async for finding in check_server(configuration, call.person)]
    found += [finding async for finding in check_data(configuration, call.caller, SystemClock().now())]
    return found


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark = {"ok": "ok      ", "warning": bold("warning "), "wrong": red("wrong   ")}[finding.state]
        say(f"{mark} {finding.check.ljust(width)}  {clean(finding.found)}")
        if finding.advice:
            say(f"{' ' * (width + 11)}{dim(finding.advice)}")
    wrong = sum(finding.state == "wrong" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    say()
    say("Everything is as it should be." if not wrong + warnings else f"{wrong} wrong, {warnings} to look at.")
