"""Scene 5: a tool that cannot know whether it happened."""

from __future__ import annotations

from remanence.core.state import status_of, waiting_on
from remanence.demo import claims
from remanence.demo.claims import Claim
from remanence.demo.scenes.kill import killed, strike
from remanence.demo.theatre import Theatre, lost, until

ORDER = "O-1050"
SESSION = "courier"
PERSON = "you"


async def play(t: Theatre) -> None:
    await t.stage.scene(5, "A tool that cannot know whether it happened")
    await t.stage.say(
        "The courier company has no keys and no way to ask. The worker dies while a booking is in flight: repeating "
        "may book twice, forgetting may book never. So nobody guesses."
    )
    async with t.runtime(worker=False) as rt:
        session = await t.open(rt, SESSION)
        await session.submit(f"Send a courier for order {ORDER}.")
        t.world.arm("courier", "after")
        held, code = await strike(t, after=max((call.id for call in t.world.held()), default=0))
        await t.stage.claim(killed(held, code, "courier"))
        async with t.worker():
            await until(session, lost)
            state = await session.state()
            await t.stage.claim(
                Claim(f"The session is {status_of(state)} on a {waiting_on(state)}.", waiting_on(state) == "doubt"),
                claims.arrived(
                    "The new worker has not called the courier: one call arrived, the first.",
                    t.world.arrivals(f"{SESSION}:"),
                    1,
                ),
            )
            if not state.doubts:
                return
            found = t.world.bookings(f"{SESSION}:")
            await t.stage.say("You telephone the courier company (the tour looks into its books) and tell the session:")
            receipt = f"booking C-{found[0].id:04d}, confirmed by telephone" if found else ""
            outcome = "happened" if found else "run_again"
            told = await session.resolve(state.doubts[0].call, by=PERSON, outcome=outcome, result=receipt)
            await t.stage.show(await until(session, after=told.head - 1))
        journal = await session.history()
    await t.stage.claim(
        claims.arrived("One courier is booked, by one call.", t.world.arrivals(f"{SESSION}:"), 1),
        claims.in_doubt_then_resolved(journal, PERSON),
        claims.completed(journal, 1),
    )
