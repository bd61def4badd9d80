"""What is served of the vendors' client: each operation of the `openai` package that concerns us, and what is missing.

Plain values. `docs/reference/compatibility.md` is written from them; `tests/api/test_compatibility.py` lays them beside
the installed package (nothing of it may be unlisted), beside the routes, and tries what is said to be refused.

`full`: it does what the vendor's documentation says, as far as a server of one's own can. `partial`: it works, but for
what is said to be missing. `not yet`: there is no such route, or it answers with an error that says so.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["HEADERS", "NOT_SERVED", "OPERATIONS", "PARAMETERS", "REFUSALS", "Header", "Operation", "Parameter", "State"]

State = Literal["full", "partial", "not yet"]


class Operation(msgspec.Struct, frozen=True):
    """One method of the client. `route` is the method and path under `/v1` it comes to; empty: it asks nothing."""

    name: str
    state: State
    route: str = ""
    missing: str = ""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of an operation."""

    name: str
    state: State
    missing: str = ""


class Header(msgspec.Struct, frozen=True):
    """A header with a meaning of its own, and the operations that read it."""

    name: str
    what: str
    read_by: tuple[str, ...]


class Refusal(msgspec.Struct, frozen=True):
    """What is refused with another code than the vendor's: when, how here, and how there."""

    when: str
    here: str
    there: str


def _rows(root: str, *rows: tuple[str, State, str] | tuple[str, State, str, str]) -> tuple[Operation, ...]:
    return tuple(Operation(f"{root}.{row[0]}", row[1], row[2], row[3] if len(row) == 4 else "") for row in rows)


def _missing(root: str, path: str, names: str, *, inner: str = "") -> tuple[Operation, ...]:
    """Operations on a collection whose routes answer `not_available`."""
    one = f"{path}/{{{inner}}}"
    routes = {
        "create": f"POST {path}",
        "list": f"GET {path}",
        "retrieve": f"GET {one}",
        "update": f"POST {one}",
        "delete": f"DELETE {one}",
    }
    words = "answers 404, code `not_available`"
    return tuple(Operation(f"{root}.{name}", "not yet", routes[name], words) for name in names.split())


_SESSION = "/agents/sessions/{session_id}"
_SUB = f"{_SESSION}/subagents/{{subagent_id}}"
_ARTIFACT = f"{_SESSION}/artifacts/{{artifact_id}}"
_NO_SUBAGENTS = "sessions have no subagents: 404 once the session is known"
_NO_ARTIFACTS = "sessions publish no files: 404 once the session is known"
_ALL = "create retrieve update list delete"

