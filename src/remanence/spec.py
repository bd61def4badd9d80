"""What an administrator declares: agents, tools, rules and limits. Immutable, content-addressed.

An `AgentSpec` is data: it can be stored, compared, exported and pinned. Its `version` is the digest of its canonical
encoding, so that two machines that declare the same agent mean the same version. The Python function behind a tool is
not part of it; a worker finds the function by the tool's name.

The **policy** is the part of the spec that judges effects (rules, and what each tool promises); it has a digest of its
own, because approvals are bound to the policy they were given under and survive changes elsewhere in the spec.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from remanence.content import digest_of

__all__ = [
    "AgentSpec",
    "AllowRule",
    "AskRule",
    "Compaction",
    "DenyRule",
    "IfBusy",
    "Limits",
    "MemoryScope",
    "MemoryUse",
    "ModelSettings",
    "Replay",
    "Rule",
    "ServiceTier",
    "ToolKind",
    "ToolSpec",
    "decode_spec",
    "policy_digest",
    "spec_digest",
]

Replay = Literal["safe", "keyed", "never"]
"""What a tool promises about running twice: `safe` may, `keyed` may with the same effect key, `never` may not."""

ToolKind = Literal["function", "client", "builtin", "mcp"]
"""Who runs it: a Python function of the worker, the client over the wire, the runtime itself, or an MCP server."""

IfBusy = Literal["queue", "steer", "interrupt", "reject"]
"""What a new input does while a turn runs."""


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as the model and the policy see it. `parameters` is a JSON Schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    kind: ToolKind = "function"
    replay: Replay = "never"
    reconciles: bool = False
    timeout_s: float = 60.0
    strict: bool | None = None
    source: str = ""
    untrusted: bool = False
    """Strangers may have written what it returns (a web page, a mail): it is never taken for an instruction."""

    @property
    def distrusted(self) -> bool:
        """Whether its results keep the label `untrusted`: it says so, or it runs on somebody else's server."""
        return self.untrusted or self.kind == "mcp"

    @property
    def writes(self) -> bool:
        """Whether the outside world can notice a call. Silence of the rules denies a tool that writes."""
        return self.replay != "safe"


class AllowRule(msgspec.Struct, frozen=True, tag="allow", omit_defaults=True):
    """Calls of the tools matching the glob `tools` may run, when the condition `when` holds (empty: always)."""

    tools: str
    when: str = ""


class AskRule(msgspec.Struct, frozen=True, tag="ask", omit_defaults=True):
    """Such calls wait for `needed` different approvers. `approvers` names who may answer (empty: anyone allowed in)."""

    tools: str
    when: str = ""
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires_s: float | None = None


class DenyRule(msgspec.Struct, frozen=True, tag="deny", omit_defaults=True):
    """Such calls never run; the model reads `reason`."""

    tools: str
    when: str = ""
    reason: str = ""


Rule = AllowRule | AskRule | DenyRule


ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
"""How fast, and how dear, a provider is asked to be."""


class ModelSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is passed to the model besides the window. `None` leaves the provider's default."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: str | None = None
    output_schema: dict[str, Any] | None = None
    extra: dict[str, Any] = {}
    tool_choice_among: tuple[str, ...] = ()
    """With `tool_choice` `required`: the tools among which; empty: all."""
    output_name: str = ""
    output_description: str = ""
    output_strict: bool | None = True
    """Whether the provider holds the model to the schema; None: where the schema has a form that allows it."""
    output_json: bool = False
    """The reply is one JSON object, of whatever shape."""
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None
    reasoning_mode: Literal["standard", "pro"] | None = None
    reasoning_context: Literal["auto", "current_turn", "all_turns"] | None = None
    """Of which turns the model reads its own thoughts again."""
    service_tier: ServiceTier | None = None
    prompt_cache_key: str | None = None
    """A hint: prompts under one key are likely to begin alike."""
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    stop: tuple[str, ...] = ()
    """Texts before which the reply ends."""
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None
    """How likely each token was, and so many of the likeliest in its place; None: nobody asks."""
    logit_bias: dict[str, int] = {}
    """By the number of a token, as the provider counts them."""


Compaction = Literal["auto", "model", "rule"]
"""How turns that leave the window are summarised: by the agent's own model, by rule, or by the model unless it is a
script (`auto`)."""


Reopening = Literal["auto", "off"]
"""Whether an agent is given `open_result` once its window does not show everything whole (`auto`), or never."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hard limits of one agent. Money in micro-USD; `None` means no limit of that kind."""

    window_tokens: int = 32_000
    output_tokens: int = 4_096
    model_calls_per_turn: int = 50
    tool_calls_per_reply: int = 32
    tool_calls_per_turn: int | None = None
    """How many calls of one turn are run here; those of the client do not count."""
    repeats_before_asking: int = 5
    model_attempts: int = 5
    model_timeout_s: float = 120.0
    tool_result_bytes: int = 32_768
    session_usd_micros: int | None = None
    session_tokens: int | None = None
    compaction: Compaction = "auto"
    reopening: Reopening = "auto"


MemoryScope = Literal["session", "user", "agent", "project"]
"""How far a memory reaches: one session, all sessions of its user, all of its agent, all of the project."""


class MemoryUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent does with long-term memory, unless a grant says otherwise.

    `store` is a memory store of the project; of it the agent sees the scopes `reads` and adds to the scopes `writes`.
    Before each turn up to `recall_tokens` of what fits the input are recalled (0: only when the agent asks).
    """

    store: str = "default"
    reads: tuple[MemoryScope, ...] = ("session", "user", "agent", "project")
    writes: tuple[MemoryScope, ...] = ("session", "user")
    recall_tokens: int = 800
    block_bytes: int = 2_000


class AgentSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent, whole. `model` is `provider:name` or an alias of the configuration."""

    name: str
    model: str
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    rules: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    settings: ModelSettings = ModelSettings()
    if_busy: IfBusy = "queue"
    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}
    """What the wire format that declared it wants to see again and the runtime does not act on."""
    memory: MemoryUse | None = None
    """None: this agent has no long-term memory, whatever is granted to it."""

    def tool(self, name: str) -> ToolSpec | None:
        """The tool called `name`, or None."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def distrusts(self, name: str) -> bool:
        """Whether what the tool called `name` returns may have been written by strangers."""
        tool = self.tool(name)
        return tool is not None and tool.distrusted


_decoder = msgspec.json.Decoder(AgentSpec)
"""Made here and not at its first use: several threads that first meet a type together crash the process."""


def decode_spec(encoded: bytes | str) -> AgentSpec:
    """A spec from its encoding, in any thread. Raises msgspec.DecodeError."""
    return _decoder.decode(encoded)


def spec_digest(spec: AgentSpec) -> str:
    """The version of an agent: 64 hexadecimal digits over its canonical encoding."""
    return digest_of(msgspec.json.encode(spec, order="sorted"))


def policy_digest(spec: AgentSpec) -> str:
    """Digest of what judges this agent's effects: its rules, and what each of its tools promises."""
    promises = [(tool.name, tool.kind, tool.replay) for tool in spec.tools]
    return digest_of(msgspec.json.encode((spec.rules, promises, spec.limits.repeats_before_asking), order="sorted"))
