"""Which versions of agents the console knows: those that are registered, and those that this process was started with.

An agent in code is registered the first time it is used. Until then its version has the number 0, which none that is
registered has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.console.frame import Frame
from remanence.errors import NotFound
from remanence.ports import Version
from remanence.spec import AgentSpec, spec_digest

__all__ = ["UNREGISTERED", "known_versions", "version_of"]

UNREGISTERED = 0


def known_versions(frame: Frame, registered: Sequence[Version], agent: str | None = None) -> list[Version]:
    """Those that are registered and were found, oldest first, and those in code and nowhere else."""
    found = list(registered)
    there = {(version.agent, version.version) for version in found}
    for spec in _in_code(frame):
        digest = spec_digest(spec)
        if agent in (None, spec.name) and (spec.name, digest) not in there:
            found.append(Version(frame.caller.project, spec.name, UNREGISTERED, digest, frame.now, spec))
    return found


def version_of(known: Sequence[Version], which: str) -> Version:
    """The version with this number, or whose digest begins so, of those of one agent. Raises NotFound."""
    found = [one for one in known if which in (str(one.number), one.version[: max(6, len(which))])]
    if len(found) != 1:
        raise NotFound(
            f"There is no version {which[:40]!r} of this agent, or more than one. Nothing was done."
        ).because("no_version", version=which[:40])
    return found[0]


def _in_code(frame: Frame) -> list[AgentSpec]:
    """What this process runs, in the one project it was started for."""
    running: Any = frame.request.app.state.runtime
    if frame.caller.project != running.caller.project:
        return []
    agents = [running.shelf.get(name) for name in running.shelf.agents()]
    return [agent.spec for agent in agents if agent is not None]
