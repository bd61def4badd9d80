"""`python -m bench`: every benchmark, one after another; JSON into `bench/results/`, a line each on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNS = {
    "turns-sqlite": ["bench.turns", "--store", "sqlite"],
    "turns-postgres": ["bench.turns", "--store", "postgres"],
    "store-sqlite": ["bench.store", "--parked", "1000000"],
    "memory-sqlite": ["bench.memory.speed", "--items", "1000000", "--places", "1000"],
    "memory-postgres": ["bench.memory.speed", "--items", "100000", "--places", "100", "--store", "postgres"],
    "console-sqlite": ["bench.console"],
    "console-postgres": ["bench.console", "--store", "postgres"],
    "store-postgres": ["bench.store_postgres", "--parked", "1000000"],
    "relay-sqlite": ["bench.relay", "--store", "sqlite"],
    "relay-postgres": ["bench.relay", "--store", "postgres"],
    "http-sqlite": ["bench.http", "--store", "sqlite"],
    "http-postgres": ["bench.http", "--store", "postgres"],
}


def main() -> int:
    """Run all; the exit code of the first that failed."""
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for name, command in RUNS.items():
        out = results / f"{name}.json"
        print(f"{name} ...", flush=True)
        code = subprocess.run([sys.executable, "-m", *command, "--out", str(out)], stdout=subprocess.DEVNULL).returncode
        if code:
            return code
        print(f"  {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
