"""Tools that run on MCP servers: what a server offers becomes `ToolSpec`s of kind `mcp`, a call becomes a `tools/call`.

    shop = McpServer("shop", url="http://127.0.0.1:9000/mcp")            # or command=["python", "shop.py"]
    agent = Agent("support", model="...", mcp=[shop])

What the server offers is asked once, when the agent is declared, and is part of its version: a server that offers
something else later does not change the sessions that run. Each tool says in `source` which one of which server it is;
a worker that has no Python for it can still run it when the source names an address.

A server's annotations say what may run twice. They are hints of a stranger, so only a plain yes counts: `readOnlyHint`
makes a tool `safe`, `idempotentHint` makes it `keyed`, every other is `never`. The effect key goes along in `_meta`
under `remanence/effect_key`. An error that the server answered with is a result; when the connection broke after the
call had left, nobody knows, and the effect is in doubt.

The library is imported when a server is first used: it is the extra `mcp`. Its connections belong to the task that
opened them, so one task holds each open, until it was idle for a while.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec

from remanence.content import Image, Part, Text, ToolCall, parse_arguments
from remanence.errors import EffectInDoubt, InvalidInput, InvalidSpec, McpUnreachable, RemanenceError
from remanence.ports import ToolCallContext, ToolOutcome
from remanence.spec import Replay, ToolSpec
from remanence.tools.results import failure, refusal
from remanence.values import NOT_STARTED

if TYPE_CHECKING:
    import mcp
    import mcp_types

__all__ = ["McpOptions", "McpServer", "McpTool", "Remote", "Remotes", "remote_of"]

LIST_TIMEOUT_S: Final = 20.0
CONNECT_TIMEOUT_S: Final = 20.0
IDLE_S: Final = 60.0
PAGES_MAX: Final = 20
TOOLS_MAX: Final = 128
EFFECT_KEY: Final = "remanence/effect_key"
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LABEL: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNHEARD: Final = frozenset({-32000, -32001})
"""The library's own codes for "the connection closed" and "no answer in time": the server has not spoken."""
T = TypeVar("T")