_AGENTS = (
    *_rows(
        "beta.agents",
        ("create", "partial", "POST /agents", "see its parameters"),
        ("retrieve", "full", "GET /agents/{agent_id}"),
        ("update", "partial", "POST /agents/{agent_id}", "as in `beta.agents.create`; not agents declared in code"),
        ("list", "full", "GET /agents"),
        ("delete", "partial", "DELETE /agents/{agent_id}", "not agents declared in code"),
    ),
    *_rows(
        "beta.agents.sessions",
        ("create", "partial", "POST /agents/sessions", "see its parameters"),
        ("retrieve", "full", f"GET {_SESSION}"),
        ("update", "partial", f"POST {_SESSION}", "`review` and tools as in `beta.agents.sessions.create`"),
        ("list", "full", "GET /agents/sessions"),
        ("delete", "full", f"DELETE {_SESSION}"),
        ("stream", "full", f"POST {_SESSION}/events"),
        ("events.create", "partial", f"POST {_SESSION}/events", "answers about a browser (`computer_use`) are refused"),
        ("events.stream", "full", f"GET {_SESSION}/events"),
        ("items.list", "full", f"GET {_SESSION}/items"),
        ("turns.retrieve", "full", f"GET {_SESSION}/turns/{{turn_id}}"),
        ("turns.list", "full", f"GET {_SESSION}/turns"),
        ("turns.items.list", "full", f"GET {_SESSION}/turns/{{turn_id}}/items"),
        ("traces.list", "full", f"GET {_SESSION}/traces"),
        ("subagents.list", "partial", f"GET {_SESSION}/subagents", "always empty: sessions have no subagents"),
        ("subagents.retrieve", "not yet", f"GET {_SUB}", _NO_SUBAGENTS),
        ("subagents.items.list", "not yet", f"GET {_SUB}/items", _NO_SUBAGENTS),
        ("subagents.turns.list", "not yet", f"GET {_SUB}/turns", _NO_SUBAGENTS),
        ("subagents.turns.retrieve", "not yet", f"GET {_SUB}/turns/{{turn_id}}", _NO_SUBAGENTS),
        ("subagents.turns.items.list", "not yet", f"GET {_SUB}/turns/{{turn_id}}/items", _NO_SUBAGENTS),
        ("artifacts.list", "partial", f"GET {_SESSION}/artifacts", "always empty: sessions publish no files"),
        ("artifacts.for_result", "partial", f"GET {_SESSION}/artifacts", "always empty"),
        ("artifacts.retrieve", "not yet", f"GET {_ARTIFACT}", _NO_ARTIFACTS),
        ("artifacts.content", "not yet", f"GET {_ARTIFACT}/content", _NO_ARTIFACTS),
        ("artifacts.delete", "not yet", f"DELETE {_ARTIFACT}", _NO_ARTIFACTS),
    ),
    *_missing("beta.agents.environments", "/agents/environments", "create retrieve list", inner="environment_id"),
    *_missing("beta.agents.environments.files", "/agents/environments/{environment_id}/files", "create list"),
    *_rows(
        "beta.agents.environments.files",
        ("prepare", "not yet", "", "there are no environments to put files into"),
        ("prepare_directory", "not yet", "", "there are no environments to put files into"),
        ("upload", "not yet", "POST /agents/environments/{environment_id}/files", "answers 404, code `not_available`"),
    ),
    *_missing("beta.agents.environments.templates", "/agents/environments/templates", _ALL, inner="template_id"),
    *_missing("beta.agents.vaults", "/vaults", _ALL, inner="vault_id"),
    *_missing("beta.agents.vaults.credentials", "/vaults/{vault_id}/credentials", _ALL, inner="credential_id"),
    *_missing("beta.agents.automations", "/agents/automations", _ALL, inner="automation_id"),
    *_rows(
        "beta.agents.automations",
        ("pause", "not yet", "POST /agents/automations/{automation_id}/pause", "answers 404, code `not_available`"),
        ("resume", "not yet", "POST /agents/automations/{automation_id}/resume", "answers 404, code `not_available`"),
    ),
    *_missing(
        "beta.agents.automations.invocations",
        "/agents/automations/{automation_id}/invocations",
        "create retrieve list",
        inner="invocation_id",
    ),
)

_RESPONSE = "/responses/{response_id}"

_RESPONSES = (
    *_rows(
        "responses",
        ("create", "partial", "POST /responses", "see its parameters"),
        ("parse", "partial", "POST /responses", "as `responses.create`"),
        ("stream", "partial", "POST /responses", "as `responses.create`; resuming by `response_id` works"),
        ("retrieve", "full", f"GET {_RESPONSE}"),
        ("delete", "full", f"DELETE {_RESPONSE}"),
        ("cancel", "full", f"POST {_RESPONSE}/cancel"),
        (
            "compact",
            "partial",
            "POST /responses/compact",
            "the summary is encoded, not encrypted; no `image`; `prompt_cache_options` as in `responses.create`",
        ),
        (
            "connect",
            "partial",
            "WS /responses",
            "as `responses.create`; no `background` on a socket; what `generate: false` made ends with the connection",
        ),
        ("input_items.list", "full", f"GET {_RESPONSE}/input_items"),
        (
            "input_tokens.count",
            "partial",
            "POST /responses/input_tokens",
            "an estimate: four bytes for a token; no `personality`",
        ),
    ),
    *_rows(
        "beta.responses",
        ("create", "partial", "POST /responses", "answered as `responses.create`; `multi_agent` is refused"),
        ("retrieve", "full", f"GET {_RESPONSE}"),
        ("delete", "full", f"DELETE {_RESPONSE}"),
        ("cancel", "full", f"POST {_RESPONSE}/cancel"),
        ("compact", "partial", "POST /responses/compact", "as `responses.compact`"),
        ("connect", "partial", "WS /responses", "as `responses.connect`"),
        ("input_items.list", "full", f"GET {_RESPONSE}/input_items"),
        ("input_tokens.count", "partial", "POST /responses/input_tokens", "as `responses.input_tokens.count`"),
    ),
)

