"""Scene 7: a fork at an earlier turn; what the agent remembers in a new session, and from which event it knows."""

from __future__ import annotations

from remanence.content import text_of
from remanence.demo import claims
from remanence.demo.theatre import Theatre, asked
from remanence.events import MemoryKept, MemoryRecalled, ModelReplied, Recorded, TurnEnded

FIRST, SECOND = "O-1020", "O-1077"
FACT = "parcels for me go to the neighbour at number 12"
RECOUNT = "What have I asked you so far?"
RECALL = "What do you remember about where my parcels go?"


async def play(t: Theatre) -> None:
    await t.stage.scene(7, "Going back, and remembering")
    await forks(t)
    await remembers(t)


async def forks(t: Theatre) -> None:
    async with t.runtime() as rt:
        source = await t.open(rt, "history")
        records = await asked(source, f"What is in order {FIRST}?")
        end = next(record.position for record in records if isinstance(record.event, TurnEnded))
        await asked(source, f"And what is in order {SECOND}?")
        await t.stage.say(
            "A session of two turns is forked at the end of the first. Both are asked what was said so far:"
        )
        fork = await source.fork(turn=1)
        there, here = last_words(await asked(fork, RECOUNT)), last_words(await asked(source, RECOUNT))
        await t.stage.quote(f"the fork:   {there}")
        await t.stage.quote(f"the source: {here}")
        source_journal, fork_journal = await source.history(), await fork.history()
    await t.stage.claim(
        claims.says("The fork knows the first turn only.", there, wanted=[FIRST], unwanted=[SECOND]),
        claims.says("The source knows both, and was not touched.", here, wanted=[FIRST, SECOND]),
        claims.forked_there(source_journal, fork_journal, end),
        claims.chained(fork_journal),
    )


async def remembers(t: Theatre) -> None:
    async with t.runtime() as rt:
        first = await t.open(rt, "ada-monday", user="ada", remembering=True)
        await asked(first, f"Please remember: {FACT}.")
        second = await t.open(rt, "ada-friday", user="ada", remembering=True)
        await t.stage.say("Ada said something on Monday. On Friday, in a new session, she asks what is remembered:")
        friday = await asked(second, RECALL)
        await t.stage.quote(last_words(friday))
        stranger = await t.open(rt, "ben-friday", user="ben", remembering=True)
        other = last_words(await asked(stranger, RECALL))
        monday = await first.history()
    kept = claims.events(monday, MemoryKept)
    source = (kept[0].source or 0) if kept else 0
    await t.stage.claim(
        claims.says("A new session knows what was said in an earlier one.", last_words(friday), wanted=["number 12"]),
        claims.known_from(monday, source, FACT),
        claims.came_to_mind(claims.events(friday, MemoryRecalled), "ada-monday"),
        claims.says("Nobody else's session does.", other, unwanted=["number 12"]),
    )


def last_words(records: list[Recorded]) -> str:
    replies = claims.events(records, ModelReplied)
    return text_of(replies[-1].parts) if replies else ""
