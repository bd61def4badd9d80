"""Make the pictures of the console in the README and the docs: `docs/pictures/*.png`.

The data are those of the guided tour: it is run without its pauses, and the console is served over what it leaves. The
browser is Debian's Chromium, as in the tests. No picture is larger than 300 KB.

    .venv/bin/python scripts/screenshots.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "pictures"
BYTES_MAX = 300_000
Theme = Literal["light", "dark"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Picture(NamedTuple):
    """One picture: its name, the page, how it is looked at, and what is done there first."""

    name: str
    path: str
    theme: Theme = "light"
    language: str = "en"
    act: Callable[[Page], None] | None = None


def show_crash(page: Page) -> None:
    page.locator("li.row.tool a.step").first.click()
    page.locator("#drawer h2").wait_for()


PICTURES = (
    Picture("home", "/"),
    Picture("session", "/sessions/refund"),
    Picture("session-step", "/sessions/refund", "dark", "en", show_crash),
    Picture("inbox", "/inbox"),
    Picture("sessions-found", "/sessions?q=kettle", "dark", "fr"),
)


def main() -> int:
    found = os.environ.get("REMANENCE_TEST_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        print("No Chromium was found; as root, `apt-get install chromium` brings Debian's.", file=sys.stderr)
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, toured(Path(folder)) as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for picture in PICTURES:
            path = TARGET / f"{picture.name}.png"
            take(browser, link, picture, path)
            size = path.stat().st_size
            print(f"{path.relative_to(ROOT)}  {size:,} bytes")
            if size > BYTES_MAX:
                print(f"{path.name} is over {BYTES_MAX:,} bytes", file=sys.stderr)
                return 1
        browser.close()
    return 0


@contextmanager
def toured(folder: Path) -> Generator[str]:
    """The console over what the tour leaves, meanwhile: the link that signs in."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("REMANENCE_")}
    own |= {"NO_COLOR": "1", "REMANENCE_USER": "ada"}
    remanence = [sys.executable, "-m", "remanence"]
    subprocess.run(
        [*remanence, "demo", "--fast", "--keep", str(folder / "tour")], check=True, env=own, stdout=subprocess.DEVNULL
    )
    serve = [*remanence, "dev", "--port", "0", "--no-reload"]
    server = subprocess.Popen(serve, cwd=folder / "tour", env=own, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = next(filter(None, (re.search(r"Console\s+(http://\S+)", line) for line in server.stdout)))
        yield found[1]
    finally:
        server.terminate()
        server.communicate()


def take(browser: Browser, link: str, picture: Picture, path: Path) -> None:
    """Go there and take it."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800},
        locale={"en": "en-GB", "fr": "fr-FR"}[picture.language],
        color_scheme=picture.theme,
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(link)
    page.goto(link.partition("/?")[0] + picture.path)
    page.locator(".health p").first.wait_for()
    if picture.act is not None:
        picture.act(page)
    page.screenshot(path=path)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
