"""`init`, and what a newcomer does next."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run


def test_init_and_the_first_steps(folder: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cli("init", "hello")
    assert ran.code == 0
    assert "cd hello" in ran.out
    assert sorted(path.name for path in (folder / "hello").iterdir()) == [
        ".gitignore",
        "README.md",
        "agent.py",
        "remanence.toml",
    ]
    monkeypatch.chdir(folder / "hello")
    assert cli("agents", "validate").code == 0
    ran = cli("run", "hello", '/tool refund {"order": "42", "cents": 900}')
    assert ran.out == "refund returned: refunded 900 cents for order 42\n"
    assert cli("run", "hello", '/tool refund {"order": "42", "cents": 9000}').code == 5
    assert "run: remanence models detect" in cli("run", "hello", "good morning").out
    for line in (folder / "hello" / ".gitignore").read_text().split():
        assert line in (".remanence/", "__pycache__/")


def test_init_overwrites_nothing(folder: Path, cli: Run) -> None:
    (folder / "hello").mkdir()
    (folder / "hello" / "agent.py").write_text("mine")
    ran = cli("init", "hello")
    assert ran.code == 4
    assert "There is hello/agent.py already. Nothing was written" in ran.err
    assert [path.name for path in (folder / "hello").iterdir()] == ["agent.py"]
    (folder / "file").write_text("mine")
    assert cli("init", "file").code == 4


def test_init_into_an_empty_folder(folder: Path, cli: Run) -> None:
    (folder / "hello").mkdir()
    assert cli("init", "hello").code == 0
    assert cli("init", "deep/er/agent-2").code == 0
    assert "agent-2" in (folder / "deep/er/agent-2/agent.py").read_text()


@pytest.mark.parametrize("name", ["", "2fast", "a b", "naïve", "../"])
def test_a_name_that_cannot_be(folder: Path, cli: Run, name: str) -> None:
    ran = cli("init", name)
    assert ran.code == 2
    assert "Nothing was made" in ran.err
    assert list(folder.iterdir()) == []


def test_init_where_nothing_may_be_written(folder: Path, cli: Run) -> None:
    (folder / "wall").write_text("")
    ran = cli("init", "wall/hello")
    assert ran.code == 1
    assert "could not be written" in ran.err