_TALK = "/conversations/{conversation_id}"
_ITEM = f"{_TALK}/items/{{item_id}}"
_CONVERSATIONS = _rows(
    "conversations",
    ("create", "partial", "POST /conversations", "items as `input` of `responses.create`"),
    ("retrieve", "full", f"GET {_TALK}"),
    ("update", "full", f"POST {_TALK}"),
    ("delete", "full", f"DELETE {_TALK}"),
    ("items.create", "partial", f"POST {_TALK}/items", "items as `input` of `responses.create`"),
    ("items.retrieve", "full", f"GET {_ITEM}"),
    ("items.list", "full", f"GET {_TALK}/items"),
    ("items.delete", "partial", f"DELETE {_ITEM}", "erases the record: of a reply every item, with its calls' outputs"),
)

_STORED = "answers 405: chat completions are not stored; what shall be kept is a session (`x-session-id`)"
_CHAT = _rows(
    "chat.completions",
    ("create", "partial", "POST /chat/completions", "see its parameters"),
    ("parse", "partial", "POST /chat/completions", "as `chat.completions.create`"),
    ("stream", "partial", "POST /chat/completions", "as `chat.completions.create`"),
    ("retrieve", "not yet", "", "answers 404: chat completions are not stored"),
    ("update", "not yet", "", "answers 404: chat completions are not stored"),
    ("list", "not yet", "", _STORED),
    ("delete", "not yet", "", "answers 404: chat completions are not stored"),
    ("messages.list", "not yet", "", "answers 404: chat completions are not stored"),
)

_MODELS = _rows(
    "models",
    ("list", "partial", "GET /models", "aliases and agents; any `provider:name` can be named without being listed"),
    ("retrieve", "full", "GET /models/{model}"),
    ("delete", "not yet", "", "answers 405: there are no fine-tuned models"),
)

OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "Agents": _AGENTS,
    "Responses": _RESPONSES,
    "Conversations": _CONVERSATIONS,
    "Chat Completions": _CHAT,
    "Models": _MODELS,
}
"""Every operation, by the part of the API it belongs to."""


# --- parameters -------------------------------------------------------------------------------------------------------


def _parameters(full: str, *others: tuple[str, State, str]) -> tuple[Parameter, ...]:
    return tuple(
        sorted((*(Parameter(name, "full") for name in full.split()), *(Parameter(*other) for other in others)),
               key=lambda one: one.name)
    )  # fmt: skip


_TIER = "where the provider has it, else refused; shown is the one it says it used"
_WHERE_KNOWN = "where the model has it, else refused"
_MOST = "left out, a reply has 4,096 tokens at most, its reasoning included: a budget sets that much aside"
_ONE_CALL = (
    "asked of the provider, and held to here: of several calls the first stands, and no piece of another is told"
)
_CHOICE = (
    "held to here, in streams too: with `none` calls are left out, and a reply of nothing else fails; so does one "
    "without the call that was forced, and it is not asked again"
)
_CACHE_KEY = "a hint: passed on to OpenAI's formats; other providers go by the prefix"
_PADDED = "pieces of text are padded only when `include_obfuscation` asks for it"
_FUNCTIONS = "only tools of type `function`"
_AGENT_TOOLS = (
    "`function`, without `defer_loading` and `async`, and `mcp` over `http` at a host of the setting `mcp_hosts`, "
    "without `headers`, `authorization` and `credential_id`; a `required` server that is away is refused, another left "
    "out: the tool says so in `unavailable`, and new sessions ask it again"
)
_IMPLICIT = "only the `mode` `implicit`, which is what providers do by themselves"
_HINT = "kept and shown again; no provider is asked for a time: what they cache goes by the prefix of the window"

PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "beta.agents.create": _parameters(
        "instructions model name",
        ("compaction", "not yet", "only switched off"),
        ("experimental", "not yet", "only switched off"),
        ("metadata", "full", "`remanence.memory` and `remanence.memory.store` give the agent a memory"),
        ("multi_agent", "not yet", "only switched off"),
        ("reasoning", "full", _WHERE_KNOWN),
        ("service_tier", "full", "where the provider has it, else refused"),
        ("text", "full", _WHERE_KNOWN),
        ("tools", "partial", _AGENT_TOOLS),
    ),
    "beta.agents.sessions.create": _parameters(
        "agent_id input output_type spend_control stream stream_options tool_handlers",
        ("agent", "partial", "as in `beta.agents.create`"),
        ("environment", "partial", "`none`; the others are kept and shown, nothing connects and nothing is provided"),
        ("metadata", "full", "`remanence.user` says whose the session is, for its agent's memory"),
        ("prompt_cache_options", "partial", _HINT),
        ("review", "partial", "only `none`"),
        ("vault_ids", "not yet", "there are no vaults"),
    ),
    "responses.create": _parameters(
        "background conversation instructions metadata model previous_response_id "
        " safety_identifier store stream temperature top_p user",
        ("access_programs", "not yet", ""),
        ("background_options", "not yet", "only `soonest`"),
        ("context_management", "not yet", "use `responses.compact`, or `truncation`"),
        ("image", "not yet", ""),
        ("include", "full", "what belongs to tools that are not served is never there to be added"),
        (
            "input",
            "partial",
            f"no files by id; the `detail` of pictures {_WHERE_KNOWN}, that of files only `auto`; no items of tools "
            "that are not served; an item that is referred to must still be stored; an `mcp_call` brought along is "
            "kept as a call of a function, lists of tools are asked for anew; `annotations` and `phase` of a reply "
            "brought along are shown again and told no model, `status` and `logprobs` are read and not kept",
        ),
        ("max_output_tokens", "full", _MOST),
        ("max_tool_calls", "full", "counts the calls that are run here: those of MCP servers' tools"),
        ("moderation", "not yet", ""),
        ("parallel_tool_calls", "full", _ONE_CALL),
        ("prompt", "not yet", "prompts are not stored; save an agent"),
        ("prompt_cache_key", "full", _CACHE_KEY),
        ("prompt_cache_options", "partial", _IMPLICIT),
        ("prompt_cache_retention", "full", _WHERE_KNOWN),
        ("reasoning", "full", _WHERE_KNOWN),
        ("service_tier", "full", _TIER),
        ("stream_options", "full", _PADDED),
        ("text", "full", f"`json_object`, `json_schema` and `verbosity` {_WHERE_KNOWN}"),
        (
            "tool_choice",
            "full",
            f"among functions and the tools of MCP servers; a forced call is made once in a turn; {_CHOICE}",
        ),
        (
            "tools",
            "partial",
            "`function`, and `mcp` by `server_url` at a host of the setting `mcp_hosts`, without `headers` and "
            "`authorization`, and no connectors; tools of an agent are run when `model` names it: its label alone, as "
            "`mcp`, says that the client gives its approvals",
        ),
        ("top_logprobs", "full", _WHERE_KNOWN),
        (
            "truncation",
            "partial",
            "where the model's window is known, `auto` keeps to it and `disabled` is a 400; else `auto` is 32,000 "
            "tokens, and what is too long is refused in the provider's words; `auto` leaves out whole items from the "
            "beginning, and is a 400 when what the input says last does not fit by itself; tokens are estimated, and "
            "documents are not counted",
        ),
    ),
    "chat.completions.create": _parameters(
        "max_tokens model reasoning_effort safety_identifier seed  stream temperature top_p user",
        ("audio", "not yet", ""),
        ("frequency_penalty", "full", _WHERE_KNOWN),
        ("function_call", "not yet", "use `tool_choice`"),
        ("functions", "not yet", "use `tools`"),
        ("logit_bias", "full", _WHERE_KNOWN),
        ("logprobs", "full", f"{_WHERE_KNOWN}; a stream tells them at its end"),
        ("max_completion_tokens", "full", _MOST),
        (
            "messages",
            "partial",
            f"no audio, no files by id; the `detail` of pictures {_WHERE_KNOWN}; a `name` is put before what is said, "
            "for most providers have no place for it; "
            "instructions come first",
        ),
        ("metadata", "full", "kept with the session; without one nothing is kept, and it is shown again"),
        ("modalities", "not yet", "only text"),
        ("moderation", "not yet", ""),
        ("n", "partial", "without a session, up to 16: as many calls, each with its usage; in a session only 1"),
        ("parallel_tool_calls", "full", _ONE_CALL),
        ("prediction", "not yet", ""),
        ("presence_penalty", "full", _WHERE_KNOWN),
        ("prompt_cache_key", "full", _CACHE_KEY),
        ("prompt_cache_options", "partial", _IMPLICIT),
        ("prompt_cache_retention", "full", _WHERE_KNOWN),
        (
            "response_format",
            "full",
            f"{_WHERE_KNOWN}; without a session every model is asked for a `json_object`, if need be in words, and "
            "what it says is checked",
        ),
        ("service_tier", "full", _TIER),
        ("stop", "full", "without a session also cut here; with one, where the model has it, else refused"),
        ("store", "not yet", "only false; what shall be kept is a session"),
        ("stream_options", "full", _PADDED),
        ("tool_choice", "full", f"among functions; {_CHOICE}"),
        ("tools", "partial", _FUNCTIONS),
        ("top_logprobs", "full", _WHERE_KNOWN),
        ("verbosity", "full", _WHERE_KNOWN),
        ("web_search_options", "not yet", ""),
    ),
}
"""Every parameter of the operations that take many."""

