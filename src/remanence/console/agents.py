"""Agents: which there are, their versions and what changed between them, and what each promises and allows.

Read-only: an agent is declared in code or pushed from a file, and a version is never changed. What a page adds to the
declaration is use: how many sessions pin a version, and what they cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Response

from remanence.commands import versions
from remanence.commands.shapes import VersionShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.known_agents import UNREGISTERED, known_versions, version_of
from remanence.console.reading import ask
from remanence.console.ways import Ways, joined, ways
from remanence.errors import NotFound
from remanence.ports import Version
from remanence.screens import Uses, Versions, VersionUse
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, Rule

__all__ = ["AgentsData", "VersionData", "agents_router"]

agents_router = APIRouter(prefix="/agents", route_class=ConsoleRoute, include_in_schema=False)


class Used(msgspec.Struct, frozen=True):
    """A version and how much it is used."""

    version: VersionShape
    sessions: int
    turns: int
    usd_micros: int
    updated_at: int | None


class AgentsData(msgspec.Struct, frozen=True):
    """Each agent with its newest version; the sums are those of all its versions."""

    agents: list[Used]


class RuleData(msgspec.Struct, frozen=True):
    """A rule that speaks of a tool. `approvers` may answer (empty: anyone allowed in); `needed` of them have to."""

    verdict: Literal["allow", "ask", "deny"]
    tools: str
    when: str
    approvers: list[str] = []
    needed: int = 1
    expires_s: float | None = None
    reason: str = ""


class ToolData(msgspec.Struct, frozen=True):
    """A tool as it was declared, and the rules that speak of it, in their order."""

    name: str
    kind: str
    replay: str
    reconciles: bool
    description: str
    rules: list[RuleData]
    silent: Literal["allow", "deny"]
    """What happens when no rule speaks: allow for what only reads, deny for what writes."""


class VersionData(msgspec.Struct, frozen=True):
    """One version of an agent, whole, beside all of them. `diff` is against `against`, another number."""

    agent: str
    number: int
    spec: AgentSpec
    tools: list[ToolData]
    versions: list[Used]
    against: int | None
    diff: list[str]


@agents_router.get(".json")
@agents_router.get("")
async def agents(frame: Looking) -> Response:
    """All of them."""
    project = frame.caller.project
    registered, found = await ask(frame, Versions(project), Uses(project))
    uses: dict[str, VersionUse] = {use.version: use for use in found}
    known = known_versions(frame, registered)
    newest = versions.standing(known).values()
    data = AgentsData([_whole(version, _of(version.agent, known, uses)) for version in newest])
    return frame.show("agents.html", "agents", data, ways=_all_agents(frame))


@agents_router.get("/{agent}")
@agents_router.get("/{agent}.json")  # the lower one is looked at first
async def agent_page(frame: Looking, agent: str, version: str = "", against: str = "") -> Response:
    """One of them: its newest version, or the one that was asked for."""
    registered, found = await ask(frame, Versions(frame.caller.project, agent), Uses(frame.caller.project, agent))
    known = known_versions(frame, registered, agent)
    if not known:
        raise NotFound(f"There is no agent called {agent!r} in project {frame.caller.project}.").because(
            "no_agent", agent=agent[:80]
        )
    shown = version_of(known, version) if version else versions.newest(known)
    base = version_of(known, against) if against else versions.before(known, shown)
    lines = [] if base is None else versions.lines_between(base, shown)
    uses: dict[str, VersionUse] = {use.version: use for use in found}
    data = VersionData(
        agent,
        shown.number,
        shown.spec,
        [_tool(shown.spec, tool.name) for tool in shown.spec.tools],
        [_used(one, uses.get(one.version)) for one in reversed(known)],
        base.number if base is not None else None,
        lines,
    )
    return frame.show(
        "agent.html", "agents", data, ways=_elsewhere(frame, base, shown), digest=shown.version, at=shown.at
    )


def _elsewhere(frame: Frame, base: Version | None, shown: Version) -> Ways:
    """The versions of an agent, and what changed between two that are registered."""
    if shown.number == UNREGISTERED:
        return _all_agents(frame)
    path, python = f"/admin/v1/agents/{quote(shown.agent, safe='')}", f"rt.caller, {shown.agent!r}"
    known = ways(
        frame,
        ["agents", "versions", shown.agent],
        f"{path}/versions",
        f"await find_version({python}, '{shown.number}')",
    )
    if base is None or base.number == UNREGISTERED:
        return known
    a, b = str(base.number), str(shown.number)
    diff = ways(
        frame,
        ["agents", "diff", f"{shown.agent}@{a}", f"{shown.agent}@{b}"],
        f"{path}/diff?a={a}&b={b}",
        f"await difference({python}, {a!r}, {b!r})",
    )
    return joined(frame, known, diff)


def _all_agents(frame: Frame) -> Ways:
    return ways(frame, ["agents", "list"], "/admin/v1/agents", "await versions_of(rt.caller)")


def _of(agent: str, known: Sequence[Version], uses: Mapping[str, VersionUse]) -> list[VersionUse]:
    own = {version.version for version in known if version.agent == agent}
    return [use for digest, use in uses.items() if digest in own]


def _whole(newest: Version, uses: Sequence[VersionUse]) -> Used:
    return Used(
        VersionShape.of(newest),
        sum(use.sessions for use in uses),
        sum(use.turns for use in uses),
        sum(use.usd_micros for use in uses),
        max((use.updated_at for use in uses), default=None),
    )


def _used(version: Version, use: VersionUse | None) -> Used:
    if use is None:
        return Used(VersionShape.of(version), 0, 0, 0, None)
    return Used(VersionShape.of(version), use.sessions, use.turns, use.usd_micros, use.updated_at)


def _tool(spec: AgentSpec, name: str) -> ToolData:
    tool = spec.tool(name)
    assert tool is not None, "it was named by the spec itself"
    spoken = [_rule(rule) for rule in spec.rules if fnmatchcase(name, rule.tools)]
    return ToolData(
        tool.name,
        tool.kind,
        tool.replay,
        tool.reconciles,
        tool.description,
        spoken,
        "deny" if tool.writes else "allow",
    )


def _rule(rule: Rule) -> RuleData:
    match rule:
        case AllowRule(tools=tools, when=when):
            return RuleData("allow", tools, when)
        case AskRule(tools=tools, when=when, approvers=names, needed=needed, expires_s=expires_s):
            return RuleData("ask", tools, when, list(names), needed, expires_s)
        case DenyRule(tools=tools, when=when, reason=reason):
            return RuleData("deny", tools, when, reason=reason)
