"""The versions of agents: which there are, and what changed between two of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from remanence.commands.caller import Caller
from remanence.errors import InvalidInput, NotFound
from remanence.ports import Version
from remanence.spec import AgentSpec

__all__ = [
    "TRIAL",
    "Diff",
    "before",
    "difference",
    "find_version",
    "is_trial",
    "lines_between",
    "lines_from",
    "name_of",
    "newest",
    "standing",
    "versions_of",
]

TRIAL = "playground"
"""The metadata of a version that somebody tried with another model: no name stands for it."""

_DIGEST = re.compile(r"[0-9a-f]{6,64}")


class Diff(msgspec.Struct, frozen=True):
    """From `a` to `b`: lines of a unified diff over the canonical JSON of both; none when they say the same."""

    a: Version
    b: Version
    lines: tuple[str, ...]


async def versions_of(caller: Caller, agent: str | None = None) -> list[Version]:
    """The versions of an agent, or of all, oldest first. Raises NotFound when the agent has none."""
    found = list(await caller.database.specs.versions(caller.project, agent))
    if agent is not None and not found:
        raise NotFound(f"There is no agent called {agent!r}. `remanence agents list` shows those there are.").because(
            "no_agent", agent=agent
        )
    return found


def is_trial(version: Version) -> bool:
    """Whether this version was made for a trial."""
    return TRIAL in version.spec.metadata


def newest(versions: Sequence[Version]) -> Version:
    """The version an agent's name stands for, of those given oldest first: the last that was pushed or saved.

    Whoever opens a session with changes of its own makes a version for that session, and changes nothing for others. It
    counts only where there is no other, and a trial only where there is nothing else at all.
    """
    proper = [version for version in versions if not is_trial(version)]
    return (_line(versions) or proper or versions)[-1]


def before(versions: Sequence[Version], version: Version) -> Version | None:
    """The version that was pushed or saved last before this one, of those given oldest first; None when none was.

    Of a version that a session made for itself that is the one it changed, or a later one.
    """
    earlier = _line(list(takewhile(lambda one: one.version != version.version, versions)))
    return earlier[-1] if earlier else None


def _line(versions: Sequence[Version]) -> list[Version]:
    """Those that were pushed or saved."""
    return [version for version in versions if not (is_trial(version) or _is_of_a_session(version))]


def standing(versions: Sequence[Version]) -> dict[str, Version]:
    """What each agent's name stands for, of versions given oldest first; no agent of which there are only trials."""
    by_agent: dict[str, list[Version]] = {}
    for version in versions:
        if not is_trial(version):
            by_agent.setdefault(version.agent, []).append(version)
    return {agent: newest(own) for agent, own in by_agent.items()}


def _is_of_a_session(version: Version) -> bool:
    """Whether the Agents API made it for one session: every version of an agent that is saved there has a number."""
    return "agent" in version.spec.face and "revision" not in version.spec.face


async def find_version(caller: Caller, agent: str, which: str) -> Version:
    """The version with this number, or whose digest begins so. Raises NotFound."""
    known = await versions_of(caller, agent)
    found = [v for v in known if str(v.number) == which]
    if not found and _DIGEST.fullmatch(which):
        found = [v for v in known if v.version.startswith(which)]
    if len(found) != 1:
        raise NotFound(
            f"Agent {agent} has {len(known)} versions, and {which!r} is none of them, or not one alone."
        ).because("no_version", version=which[:40])
    return found[0]


async def difference(caller: Caller, agent: str, a: str | None = None, b: str | None = None) -> Diff:
    """What changed from version `a` to `b`; by default to the one the agent's name stands for, from the one before.

    What sessions made for themselves, and trials, are compared when they are named.
    """
    known = await versions_of(caller, agent)
    last = newest(known) if b is None else await find_version(caller, agent, b)
    if a is None:
        first = before(known, last)
        if first is None:
            raise InvalidInput(
                f"Agent {agent} has no version before {last.number}; there is nothing to compare. "
                "`remanence agents push` registers one."
            )
    else:
        first = await find_version(caller, agent, a)
    return Diff(first, last, tuple(lines_between(first, last)))


def name_of(version: Version) -> str:
    """What people call a version."""
    return f"{version.agent}@{version.number}"


def lines_between(a: Version, b: Version) -> list[str]:
    """A unified diff from one version to another; no line when they say the same."""
    return lines_from((name_of(a), a.spec), (name_of(b), b.spec))


def lines_from(a: tuple[str, AgentSpec], b: tuple[str, AgentSpec]) -> list[str]:
    """As `lines_between`, of specs that may be registered nowhere, each under a name for the head of the diff."""
    return list(difflib.unified_diff(_lines_of(a[1]), _lines_of(b[1]), a[0], b[0], lineterm=""))


def _lines_of(spec: AgentSpec) -> list[str]:
    """The canonical JSON of a spec, a line for each field; texts line by line, because instructions are long."""
    content = msgspec.json.decode(msgspec.json.encode(spec, order="sorted"))
    instructions = content.pop("instructions", "")
    lines = msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2).decode().split("\n")
    return [*lines, *(f"instructions: {line}" for line in str(instructions).split("\n") if instructions)]