HEADERS: tuple[Header, ...] = (
    Header(
        "Idempotency-Key",
        "For a day: the same key and body again is the same request and has the same answer; the same key with another "
        "body, or with another operation, is refused with 409. A response with `store: false` takes none, and the same "
        "one can be asked for with `stream` and without.",
        (
            "beta.agents.create",
            "beta.agents.sessions.create",
            "beta.agents.sessions.events.create",
            "beta.agents.sessions.update",
            "beta.agents.update",
            "chat.completions.create",
            "conversations.create",
            "conversations.items.create",
            "conversations.update",
            "responses.compact",
            "responses.create",
        ),
    ),
    Header(
        "x-if-busy",
        "What a message does while a turn runs: `queue`, `steer`, `interrupt` or `reject`; by default as the agent "
        "says. Over a WebSocket it is read once, with the handshake. A word that is none of these is refused. Where no "
        "turn can be running (a session that is being opened, a fork, a chat without a session, a response that is not "
        "stored) each of them holds by itself. Results that a turn waits for go to it whatever is said.",
        (
            "beta.agents.sessions.create",
            "beta.agents.sessions.events.create",
            "chat.completions.create",
            "responses.create",
        ),
    ),
    Header(
        "x-session-id",
        "The session that a chat continues, or `new`. Answers name their session in it.",
        ("chat.completions.create",),
    ),
    Header(
        "Last-Event-ID",
        "Where a stream goes on: exactly after this event. `starting_after` in the query does the same, "
        "and counts for less: who connects again to one address says in the header what they have seen since. "
        "Events of the Agents API have ids that say whose they are, and those of another session are refused; a "
        "response counts its own events, so its numbers say nothing of another. "
        "A request that is answered by a stream is sent again with it under its `Idempotency-Key`.",
        (
            "beta.agents.sessions.create",
            "beta.agents.sessions.events.stream",
            "chat.completions.create",
            "responses.create",
            "responses.retrieve",
        ),
    ),
)
"""Headers of ours, and those whose reach has to be said."""

REFUSALS: tuple[Refusal, ...] = (
    Refusal("an id that there is not", "404, code `not_found`", "404, mostly without a code"),
    Refusal(
        "a model of a chat that there is not", "404, code `model_not_found`, `param` is `model`", "without `param`"
    ),
    Refusal("a key that is wrong or missing", "401, type `authentication_error`", "401, type `invalid_request_error`"),
    Refusal(
        "what is served elsewhere and not here, or not by the model; items that do not belong together",
        "400, code `invalid_input`, and the path of the field",
        "400, codes of many kinds (`unsupported_parameter`, `unsupported_value`), or none",
    ),
    Refusal(
        "a JSON Schema that is none, or with `strict` does not close its objects and require everything",
        "400, code `invalid_json_schema` or `invalid_function_parameters`, and the path of the keyword; what else a "
        "provider does not take of a schema is refused in its words",
        "the same codes, the path of the schema (from a chat `response_format`, without a code)",
    ),
    Refusal("a budget that is used up", "402, code `budget_exceeded`", "429, code `insufficient_quota`"),
    Refusal("a turn that is running", "409, code `busy`", "a code of its own"),
    Refusal(
        "an agent's session that is deleted in a turn",
        "200: it is deleted, and the turn is cancelled",
        "refused until the turn was cancelled",
    ),
)
"""Errors whose code or type is another one than the vendor's, as far as that is published."""

NOT_SERVED = (
    "admin",
    "audio",
    "batches",
    "beta.assistants",
    "beta.chatkit",
    "beta.realtime",
    "beta.threads",
    "completions",
    "containers",
    "content_provenance_checks",
    "decisions",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "live",
    "moderations",
    "realtime",
    "safety",
    "skills",
    "uploads",
    "vector_stores",
    "videos",
    "webhooks",
)
"""Whole resources of the client that this server has no routes for."""
