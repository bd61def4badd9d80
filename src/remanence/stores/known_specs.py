"""Versions that this process has seen: a version never changes and is never removed, so nobody asks for it twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from remanence.ports import Specs, Version
from remanence.spec import AgentSpec, spec_digest

__all__ = ["KnownSpecs"]

KNOWN_MAX = 1_000


class KnownSpecs:
    """See `ports.Specs`: the store behind it is asked about what is not known yet, and for lists."""

    def __init__(self, stored: Specs) -> None:
        self._stored = stored
        self._specs: OrderedDict[str, AgentSpec] = OrderedDict()
        self._versions: OrderedDict[tuple[str, str], Version] = OrderedDict()

    async def put(self, spec: AgentSpec, *, project: str, at: int) -> Version:
        key = (project, spec_digest(spec))
        version = self._versions.get(key)
        if version is None:
            version = await self._stored.put(spec, project=project, at=at)
            self._versions[key] = version
            if len(self._versions) > KNOWN_MAX:
                self._versions.popitem(last=False)
        return version

    async def get(self, version: str) -> AgentSpec:
        spec = self._specs.get(version)
        if spec is None:
            spec = await self._stored.get(version)
            self._specs[version] = spec
            if len(self._specs) > KNOWN_MAX:
                self._specs.popitem(last=False)
        return spec

    async def versions(self, project: str | None, agent: str | None = None) -> Sequence[Version]:
        return await self._stored.versions(project, agent)
