"""`python -m remanence.testing.faults --kills N [--pauses N] [--remembering N] [--races N] [--erasures N] [--served N]
[--trouble N] [--store sqlite|postgres|URL]`.

Prints what it counted; exits 1 when anything that has to be 0 is not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from remanence.testing.faults.memory_runs import kill_rememberers
from remanence.testing.faults.over_http import run_over_http
from remanence.testing.faults.processes import kill_workers, pause_workers
from remanence.testing.faults.races import run_erasures, run_races
from remanence.testing.faults.sums import Sums
from remanence.testing.faults.sweep import sweep


def main() -> int:
    """Run what was asked for and print the sums."""
    parser = argparse.ArgumentParser(prog="python -m remanence.testing.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="real workers to kill, per store (default 200)")
    parser.add_argument("--store", action="append", help="sqlite, postgres, or a URL; may be repeated (default sqlite)")
    parser.add_argument("--sweep", type=int, default=0, help="runs of the in-process sweep to do first (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the points of death (default 0)")
    parser.add_argument("--pauses", type=int, default=0, help="workers to stop past their lease, per store (default 0)")
    parser.add_argument("--remembering", type=int, default=0, help="workers to kill over memories, per store (0)")
    parser.add_argument("--races", type=int, default=0, help="races of three processes to run, per store (default 0)")
    parser.add_argument("--trouble", type=int, default=0, help="kill or stop one every so many races (0: never)")
    parser.add_argument("--erasures", type=int, default=0, help="races over what is erased alone, per store (0)")
    parser.add_argument("--served", type=int, default=0, help="the same through two HTTP servers, per store (0)")
    options = parser.parse_args()
    failures = 0
    if options.sweep:
        failures += show("in process", asyncio.run(sweep(options.sweep, seed=options.seed)))
    for store in options.store or ["sqlite"]:
        if options.kills:
            failures += show(store.partition("://")[0], run_on(kill_workers, store, options.kills, options.seed))
        if options.pauses:
            title = f"{store.partition('://')[0]}, stopped past their lease"
            failures += show(title, run_on(pause_workers, store, options.pauses, options.seed))
        if options.remembering:
            title = f"{store.partition('://')[0]}, remembering"
            failures += show(title, run_on(kill_rememberers, store, options.remembering, options.seed))
        if options.races:
            title = f"{store.partition('://')[0]}, racing"
            run = partial(run_races, trouble_every=options.trouble)
            failures += show(title, run_on(run, store, options.races, options.seed))
        if options.erasures:
            title = f"{store.partition('://')[0]}, racing over what is erased"
            run = partial(run_erasures, trouble_every=options.trouble)
            failures += show(title, run_on(run, store, options.erasures, options.seed))
        if options.served:
            title = f"{store.partition('://')[0]}, two servers racing over what is erased"
            run = partial(run_over_http, trouble_every=options.trouble)
            failures += show(title, run_on(run, store, options.served, options.seed))
    return 1 if failures else 0


class Run(Protocol):
    """`kill_workers`, `pause_workers`, `kill_rememberers` or `run_races`."""

    def __call__(
        self, url: str, folder: Path, times: int, /, *, seed: int, tell: Callable[[Sums], None]
    ) -> Coroutine[Any, Any, Sums]: ...


def run_on(run: Run, store: str, times: int, seed: int) -> Sums:
    """Kill or stop workers on a store: one of our own in a temporary folder, or the one at a URL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder}/faults.db" if store == "sqlite" else store
        if store == "postgres":
            from remanence.testing.postgres import postgres_database, postgres_server

            url = stack.enter_context(postgres_database(stack.enter_context(postgres_server())))
        return asyncio.run(run(url, folder, times, seed=seed, tell=progress))


def progress(figures: Sums) -> None:
    """Say how far it is, on standard error."""
    print(f"\r{figures.runs} runs, {figures.kills} kills, {figures.failures} failures", end="", file=sys.stderr)


def show(title: str, figures: Sums) -> int:
    """Print the sums; what has to be 0 is marked when it is not."""
    print(f"\n{title}")
    for name, value in figures.counts.items():
        wrong = "   <- must be 0" if value and name not in figures.KEPT else ""
        print(f"  {name.replace('_', ' '):<18} {value:>8}{wrong}")
    for story in figures.stories:
        print(f"  {story}")
    return figures.failures


if __name__ == "__main__":
    sys.exit(main())
