"""A real browser on a page of the console, that fails a test for what a person would not see.

An error in the browser's console, a request to another origin, or a serious finding of axe-core fails the test. What
was looked at is kept as a picture in `REMANENCE_TEST_PICTURES` (by default a folder of the test run).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text(encoding="utf-8")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WITHOUT = (
    "The console is tested with a real Chromium and none was found. As root, `apt-get install chromium` brings it on "
    "Debian; elsewhere install Chromium or Chrome and name it in REMANENCE_TEST_CHROMIUM."
)
WAIT_MS = 30_000
"""A busy machine is no fault."""
expect.set_options(timeout=WAIT_MS)
LOCALES = {"en": "en-GB", "fr": "fr-FR"}
WIDE, NARROW = (1280, 900), (390, 844)
Theme = Literal["light", "dark"]


def chromium() -> str | None:
    """Where Chromium is: as told, or as found. `make test` installs Debian's where it can."""
    told = os.environ.get("REMANENCE_TEST_CHROMIUM")
    return told or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def launch(playwright: Playwright) -> Browser:
    """Chromium, without a screen."""
    return playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS, timeout=2 * WAIT_MS)


class Looker:
    """Somebody who looks: one browser with its cookies, language and theme."""

    def __init__(self, context: BrowserContext, url: str, pictures: Path) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.url = url
        self._pictures = pictures
        self.complaints: list[str] = []
        self.expected: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(known in text for known in self.expected):
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:", "about:")):
            self.complaints.append(f"a request to another origin: {url}")

    def open(self, path: str, ready: str = "main h1") -> Page:
        """Go to a page of the console, and wait until it is there."""
        self.page.goto(path if path.startswith("http") else self.url + path)
        self.page.wait_for_selector(ready)
        return self.page

    def check(self, name: str, *, with_axe: bool | Literal["looks"] = True) -> None:
        """Nothing serious for axe, nothing wider than the window; a picture of it is kept.

        `looks`: axe is asked only for what another theme or width can change.
        """
        overflow = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        self.page.screenshot(path=self._pictures / f"{name}.png")
        assert overflow <= 0, f"{name} is {overflow} px wider than the window"
        found = self.axe(looks=with_axe == "looks") if with_axe else []
        assert not found, f"{name}: " + "\n".join(found)

    def axe(self, *, looks: bool = False) -> list[str]:
        """Serious and critical findings of axe-core, WCAG 2.2 AA and best practices."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        rules = ["color-contrast", "target-size", "scrollable-region-focusable", "aria-hidden-focus"]
        options = {"runOnly": rules if looks else tags, "resultTypes": ["violations"]}
        found: dict[str, Any] = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"][:3]
        ]


@contextmanager
def looker(
    browser: Browser,
    url: str,
    pictures: Path,
    *,
    language: str = "en",
    theme: Theme = "light",
    size: tuple[int, int] = WIDE,
) -> Iterator[Looker]:
    """Somebody who looks, meanwhile; fails when the browser had complaints."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        locale=LOCALES[language],
        color_scheme=theme,
        timezone_id="Europe/Paris",
        reduced_motion="reduce",
    )
    context.set_default_timeout(WAIT_MS)
    someone = Looker(context, url, pictures)
    try:
        yield someone
        assert not someone.complaints, "\n".join(someone.complaints)
    finally:
        context.close()
