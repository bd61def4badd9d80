"""Sessions worth moving: a small agent over a real database, with an outside world that counts."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.commands.caller import commit
from remanence.content import Text, ToolCall, text_of
from remanence.events import Redacted
from remanence.models.scripted import Scripted, last_result, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest, Write
from remanence.spec import AskRule, Limits

REPORT = "line of a long report\n" * 5_000
"""About 100 KB: over the limit of a result, and over that of a record."""


class World:
    """The outside: every effect by its key."""

    def __init__(self) -> None:
        self.refunds: list[str] = []


def support(world: World, *, limits: Limits | None = None) -> Agent:
    """An agent with a tool that must not run twice, and one whose results are large."""

    @tool(replay="never")
    async def refund(order: str, cents: int, *, effect_key: str) -> str:
        """Refund an order."""
        world.refunds.append(effect_key)
        return f"refunded {cents} for {order}"

    @tool(replay="safe")
    async def report() -> str:
        """A long report."""
        return REPORT

    return Agent(
        "support",
        model="scripted",
        tools=[refund, report],
        rules=[AskRule("refund", when="cents > 5000")],
        limits=limits or Limits(),
    )


def answers(request: ModelRequest) -> ModelReply:
    """Calls the tool the user names; else says how many messages it can see, which is what the journal keeps."""
    said = last_user_text(request)
    if step_of(request) == 0 and said.startswith("refund "):
        return ModelReply((ToolCall("x", "refund", f'{{"order": "42", "cents": {said.split()[1]}}}'),))
    if step_of(request) == 0 and said == "report":
        return ModelReply((ToolCall("x", "report", "{}"),))
    if step_of(request):
        return ModelReply((Text(f"Done: {last_result(request)[:40]}"),))
    users = [text_of(message.parts) for message in request.messages if message.role == "user"]
    return ModelReply((Text(f"I remember {len(users)} messages, the first was {users[0][:20]!r}."),))


@asynccontextmanager
async def runtime(
    url: str, world: World, *, worker: bool = True, agent: Agent | None = None, limits: Limits | None = None
) -> AsyncIterator[Remanence]:
    """An open runtime over `url` with the agent in it."""
    agents = [agent or support(world, limits=limits)]
    async with Remanence(url, agents=agents, worker=worker, options=Options(model=Scripted(answers))) as rt:
        yield rt


async def erase(rt: Remanence, session: str, position: int) -> None:
    """Redact one record."""
    write = Write(session, (Redacted(position, "ada", "a request"),), rt.caller.clock.now(), "ada")
    await commit(rt.caller, write)


def rewritten(bundle: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The bundle with its members changed by `change`, zipped again: what somebody does who knows about ZIP."""
    with zipfile.ZipFile(bundle) as before:
        members = {name: before.read(name) for name in before.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as after:
        for name, content in members.items():
            after.writestr(name, content)
    return target
