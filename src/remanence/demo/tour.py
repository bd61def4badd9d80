"""The guided tour: eight scenes, each with claims that are checked. `main` returns 0 when every claim held, else 1.

The tour prints only what it found: in the journal, in the ledger, or in the process table. With the scripted model it
takes about two minutes, most of them pauses for reading; `fast` leaves those out.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import structlog
from rich.console import Console

from remanence.demo.claims import Claim
from remanence.demo.scenes import answers, approval, budget, doubt, kill, remembers, together, yours
from remanence.demo.stage import Stage
from remanence.demo.theatre import SCRIPTED, Theatre
from remanence.errors import Conflict, RemanenceError
from remanence.models.configuration import ModelConfig

__all__ = ["main"]

SCENES = (answers, kill, approval, together, doubt, budget, remembers, yours)


def main(
    *,
    fast: bool = False,
    keep: Path | None = None,
    model: str | None = None,
    configs: Mapping[str, ModelConfig] | None = None,
    console: Console | None = None,
) -> int:
    """Take the tour. `keep` leaves the data in that directory, `model` runs it on a real model (and spends money).

    Raises Conflict when `keep` holds a tour already, and what opening a model or a database raises.
    """
    stage = Stage(console or Console(file=sys.stdout), fast=fast)
    with place(keep) as directory, (Path(directory) / "tour.log").open("a", encoding="utf-8") as log:
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(30),
            logger_factory=structlog.PrintLoggerFactory(log),
            processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.LogfmtRenderer()],
        )
        chosen = SCRIPTED if model in (None, "", "scripted") else model
        theatre = Theatre(stage, Path(directory), chosen, configs)
        try:
            asyncio.run(take(theatre))
        finally:
            theatre.close()
            structlog.reset_defaults()
        return asyncio.run(close(stage, keep))


def place(keep: Path | None) -> AbstractContextManager[str]:
    """Where the files go: a directory that is removed at the end, or the one to keep."""
    if keep is None:
        return tempfile.TemporaryDirectory(prefix="remanence-demo-")
    if (keep / "ledger.db").exists():
        raise Conflict(f"{keep} holds a tour already. Nothing was changed; name another directory, or remove that one.")
    keep.mkdir(parents=True, exist_ok=True)
    settings = keep / "remanence.toml"
    if not settings.exists():
        settings.write_text('database = "sqlite:///remanence.db"\n', encoding="utf-8")
    return nullcontext(str(keep.resolve()))


async def take(theatre: Theatre) -> None:
    """All scenes, in order. One that does not come to its end is a claim that does not hold."""
    await welcome(theatre)
    for scene in SCENES:
        try:
            await scene.play(theatre)
        except (RemanenceError, TimeoutError) as error:
            theatre.world.disarm()
            what = str(error) or "it waited too long"
            await theatre.stage.claim(Claim("The scene came to its end.", False, f"{type(error).__name__}: {what}"))


async def welcome(theatre: Theatre) -> None:
    stage = theatre.stage
    await stage.title("Remanence: a guided tour")
    if theatre.scripted:
        await stage.say("The model is scripted: a few rules that understand nothing. Everything else is real:")
    else:
        await stage.say(f"The model is {theatre.model}, and it may cost money. Everything else is real too:")
    await stage.say(
        "one SQLite file with the journal, another one for the outside world (payments, mail, courier) that the tools "
        "write to, worker processes, and SIGKILL. Each line with a mark is checked against those files, now."
    )


async def close(stage: Stage, keep: Path | None) -> int:
    held = len(stage.claims) - len(stage.failed)
    await stage.title(f"{held} of {len(stage.claims)} claims hold.")
    for scene, claim in stage.failed:
        await stage.say(f"Scene {scene}: {claim.text}")
    if keep is None:
        await stage.say("The files were removed. To keep them and look around:")
        await stage.command("remanence demo --fast --keep tour && remanence --config tour/remanence.toml sessions list")
    else:
        await stage.say(f"The files are in {keep}. To look around:")
        await stage.command(f"remanence --config {keep / 'remanence.toml'} sessions list")
    return 1 if stage.failed else 0
