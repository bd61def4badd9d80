"""The inbox by keys alone: an approval, a denial, several at once, and what is typed while the page brings itself up
to date."""

from __future__ import annotations

from pathlib import Path

from a_browser import Looker, looker
from a_server import lay_out, serving
from playwright.sync_api import Browser, Page, expect


def ask_for_refunds(page: Page, many: int) -> None:
    """So many trials in the playground that wait for an approval, begun without a mouse."""
    for number in range(many):
        page.locator("body").press("g")
        page.locator("body").press("p")
        page.wait_for_url("**/playground")
        expect(page.locator("textarea[name=text]")).to_be_focused()
        page.keyboard.type(f"Please refund kettle {number}.")
        page.keyboard.press("Control+Enter")
        page.wait_for_url("**/playground/sess_*")
        expect(page.locator("#waiting .card h2")).to_have_text("May refund run?")
        expect(page.locator("#trace")).to_contain_text("refund")


def to_the_inbox(page: Page, cards: int) -> None:
    page.locator("body").press("g")
    page.locator("body").press("a")
    page.wait_for_url("**/inbox")
    expect(page.locator("article.approval")).to_have_count(cards)


def test_approvals_by_keys_alone(browser: Browser, pictures: Path, tmp_path: Path) -> None:
    with (
        serving(lay_out(tmp_path / "shop", golden=False)) as server,
        looker(browser, server.url, pictures) as one,
    ):
        page = one.open(server.link)
        ask_for_refunds(page, 4)
        one.check("trial-waits")
        to_the_inbox(page, 4)
        one.check("inbox-of-four")
        page.keyboard.press("a")
        expect(page.locator("article.approval").first).to_be_focused()
        expect(page.locator("article.approval")).to_have_count(4)  # the first key chooses, it does not decide
        page.keyboard.press("a")
        expect(page.locator("#said")).to_contain_text("1 call approved, in the name of ada.")
        expect(page.locator("article.approval")).to_have_count(3)
        expect(page.locator("article.approval").first).to_be_focused()
        page.keyboard.press("d")
        expect(page.locator("#said")).to_contain_text("1 call denied, in the name of ada.")
        expect(page.locator("article.approval")).to_have_count(2)
        decide_together(one, page)
        page.locator("body").press("g")
        page.locator("body").press("s")
        page.wait_for_url("**/sessions")
        expect(page.locator("#session-rows tr").first).to_contain_text("idle")


def decide_together(one: Looker, page: Page) -> None:
    """Choose two, write a note while the list is drawn again beside it, approve both."""
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#batch b[data-count]")).to_have_text("2")
    page.locator("#batch-note").focus()
    page.keyboard.type("as agreed")
    with page.expect_response("**/inbox/parts"):
        pass
    expect(page.locator("#batch-note")).to_have_value("as agreed")
    expect(page.locator("input[name=choose]:checked")).to_have_count(2)
    one.check("inbox-two-chosen")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("2 calls approved, in the name of ada.")
    expect(page.locator("article.approval")).to_have_count(0)
    expect(page.locator("#batch")).to_be_hidden()
    expect(page.locator(".empty h2")).to_have_text("Nobody waits for you")
