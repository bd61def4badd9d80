"""Races over what is erased through two HTTP servers on one database, as applications and administrators use them.

Somebody says something over `/v1/responses`, in a conversation, and over `/admin/v1/memory`, with idempotency keys;
then it is ordered to be erased at one server while it is used at both. Whatever a server answers that was asked after
the receipt, the answers kept under the keys among it, holds no erased word, nor does any byte of the files in the end.

Servers may be killed meanwhile, or stopped past their leases. Whoever was asking then asks again, and nothing is there
twice, no order is lost, no error is the server's.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from remanence.commands import erasure
from remanence.testing.faults.erased import audit_erased, word
from remanence.testing.faults.racer import KEEPER
from remanence.testing.faults.racing import Course, Raced, make_trouble, onlooker
from remanence.testing.faults.served import Asked, Asking, Server
from remanence.testing.faults.world import World

__all__ = ["run_over_http"]

SERVERS: Final = 2
LANES: Final = 2
_REFUSED: Final = (404, 409)
"""What somebody may be told who uses what is being erased: that it is not there, or is being changed."""
_TRIES: Final = 400
_AGAIN_S: Final = 0.05
_MIDST_S: Final = 0.6
"""Races take about so long: a server dies anywhere in one."""


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
    """The servers, and whoever asks them. `dying`: some of them die meanwhile."""

    def __init__(self, course: Course, servers: list[Server], *, dying: bool = False) -> None:
        self.course = course
        self.servers = servers
        self.dying = dying
        self.receipts: set[str] = set()
        """Orders that were answered with a receipt."""

    async def ask(self, asked: Asked, *, allowed: Sequence[int] = ()) -> tuple[int, str]:
        """Ask one of the servers, by lot, and when it dies over it one of them again. Whatever is neither good nor
        allowed is a law that does not hold."""
        c, asking, status = self.course, Asking(asked), 0
        await asyncio.sleep(c.dice.choice((0, 0, 0.003, 0.02)))
        for _ in range(_TRIES if self.dying else 1):
            status = await c.dice.choice(self.servers).ask(asking)
            c.figures.orders += 1
            if status:
                break
            c.figures.unknown += 1
            await asyncio.sleep(_AGAIN_S)
        said = asking.said
        c.figures.refusals += status >= 400
        gone = allowed and "previous_response_not_found" in said
        if (status >= 400 and status not in allowed and not gone) or not status or asking.wrong:
            how = f"{status} {asking.wrong or asking.cut}"
            c.broken(f"{asked.method} {asked.path} was answered with {how}: {said[-500:]}")
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
    note = await site.made(Asked("POST", "/admin/v1/memory/memories", keeps, f"{key}n"))
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
        Asked("PUT", f"/admin/v1/memory/memory?id={told.note}", {"text": "The ladder is lent."}, f"{key}p"),
        Asked("POST", "/admin/v1/memory/rebuild", None, f"{key}r"),
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
    ordered = {"what": what, "name": name, "reason": "a race"}
    order = Asked("POST", "/admin/v1/memory/erasures", ordered, f"{c.rt.options.make_id('key')}e")
    (status, receipt), *_ = await asyncio.gather(site.ask(order), *(site.ask(one, allowed=_REFUSED) for one in uses))
    if status != 201:
        return
    site.receipts.add(json.loads(receipt)["order"]["id"])
    how = f"{what} {name} against {[f'{one.method} {one.path}' for one in uses]}"
    c.erased.update(dict.fromkeys(gone, how))
    # Whoever asks in the words of the request is answered with those: only what was kept is looked at.
    kept = [*uses, *(one for one in told.again if not any(said in json.dumps(one.body) for said in gone))]
    for one in kept:
        _, said = await site.ask(one, allowed=_REFUSED)
        if any(rare in said.lower() for rare in gone):
            c.broken(f"{one.method} {one.path} is answered with {said[:500]} after {how}")


async def run_over_http(
    url: str,
    folder: Path,
    rounds: int,
    *,
    seed: int = 0,
    tell: Callable[[Raced], None] | None = None,
    trouble_every: int = 0,
) -> Raced:
    """Run so many races through two servers, and audit everything at the end.

    `trouble_every`: about once in so many races a server is killed, or stopped past its leases; 0 is never.
    """
    async with onlooker(url) as rt:
        course = Course(rt, World(folder / "world.db"), folder, random.Random(seed))
        servers = [Server(url, folder / "world.db", f"server-{n}") for n in range(SERVERS)]
        site, left = _Site(course, servers, dying=trouble_every > 0), iter(range(rounds))

        async def lane() -> None:
            for _ in left:
                await erased_while_served(site)
                course.figures.runs += 1
                if tell is not None:
                    tell(course.figures)

        try:
            await asyncio.gather(*(server.start() for server in servers))
            trouble = asyncio.create_task(make_trouble(course, servers, trouble_every, midst_s=_MIDST_S))
            await asyncio.gather(*(lane() for _ in range(LANES)))
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
            await course.audit()
            await _audit_orders(site)
            await audit_erased(course)
        finally:
            await asyncio.gather(*(server.stop() for server in servers))
            course.world.close()
    return course.figures


async def _audit_orders(site: _Site) -> None:
    kept = {receipt.order.id for receipt in await erasure.receipts(site.course.rt.caller)}
    if lost := site.receipts - kept:
        site.course.broken(f"the receipts of {lost} were given out, and are not there")
