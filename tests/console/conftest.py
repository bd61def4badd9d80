"""One server with every golden journal, and one browser, for all tests of the console."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_browser import WITHOUT, chromium, launch
from a_server import Server, lay_out, serving
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`remanence dev` over the golden journals and an agent that talks."""
    with serving(lay_out(tmp_path_factory.mktemp("console") / "shop")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Driving it runs an event loop in this thread, so no module may hold it while another runs its own.

    Where there is none and setup could not install one, these tests are skipped, and the last lines of the run say so:
    the rest is worth testing there. One that is named in `REMANENCE_TEST_CHROMIUM` and does not start fails them.
    """
    if chromium() is None:
        pytest.skip(WITHOUT)
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of what was looked at are kept."""
    told = os.environ.get("REMANENCE_TEST_PICTURES")
    folder = Path(told) if told else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
