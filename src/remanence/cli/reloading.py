"""Noticing that the files of a project changed: by their times, twice a second. No library, no limit of the system.

Only what was loaded counts: the settings, the declarations they name, the modules that were imported. An agent may
write JSON, or Python, into its own folder all day, and nothing starts again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["changed_file", "files_of", "loaded_files"]

LOOK_S = 0.5
FILES_MAX = 5_000
_SUFFIXES = (".py", ".toml", ".json")
_OTHERS = {"node_modules", "__pycache__", "site-packages", "venv", "env", "build", "dist"}


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    """The project's Python and declaration files under `root`, each with its time and size."""
    found: dict[str, tuple[int, int]] = {}
    for path, stat in _walk(root):
        found[path] = (stat.st_mtime_ns, stat.st_size)
        if len(found) == FILES_MAX:
            break
    return found


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _OTHERS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path))
                elif entry.name.endswith(_SUFFIXES):
                    yield entry.path, entry.stat()
    except OSError:
        # A folder that went away or may not be read holds nothing that was loaded.
        return


def loaded_files(named: Iterable[Path]) -> set[str]:
    """The files that make up this process: those that the settings name, and the modules that are imported by now."""
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {str(path) for path in named} | {str(Path(path).absolute()) for path in modules if path}


def _any_file() -> None:
    return None


async def changed_file(
    root: Path, before: dict[str, tuple[int, int]], loaded: Callable[[], set[str] | None] = _any_file
) -> str:
    """Wait until a file differs from `before`, and until it is left alone again; its path, relative to `root`.

    `loaded` says which files count at the moment; None: any.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        now = await asyncio.to_thread(files_of, root)
        different = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        counts = loaded() if different else None
        if counts is not None:
            # What does not count now may be imported later: then it is read as it is by then.
            before = {**now, **{path: before[path] for path in counts & before.keys()}}
            different = [path for path in different if path in counts]
        if different:
            # An editor or a checkout writes several files one after the other.
            while (later := await asyncio.to_thread(files_of, root)) != now:
                now = later
                await asyncio.sleep(LOOK_S)
            return str(Path(different[0]).relative_to(root))
