"""States as a process last saw them: never anything but what the journal says now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remanence import Agent, Remanence
from remanence.commands import forks, sessions
from remanence.commands.caller import States, state_in
from remanence.commands.given import erase
from remanence.commands.sessions import Opening
from remanence.core.session import fold
from remanence.core.state import Session
from remanence.errors import Conflict, NotFound
from remanence.events import CancelAsked

AGENT = Agent("greeter", model="scripted", instructions="Greet.")


async def open_one(rt: Remanence, **opening: object) -> str:
    spec = await rt.spec_of("greeter")
    return await sessions.open_session(rt.caller, spec, Opening(**opening))  # pyright: ignore[reportArgumentType]


async def test_a_look_is_what_the_journal_says_whoever_wrote(database: str) -> None:
    async with Remanence(database, agents=[AGENT], worker=False) as here, Remanence(database, worker=False) as there:
        session, states, store = await open_one(here), States(), here.caller.database.store
        for caller in (here.caller, there.caller, there.caller, here.caller):
            assert await states.look(store, session) == await state_in(store, session)
            await sessions.send(caller, session, "Hello.")
            assert await states.look(store, session) == await state_in(store, session)
        forked = await forks.fork(there.caller, session, position=3)
        await sessions.send(there.caller, forked, "Good evening.")
        for name in (forked, session, forked):
            assert await states.look(store, name) == await state_in(store, name)


async def test_a_long_absence(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/long.db", agents=[AGENT], worker=False) as rt:
        session, states, store = await open_one(rt), States(), rt.caller.database.store
        await states.look(store, session)
        await sessions.tell(rt.caller, session, *(CancelAsked("ada") for _ in range(250)))
        assert await states.look(store, session) == await state_in(store, session)


async def test_what_was_erased_is_in_no_state_any_more(database: str) -> None:
    async with Remanence(database, agents=[AGENT], worker=False) as rt:
        session = await open_one(rt, metadata={"said": "a secret"})
        states, store = States(), rt.caller.database.store
        assert (await states.look(store, session)).metadata == {"said": "a secret"}
        await erase(rt.caller, session, [1], reason="asked for")
        assert await states.look(store, session) == await state_in(store, session)
        assert (await states.look(store, session)).metadata == {}


async def test_another_journal_under_the_same_name_is_another_state(tmp_path: Path) -> None:
    """As after a restore: the record a state ends with is compared by its digest."""
    states = States()
    for words in ("This is one.", "That is another.", "A third."):
        async with Remanence(f"sqlite:///{tmp_path}/{words}.db", agents=[AGENT], worker=False) as rt:
            store = rt.caller.database.store
            session = await open_one(rt, session="same", title=words)
            await sessions.send(rt.caller, session, words)
            assert await states.look(store, session) == await state_in(store, session)
    async with Remanence(f"sqlite:///{tmp_path}/none.db", agents=[AGENT], worker=False) as rt:
        with pytest.raises(NotFound):
            await states.look(rt.caller.database.store, "same")


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), max_size=12))
def test_any_order_of_looks_and_words(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    async def law() -> None:
        with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
            async with Remanence(f"sqlite:///{folder}/any.db", agents=[AGENT]) as rt:
                session, states, store = await rt.open(AGENT), States(), rt.caller.database.store
                for step in steps:
                    if step == 0:
                        await session.send("Hello.")
                    elif step == 1:
                        await session.submit("Good day.")
                    seen = await states.look(store, session.id)
                    assert seen.head <= (await state_in(store, session.id)).head
                await session.send("Good bye.")
                seen = await states.look(store, session.id)
                whole = await store.read(session.id, limit=seen.head)
                assert seen == fold(Session(session.id), whole)

    asyncio.run(law())


async def test_a_guess_is_what_this_process_saw_and_nothing_else(database: str) -> None:
    async with Remanence(database, agents=[AGENT], worker=False) as here, Remanence(database, worker=False) as there:
        caller, store = here.caller, here.caller.database.store
        session = await open_one(here)
        assert caller.states is not None
        assert caller.states.guess(session) is None
        await caller.states.look(store, session)
        for words in ("Hello.", "Good evening."):
            await sessions.send(caller, session, words)
            assert caller.states.guess(session) == await state_in(store, session)
        before = caller.states.guess(session)
        await sessions.send(there.caller, session, "From elsewhere.")
        assert caller.states.guess(session) == before  # old, which is why a write on it must expect its head
        assert before is not None
        with pytest.raises(Conflict):
            await sessions.send(caller, before, "On what I saw.")
        await sessions.send(caller, session, "After a gap.")
        assert caller.states.guess(session) is None


@pytest.mark.parametrize("ends", ["erased", "removed"])
async def test_what_was_erased_or_removed_is_not_guessed(tmp_path: Path, ends: str) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/erased.db", agents=[AGENT], worker=False) as rt:
        session = await open_one(rt, metadata={"said": "a secret"})
        states = rt.caller.states
        assert states is not None
        assert (await states.look(rt.caller.database.store, session)).metadata == {"said": "a secret"}
        await (erase(rt.caller, session, [1], reason="x") if ends == "erased" else sessions.delete(rt.caller, session))
        assert states.guess(session) is None
