"""Races over what is erased through two HTTP servers on one database, as applications and administrators use them.

Somebody says something over `/v1/responses`, in a conversation, and over `/admin/v1/memory`, with idempotency keys;
then it is ordered to be erased at one server while it is used at both. Whatever a server answers that was asked after
the receipt, the answers kept under the keys among it, holds no erased word, nor does any byte of the files in the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from remanence.testing.faults.erased import audit_erased, word
from remanence.testing.faults.racer import KEEPER
from remanence.testing.faults.racing import Course, Raced, onlooker
from remanence.testing.faults.server import KEY
from remanence.testing.faults.world import World

__all__ = ["run_over_http"]

SERVERS: Final = 2
LANES: Final = 2
_REFUSED: Final = (404, 409)
"""What somebody may be told who uses what is being erased: that it is not there, or is being changed."""


class Asked(NamedTuple):
    """A request to one of the servers."""

    method: str
    path: str
    body: Any = None
    key: str = ""


class _Server:
    """One server, and a client of it."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.http = httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60)

    @classmethod
    async def start(cls, url: str, world: Path, name: str) -> _Server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "remanence.testing.faults.server", url, str(world), name, stdin=PIPE, stdout=PIPE
        )
        assert process.stdout is not None
        listening = (await process.stdout.readline()).decode().strip()
        if not listening:
            raise RuntimeError("a server ended before it began; its standard error says why")
        return cls(process, listening)

    async def ask(self, asked: Asked) -> tuple[int, str]:
        """The status and the words of an answer; 0 and what was wrong when none came."""
        headers = {"idempotency-key": asked.key} if asked.key else {}
        try:
            answer = await self.http.request(asked.method, asked.path, json=asked.body, headers=headers)
        except httpx2.HTTPError as error:
            return 0, repr(error)
        return answer.status_code, answer.text

    async def stop(self) -> None:
        await self.http.aclose()
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


class _Told(NamedTuple):
    """What was said, where, and the requests that said it, each under its key."""

    user: str
    words: tuple[str, str, str]
    """In the response, in the conversation, and in a person's note."""
    response: str
    session: str
    conversation: str
    note: str
    again: tuple[Asked, ...]


class _Site:
    """The servers, and whoever asks them."""

    def __init__(self, course: Course, servers: list[_Server]) -> None:
        self.course = course
        self.servers = servers

    async def ask(self, asked: Asked, *, allowed: Sequence[int] = ()) -> tuple[int, str]:
        """Ask one of the servers, by lot. Whatever is neither good nor allowed is a law that does not hold."""
        c = self.course
        await asyncio.sleep(c.dice.choice((0, 0, 0.003, 0.02)))
        status, said = await c.dice.choice(self.servers).ask(asked)
        c.figures.orders += 1
        c.figures.refusals += status >= 400
        gone = allowed and "previous_response_not_found" in said
        if (status >= 400 and status not in allowed and not gone) or not status:
            c.broken(f"{asked.method} {asked.path} was answered with {status}: {said[:500]}")
        return status, said

    async def made(self, asked: Asked) -> dict[str, Any]:
        """What a request made."""
        _, said = await self.ask(asked)
        return json.loads(said)


def _say(text: str, user: str, **more: Any) -> dict[str, Any]:
    return {"model": KEEPER, "input": text, "safety_identifier": user, **more}


async def _told(site: _Site) -> _Told:
    c = site.course
    user, words, key = c.rt.options.make_id("user"), (word(c), word(c), word(c)), c.rt.options.make_id("key")
    says = _say(f"note The key lies under the {words[0]} pot behind the shed.", user, metadata={"about": words[0]})
    first = Asked("POST", "/v1/responses", says, f"{key}1")
    talk = Asked("POST", "/v1/conversations", {"metadata": {"about": words[1]}}, f"{key}2")
    made, talked = await site.made(first), await site.made(talk)
    in_talk = _say(f"The hedge by the {words[1]} gate is trimmed.", user, conversation=talked["id"])
    second = Asked("POST", "/v1/responses", in_talk, f"{key}3")
    keeps = {"text": f"The ladder stands in the {words[2]} corner.", "scope": f"user:{user}"}
    note = await site.made(Asked("POST", "/admin/v1/memory/memories", keeps))
    await site.made(second)
    sums = {"model": "keeping", "previous_response_id": made["id"], "input": "And now?"}
    again = (first, talk, second, Asked("POST", "/v1/responses/compact", sums, f"{key}4"))
    session = made["id"].removeprefix("resp_").rpartition("_")[0]
    return _Told(user, words, made["id"], session, talked["id"], note["memory"], again)


