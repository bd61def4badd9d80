"""`python -m remanence.testing.load [--sessions N] [--turns N] [--store sqlite|postgres|URL]`.

People over HTTP, each with turns whose function the client runs, while workers are killed and the server is restarted.
Prints what it counted; exits 1 when anything is lost, twice, different or wedged.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from remanence.runtime.clock import SystemClock
from remanence.testing.load.check import KEPT, Figures
from remanence.testing.load.run import Load, run_load


def main() -> int:
    """Run what was asked for and print the sums."""
    usual = Load()
    parser = argparse.ArgumentParser(prog="python -m remanence.testing.load", description=__doc__)
    parser.add_argument("--sessions", type=int, default=usual.sessions, help="people at once (default 200)")
    parser.add_argument("--turns", type=int, default=usual.turns, help="turns of each (default 20)")
    parser.add_argument("--workers", type=int, default=usual.workers, help="worker processes (default 2)")
    parser.add_argument("--kill-every", type=int, default=usual.turns_to_kill, help="turns between kills of workers")
    parser.add_argument("--restart-every", type=int, default=usual.turns_to_restart, help="turns between restarts")
    parser.add_argument("--seconds-max", type=float, default=usual.seconds_max, help="when a session counts as wedged")
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres, or the URL of an empty database")
    parser.add_argument("--seed", type=int, default=usual.seed, help="seed of who is killed when")
    options = parser.parse_args()
    load = Load(
        options.sessions,
        options.turns,
        options.workers,
        options.kill_every,
        options.restart_every,
        options.seconds_max,
        options.seed,
    )
    return 1 if show(run_on(options.store, load)).failures else 0


def run_on(store: str, load: Load) -> Figures:
    """Run on a store: one of our own in a temporary folder, or the one at a URL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder}/load.db" if store == "sqlite" else store
        if store == "postgres":
            from remanence.testing.postgres import postgres_database, postgres_server

            url = stack.enter_context(postgres_database(stack.enter_context(postgres_server())))
        return asyncio.run(run_load(load, url, folder, clock=SystemClock(), tell=progress))


def progress(words: str) -> None:
    """Say how far it is, on standard error."""
    print(f"\r{words}    ", end="", file=sys.stderr)


def show(figures: Figures) -> Figures:
    """Print the sums; what has to be 0 is marked when it is not."""
    print()
    for name in figures.__struct_fields__:
        value = getattr(figures, name)
        wrong = "   <- must be 0" if value and name not in KEPT else ""
        print(f"  {name.replace('_', ' '):<18} {value:>10}{wrong}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
