"""A journal of many records: a page holds a window of it, and more comes as the reader comes near."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from a_browser import looker
from a_server import lay_out, serving
from playwright.sync_api import Browser, expect

from remanence import Remanence
from remanence.commands.caller import state_of
from remanence.commands.sessions import Opening, open_session
from remanence.content import Text, ToolCall, Usage
from remanence.core.session import evolve
from remanence.core.snapshots import encode_snapshot
from remanence.events import (
    CallJudged,
    Event,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Write
from remanence.spec import AgentSpec

TURNS = 1_000
PER_TURN = 10
WINDOW = 200

"""A busy machine is no fault."""


def a_turn(number: int) -> tuple[Event, ...]:
    """Ten records: somebody asks, a tool is called, the agent answers."""
    first = 2 + (number - 1) * PER_TURN
    call, digest = f"call_{number}", "0" * 64
    return (
        InputReceived(f"in_{number}", (Text(f"Question {number}: where is it?"),), user="ada"),
        TurnStarted(number, (first,)),
        ModelCalled(f"m_{number}_1", number, "scripted", number, first, digest),
        ModelReplied(f"m_{number}_1", (ToolCall(call, "find_order", '{"order":"42"}'),), Usage(200, 20), 1_200),
        CallJudged(call, "allow", digest, digest, "allow find_order"),
        ToolStarted(call, "find_order", f"long:{number}:{call}", "safe"),
        ToolReturned(call, (Text("On its way."),)),
        ModelCalled(f"m_{number}_2", number, "scripted", number, first, digest),
        ModelReplied(f"m_{number}_2", (Text(f"Answer {number}: tomorrow."),), Usage(300, 30), 1_800),
        TurnEnded(number, "completed"),
    )


async def write(path: Path) -> None:
    """A session `long` of 10,001 records, with a snapshot at its last turn as a worker leaves one."""
    async with Remanence(f"sqlite:///{path}", worker=False) as rt:
        caller, at = rt.caller, rt.caller.clock.now()
        await open_session(caller, AgentSpec("shop", "scripted"), Opening(session="long", title="Long", user="ada"))
        for number in range(1, TURNS):
            await caller.database.store.append(Write("long", a_turn(number), at, "worker"))
        s = await state_of(caller, "long")
        for event in a_turn(TURNS):
            s = evolve(s, Recorded("long", s.head + 1, at, 0, "worker", event))
        await caller.database.store.append(Write("long", a_turn(TURNS), at, "worker", snapshot=encode_snapshot(s)))


def test_ten_thousand_records(browser: Browser, pictures: Path, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "shop", golden=False)
    (folder / ".remanence").mkdir()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, write(folder / ".remanence" / "remanence.db")).result()
    with serving(folder) as server, looker(browser, server.url, pictures) as one:
        one.open(server.link)
        page = one.open("/sessions/long")
        rows = page.locator("#rows > li")
        assert rows.count() <= WINDOW
        expect(page.locator(".row .pos").last).to_have_text(str(TURNS * PER_TURN - 1))
        assert page.evaluate("scrollY") > 0, "it begins at the end"
        before = page.locator(".row .pos").first.text_content() or ""
        page.mouse.move(700, 400)
        page.mouse.wheel(0, -100_000)
        expect(page.locator(".row .pos").first).not_to_have_text(before)
        numbers = [int(text) for text in page.locator(".row .pos").all_text_contents()]
        assert numbers == sorted(set(numbers)), "windows meet without a gap or a repetition"
        assert rows.count() <= 5 * WINDOW, "what is far away is not loaded"

        page = one.open("/sessions/long#4122", ready=".here")
        assert "4122" in (page.locator(".here").get_attribute("data-at") or "").split()
        expect(page.locator(".here")).to_be_in_viewport()
        one.check("long-permalink", with_axe=False)
        page = one.open("/sessions/long?view=journal#5000", ready=".here")
        expect(page.locator(".here pre").first).to_be_visible()
        assert page.locator("#rows > li").count() <= WINDOW + 2
