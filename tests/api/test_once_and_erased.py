"""What is kept under an `Idempotency-Key` while what it says is erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Message

from remanence import Remanence
from remanence.api.once import KIND, only_once
from remanence.errors import Conflict
from remanence.ports import EntryQuery
from remanence.recollections import Place

SECRET = "The spare key lies under the Zanzibarquince pot behind the shed."
RARE = b"zanzibarquince"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, worker=False) as opened:
        yield opened


async def answer(rt: Remanence, key: str = "one") -> Response:
    async def make() -> Response:
        note = await rt.memory.keep(SECRET, Place("default", "user:ada"))
        return Response(note.text)

    return await only_once(rt.caller, key, "digest", make)


async def sent(response: Response) -> bytes:
    """What the client hears."""
    pieces: list[bytes] = []

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b""))

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    await response({"type": "http"}, receive, send)
    return b"".join(pieces)


@pytest.mark.parametrize("what", ["user", "memory"])
async def test_an_answer_that_was_under_way_is_not_kept(rt: Remanence, what: str) -> None:
    made = await answer(rt)
    (note,) = await rt.memory.list()
    name = "ada" if what == "user" else note.id
    await rt.memory.erase(what, name, reason="asked to")  # pyright: ignore[reportArgumentType]
    assert RARE in (await sent(made)).lower(), "whoever asked hears it still"
    for path in await rt.database.files():
        assert not path.exists() or RARE not in path.read_bytes().lower()
    with pytest.raises(Conflict, match="something was erased meanwhile"):
        await answer(rt)
    (entry,) = await rt.database.registry.list(EntryQuery(KIND))
    assert b'"body"' not in entry.body or b'"body":""' in entry.body


async def test_an_answer_is_kept_that_came_after(rt: Remanence) -> None:
    await rt.memory.keep(SECRET, Place("default", "user:ada"))
    await rt.memory.erase("user", "ada", reason="asked to")
    assert await sent(await answer(rt)) == await sent(await answer(rt)) == SECRET.encode()