class Remote(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which tool of which server; `url` is empty when only the process that declared it can reach it.

    `metadata` goes along with every call, beside the effect key.
    """

    server: str
    tool: str
    url: str = ""
    metadata: dict[str, Any] = {}


_SECRETS = re.compile(
    r"(x|my|client|access|auth|api|app|private|secret|session|shared|refresh|id|user|account|subscription)*"
    r"(key|keyid|token|secret|password|passwd|passphrase|pwd|pass|pat|auth|authorization|bearer|jwt|sig|signature|"
    r"credentials?)"
)


def secret_in(url: str) -> str:
    """What in an address is a secret by its usual name: `a name or a password`, or the parameter; empty if nothing."""
    try:
        found = urlsplit(url)
        if found.username is not None or found.password is not None:
            return "a name or a password"
        asked = parse_qsl(found.query, keep_blank_values=True) + parse_qsl(found.fragment)
    except ValueError:
        return ""
    for name, value in asked:
        if value and _SECRETS.fullmatch(re.sub(r"[^a-z]", "", name[:60].lower())):
            return f"`{name[:60]}`"
    return ""


def remote_of(spec: ToolSpec) -> Remote | None:
    """Which tool of which server this is, when it runs on one."""
    if spec.kind != "mcp" or not spec.source:
        return None
    try:
        return msgspec.json.decode(spec.source, type=Remote)
    except msgspec.DecodeError:
        return None


class McpOptions(TypedDict, total=False):
    """How a server is reached. Give `url` (streamable HTTP) or `command` (a process that speaks over its pipes)."""

    url: str
    """It is part of the agent's version, unless it holds a secret by one of the usual names (`?api_key=`)."""
    headers: Mapping[str, str]
    """Sent with every request. They stay in this process: they are no part of the agent's version."""
    command: Sequence[str]
    env: Mapping[str, str]
    tools: Sequence[str]
    """The names of the tools that are wanted; without it, all of them."""
    timeout_s: float
    """How long one call may take."""


class McpServer:
    """One MCP server by its label. Raises `InvalidSpec` when it cannot mean what it says."""

    def __init__(self, label: str, **options: Unpack[McpOptions]) -> None:
        self.label = label
        self._options = options
        self._line: _Line | None = None
        if not _LABEL.fullmatch(label):
            raise InvalidSpec(f"MCP server {label!r}: a label has 1 to 64 letters, digits, `_` or `-`.", param="mcp")
        if bool(options.get("url")) == bool(options.get("command")):
            raise InvalidSpec(f"MCP server {label!r}: give `url` or `command`.", param="mcp")

    def __repr__(self) -> str:
        return f"<MCP server {self.label}>"

    async def offered(self) -> list[McpTool]:
        """What it offers now, as tools. Raises `McpUnreachable`; `InvalidSpec` when a wanted tool is not there."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S), self.connect() as client:
                found = await _listed(client)
        except RemanenceError:
            raise
        except Exception as error:
            raise McpUnreachable(
                f"MCP server {self.label!r} did not say what it offers ({_words(error)}). Nothing was kept; see "
                "that it runs and that its address is right."
            ) from error
        made = [McpTool(self, self._spec_of(tool), _shown(tool)) for tool in found]
        wanted = self._options.get("tools")
        if wanted is None:
            return made
        names = {remote.tool: tool for tool in made if (remote := remote_of(tool.spec))}
        if missing := [name for name in wanted if name not in names]:
            raise InvalidSpec(f"MCP server {self.label!r} has no tool {missing[0]!r}; it has: {', '.join(names)}.")
        return [names[name] for name in wanted]

    def offered_now(self) -> list[McpTool]:
        """As `offered`, from code that runs in no event loop, or must not wait in it."""
        return _in_a_thread(self.offered())

    def _spec_of(self, tool: mcp_types.Tool) -> ToolSpec:
        url = self._options.get("url", "")  # with a secret in it, it stays in this process
        source = Remote(self.label, tool.name, "" if secret_in(url) else url)
        return ToolSpec(
            _NOT_IN_A_NAME.sub("_", tool.name)[:64],
            tool.description or "",
            {"properties": {}, **tool.input_schema, "type": "object"},
            kind="mcp",
            replay=_replay(tool.annotations),
            timeout_s=self._options.get("timeout_s", 60.0),
            source=msgspec.json.encode(source).decode(),
        )

    # --- the connection -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[mcp.Client]:
        """A connection of one's own, to be entered and left by one task."""
        library = _library()
        async with AsyncExitStack() as held:
            url, command = self._options.get("url"), [*self._options.get("command", ())]
            if url:
                from mcp.client.streamable_http import streamable_http_client
                from mcp.shared._httpx_utils import create_mcp_http_client

                headers = dict(self._options.get("headers", {}))
                http = await held.enter_async_context(create_mcp_http_client(headers=headers))
                reached: Any = streamable_http_client(url, http_client=http)
            else:
                env = dict(self._options["env"]) if "env" in self._options else None
                reached = library.StdioServerParameters(command=command[0], args=command[1:], env=env)
            yield await held.enter_async_context(library.Client(reached))

    def line(self) -> _Line:
        """The connection that calls share."""
        if self._line is None or not self._line.usable:
            self._line = _Line(self)
        return self._line

    async def close(self) -> None:
        """Hang up. The next call connects again."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()


class McpTool:
    """One tool of a server: a `remanence.ports.Tool`. `offer` is what the server says of it, as clients see it."""

    def __init__(self, server: McpServer, spec: ToolSpec, offer: dict[str, Any] | None = None) -> None:
        self.server = server
        self.offer = offer or {}
        self._spec = spec
        remote = remote_of(spec) or Remote(server.label, spec.name)
        self._name, self._metadata = remote.tool, remote.metadata

    def __repr__(self) -> str:
        return f"<tool {self._spec.name} of {self.server}>"

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model and the policy see it."""
        return self._spec

    def called(self, name: str) -> McpTool:
        """The same tool under another name."""
        return McpTool(self.server, msgspec.structs.replace(self._spec, name=name), self.offer)

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        """Perform one call. Raises nothing but cancellation and `EffectInDoubt`."""
        library = _library()
        try:
            arguments = parse_arguments(call.arguments)
            line = self.server.line()
            client = await line.client()
        except (ValueError, McpUnreachable) as error:
            return refusal(f"{self._spec.name} was not run: {error}")
        if context.may_start is not None and not context.may_start():
            return NOT_STARTED  # connecting outlasted the lease
        meta: Any = {**self._metadata, EFFECT_KEY: context.effect_key}
        try:
            with line.busy():
                result = await client.call_tool(self._name, arguments, meta=meta)
        except library.MCPError as error:
            if error.code not in _UNHEARD:
                return failure(f"{self._spec.name} failed: {error.message}")
            line.drop()
            raise EffectInDoubt(f"the connection to {self.server.label} broke: {error.message}") from error
        except Exception as error:
            line.drop()
            raise EffectInDoubt(f"the connection to {self.server.label} broke: {_words(error)}") from error
        return _outcome(result)

    async def reconcile(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        """The protocol has no question for it."""
        return None


class Remotes:
    """The servers that are known by their address alone. `hosts` are those they may be at; `*` stands for any."""

    def __init__(self, hosts: Sequence[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._servers: dict[tuple[str, str], McpServer] = {}

    def server(self, label: str, url: str) -> McpServer:
        """The server at an address. Raises `InvalidInput` when it may not be reached from here."""
        try:
            found = urlsplit(url)
            host = (found.hostname or "").lower()
        except ValueError:
            found, host = urlsplit(""), ""
        if found.scheme not in ("http", "https") or not host:
            raise InvalidInput(f"{url[:200]!r} is no http(s) address of an MCP server. Nothing was done.")
        if host not in self._hosts and "*" not in self._hosts:
            raise InvalidInput(
                f"This server may not connect to MCP servers at {host!r}. Nothing was done; name the host in the "
                "setting `mcp_hosts` if it may."
            )
        return self._servers.setdefault((label, url), McpServer(label, url=url))

    def tool(self, spec: ToolSpec) -> McpTool | None:
        """The tool that a spec alone says how to reach; None when it names no address, or one that may not be."""
        remote = remote_of(spec)
        if remote is None or not remote.url:
            return None
        try:
            return McpTool(self.server(remote.server, remote.url), spec)
        except InvalidInput:
            return None

    async def close(self) -> None:
        """Hang up on all of them."""
        for server in self._servers.values():
            await server.close()


class _Line:
    """One connection, held open by a task until nobody used it for a while."""

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[mcp.Client] = self._loop.create_future()
        self._stirred = asyncio.Event()
        self._running = 0
        self._over = False
        self._task = asyncio.create_task(self._hold(), name=f"mcp {server.label}")

    @property
    def usable(self) -> bool:
        """Whether a call may still begin on it."""
        return not self._over and not self._task.done() and self._loop is asyncio.get_running_loop()

    async def client(self) -> mcp.Client:
        """The connection, once it stands. Raises `McpUnreachable`."""
        return await asyncio.shield(self._ready)

    def busy(self) -> _Busy:
        """While a call runs on it."""
        return _Busy(self)

    def drop(self) -> None:
        """It broke: nothing new begins on it."""
        self._over = True
        self._stirred.set()

    def count(self, change: int) -> None:
        """One call more, or one less."""
        self._running += change
        self._stirred.set()

    async def close(self) -> None:
        """End it."""
        self.drop()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _hold(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S) as waiting, self._server.connect() as client:
                waiting.reschedule(None)
                self._ready.set_result(client)
                await self._idle()
        except Exception as error:  # noqa: BLE001 - whoever waits for the connection is told
            self._over = True
            if not self._ready.done():
                words = f"MCP server {self._server.label!r} could not be reached ({_words(error)})"
                self._ready.set_exception(McpUnreachable(words))
                self._ready.exception()  # whoever waits for it hears of it; nobody may
        finally:
            self._over = True
            if not self._ready.done():
                self._ready.cancel()

    async def _idle(self) -> None:
        while not self._over or self._running:
            self._stirred.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._stirred.wait()
            except TimeoutError:
                if not self._running:
                    return


class _Busy:
    """Counts a call in and out."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def __enter__(self) -> None:
        self._line.count(1)

    def __exit__(self, *_: object) -> None:
        self._line.count(-1)


# --- reading what the library says ------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import mcp
    except ImportError:
        raise InvalidInput(
            "MCP servers need the extra `mcp`, which is not installed. Nothing was done; install `remanence[mcp]`."
        ) from None
    return mcp


async def _listed(client: mcp.Client) -> list[mcp_types.Tool]:
    found: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    if len(found) > TOOLS_MAX or cursor is not None:
        raise InvalidInput(f"The MCP server offers more than {TOOLS_MAX} tools. Nothing was kept; name those you want.")
    return found


def _replay(hints: mcp_types.ToolAnnotations | None) -> Replay:
    if hints is not None and hints.read_only_hint is True:
        return "safe"
    return "keyed" if hints is not None and hints.idempotent_hint is True else "never"


def _shown(tool: mcp_types.Tool) -> dict[str, Any]:
    """A tool as the vendors' item `mcp_list_tools` shows it."""
    hints = tool.annotations
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "annotations": hints.model_dump(by_alias=True, exclude_none=True) if hints is not None else None,
    }


def _outcome(result: mcp_types.CallToolResult) -> ToolOutcome:
    parts: list[Part] = []
    for block in result.content:
        if block.type == "text":
            parts.append(Text(block.text))
        elif block.type == "image":
            parts.append(Image(block.mime_type, data=block.data))
        else:
            parts.append(Text(block.model_dump_json(by_alias=True, exclude_none=True)))
    if not parts and result.structured_content is not None:
        parts.append(Text(msgspec.json.encode(result.structured_content).decode()))
    return ToolOutcome(tuple(parts) or (Text("done"),), error=result.is_error)


def _words(error: BaseException) -> str:
    """What went wrong, found under the groups of exceptions that task groups raise."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        error = group.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run in a loop of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    def main() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            errors.append(error)

    thread = threading.Thread(target=main, name="mcp list")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
