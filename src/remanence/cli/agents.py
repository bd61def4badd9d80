"""`agents`: check what is declared, register versions, compare them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remanence.cli.command import Format, Group, Invocation, asynchronous
from remanence.cli.output import clean, moment, note, red, say, show, table
from remanence.commands.shapes import AgentShape, CheckedShape, DiffShape, VersionShape
from remanence.commands.versions import lines_from, name_of
from remanence.errors import InvalidInput, NotFound, RemanenceError
from remanence.ports import Version
from remanence.spec import AgentSpec, spec_digest

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["agents", "specs_of_code"]


@click.group(cls=Group)
def agents() -> None:
    """Check, register and compare versions of agents.

    A version is named by the digest of what it says; NAME@2, NAME@DIGEST or the beginning of a digest name one too. A
    PLACE is where an agent is declared: agent.py, agent.py:name, module:name, agent.toml, agent.json.
    """


# --- looking ----------------------------------------------------------------------------------------------------------


@agents.command("list", shape=list[AgentShape])
@asynchronous
async def list_(call: Invocation, *, output: Format) -> None:
    """Agents that are registered, and those the setting `agents` declares."""
    code = specs_of_code(call)
    async with call.reach() as reach:
        newest = {version.agent: version for version in await reach.agents.standing()}
    found = [_agent(name, newest.get(name), code.get(name)) for name in sorted({*newest, *code})]
    show(found, output, lambda: _list_table(found))


def specs_of_code(call: Invocation) -> dict[str, AgentSpec]:
    """What the setting `agents` declares, by name; said and left out when that cannot be read."""
    from remanence.cli.opening import agents_of

    configuration = call.configuration
    try:
        return {name: _spec(agent) for name, agent in agents_of(configuration).items()}
    except RemanenceError as error:
        note(f"The declared agents are left out: {error.message}")
        return {}


def _agent(name: str, version: VersionShape | None, code: AgentSpec | None) -> AgentShape:
    if code is None:
        state = "absent"
    elif version is None:
        state = "not pushed"
    else:
        state = "current" if spec_digest(code) == version.version else "changed"
    if version is not None:
        return AgentShape(name, version.number, version.version, version.model, version.tools, version.at, state)
    assert code is not None, "an agent that is listed is registered or declared"
    return AgentShape(name, 0, "", code.model, [tool.name for tool in code.tools], None, state)


def _list_table(found: list[AgentShape]) -> None:
    rows = [
        (
            agent.agent,
            str(agent.number) if agent.number else "-",
            agent.version[:12] or "-",
            agent.model,
            ", ".join(agent.tools) or "-",
            moment(agent.at),
            agent.code,
        )
        for agent in found
    ]
    columns = ("AGENT", "NUMBER", "VERSION", "MODEL", "TOOLS", "REGISTERED", "CODE")
    table(columns, rows, empty="There is no agent yet. Begin with: remanence init NAME")


@agents.command("versions", shape=list[VersionShape])
@click.argument("agent", metavar="NAME")
@asynchronous
async def versions(call: Invocation, agent: str, *, output: Format) -> None:
    """The registered versions of an agent, oldest first."""
    from remanence.cli.choosing import version_called

    async with call.reach() as reach:
        try:
            found = await reach.agents.versions_of(agent)
        except NotFound:  # a version names its agent, too; and who misspelt a name is told what it resembles
            found = await reach.agents.versions_of((await version_called(reach, agent)).agent)
    rows = [(f"{v.agent}@{v.number}", v.version[:12], v.model, moment(v.at)) for v in found]
    show(found, output, lambda: table(("VERSION", "DIGEST", "MODEL", "REGISTERED"), rows))


# --- declaring --------------------------------------------------------------------------------------------------------


@agents.command("validate", shape=list[CheckedShape])
@click.argument("places", metavar="[PLACE]...", nargs=-1)
@click.pass_obj
def validate(call: Invocation, places: tuple[str, ...], *, output: Format) -> None:
    """Check what is declared, without a database. Default: the agents of the settings.

    Exit code 2, with the exact place, when something cannot mean what it says.
    """
    found = [
        CheckedShape(spec.name, spec_digest(spec), spec.model, [tool.name for tool in spec.tools])
        for spec in _declared(call, places)
    ]

    def told() -> None:
        for checked in found:
            tools = ", ".join(checked.tools) or "no tools"
            say(f"{checked.agent}@{checked.version[:12]} is valid: {checked.model}, {tools}")

    show(found, output, told)
    for checked in found:
        if missing := _missing_model(call, checked.model):
            note(f"Where {checked.agent} runs, its model has to be known; here it is not. {missing}")


@agents.command("push", shape=list[VersionShape])
@click.argument("places", metavar="[PLACE]...", nargs=-1)
@asynchronous
async def push(call: Invocation, places: tuple[str, ...], *, output: Format) -> None:
    """Register what is declared as versions. Default: the agents of the settings.

    The same declaration again is the same version. Sessions keep the version they opened with.
    """
    specs = _declared(call, places)
    async with call.reach(create=True) as reach:
        found = [await reach.agents.push(spec) for spec in specs]

    def told() -> None:
        for version in found:
            state = "registered" if version.created else "was registered already"
            say(f"{version.agent}@{version.number} {state}: {version.version[:12]}")

    show(found, output, told)


def _missing_model(call: Invocation, model: str) -> str:
    """Why this project cannot reach a model; empty when it can. A version is valid without it: it may run elsewhere."""
    from remanence.cli.opening import models_of
    from remanence.models.gateway import Gateway

    ready, configs = models_of(call.configuration)
    try:
        Gateway(configs, models=ready, root=call.configuration.root).resolve(model)
    except NotFound as error:
        return str(error)
    return ""


def _declared(call: Invocation, places: Sequence[str]) -> list[AgentSpec]:
    from remanence.cli.opening import agents_of, declared

    if places:
        return [_spec(agent) for place in places for agent in declared(place, Path.cwd())]
    found = [_spec(agent) for agent in agents_of(call.configuration).values()]
    if not found:
        raise InvalidInput(
            "The setting `agents` names none. Nothing was done; say where the agent is declared, such as agent.py.",
            param="agents",
        )
    return found


def _spec(agent: object) -> AgentSpec:
    found = agent if isinstance(agent, AgentSpec) else getattr(agent, "spec", None)
    assert isinstance(found, AgentSpec), "an agent is a spec or has one"
    return found


# --- comparing --------------------------------------------------------------------------------------------------------


@agents.command("diff", shape=DiffShape)
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@asynchronous
async def diff(call: Invocation, first: str, second: str | None, *, output: Format) -> None:
    """What changed from A to B: versions (NAME@1, a digest) or places (agent.py).

    With a name alone: to the version it stands for, from the one that was registered before.
    """
    async with call.reach() as reach:
        if second is None:
            shape = await _to_the_last(reach, first)
        else:
            shape = await _between(reach, first, _of_agent(first, second))
    show(shape, output, lambda: _print_diff(shape))


def _of_agent(first: str, second: str) -> str:
    """`hello v3` means hello@3: a number by itself is a version of the agent that was named before."""
    from remanence.cli.opening import is_target

    alone = re.fullmatch(r"v?(\d{1,7})", second) and not is_target(first)
    return f"{first.partition('@')[0]}@{second}" if alone else second


async def _to_the_last(reach: Reach, name: str) -> DiffShape:
    """To the version that is meant, or that a name stands for, from the one before it."""
    from remanence.cli.choosing import version_called

    try:
        return await reach.agents.diff(name, None, None)
    except NotFound:
        version = await version_called(reach, name)
    return await reach.agents.diff(version.agent, None, version.version)


async def _between(reach: Reach, first: str, second: str) -> DiffShape:
    """From one version or place to another. What is declared here, and two agents, are compared here."""
    a, b = [await _found(reach, text) for text in (first, second)]
    if isinstance(a, Version) and isinstance(b, Version) and a.agent == b.agent:
        return await reach.agents.diff(a.agent, a.version, b.version)
    sides = [(name_of(one), one.spec) if isinstance(one, Version) else one for one in (a, b)]
    lines = lines_from(*sides)
    return DiffShape(sides[0][0], sides[1][0], not lines, lines)


async def _found(reach: Reach, text: str) -> Version | tuple[str, AgentSpec]:
    """A registered version; or a place, with the agent that is declared there."""
    from remanence.cli.choosing import version_called
    from remanence.cli.opening import declared, is_target

    if not is_target(text):
        return await version_called(reach, text)
    found = declared(text, Path.cwd())
    if len(found) > 1:
        raise InvalidInput(f"{text} holds several agents. Say which: {text}:NAME")
    return text, _spec(found[0])


def _print_diff(shape: DiffShape) -> None:
    if shape.same:
        say(f"{shape.a} and {shape.b} say the same.")
    for line in shape.diff:
        say(red(clean(line)) if line.startswith("-") else clean(line))
