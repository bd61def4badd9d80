"""Which version of an agent answers new sessions, and where.

This release has one environment, `default`, and in it one version of each agent takes everything: what a process
declares in code, and else the version that the agent's name stands for. Shares and further environments have their
place in the shape already. A session keeps its version, whatever is deployed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from remanence.commands.caller import Caller
from remanence.commands.versions import standing, versions_of
from remanence.errors import NotFound
from remanence.spec import AgentSpec, spec_digest

__all__ = ["ENVIRONMENT", "DeploymentShape", "ShareShape", "deployments"]

ENVIRONMENT = "default"
Source = Literal["code", "registered"]


class ShareShape(msgspec.Struct, frozen=True):
    """A version and its part of the new sessions. `number` is null for one that is declared and not registered yet."""

    version: str
    number: int | None
    percent: int


class DeploymentShape(msgspec.Struct, frozen=True):
    """What answers for an agent in an environment. `declared`: by the code of the process, or by what is registered."""

    agent: str
    environment: str
    declared: Source
    shares: list[ShareShape]


async def deployments(
    caller: Caller, declared: Mapping[str, AgentSpec], agent: str | None = None
) -> list[DeploymentShape]:
    """What answers for each agent, or for one; `declared` are those of the process's code. Raises NotFound."""
    versions = await versions_of(caller)
    numbers = {(version.agent, version.version): version.number for version in versions}
    found: dict[str, tuple[str, Source]] = {name: (spec_digest(spec), "code") for name, spec in declared.items()}
    for name, version in standing(versions).items():
        found.setdefault(name, (version.version, "registered"))
    if agent is not None and agent not in found:
        raise NotFound(f"There is no agent called {agent!r}. `remanence agents list` shows those there are.")
    return [
        DeploymentShape(name, ENVIRONMENT, source, [ShareShape(digest, numbers.get((name, digest)), 100)])
        for name, (digest, source) in sorted(found.items())
        if agent in (None, name)
    ]
