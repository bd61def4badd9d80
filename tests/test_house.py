"""The promises of the package itself: light to import, small to install, and a gate that can go red."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

HEAVY = {"anthropic", "asyncpg", "click", "fastapi", "openai", "pydantic", "pydantic_ai", "rich", "uvicorn"}
PACKAGES_MAX = 45
SIZE_MAX_BYTES = 80_000_000
ROOT = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after it ran the statement."""
    program = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def installed_core() -> dict[str, metadata.Distribution]:
    """Every distribution that a plain `pip install remanence` brings, without Remanence itself."""
    found: dict[str, metadata.Distribution] = {}
    pending = ["remanence"]
    while pending:
        for requirement in metadata.distribution(pending.pop()).requires or []:
            name, marker = plain_name(requirement), requirement.partition(";")[2]
            if name not in found and is_wanted(marker):
                found[name] = metadata.distribution(name)
                pending.append(name)
    return found


def plain_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def is_wanted(marker: str) -> bool:
    """Extras are not part of the core. What a marker rules out on this machine is not installed on it."""
    from packaging.markers import Marker

    return not marker.strip() or Marker(marker).evaluate({"extra": ""})


def size_bytes(distribution: metadata.Distribution) -> int:
    paths = [Path(str(file.locate())) for file in distribution.files or [] if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def test_importing_remanence_loads_nothing_heavy() -> None:
    assert modules_after("import remanence").isdisjoint(HEAVY)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import remanence

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = remanence.Nothing


def test_the_installed_core_is_small() -> None:
    core = installed_core()
    size = sum(size_bytes(distribution) for distribution in core.values())
    assert "msgspec" in core
    assert "pytest" not in core
    assert len(core) <= PACKAGES_MAX, sorted(core)
    assert size <= SIZE_MAX_BYTES, f"{size:,} bytes"


BROKEN = {
    "length": ("def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    "parameters": ("def f(a, b, c, *, d, e, f, g): ...\n", "f takes 7 parameters"),
    "name": ("class StoreManager: ...\n", "'manager' in 'StoreManager'"),
    "prefix": ("def new_store(): ...\n", "'new_' in 'new_store'"),
    "version": ("def open_v2(): ...\n", "'v2' in 'open_v2'"),
    "sleep": ("import time\ntime.sleep(1)\n", "time.sleep: tests wait"),
    "mock": ("from unittest.mock import patch\n", "unittest.mock.patch: no mocks"),
}


def script(name: str) -> ModuleType:
    """A file of `scripts/` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_house_rule_is_found(kind: str, tmp_path: Path) -> None:
    source, expected = BROKEN[kind]
    path = tmp_path / "sample.py"
    path.write_text(source)
    assert expected in " ".join(what for _, what in script("check_house").check(path, is_test=True))


def test_setup_hands_what_pip_was_told_on_to_uv() -> None:
    settings = {"find-links": "wheels\nmore", "extra-index-url": "one two", "timeout": "60", "no-color": "true"}
    assert script("setup").uv_environment(settings, {"UV_HTTP_TIMEOUT": "5"}) == {
        "UV_FIND_LINKS": "wheels,more",
        "UV_INDEX": "one two",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_HTTP_TIMEOUT": "5",
    }


async def test_each_test_has_a_postgres_database_of_its_own(postgres_database: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(postgres_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        assert await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1
    finally:
        await connection.close()
