"""Vectors beside the words: over a real HTTP server, while it answers and while it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.content import Text, text_of
from remanence.errors import ModelError
from remanence.models.embeddings import Embeddings
from remanence.models.scripted import Scripted
from remanence.ports import Database, ModelReply, ModelRequest
from remanence.recollections import Keep, Memory, MemoryQuery, Place
from remanence.runtime.embedding import EmbeddingDatabase, embed_missing
from remanence.stores.sqlite.database import open_sqlite
from remanence.stores.vectors import cosines, packed
from remanence.testing.wire import listening

ADA = Place("notes", "user:ada")
MEANINGS = (("kickboxing", "martial", "judo"), ("bread", "bakes", "cake"), ("train", "rail", "station"))


def meaning(text: str) -> list[float]:
    """A vector of three dimensions: what a text is about."""
    return [0.1 + sum(word in text.lower() for word in words) for words in MEANINGS]


class EmbeddingServer:
    """Answers `POST /v1/embeddings` by meaning; `status` and `answer` make it fail."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = None
        self.requests: list[tuple[dict[str, Any], str]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.requests.append((body, fields.get("authorization", "")))
        rows = [{"index": n, "embedding": meaning(text)} for n, text in enumerate(body["input"])]
        answer = json.dumps(self.answer or {"object": "list", "data": rows[::-1], "model": body["model"]}).encode()
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(answer)}\r\nconnection: close\r\n\r\n".encode())
        writer.write(answer)
        await writer.drain()


@asynccontextmanager
async def embedding_server() -> AsyncIterator[EmbeddingServer]:
    server = EmbeddingServer()
    async with listening(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}/v1"
        yield server


def said(text: str, position: int) -> Memory:
    return Memory(
        id=f"s{position}",
        kind="episode",
        project="lab",
        place=ADA,
        text=text,
        session=f"s{position}",
        position=position,
        recorded_at=position,
    )


async def found(database: Database, text: str) -> list[tuple[str, list[str]]]:
    hits = await database.memories.search(MemoryQuery(project="lab", readable=(ADA,), text=text, now=1_000))
    return [(hit.memory.id, sorted(share.by for share in hit.why)) for hit in hits]


async def test_what_was_never_said_is_found_by_meaning(tmp_path: Path) -> None:
    plain = await open_sqlite(str(tmp_path / "r.db"))
    async with embedding_server() as server, Embeddings(server.url, "tiny", key="k") as embedder:
        database = EmbeddingDatabase(plain, embedder)
        texts = ["She bakes on Sundays", "He does kickboxing", "The train was late"]
        await database.memories.apply([Keep(said(text, n)) for n, text in enumerate(texts)])
        assert await found(database, "martial arts") == []
        assert server.requests == []  # nobody asks for a vector that cannot be used
        assert await embed_missing(database, embedder) == 3
        assert await embed_missing(database, embedder) == 0
        (first, why), *_ = await found(database, "martial arts")
        assert (first, why) == ("s1", ["vector"])
        assert server.requests[0][1] == "bearer k"

        server.status = 503
        assert await found(database, "martial arts") == []
        assert [name for name, _ in await found(database, "kickboxing")] == ["s1"]
    await plain.close()


async def test_another_model_takes_over_when_it_is_complete(tmp_path: Path) -> None:
    plain = await open_sqlite(str(tmp_path / "r.db"))
    async with (
        embedding_server() as server,
        Embeddings(server.url, "old") as old,
        Embeddings(server.url, "new") as new,
    ):
        await plain.memories.apply([Keep(said(f"bread {n}", n)) for n in range(70)])
        while await embed_missing(plain, old):
            pass
        assert list(await plain.memory_vectors.complete()) == ["old"]
        assert await embed_missing(plain, new) == 64
        assert list(await plain.memory_vectors.complete()) == ["old"]
        assert await embed_missing(plain, new) == 6
        assert list(await plain.memory_vectors.complete()) == ["new", "old"]
        assert await embed_missing(plain, new) == 0
        assert (await plain.memories.stats()).vectors == {"new": 70}
    await plain.close()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {"error": "broken"}),
        (200, {"data": []}),
        (200, {"data": [{"index": 0, "embedding": "text"}]}),
        (200, {"data": [{"index": 1, "embedding": [1.0]}]}),
        (200, []),
    ],
)
async def test_a_bad_answer_says_so(status: int, answer: Any) -> None:
    async with embedding_server() as server, Embeddings(server.url, "tiny") as embedder:
        server.status, server.answer = status, answer or [0]
        with pytest.raises(ModelError, match="found by their words"):
            await embedder.embed(["a"])
        assert list(await embedder.embed([])) == []


async def test_a_server_that_is_not_there_says_so() -> None:
    async with Embeddings("http://127.0.0.1:9/v1", "tiny") as embedder:
        with pytest.raises(ModelError, match="did not answer"):
            await embedder.embed(["a"])


@pytest.mark.parametrize("asked", [(1.0, 0.0), (0.6, 0.8), (-3.0, 4.0)])
def test_cosines_are_those_of_the_textbook(asked: Sequence[float]) -> None:
    rows = [(1, n, packed(vector, 2)) for n, vector in enumerate([(1.0, 0.0), (0.0, 2.0), (3.0, 4.0)])]
    length = sum(x * x for x in asked) ** 0.5
    expected = [asked[0] / length, asked[1] / length, (3 * asked[0] + 4 * asked[1]) / 5 / length]
    assert list(cosines(asked, [*rows, (1, 9, packed((1.0, 1.0, 1.0), 3))]).values()) == pytest.approx(
        expected, abs=1e-5
    )


async def test_an_agent_recalls_by_meaning(tmp_path: Path) -> None:
    def repeat(request: ModelRequest) -> ModelReply:
        return ModelReply((Text("\n".join(text_of(message.parts) for message in request.messages)),))

    async with embedding_server() as server:
        embedder = Embeddings(server.url, "tiny")
        options = Options(model=Scripted(repeat), embedder=embedder)
        agent = Agent("support", model="scripted", instructions="Help.", memory=True)
        async with Remanence(f"sqlite:///{tmp_path}/r.db", options=options) as rt:
            await (await rt.open(agent, user="ada")).send("He does kickboxing at noon.")
            await rt.memory.search("noon")  # the index is brought up to the journals
            while await embed_missing(rt.database, embedder):
                pass
            later = await rt.open(agent, user="ada")
            assert "kickboxing" in await later.send("Any martial arts?")
            stranger = await rt.open(agent, user="ben")
            assert "kickboxing" not in await stranger.send("Any martial arts?")
