"""One of several processes on one database: a worker that also does what it is told, and says what came of it.

Orders come on standard input, answers go to standard output, one JSON object a line, any number at a time:

    -> {"order": 7, "verb": "send", "session": "s1", "text": "pay 3"}
    <- {"order": 7, "ok": {"head": 12}}
    <- {"order": 7, "refused": "Conflict", "message": "..."}
    <- {"order": 7, "crashed": "Traceback ..."}

What it is told is a verb of the Python API, or of `remanence.commands` where the API has none.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from remanence import logs
from remanence.agent import Agent, tool
from remanence.app import Options, Remanence, open_database
from remanence.commands import consolidation, copying, erasure, sessions, transfer, verification
from remanence.commands.consolidation import Consolidating
from remanence.commands.sessions import Opening
from remanence.content import Text, ToolCall, Usage
from remanence.errors import EffectInDoubt, NotFound, RemanenceError
from remanence.models.scripted import Scripted, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.recollections import Place
from remanence.runtime.embedding import embed_missing
from remanence.runtime.services import Times
from remanence.spec import AgentSpec, AskRule, Limits
from remanence.testing.faults.remembering import keeper
from remanence.testing.faults.world import World

__all__ = ["KEEPER", "NAMES", "TIMES", "TOKENS", "agents_of", "answer", "vector_of", "version_of"]

TIMES: Final = Times(lease_s=0.6, linger_s=0.05, poll_s=0.02, retry_base_s=0.02, held_s=0.2, drain_s=2.0)
NAMES: Final = ("racer", "frozen")
"""The agents: the second is there to be frozen, so that what happens to the first goes on."""
KEEPER: Final = "keeper"
"""The agent with a memory."""
TOKENS: Final = 120
"""What one model call comes to."""
LOOK_S = 0.002
MODEL_S: Final = (0.0, 0.0, 0.0, 0.01, 0.05)
"""How long a model takes, by lot: what it was sent may be erased meanwhile."""


def agents_of(world: World) -> list[Agent]:
    """The agents, whose effects are arrivals in the world."""

    @tool(replay="keyed", approval="n > 100")
    async def refund(n: int, *, effect_key: str) -> str:
        """Refund something."""
        world.arrive("refund", effect_key, str(n))
        await asyncio.sleep(LOOK_S)  # in which it may be killed, fenced, or asked to stop
        return "refunded"

    @tool(replay="never")
    async def courier(n: int, *, effect_key: str) -> str:
        """Send a courier, and not know what became of it the first time."""
        known = world.happened(effect_key)
        world.arrive("courier", effect_key, str(n))
        if not known:
            raise EffectInDoubt("the courier does not answer")
        return "sent"

    limits = Limits(output_tokens=200, window_tokens=4_000)
    keeper = Agent(KEEPER, model="keeping", instructions="Remember.", memory=True)
    return [*(Agent(name, model="scripted", tools=[refund, courier], limits=limits) for name in NAMES), keeper]


class Unhurried(Scripted):
    """A model that takes its time."""

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        await asyncio.sleep(random.choice(MODEL_S))
        return await super().reply(request, on_delta)


def vector_of(text: str) -> list[float]:
    """A vector by which the rare word of a text is known: it is there as long as the vector is."""
    rare = re.search(r"quince\w+", text)
    digest = sha256((rare.group() if rare else text).encode()).digest()
    return [1.0 + byte for byte in digest[:8]]


class RareWords:
    """Vectors that are good for nothing but to be found again."""

    model = "rare words"

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        await asyncio.sleep(random.choice(MODEL_S))
        return [vector_of(text) for text in texts]

    async def close(self) -> None:
        """There is nothing to close."""


def version_of(spec: AgentSpec, number: int) -> AgentSpec:
    """Another version of an agent, under another policy."""
    rules = (*spec.rules, AskRule("refund", f"n > {100 + number}"))
    return msgspec.structs.replace(spec, instructions=f"Be brief, in {number} words.", rules=rules)


def answer(request: ModelRequest) -> ModelReply:
    """What the model says: `pay N`, `ask N` (which needs an approval) and `doubt N` call a tool, once."""
    word, _, number = last_user_text(request).partition(" ")
    called = {"pay": ("refund", "1"), "ask": ("refund", "500"), "doubt": ("courier", "1")}.get(word)
    if called is None or step_of(request):
        return ModelReply((Text(f"done {number}"),), Usage(100, 20))
    return ModelReply((ToolCall("", called[0], f'{{"n": {called[1]}}}'),), Usage(100, 20))


class Verbs:
    """What a racer can be told to do: every method but the first is a verb."""

    def __init__(self, rt: Remanence) -> None:
        self._rt = rt

    async def open(self, agent: str, user: str = "", key: str | None = None) -> Any:
        return (await self._rt.open(agent, opening=Opening(user=user, key=key))).id

    async def send(self, session: str, text: str, key: str | None = None) -> Any:
        return (await (await self._rt.get(session)).submit(text, key=key)).head

    async def approve(self, session: str, call: str, by: str, decision: str) -> Any:
        handle = await self._rt.get(session)
        return (await (handle.approve if decision == "approve" else handle.deny)(call, by=by)).head

    async def resolve(self, session: str, call: str, by: str, outcome: Any) -> Any:
        return (await (await self._rt.get(session)).resolve(call, by=by, outcome=outcome, result="seen")).head

    async def cancel(self, session: str) -> Any:
        return (await (await self._rt.get(session)).cancel()).head

    async def fork(self, session: str, turn: int | None = None) -> Any:
        return (await (await self._rt.get(session)).fork(turn=turn)).id

    async def delete(self, session: str) -> Any:
        return (await sessions.delete(self._rt.caller, session)).head

    async def erase(self, what: Any, name: str, said: Sequence[tuple[str, int]] = ()) -> Any:
        """`said` are records it must reach: there is nothing to erase only when they were erased by somebody else."""
        try:
            return len((await erasure.erase(self._rt.caller, what, name, reason="a race")).records)
        except NotFound:
            for session, position in said:
                (record,) = await self._rt.database.store.read(session, after=position - 1, limit=1)
                if not record.redacted:
                    raise AssertionError(f"nothing of {what} {name} was found, and {record} is there") from None
            raise

    async def resume(self, after_s: float) -> Any:
        await asyncio.sleep(after_s)
        return len(await erasure.resume(self._rt.caller))

    async def edit(self, memory: str, text: str) -> Any:
        return (await self._rt.memory.edit(memory, text)).version

    async def undo(self, memory: str) -> Any:
        return (await self._rt.memory.undo(memory)).version

    async def withdraw(self, memory: str) -> Any:
        return (await self._rt.memory.forget(memory)).version

    async def recall(self, text: str) -> Any:
        return len(await self._rt.memory.search(text))

    async def keep(self, text: str, scope: str, subjects: Sequence[str]) -> Any:
        return (await self._rt.memory.keep(text, Place("default", scope), subjects=subjects)).id

    async def embed(self) -> Any:
        return await embed_missing(self._rt.database, RareWords())

    async def copy(self, path: str) -> Any:
        target = await open_database(f"sqlite:///{path}")
        try:
            copied = await copying.copy_database(self._rt.database, target)
        finally:
            await target.close()
        if copied.refused:
            raise AssertionError(f"not copied: {copied.refused}")
        return copied.records

    async def consolidate(self, user: str) -> Any:
        place = Place("default", f"user:{user}")
        return await consolidation.consolidate(self._rt.caller, place, Consolidating("keeping"), now=True)

    async def rebuild(self) -> Any:
        return await self._rt.memory.rebuild()

    async def export(self, session: str, path: str) -> Any:
        return (await transfer.export_session(self._rt.caller, session, Path(path))).records

    async def bring(self, path: str, session: str) -> Any:
        return (await transfer.import_session(self._rt.caller, Path(path), as_session=session)).session

    async def push(self, agent: str, number: int) -> Any:
        spec = version_of(await self._rt.spec_of(agent), number)
        version = await self._rt.database.specs.put(
            spec, project=self._rt.caller.project, at=self._rt.caller.clock.now()
        )
        return [version.number, version.version]

    async def upgrade(self, session: str, agent: str, number: int) -> Any:
        spec = version_of(await self._rt.spec_of(agent), number)
        return (await (await self._rt.get(session)).upgrade(spec)).head

    async def limit(self, scope: str, tokens: int) -> Any:
        return (await self._rt.set_budget(scope, tokens=tokens)).limit

    async def more(self, scope: str, tokens: int) -> Any:
        return (await self._rt.raise_budget(scope, tokens=tokens)).limit

    async def freeze(self, scope: str) -> Any:
        return (await self._rt.freeze(scope)).at

    async def thaw(self, scope: str) -> Any:
        await self._rt.thaw(scope)

    async def freeze_session(self, session: str) -> Any:
        return (await (await self._rt.get(session)).freeze()).head

    async def thaw_session(self, session: str) -> Any:
        return (await (await self._rt.get(session)).thaw()).head

    async def read(self, session: str) -> Any:
        return len(await (await self._rt.get(session)).history())

    async def verify(self, session: str) -> Any:
        found = await verification.verify_session(self._rt.caller, session)
        if not found.sound:
            raise AssertionError(f"verify found {found.fault}, {found.wrong_snapshots}")
        return found.head

    async def list(self) -> Any:
        rows = [row async for row in verification.sessions_all(self._rt.caller)]
        return len(rows)


async def done(verb: Callable[..., Awaitable[Any]], order: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer to an order."""
    try:
        return {"order": order, "ok": await verb(**arguments)}
    except RemanenceError as error:
        return {"order": order, "refused": type(error).__name__, "message": error.message}
    except Exception:  # noqa: BLE001 - that there is none is what the races are about
        return {"order": order, "crashed": traceback.format_exc()}


async def race(url: str, world: World, name: str) -> None:
    """Work, and obey, until standard input ends."""
    options = Options(times=TIMES, worker_name=name, actor=name, embedder=RareWords())
    models = {"scripted": Scripted(answer), "keeping": Unhurried(keeper)}
    async with Remanence(url, agents=agents_of(world), models=models, options=options) as rt:
        verbs, doing = Verbs(rt), set[asyncio.Task[None]]()

        async def obey(line: str) -> None:
            told: dict[str, Any] = json.loads(line)
            order, verb = told.pop("order"), told.pop("verb")
            print(json.dumps(await done(getattr(verbs, verb), order, told)), flush=True)

        print(json.dumps({"order": 0, "ok": name}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            task = asyncio.create_task(obey(line))
            doing.add(task)
            task.add_done_callback(doing.discard)
        await asyncio.gather(*doing)


def main(arguments: Sequence[str]) -> None:
    url, world, name = arguments
    logs.configure("error")
    asyncio.run(race(url, World(Path(world)), name))


if __name__ == "__main__":
    main(sys.argv[1:])
