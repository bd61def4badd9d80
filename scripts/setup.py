"""Make `.venv`: a virtual environment that holds Remanence (editable) and, with `dev`, the tools of the gate.

Run by `make` with any Python 3.11 or newer and nothing else installed. It fetches uv from the package index when the
machine has none, and uses pip alone when uv cannot do it. uv does not read pip's configuration, so what pip was told
(indexes, links, certificates, proxy) is handed on to it in its own variables.

A stamp inside `.venv` records what was installed; when nothing changed this script does nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)

# pip's setting -> uv's variable. The lists are joined by blanks in both.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def main() -> int:
    group = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        return fail(f"Python 3.11 or newer is needed; this is {found}.", "Try: make setup PYTHON=python3.12")
    if is_current(group):
        return 0
    if not is_usable() and not make_venv():
        return 1
    if not install(requirements(group)):
        return fail(
            "The packages could not be installed; the reason is above.",
            "Mend it, then run the same command again: what is installed already is kept.",
        )
    stamp(group).write_text(fingerprint())
    return 0


def fail(what: str, next_step: str) -> int:
    print(f"setup: {what}\nsetup: {next_step}", file=sys.stderr)
    return 1


def stamp(group: str) -> Path:
    return VENV / f".remanence-{group}"


def fingerprint() -> str:
    """The declared packages and the place of the checkout: an editable install points at it."""
    declared = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(declared + str(ROOT).encode()).hexdigest()


def is_current(group: str) -> bool:
    stamps = [stamp(group), stamp("dev")]
    return is_usable() and any(path.exists() and path.read_text() == fingerprint() for path in stamps)


def is_usable() -> bool:
    """A copied or half-removed environment has an interpreter that does not start, or starts elsewhere."""
    if not PYTHON.exists():
        return False
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST} or sys.prefix != {str(VENV)!r})"
    return subprocess.run([PYTHON, "-c", probe], check=False).returncode == 0


def make_venv() -> bool:
    shutil.rmtree(VENV, ignore_errors=True)
    print("setup: making .venv", flush=True)
    uv = shutil.which("uv")
    if uv is not None:
        return run([uv, "venv", "--quiet", "--python", sys.executable, str(VENV)])
    if run([sys.executable, "-m", "venv", str(VENV)], quiet=True):
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    fail(
        "Python could not make a virtual environment: its venv or ensurepip module is missing.",
        "Install it (on Debian or Ubuntu: apt install python3-venv), or install uv, then run the same command again.",
    )
    return False


def requirements(group: str) -> list[str]:
    """What to install besides Remanence itself. Read here, because an older pip does not know dependency groups."""
    import tomllib

    if group == "core":
        return []
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(declared["dependency-groups"][group])


def install(extra: list[str]) -> bool:
    print("setup: installing the packages", flush=True)
    wanted = ["--editable", str(ROOT), *extra]
    uv = shutil.which("uv") or bootstrap_uv()
    if uv is not None:
        if run([uv, "pip", "install", "--quiet", "--python", str(PYTHON), *wanted], env=environment_for_uv()):
            return True
        print("setup: uv could not do it; trying pip", flush=True)
    if not run([str(PYTHON), "-m", "pip", "--version"], quiet=True):
        return False
    return run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])


def bootstrap_uv() -> str | None:
    uv = VENV / "bin" / "uv"
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "uv"]
    return str(uv) if uv.exists() or run(pip) else None


def environment_for_uv() -> dict[str, str]:
    """The environment, with pip's settings in uv's names. A variable of uv's own that is set already is kept."""
    env = dict(os.environ)
    for setting, value in pip_settings().items():
        variable = UV_VARIABLES.get(setting)
        if variable is not None:
            env.setdefault(variable, " ".join(value.split()))
    # pip takes the best version of all indexes together; uv would stop at the first index that knows the name.
    if "UV_INDEX" in env:
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    env.pop("VIRTUAL_ENV", None)
    return env


def pip_settings() -> dict[str, str]:
    """What `pip config list` says, with the environment (listed first, as `:env:`) before the files."""
    asked = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    found: dict[str, str] = {}
    for line in asked.stdout.splitlines():
        name, equals, value = line.partition("=")
        section, _, setting = name.rpartition(".")
        if equals and section in (":env:", "global", "install"):
            found.setdefault(setting, value.strip("'\"").replace("\\n", " "))
    return found


def run(command: list[str], *, env: dict[str, str] | None = None, quiet: bool = False) -> bool:
    sink = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, check=False, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
