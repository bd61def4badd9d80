"""Every screen in both languages and both themes, wide and narrow, as a browser shows it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from a_browser import NARROW, WIDE, looker
from a_server import GOLDEN, Server
from playwright.sync_api import Browser, Page, expect

from remanence.console.wording import LANGUAGES, wording

"""A busy machine is no fault."""


class Screen(NamedTuple):
    """One screen: where it is, and what a person does there first."""

    name: str
    path: str
    act: Callable[[Page], object] | None = None


def open_drawer(page: Page) -> None:
    page.locator("li.row.tool a.step").first.click()
    expect(page.locator("#drawer h2")).to_be_visible()


def open_prompt(page: Page) -> None:
    page.locator("li.row.model a.step").last.click()
    page.locator(".prompt > summary").click()
    expect(page.locator(".prompt-body h4").first).to_be_visible()


def open_sheet(page: Page) -> None:
    page.locator("body").press("?")
    expect(page.locator("dialog[open]")).to_be_visible()


def open_ways(page: Page) -> None:
    page.locator(".head .ways > summary").click()
    expect(page.locator(".head .way pre").last).to_be_visible()


def open_record(page: Page) -> None:
    page.locator("li.record summary").nth(3).click()
    expect(page.locator("li.record .record-body pre").first).to_be_visible()


SCREENS = (
    Screen("home", "/"),
    Screen("sessions", "/sessions"),
    Screen("sessions-none", "/sessions?agent=nobody&sort=cost"),
    Screen("sessions-found", "/sessions?q=refund"),
    Screen("timeline", "/sessions/approval_waiting"),
    Screen("question", "/sessions/question_waiting"),
    Screen("doubt", "/sessions/in_doubt"),
    Screen("budget", "/sessions/budget_reached"),
    Screen("conversation", "/sessions/approval_waiting?view=conversation"),
    Screen("events", "/sessions/resumed_after_a_crash?view=journal"),
    Screen("drawer", "/sessions/resumed_after_a_crash", open_drawer),
    Screen("prompt", "/sessions/one_tool", open_prompt),
    Screen("verify", "/sessions/one_tool/verify"),
    Screen("keyboard", "/sessions/one_tool", open_sheet),
    Screen("nothing-here", "/sessions/nobody"),
    Screen("inbox", "/inbox"),
    Screen("playground", "/playground"),
    Screen("agents", "/agents"),
    Screen("agent", "/agents/shop"),
    Screen("cost", "/cost"),
    Screen("keys", "/keys"),
    Screen("keys-elsewhere", "/keys", open_ways),
    Screen("record", "/sessions/one_tool?view=journal", open_record),
    Screen("trial", "/playground/one_tool"),
    Screen("sign-in", "/sign-in"),
)


LOOKS = tuple(product(("light", "dark"), (("wide", WIDE), ("narrow", NARROW))))
"""Every theme at every width. A page is loaded once in a language, and looked at in each."""
WITH_AXE: dict[tuple[str, str, str], bool | Literal["looks"]] = {
    ("en", "light", "wide"): True,
    ("en", "dark", "narrow"): "looks",
}
"""What axe sees does not depend on the language: each theme, and each width, once."""


DRAWN = "() => [...document.querySelectorAll('.chart')].every(box => !box.plot || box.plot.width === box.clientWidth)"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_screen(language: str, browser: Browser, server: Server, pictures: Path) -> None:
    """In every theme and at every width: one test for all of them, with a browser that is signed in once."""
    with looker(browser, server.url, pictures, language=language) as one:
        one.open(server.link)
        one.expected = ["status of 404"]
        for screen in SCREENS:
            page = one.open(screen.path)
            if screen.act is not None:
                screen.act(page)
            page.wait_for_load_state("load")
            assert page.locator("html").get_attribute("lang") == language
            for theme, (width, size) in LOOKS:
                page.emulate_media(color_scheme=theme)  # pyright: ignore[reportArgumentType]
                page.set_viewport_size({"width": size[0], "height": size[1]})
                dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
                assert dark == (theme == "dark")
                page.wait_for_function(DRAWN)
                name = f"{screen.name}-{language}-{theme}-{width}"
                one.check(name, with_axe=WITH_AXE.get((language, theme, width), False))
            page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})


def test_signing_in_with_a_key(browser: Browser, server: Server, pictures: Path) -> None:
    """A wrong key is answered with what is wrong; the right one leads to the page that was asked for."""
    from a_server import KEY

    with looker(browser, server.url, pictures, language="fr", theme="dark") as one:
        one.expected = ["status of 401"]
        page = one.open("/sessions/one_tool")
        assert "/sign-in?to=" in page.url
        one.check("sign-in-fr-dark")
        page.fill("#key", "rmn_wrong_key")
        page.keyboard.press("Enter")
        expect(page.locator("#failure")).to_be_visible()
        one.check("sign-in-failed-fr-dark")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_url("**/sessions/one_tool")
        page.locator(".who form button").click()
        page.wait_for_url("**/sign-in")
        one.open("/sessions", ready="#key")


def test_every_golden_journal_is_shown(browser: Browser, server: Server, pictures: Path) -> None:
    """Each in one of the views in turn, and nothing a browser complains of."""
    views = cycle(("timeline", "conversation", "journal"))
    with looker(browser, server.url, pictures, language="fr", size=NARROW) as one:
        page = one.open(server.link)
        one.expected = ["status of 404"]
        for name, view in zip(GOLDEN, views, strict=False):
            answer = page.goto(f"{server.url}/sessions/{name}?view={view}")
            assert answer is not None
            if answer.status == 404:
                continue  # it was removed, or is of another project
            expect(page.locator("#rows > li").first).to_be_visible()


def test_language_and_theme_by_hand(browser: Browser, server: Server, pictures: Path) -> None:
    """What was chosen counts more than what the browser says, on every page from then on."""
    with looker(browser, server.url, pictures) as one:
        page = one.open(server.link)
        page.locator("select[name=language]").select_option("fr")
        expect(page.locator("h1")).to_have_text(wording("fr")("nav.home"))
        page.locator("select[name=theme]").select_option("dark")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        one.open("/sessions")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 21)"


def test_keys_alone(browser: Browser, server: Server, pictures: Path) -> None:
    """Everything that is not text can be done without a mouse."""
    with looker(browser, server.url, pictures) as one:
        page = one.open(server.link)
        page.locator("body").press("g")
        page.locator("body").press("s")
        page.wait_for_url("**/sessions")
        page.locator("body").press("/")
        expect(page.locator("#find")).to_be_focused()
        page.keyboard.type("kettle")
        page.keyboard.press("Enter")
        page.wait_for_url("**/sessions?q=kettle")
        one.open("/sessions")
        page.locator("body").press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_selector("#rows")
        page.locator("body").press("c")
        page.wait_for_url("**view=conversation*")
        page.locator("body").press("t")
        page.wait_for_url("**view=timeline*")
        page.locator("body").press("j")
        page.keyboard.press("Enter")
        expect(page.locator("#drawer h2")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#drawer")).to_be_hidden()
        page.keyboard.press("r")
        expect(page.locator("#say")).to_be_focused()


TICKS = """async () => {
    for (const name of ["slow-tick", "tick", "fast-tick", "list-tick"]) document.body.dispatchEvent(new Event(name));
    await new Promise((resolve) => setTimeout(resolve, 200));
}"""
"""What an open page does by itself now and then, at once."""


@pytest.mark.parametrize("path", ["/", "/inbox", "/sessions/one_tool", "/playground/one_tool"])
def test_a_page_left_open_says_once_that_its_reader_was_shut_out(
    browser: Browser, server: Server, pictures: Path, path: str
) -> None:
    """And nothing stands in the log of the browser, however long it stays."""
    with looker(browser, server.url, pictures, language="fr") as one:
        one.open(server.link)
        page = one.open(path)
        one.context.request.post(f"{server.url}/sign-out")
        page.evaluate(TICKS)
        toast = page.locator(".toast.bad")
        expect(toast).to_contain_text(wording("fr")("frame.shut_out"))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate(TICKS)
        assert asked == [], "it asks for nothing more"
        toast.locator("a").click()
        page.wait_for_url(f"**/sign-in?to={path.replace('/', '%2F')}")
