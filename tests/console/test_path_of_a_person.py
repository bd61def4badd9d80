"""What a person does with the console, in a real browser, while the server is killed under them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from a_browser import Looker, looker
from a_server import Server, lay_out, surroundings
from playwright.sync_api import Browser, expect

WHEN_A_SERVER_DIES = [
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED",
    "ERR_CONNECTION_RESET",
    "ERR_EMPTY_RESPONSE",
    "htmx:sse:error",
]
"""What the browser says then, and may."""


def test_a_session_goes_on_under_whoever_looks(browser: Browser, pictures: Path, tmp_path: Path) -> None:
    """Say something, watch the words come, kill the server in the middle, start it again, approve, see the end."""
    folder = lay_out(tmp_path / "shop", golden=False)
    server = Server(folder)
    port = server.port
    try:
        with looker(browser, server.url, pictures) as someone:
            someone.expected = WHEN_A_SERVER_DIES
            page = someone.open(server.link)
            assert "token" not in page.url
            session = begin(someone, folder)
            someone.open(f"/sessions/{session}")
            page.fill("#say", "Tell me a story.")
            page.keyboard.press("Control+Enter")
            expect(page.locator("#live-words")).to_contain_text("Once upon a time")
            expect(page.locator("#say")).to_have_value("")
            expect(page.locator(".row.turn")).to_have_count(2)
            expect(page.locator("#facts")).to_contain_text("shop v1")
            someone.check("path-1-words-come", with_axe=False)  # the words must not end before the server does
            server.kill()
            expect(page.locator("#link")).to_be_visible()
            server = Server(folder, port=port)
            expect(page.locator(".row.break.crashed")).to_have_count(1, timeout=60_000)
            expect(page.locator(".row.turn .status").last).to_have_text("done", timeout=60_000)
            expect(page.locator("#live")).to_be_hidden()
            expect(page.locator(".row.model .text").last).to_contain_text("It whistled on and on")
            someone.check("path-2-after-the-crash")
            approve(someone)
            look_from_every_side(someone, session)
    finally:
        server.close()


def begin(someone: Looker, folder: Path) -> str:
    """The first page says how to begin, and gives way to the first session, which comes from elsewhere."""
    page = someone.page
    expect(page.locator(".empty h2")).to_have_text("Nothing has happened yet")
    someone.check("path-0-first-steps")
    session = open_session(folder)
    expect(page.locator("#home .list .line")).to_have_count(1)
    expect(page.locator("#minutes canvas")).to_be_visible()
    expect(page.locator(".empty")).to_have_count(0)
    return session


def approve(someone: Looker) -> None:
    """Ask for what needs an approval, and give it with one key."""
    page = someone.page
    page.fill("#say", "Please refund my kettle.")
    page.click("#composer .button")
    expect(page.locator("#waiting .card h2")).to_have_text("May refund run?")
    expect(page.locator("#waiting .card > pre")).to_contain_text('"cents": 7250')
    someone.check("path-3-waits-for-approval")
    page.locator("body").press("a")
    expect(page.locator(".row.turn .status").last).to_have_text("done")
    expect(page.locator(".row.tool .mark.approve")).to_have_text("approved by ada")
    expect(page.locator("#waiting .card")).to_have_count(0)
    expect(page.locator("#rows")).to_contain_text("Done: refunded 7250 cents")
    numbers = [int(text) for text in page.locator(".row .pos").all_text_contents()]
    assert numbers == sorted(set(numbers)), "no row is missing its place, none is there twice"
    someone.check("path-4-done")


def look_from_every_side(someone: Looker, session: str) -> None:
    """The other views stay current as well."""
    talk = someone.open(f"/sessions/{session}?view=conversation")
    records = someone.context.new_page()
    records.goto(f"{someone.url}/sessions/{session}?view=journal")
    talk.fill("#say", "Thanks.")
    talk.click("#composer .button")
    expect(talk.locator(".message.assistant").last).to_contain_text("You said: Thanks.")
    expect(talk.locator(".message.user", has_text="Thanks.")).to_have_count(1)
    expect(records.locator(".record summary b").last).to_have_text("TurnEnded")
    expect(records.locator(".record", has_text="InputReceived")).to_have_count(4)


def open_session(folder: Path) -> str:
    """A session of the shop, opened with the command line of this checkout."""
    command = [sys.executable, "-m", "remanence", "run", "shop", "Hello.", "-o", "json"]
    done = subprocess.run(
        command, cwd=folder, env=surroundings(), check=True, capture_output=True, text=True, timeout=60
    )
    found = re.search(r'"session": ?"([^"]+)"', done.stdout)
    assert found, done.stdout
    return found[1]
