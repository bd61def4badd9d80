"""Scene 3: a refund above the limit waits for an approval that is bound to its exact arguments."""

from __future__ import annotations

from remanence.app import Remanence
from remanence.commands.approvals import Waiting, waiting
from remanence.demo import claims
from remanence.demo.claims import Claim
from remanence.demo.shop import APPROVAL_OVER_CENTS, money, order_book
from remanence.demo.theatre import Theatre, asked, until

CENTS = 6_000
SESSION = "large-refund"
PERSON = "you"


async def play(t: Theatre) -> None:
    await t.stage.scene(3, "A large refund waits for a person, across a restart")
    order = next(order.order for order in order_book().values() if order.cents >= 2 * CENTS)
    request = f"Refund {CENTS} cents of order {order}."
    await t.stage.say(f"The policy asks a person above {money(APPROVAL_OVER_CENTS)}. Somebody asks for {money(CENTS)}:")
    async with t.runtime() as rt:
        await t.stage.show(await asked(await t.open(rt, SESSION), request))
        before = await question(rt)
    await t.stage.say("The runtime was closed. It is opened again on the same file:")
    async with t.runtime() as rt:
        session = await rt.get(SESSION)
        after = await question(rt)
        await t.stage.claim(
            Claim(
                "The same call still waits, with the same arguments to the byte.",
                before is not None and before == after,
            ),
            claims.arrived("While it waited, no call reached the provider.", t.world.arrivals(f"{SESSION}:"), 0),
        )
        if after is None:
            return
        accepted = await session.approve(after.call, by=PERSON)
        await t.stage.show(await until(session, after=accepted.head - 1))
        await t.stage.say("Asked for the same once more, the agent has to ask again. This time the answer is no:")
        await t.stage.show(await asked(session, request))
        again = await question(rt)
        if again is not None:
            refused = await session.deny(again.call, by=PERSON, note="once is enough")
            await t.stage.show(await until(session, after=refused.head - 1))
        journal = await session.history()
    await t.stage.claim(
        claims.one_refund(t.world.refunds(f"{SESSION}:"), order=order, cents=CENTS),
        claims.approved_exactly(journal, PERSON),
        Claim("The used approval did not cover the second request.", again is not None and again.call != after.call),
        claims.completed(journal, 2),
    )


async def question(rt: Remanence) -> Waiting | None:
    """The call of this session that waits for a person."""
    found = await waiting(rt.caller, session=SESSION)
    return found[0] if found else None
