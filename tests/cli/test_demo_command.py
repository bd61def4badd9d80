"""`demo`: it hands over to the tour, and spends nothing unasked. The tour itself is tested beside its scenes."""

from __future__ import annotations

from pathlib import Path

from cli_project import Run


def test_a_folder_that_holds_a_tour_is_left_alone(folder: Path, cli: Run) -> None:
    (folder / "kept").mkdir()
    (folder / "kept" / "ledger.db").write_text("mine")
    ran = cli("demo", "--fast", "--keep", "kept")
    assert ran.code == 4
    assert "kept holds a tour already" in ran.err
    assert [path.name for path in (folder / "kept").iterdir()] == ["ledger.db"]


def test_money_is_not_spent_unasked(folder: Path, cli: Run) -> None:
    ran = cli("demo", "--fast", "--model", "openai:gpt-6-luna", text="n\n")
    assert ran.code == 2
    assert "there is no terminal to ask in. Nothing was sent; say --yes." in ran.err


def test_a_model_that_is_not_there(folder: Path, cli: Run) -> None:
    ran = cli("demo", "--fast", "--model", "nonsense", "--yes")
    assert ran.code == 3
    assert "nonsense" in ran.err


def test_a_folder_that_cannot_be_made_is_named(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = cli("demo", "--fast", "--keep", str(tmp_path / "file" / "tour"))
    assert (ran.code, ran.out) == (1, "")
    assert f"{tmp_path}/file/tour cannot be used (Not a directory). What was acknowledged is kept" in ran.err
    assert "should not" not in ran.err
