"""What a process has seen of versions, it does not ask for again."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.ports import Version
from remanence.spec import AgentSpec, spec_digest
from remanence.stores.known_specs import KNOWN_MAX, KnownSpecs


class Counting:
    """A store of versions that counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.specs: dict[str, AgentSpec] = {}

    async def put(self, spec: AgentSpec, *, project: str, at: int) -> Version:
        self.asked += 1
        self.specs[spec_digest(spec)] = spec
        return Version(project, spec.name, 1, spec_digest(spec), at, spec)

    async def get(self, version: str) -> AgentSpec:
        self.asked += 1
        return self.specs[version]

    async def versions(self, project: str | None, agent: str | None = None) -> Sequence[Version]:
        self.asked += 1
        return ()


async def test_a_version_is_asked_for_once() -> None:
    stored = Counting()
    known = KnownSpecs(stored)
    spec = AgentSpec("ada", "m")
    first = await known.put(spec, project="p", at=1)
    assert await known.put(spec, project="p", at=2) == first
    assert [await known.get(first.version) for _ in range(3)] == [spec] * 3
    assert stored.asked == 2
    assert (await known.put(spec, project="q", at=3)).project == "q"
    await known.versions("p")
    await known.versions("p")
    assert stored.asked == 5


async def test_what_is_remembered_is_bounded() -> None:
    stored = Counting()
    known = KnownSpecs(stored)
    specs = [AgentSpec(f"a{number}", "m") for number in range(KNOWN_MAX + 1)]
    made = [await known.put(spec, project="p", at=1) for spec in specs]
    for version in made:
        await known.get(version.version)
    asked = stored.asked
    await known.get(made[-1].version)
    assert stored.asked == asked
    await known.get(made[0].version)
    await known.put(specs[0], project="p", at=1)
    assert stored.asked == asked + 2
