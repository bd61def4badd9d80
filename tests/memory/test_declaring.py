"""Giving an agent a memory: what the short words stand for, and what cannot mean what it says."""

from __future__ import annotations

import msgspec
import pytest

from remanence import Agent, tool
from remanence.agent import spec_from_json, spec_from_toml
from remanence.core.memory_tools import MEMORY_TOOLS
from remanence.core.policy import Allow, Ask, judge
from remanence.errors import InvalidSpec
from remanence.spec import AgentSpec, MemoryUse, ToolSpec

LOOKING = {"memory_search", "memory_open"}


def names(spec: AgentSpec) -> set[str]:
    return {one.name for one in spec.tools}


def test_an_agent_without_memory_is_the_version_it_was() -> None:
    plain = Agent("a", model="m")
    assert (plain.spec.memory, plain.spec.tools) == (None, ())
    assert msgspec.json.encode(plain.spec) == b'{"name":"a","model":"m","limits":{},"settings":{}}'
    assert Agent("a", model="m", memory=False).version == plain.version


def test_true_writes_and_read_only_looks() -> None:
    assert names(Agent("a", model="m", memory=True).spec) == set(MEMORY_TOOLS)
    assert Agent("a", model="m", memory="write").version == Agent("a", model="m", memory=True).version
    looking = Agent("a", model="m", memory="read").spec
    assert names(looking) == LOOKING
    assert looking.memory == MemoryUse(writes=())


def test_a_file_says_the_same() -> None:
    inline = spec_from_toml('name = "a"\nmodel = "m"\nmemory = true\n')
    assert inline == Agent("a", model="m", memory=True).spec
    assert names(spec_from_toml('name = "a"\nmodel = "m"\nmemory = "read"\n')) == LOOKING
    table = spec_from_toml('name = "a"\nmodel = "m"\n[memory]\nstore = "team"\nrecall_tokens = 0\n')
    assert table.memory == MemoryUse(store="team", recall_tokens=0)
    assert spec_from_json('{"name": "a", "model": "m", "memory": false}').memory is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('memory = "everything"', "`memory`: 'everything' is not true, false"),
        ("[memory]\nstores = 3", "no such field"),
        ('[memory]\nstore = "a/b"', "`memory.store`"),
        ("[memory]\nrecall_tokens = -1", "`memory.recall_tokens`"),
        ("[memory]\nblock_bytes = 0", "`memory.block_bytes`"),
        ('tools = ["memory_write"]', "needs a memory"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        spec_from_toml(f'name = "a"\nmodel = "m"\n{text}\n')


def test_a_tool_says_that_strangers_write_its_results_and_mcp_tools_always_do() -> None:
    @tool(replay="safe", untrusted=True)
    def read_page() -> str:
        """A page."""
        return ""

    spec = Agent("a", model="m", tools=[read_page]).spec
    assert spec.distrusts("read_page")
    assert ToolSpec("x", kind="mcp").distrusted
    assert not ToolSpec("x").distrusted
    assert not spec.distrusts("unknown")


def test_a_block_needs_a_person_once_the_session_has_read_what_strangers_may_have_written() -> None:
    spec = Agent("a", model="m", memory=True).spec
    block, note = spec.tool("memory_block"), spec.tool("memory_write")
    assert block is not None
    assert note is not None
    assert isinstance(judge(spec, block, {"name": "n", "text": "t"}), Allow)
    assert isinstance(judge(spec, block, {"name": "n", "text": "t"}, untrusted=True), Ask)
    assert isinstance(judge(spec, note, {"text": "t"}, untrusted=True), Allow)
