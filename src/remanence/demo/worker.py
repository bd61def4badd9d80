"""A worker of the tour, as a process: `python -m remanence.demo.worker URL LEDGER MODEL [CONFIGS]`.

It works until its standard input ends, and then gives its sessions back. `CONFIGS` is a JSON list of model aliases.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from remanence.app import Options, Remanence
from remanence.demo.theatre import WORKER_TIMES, agents_of, models
from remanence.demo.world import World
from remanence.models.configuration import ModelConfig


async def work(url: str, ledger: Path, model: str, configs: Sequence[ModelConfig]) -> None:
    """Run due sessions of this database until standard input ends."""
    with World(ledger) as world:
        async with Remanence(
            url,
            agents=agents_of(world, model),
            models=models(),
            model_configs={config.name: config for config in configs},
            options=Options(times=WORKER_TIMES),
        ):
            await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    url, ledger, model, *rest = sys.argv[1:]
    asyncio.run(work(url, Path(ledger), model, msgspec.json.decode("".join(rest) or "[]", type=list[ModelConfig])))
