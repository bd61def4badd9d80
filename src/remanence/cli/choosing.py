"""Which agent, version or session somebody means: names, places, numbers, prefixes, and `last`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from remanence.agent import Agent
from remanence.cli.opening import agents_of, declared, is_target
from remanence.cli.output import note
from remanence.cli.reach import Reach
from remanence.commands.versions import newest
from remanence.errors import InvalidInput, NotFound
from remanence.ports import SessionQuery, Version
from remanence.settings import Configuration
from remanence.spec import AgentSpec

__all__ = ["LAST", "agent_called", "agents_for", "session_called", "version_called", "warn_of_missing_functions"]

LAST = "last"
"""Stands for the session that changed last, where a session's id is asked for."""


# --- agents -----------------------------------------------------------------------------------------------------------


def agents_for(configuration: Configuration, text: str | None) -> dict[str, Agent | AgentSpec]:
    """The agents this command can run: those of the settings, and the one at the place `text` names, if it is one."""
    found = agents_of(configuration)
    if text is not None and is_target(text):
        found |= {agent.name: agent for agent in _only(declared(text, Path.cwd()), text)}
    return found


def _only(agents: Sequence[Agent | AgentSpec], target: str) -> Sequence[Agent | AgentSpec]:
    if len(agents) > 1:
        names = ", ".join(agent.name for agent in agents)
        raise InvalidInput(f"{target} holds several agents: {names}. Nothing was started; say which: {target}:NAME")
    return agents


async def agent_called(reach: Reach, known: Mapping[str, Agent | AgentSpec], text: str | None) -> AgentSpec:
    """The agent meant by a name, `NAME@VERSION`, a place, or by nothing when there is only one. Raises NotFound."""
    if text is not None and is_target(text):
        return _spec(known[declared(text, Path.cwd())[0].name])
    if text is None:
        return await _only_agent(reach, known)
    if text in known:
        return _spec(known[text])
    return (await version_called(reach, text, known)).spec


def _spec(agent: Agent | AgentSpec) -> AgentSpec:
    return agent.spec if isinstance(agent, Agent) else agent


async def _only_agent(reach: Reach, known: Mapping[str, Agent | AgentSpec]) -> AgentSpec:
    if len(known) == 1:
        return _spec(next(iter(known.values())))
    versions = await reach.agents.versions()
    names = sorted({*known, *(version.agent for version in versions)})
    if len(names) == 1:
        return newest(versions).spec
    if names:
        raise InvalidInput(f"Say which agent: {', '.join(names)}. Nothing was started.", param="agent")
    raise NotFound(
        "There is no agent yet. Nothing was started. Declare one in a file and name that here (`agent.py`) or in the "
        "setting `agents`, or begin with: remanence init NAME",
        param="agent",
    )


async def version_called(reach: Reach, text: str, known: Mapping[str, object] | None = None) -> Version:
    """A registered version: `NAME` (the newest), `NAME@NUMBER` or `NAME@vNUMBER`, `NAME@` and how a digest begins."""
    versions = await reach.agents.versions()
    name, at, which = text.partition("@")
    own = [version for version in versions if version.agent == name]
    if own and not at:
        return newest(own)
    if not own and not at and len(text) >= 4:
        own, which = list(versions), text
    found = [version for version in own if _is(version, which)]
    if len({version.version for version in found}) == 1:
        return found[-1]
    if len(found) > 1:
        raise InvalidInput(
            f"Several versions begin with {which!r}. Nothing was changed; give more of it.", param="version"
        )
    if at and own:
        numbers = ", ".join(f"{name}@{version.number}" for version in own)
        raise NotFound(f"Agent {name!r} has no version {which!r}; it has {numbers}.", param="version")
    names = sorted({*(known or ()), *(version.agent for version in versions)})
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else f" The agents there are: {', '.join(names)}." if names else ""
    raise NotFound(f"There is no agent called {name!r}.{hint} `remanence agents list` shows them.", param="agent")


def _is(version: Version, which: str) -> bool:
    which = which.removeprefix("v")  # no digest begins so
    return which == str(version.number) if which.isdigit() and len(which) < 8 else version.version.startswith(which)


def warn_of_missing_functions(reach: Reach, spec: AgentSpec) -> None:
    """Say so when the tools of this agent are Python functions that whoever does the work does not have."""
    has = reach.agents.has_functions
    missing = [tool.name for tool in spec.tools if tool.kind == "function" and not has(spec.name, tool.name)]
    who = "the server" if reach.url else "this process"
    if missing:
        note(
            f"The tools of {spec.name} are Python functions {who} does not have: {', '.join(missing)}. The "
            "session waits for a worker that has them; to be one, name the agent's file in the setting `agents`."
        )


# --- sessions ---------------------------------------------------------------------------------------------------------


async def session_called(reach: Reach, text: str) -> str:
    """The id of a session: as it stands, or `last`, the one that changed last. Raises NotFound."""
    try:
        return (await reach.journals.row(text)).session
    except NotFound:
        if text != LAST:
            raise
    rows = (await reach.journals.rows(SessionQuery(limit=1))).rows
    if not rows:
        raise NotFound("There is no session yet. Begin one with: remanence chat")
    return rows[0].session
