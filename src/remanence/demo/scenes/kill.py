"""Scene 2: the worker is killed while a refund is in flight, and the next one while a mail is."""

from __future__ import annotations

import asyncio

from remanence.demo import claims
from remanence.demo.claims import Claim
from remanence.demo.shop import order_book
from remanence.demo.theatre import PATIENCE_S, Theatre, until
from remanence.demo.world import Held
from remanence.events import Recorded, ToolStarted

ORDER = "O-1042"
CENTS = 1_250
SESSION = "refund"


async def play(t: Theatre) -> None:
    await t.stage.scene(2, "The worker is killed while a refund is in flight")
    await t.stage.say(
        "Workers are processes of their own here. The payment provider has no idempotency keys: a second call is a "
        "second refund. It moves the money, and before it can answer, the worker gets SIGKILL."
    )
    async with t.runtime(worker=False) as rt:
        session = await t.open(rt, SESSION)
        reader = asyncio.create_task(until(session))
        await session.submit(f"Refund {CENTS} cents of order {ORDER} and tell the buyer.")
        t.world.arm("payments", "after")
        first, code = await strike(t, after=0)
        await t.stage.claim(killed(first, code, "refund"))
        await t.stage.say("A new worker takes over. It is killed too, when the mail server has the mail:")
        t.world.arm("mail", "after")
        second, code = await strike(t, after=first.id)
        await t.stage.claim(killed(second, code, "mail"))
        async with t.worker() as third:
            await t.stage.say(f"Worker {third.pid} finishes. What the journal holds from the refund on:")
            seen = await reader
        journal = list(await session.history())
    await t.stage.show(from_first_write(journal))
    await t.stage.claim(*check(t, journal, [record.position for record in seen]))


async def strike(t: Theatre, *, after: int) -> tuple[Held, int]:
    """Start a worker, wait until its call is in the air, kill it. The gate opens again for the next one."""
    async with t.worker() as worker:
        held = await t.world.caught(after=after, timeout_s=PATIENCE_S)
        code = await worker.kill() if held.pid == worker.pid else 0
    t.world.disarm()
    return held, code


def killed(held: Held, code: int, what: str) -> Claim:
    text = f"Worker {held.pid} died (exit {code}) with its {what} call in flight: done outside, unknown inside."
    return Claim(text, code == -9 and held.point == "after", f"exit {code}")


def from_first_write(journal: list[Recorded]) -> list[Recorded]:
    """The lines from the first effect that changes anything outside."""
    start = next((r.position for r in journal if isinstance(r.event, ToolStarted) and r.event.replay != "safe"), 0)
    return [record for record in journal if record.position >= start]


def check(t: Theatre, journal: list[Recorded], seen: list[int]) -> list[Claim]:
    key = f"{SESSION}:"
    mails = t.world.arrivals(key, "mail")
    keys = {mail.effect_key for mail in mails}
    return [
        claims.one_refund(t.world.refunds(key), order=ORDER, cents=CENTS),
        claims.arrived(
            "The provider got one refund call. The next worker did not repeat it: it asked what became of it.",
            t.world.arrivals(key, "payments"),
            1,
        ),
        claims.sent_once(t.world.outbox(key), order_book()[ORDER].email),
        Claim(
            "The mail call was repeated, under one and the same key: the server sent nothing twice.",
            len(mails) == 2 and len(keys) == 1,
            f"{len(mails)} calls, keys {keys}",
        ),
        claims.no_step_twice(journal),
        claims.no_gap(journal, seen),
        claims.chained(journal),
    ]
