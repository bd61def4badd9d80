"""Who sees what: rights as a table, and no session ever sees another scope, whatever was granted and taken away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remanence.app import Options, open_database
from remanence.commands import memory, memory_stores
from remanence.commands.caller import Caller
from remanence.commands.memory import Writing
from remanence.core.memory.grants import SCOPES, Access, Grant, GrantChange, Subject, access_of
from remanence.errors import NotFound
from remanence.ports import Database
from remanence.recollections import MemoryQuery, Place
from remanence.runtime.live import Hub
from remanence.spec import MemoryScope, MemoryUse
from remanence.testing.clock import FakeClock
from remanence.tools.memory_access import access_now

ADA = Subject("default", "support", "s1", "ada")
NOBODY = Subject("default", "support", "s1")
USE = MemoryUse()


def granted(to: str, *reads: MemoryScope, store: str = "default", at: int = 10) -> Grant:
    return Grant(store, to, (GrantChange(at, "grace", reads, ()),))


def test_a_version_without_memory_has_none_whatever_is_granted() -> None:
    assert access_of(ADA, None, [granted("agent:support", *SCOPES)]) == Access()


def test_by_default_a_session_reads_every_scope_of_its_own_and_writes_the_users_and_its_own() -> None:
    access = access_of(ADA, USE, [])
    assert {place.scope for place in access.reads} == {"session:s1", "user:ada", "agent:support", "project"}
    assert {place.scope for place in access.writes} == {"session:s1", "user:ada"}
    assert access.home == Place("default", "user:ada")


def test_a_session_of_nobody_has_no_users_scope() -> None:
    access = access_of(NOBODY, USE, [])
    assert access.home == Place("default", "session:s1")
    assert not [place for place in access.reads if place.scope.startswith("user:")]


def test_the_most_specific_voice_counts_and_silence_is_a_voice() -> None:
    agent, session = granted("agent:support", "project"), granted("session:s1", "user")
    assert access_of(ADA, USE, [agent]).reads == (Place("default", "project"),)
    assert access_of(ADA, USE, [agent, session]).reads == (Place("default", "user:ada"),)
    assert access_of(ADA, USE, [granted("agent:support")]) == Access()
    assert access_of(ADA, USE, [granted("agent:other")]).reads == access_of(ADA, USE, []).reads


def test_a_grant_holds_from_its_moment_on() -> None:
    team = granted("agent:support", "project", store="team", at=10)
    assert Place("team", "project") not in access_of(ADA, USE, [team], at=9).reads
    assert Place("team", "project") in access_of(ADA, USE, [team], at=10).reads
    assert Place("team", "project") in access_of(ADA, USE, [team]).reads


# --- any sequence -----------------------------------------------------------------------------------------------------

STORES = ("default", "team")
USERS = ("ada", "ben")
AGENTS = ("support", "sales")
SUBJECTS = [Subject("default", agent, f"{agent}-{user}", user) for agent in AGENTS for user in USERS]
PLACES = [
    Place(store, scope)
    for store in STORES
    for scope in (
        "project",
        *(f"agent:{agent}" for agent in AGENTS),
        *(f"user:{user}" for user in USERS),
        *(f"session:{subject.session}" for subject in SUBJECTS),
    )
]


class Change(NamedTuple):
    """One grant; with no scopes it takes everything away."""

    store: str
    to: str
    reads: tuple[MemoryScope, ...]


scopes = st.lists(st.sampled_from(SCOPES), unique=True, max_size=4).map(tuple)
grantees = st.sampled_from([*(f"agent:{a}" for a in AGENTS), *(f"session:{s.session}" for s in SUBJECTS)])
changes = st.lists(st.builds(Change, st.sampled_from(STORES), grantees, scopes), max_size=8)


def expected(subject: Subject, made: list[Change]) -> set[Place]:
    """What a session may see after these changes, said in another way: the last word of who speaks of it."""
    seen: set[Place] = set()
    for store in STORES:
        last = {change.to: change.reads for change in made if change.store == store}
        reads = last.get(f"session:{subject.session}", last.get(f"agent:{subject.agent}"))
        if reads is None:
            reads = SCOPES if store == "default" else ()
        own = {
            "project": "project",
            "agent": f"agent:{subject.agent}",
            "user": f"user:{subject.user}",
            "session": f"session:{subject.session}",
        }
        seen |= {Place(store, own[kind]) for kind in reads}
    return seen


async def isolation_holds(database: Database, made: list[Change]) -> None:
    """After each change, each session finds exactly what it may see: every text says in which place it lies."""
    caller = Caller(database, Hub(FakeClock()), FakeClock(), Options().make_id)
    for number in range(len(made) + 1):
        if number:
            change = made[number - 1]
            await memory_stores.grant(caller, change.store, change.to, reads=change.reads, writes=())
        for subject in SUBJECTS:
            access = await access_now(database.registry, subject, USE)
            query = MemoryQuery(
                project="default", readable=access.reads, text="secret", now=caller.clock.now(), limit=100
            )
            found = {hit.memory.place for hit in await database.memories.search(query)} if access.reads else set()
            assert found == expected(subject, made[:number]), (subject, made[:number])


async def prepare(database: Database) -> None:
    """A secret in every place."""
    caller = Caller(database, Hub(FakeClock()), FakeClock(), Options().make_id)
    await memory_stores.create_store(caller, "team")
    for place in PLACES:
        await memory.keep(caller, Writing(f"the secret of {place.store} {place.scope}", place))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_database")
    return f"sqlite:///{tmp_path}/g.db"


async def forget_grants(database: Database) -> None:
    for to in [*(f"agent:{a}" for a in AGENTS), *(f"session:{s.session}" for s in SUBJECTS)]:
        try:
            await database.registry.remove("memory_grant", f"default/{to}")
        except NotFound:
            continue


def test_no_session_sees_another_scope_after_any_grants_and_revocations(url: str) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(open_database(url))
        runner.run(prepare(database))

        @settings(max_examples=25)
        @given(changes)
        def holds(made: list[Change]) -> None:
            runner.run(forget_grants(database))
            runner.run(isolation_holds(database, made))

        try:
            holds()
        finally:
            runner.run(database.close())
