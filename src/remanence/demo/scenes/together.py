"""Scene 4: two messages arrive at once."""

from __future__ import annotations

import asyncio

from remanence.demo import claims
from remanence.demo.theatre import Theatre, until
from remanence.events import TurnEnded

TEXTS = ("What is in order O-1003?", "And what is in order O-1004?")


async def play(t: Theatre) -> None:
    await t.stage.scene(4, "Two messages arrive at once")
    async with t.runtime() as rt:
        session = await t.open(rt, "two-messages")
        accepted = await asyncio.gather(*(session.submit(text) for text in TEXTS))
        heads = ", ".join(f"#{one.head}" for one in accepted)
        await t.stage.say(f"Both were accepted, and durable, before either was answered: records {heads}.")
        journal = await until(session, lambda event: isinstance(event, TurnEnded), times=2)
    await t.stage.show(journal)
    await t.stage.claim(claims.inputs_in_order(journal, set(TEXTS)), claims.completed(journal, 2))
