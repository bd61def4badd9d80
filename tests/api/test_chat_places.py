"""Chat streams of sessions, cut anywhere and gone on with: the same request, the same key, the last id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chat_server import KEY, Server
from hypothesis import given
from hypothesis import strategies as st
from test_chat import FIND, chatting, user

from remanence.api.chat.answer import Arguments, CallBegun, Done, Piece, Words, chunks
from remanence.api.chat.answer import Heading as Head
from remanence.api.chat.place import Tally, beyond
from remanence.content import Usage
from remanence.errors import InvalidInput, ModelError

BODY: dict[str, Any] = {"model": "test", "messages": [user("two")], "tools": [FIND], "stream": True}
Read = list[tuple[str, dict[str, Any]]]


async def read(server: Server, after: str = "", *, key: str = "k", body: dict[str, Any] = BODY) -> tuple[int, Read]:
    """The status, and each event with its id."""
    headers = {"authorization": f"Bearer {KEY}", "x-session-id": "new", **({"idempotency-key": key} if key else {})}
    if after:
        headers["last-event-id"] = after
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
    events: Read = []
    for one in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in one.split("\n")) if answer.status_code == 200 else {}
        if lines.get("data", "[DONE]") != "[DONE]":
            events.append((lines.get("id", ""), json.loads(lines["data"])))
    return answer.status_code, events


def put_together(events: Read) -> tuple[int, str, dict[int, list[str]], list[str]]:
    """Roles, words, calls (id, name, arguments) and ends of a stream."""
    roles, words, calls, ends = 0, "", dict[int, list[str]](), list[str]()
    for _, chunk in events:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            roles += "role" in delta
            words += delta.get("content") or ""
            for piece in delta.get("tool_calls", ()):
                kept = calls.setdefault(piece["index"], ["", "", ""])
                for place, text in enumerate((piece.get("id"), piece["function"].get("name"))):
                    kept[place] += text or ""
                kept[2] += piece["function"].get("arguments") or ""
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    return roles, words, calls, ends


async def test_every_cut_can_be_gone_on_with_over_a_restart_too(database: str) -> None:
    async with chatting(database) as server:
        _, whole = await read(server)
        assert put_together(whole)[1:2] == ("both",)
        assert len(put_together(whole)[2]) == 2
        for cut, (after, _) in enumerate(whole):
            _, rest = await read(server, after)
            assert put_together(whole[: cut + 1] + rest)[:3] == put_together(whole)[:3]
            assert put_together(rest)[3] == ["tool_calls"]
    async with chatting(database) as server:
        _, rest = await read(server, whole[1][0])
        assert put_together(whole[:2] + rest) == put_together(whole)


async def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    async with chatting(tmp_path) as server:
        _, whole = await read(server)
        for after, key, body in (
            ("nonsense", "k", BODY),
            (whole[1][0], "", BODY),
            (whole[1][0], "other", {**BODY, "stream": False}),
        ):
            assert (await read(server, after, key=key, body=body))[0] == 400
        count, checksum = whole[1][0].split(".")
        assert (await read(server, f"{count}.{int(checksum, 16) ^ 1:x}"))[0] == 502


# --- the law ----------------------------------------------------------------------------------------------------------

texts = st.lists(st.text(min_size=1, max_size=6), max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> list[Piece]:
    """Words, then calls side by side, in pieces that may come in any order between the calls."""
    made: list[Piece] = [Words(text) for text in draw(texts)]
    arguments: list[Piece] = []
    for number, pieces in enumerate(draw(st.lists(texts, max_size=3))):
        made.append(CallBegun(number, f"call_{number}", "f"))
        arguments += [Arguments(number, text) for text in pieces]
    return [*made, *draw(st.permutations(arguments)), Done("stop", Usage())]


async def _as_they_come(pieces: Sequence[Piece]) -> AsyncGenerator[Piece]:
    for piece in pieces:
        yield piece


def lanes(pieces: list[Piece]) -> dict[int, str]:
    told: dict[int, str] = {0: ""}
    for piece in pieces:
        match piece:
            case Words(text=text):
                told[0] += text
            case CallBegun(number=number):
                assert number + 1 not in told
                told[number + 1] = ""
            case Arguments(number=number, text=text):
                told[number + 1] += text
            case _:
                pass
    return told


@given(answers(), st.floats(0, 1))
def test_what_follows_any_place_is_what_was_not_told(pieces: list[Piece], at: float) -> None:
    """Told once in this order, and after a cut in another: the calls' arguments may have come otherwise."""
    asyncio.run(_holds(pieces, round(at * (len(pieces) - 1))))


async def _holds(pieces: list[Piece], cut: int) -> None:
    tally = Tally()
    heading = Head("c", 1, "m")
    async for chunk in chunks(heading, _as_they_come(pieces[:cut]), usage=False):
        tally.take(chunk)
    assert str(Tally.of(str(tally))) == str(tally)
    arguments = sorted((p for p in pieces if isinstance(p, Arguments)), key=lambda p: p.number)
    again = [*(p for p in pieces if not isinstance(p, Arguments | Done)), *arguments, pieces[-1]]
    rest = [piece async for piece in beyond(_as_they_come(again), tally)]
    before, after = lanes(pieces[:cut]), {0: ""}
    for piece in rest:
        match piece:
            case Words(text=text):
                after[0] += text
            case CallBegun(number=number):
                assert number + 1 not in before
            case Arguments(number=number, text=text):
                after[number + 1] = after.get(number + 1, "") + text
            case _:
                assert piece == pieces[-1]
    assert {lane: before.get(lane, "") + after.get(lane, "") for lane in lanes(pieces)} == lanes(pieces)


async def test_other_words_are_noticed() -> None:
    tally = Tally()
    async for chunk in chunks(Head("c", 1, "m"), _as_they_come([Words("Hel")]), usage=False):
        tally.take(chunk)
    for other in ([Words("Bye now")], [Words("He"), Done("stop", Usage())]):
        with pytest.raises(ModelError):
            _ = [piece async for piece in beyond(_as_they_come(other), tally)]


@pytest.mark.parametrize("text", ["", "1", "1.g", "1.0-", "-1.0", "1.0 ", "9" * 10 + ".0"])
def test_ids_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        Tally.of(text)
