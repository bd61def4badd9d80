"""The tour holds all its claims, says so when one is broken, and leaves nothing running."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from remanence.demo import tour
from remanence.demo.claims import Claim
from remanence.demo.scenes import approval, together, yours
from remanence.demo.shop import order_book
from remanence.demo.stage import Stage
from remanence.demo.theatre import Theatre
from remanence.errors import Conflict
from remanence.models.configuration import ModelConfig
from remanence.models.detect import Detected

TAKE = (
    "import sys; from pathlib import Path; from remanence.demo.tour import main; "
    "raise SystemExit(main(fast=True, keep=Path(sys.argv[1])))"
)


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    opened = Theatre(Stage(Console(file=StringIO(), width=100), fast=True), tmp_path)
    yield opened
    opened.close()


def test_the_tour_holds_all_its_claims(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TAKE, str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "✗" not in done.stdout
    assert re.findall(r"^(\d)  ", done.stdout, re.MULTILINE) == [str(number) for number in range(1, 9)]
    counted = re.search(r"(\d+) of (\d+) claims hold", done.stdout)
    assert counted is not None
    assert counted[1] == counted[2] == str(done.stdout.count("✓"))
    pids = [int(pid) for pid in re.findall(r"Worker (\d+) ", done.stdout)]
    assert len(pids) == 4
    assert not any(is_alive(pid) for pid in pids)
    assert {"ledger.db", "remanence.db", "remanence.toml"} <= {path.name for path in tmp_path.iterdir()}
    with pytest.raises(Conflict, match="holds a tour already"):
        tour.main(fast=True, keep=tmp_path)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs a worker of the tour (numbers are used again)."""
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and b"remanence.demo.worker" in command.read_bytes()


async def test_a_forged_refund_in_the_ledger_breaks_the_scene(theatre: Theatre) -> None:
    order = next(order.order for order in order_book().values() if order.cents >= 12_000)
    await theatre.world.refund(order=order, cents=1, reference=f"{approval.SESSION}:9:forged")
    await approval.play(theatre)
    broken = {claim.text for _, claim in theatre.stage.failed}
    assert broken == {
        "While it waited, no call reached the provider.",
        f"The ledger holds one refund: 60.00 EUR of {order}.",
    }
    assert await tour.close(theatre.stage, None) == 1


async def test_a_scene_that_cannot_end_is_a_claim_that_does_not_hold(theatre: Theatre) -> None:
    await together.play(theatre)
    assert theatre.stage.failed == []
    theatre.url = "nosuch://place"
    await tour.take(theatre)
    assert {claim.text for _, claim in theatre.stage.failed} == {"The scene came to its end."}
    assert [scene for scene, _ in theatre.stage.failed] == [1, 2, 3, 4, 5, 6, 7]


async def test_all_claims_holding_is_exit_code_zero(theatre: Theatre) -> None:
    await theatre.stage.claim(Claim("It is so.", True))
    assert await tour.close(theatre.stage, theatre.directory) == 0


def test_the_last_scene_names_the_line_for_what_is_there() -> None:
    scripted = Detected("scripted", "scripted", "no language model")
    config = ModelConfig(name="ollama", model="qwen3:8b", base_url="http://127.0.0.1:11434/v1")
    server = Detected("server", "ollama", "1 model at 127.0.0.1:11434", config=config)
    key = Detected("environment", "openai:some-model", "openai, by OPENAI_API_KEY", key_env="OPENAI_API_KEY")
    assert yours.lines([key, server, scripted]) == [
        ("Found openai, by OPENAI_API_KEY:", ["remanence demo --model openai:some-model"]),
        (
            "Found 1 model at 127.0.0.1:11434:",
            ["REMANENCE_UPSTREAM_URL=http://127.0.0.1:11434/v1 remanence demo --model qwen3:8b"],
        ),
    ]
    commands = [command for _, commands in yours.lines([scripted]) for command in commands]
    assert [command.split("=")[0] for command in commands][:2] == ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]
    assert commands[-1].startswith("ollama pull")
