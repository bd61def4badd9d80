"""Where there is no Chromium, setup and the tests say how to come by one, instead of leaving something out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from a_browser import chromium

ROOT = Path(__file__).resolve().parents[2]


def test_setup_says_how_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.spec_from_file_location("setup", ROOT / "scripts" / "setup.py")
    assert found is not None
    assert found.loader is not None
    setup = importlib.util.module_from_spec(found)
    found.loader.exec_module(setup)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("REMANENCE_TEST_CHROMIUM", raising=False)
    setup.bring_browser()
    said = capsys.readouterr().err
    assert "apt-get install chromium" in said
    assert "REMANENCE_TEST_CHROMIUM" in said
    monkeypatch.setenv("REMANENCE_TEST_CHROMIUM", "/somewhere/chromium")
    setup.bring_browser()
    assert capsys.readouterr().err == ""


def test_a_test_without_a_browser_fails_with_that_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("REMANENCE_TEST_CHROMIUM", raising=False)
    with pytest.raises(AssertionError, match="apt-get install chromium"):
        chromium()