def _uses(site: _Site, told: _Told) -> list[Asked]:
    """What others do meanwhile. Nothing of it says the rare words; what is asked once more says them as it did."""
    key = site.course.rt.options.make_id("key")
    asks = _say("tell me where the key of the shed lies", told.user, previous_response_id=told.response)
    talks = _say("tell me where the hedge is", told.user, conversation=told.conversation)
    return [
        Asked("POST", "/v1/responses", asks, key),
        Asked("POST", "/v1/responses", {**asks, "stream": True}, f"{key}s"),
        Asked("POST", "/v1/responses", talks, f"{key}t"),
        Asked("POST", "/v1/responses", _say("look key shed pot hedge", told.user), f"{key}l"),
        told.again[-1],
        Asked("GET", f"/v1/responses/{told.response}"),
        Asked("GET", f"/v1/conversations/{told.conversation}/items"),
        Asked("PUT", f"/admin/v1/memory/memory?id={told.note}", {"text": "The ladder is lent."}),
        Asked("POST", "/admin/v1/memory/rebuild"),
        Asked("GET", "/admin/v1/memory/search?query=key+shed+ladder"),
        Asked("POST", f"/admin/v1/sessions/{told.session}/fork", {"title": "a fork"}, f"{key}f"),
    ]


async def erased_while_served(site: _Site) -> None:
    """Order it at one server while it is used at both; then ask for everything again."""
    c, told = site.course, await _told(site)
    words = told.words
    orders = ("user", told.user, words), ("session", told.session, words[:1]), ("memory", told.note, words[2:])
    what, name, gone = c.dice.choice(orders)
    c.gone.add(told.session)
    uses = c.dice.sample(_uses(site, told), 5)
    order = Asked("POST", "/admin/v1/memory/erasures", {"what": what, "name": name, "reason": "a race"})
    (status, _), *_ = await asyncio.gather(site.ask(order), *(site.ask(one, allowed=_REFUSED) for one in uses))
    if status != 201:
        return
    how = f"{what} {name} against {[f'{one.method} {one.path}' for one in uses]}"
    c.erased.update(dict.fromkeys(gone, how))
    # Whoever asks in the words of the request is answered with those: only what was kept is looked at.
    kept = [*uses, *(one for one in told.again if not any(said in json.dumps(one.body) for said in gone))]
    for one in kept:
        _, said = await site.ask(one, allowed=_REFUSED)
        if any(rare in said.lower() for rare in gone):
            c.broken(f"{one.method} {one.path} is answered with {said[:500]} after {how}")


async def run_over_http(
    url: str, folder: Path, rounds: int, *, seed: int = 0, tell: Callable[[Raced], None] | None = None
) -> Raced:
    """Run so many races through two servers, and audit everything at the end."""
    async with onlooker(url) as rt:
        world = folder / "world.db"
        course = Course(rt, World(world), folder, random.Random(seed))
        servers = await asyncio.gather(*(_Server.start(url, world, f"server-{n}") for n in range(SERVERS)))
        site, left = _Site(course, list(servers)), iter(range(rounds))

        async def lane() -> None:
            for _ in left:
                await erased_while_served(site)
                course.figures.runs += 1
                if tell is not None:
                    tell(course.figures)

        try:
            await asyncio.gather(*(lane() for _ in range(LANES)))
            await audit_erased(course)
        finally:
            await asyncio.gather(*(server.stop() for server in servers))
            course.world.close()
    return course.figures
