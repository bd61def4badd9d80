"""Make `.venv`: a virtual environment that holds Remanence (editable) and, with `dev`, the tools of the gate.

Run by `make` with any Python 3.11 or newer and nothing else installed. It fetches uv from the package index when the
machine has none, and uses pip alone when uv cannot do it. uv does not read pip's configuration, so what pip was told
(indexes, links, certificates, proxy) is handed on to it in its own variables.

A stamp inside `.venv` records what was installed; when nothing changed this script does nothing.
"""

from __future__ import annotations

import ast
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
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without a network apt-get should give up soon, and another apt-get that runs should be waited for.
APT_OPTIONS = ("-qq", "--yes", "-o=Acquire::http::Timeout=20", "-o=Acquire::Retries=1", "-o=DPkg::Lock::Timeout=120")

# pip's setting -> uv's variable, and what stands between several values there.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}


def main() -> int:
    group = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        return fail(f"Python 3.11 or newer is needed; this is {found}.", "Try: make setup PYTHON=python3.12")
    if group == "dev":
        bring_browser(is_root=hasattr(os, "geteuid") and os.geteuid() == 0)
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
    """Whether the interpreter starts, is new enough, and was set up in this place: its scripts name it in full."""
    settings = VENV / "pyvenv.cfg"
    if not settings.exists() or str(VENV) not in settings.read_text():
        return False
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    return PYTHON.exists() and run([str(PYTHON), "-c", probe], quiet=True)


def make_venv() -> bool:
    shutil.rmtree(VENV, ignore_errors=True)
    print("setup: making .venv", flush=True)
    venv = [sys.executable, "-m", "venv", str(VENV)]
    # Some systems ship Python without ensurepip. Any uv or pip outside the environment can fill an empty one.
    if run(venv, quiet=True) or (run([*venv, "--clear", "--without-pip"], quiet=True) and (find_uv() or find_pip())):
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    fail(
        "Python could not make a virtual environment that packages can be installed in: no ensurepip, no pip, no uv.",
        "Install one of them (on Debian or Ubuntu: apt install python3-venv), then run the same command again.",
    )
    return False


def find_uv() -> str | None:
    return shutil.which("uv") or shutil.which("uv", path=str(PYTHON.parent))


def find_pip() -> list[str] | None:
    """The command of the environment's own pip, else of one outside that works on the environment."""
    candidates = [[str(PYTHON), "-m", "pip"], [sys.executable, "-m", "pip", "--python", str(PYTHON)]]
    return next((pip for pip in candidates if run([*pip, "--version"], quiet=True)), None)


def requirements(group: str) -> list[str]:
    """What to install besides Remanence itself. Read here, because an older pip does not know dependency groups."""
    import tomllib

    if group == "core":
        return []
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(declared["dependency-groups"][group])


def bring_browser(*, is_root: bool) -> None:
    """The tests of the console drive Chromium. Debian's is installed where that can be done without asking."""
    if os.environ.get("REMANENCE_TEST_CHROMIUM") or has_browser():
        return
    apt = find_apt(is_root=is_root)
    if apt is not None:
        print("setup: installing Debian's chromium for the tests of the console", flush=True)
        asked = [*apt, "install", *APT_OPTIONS, "--no-install-recommends", "chromium"]
        # The lists of packages may be missing or old: then they are fetched, and it is tried once more.
        if not run(asked, quiet=True) and run([*apt, "update", *APT_OPTIONS]):
            run(asked, quiet=True)
        if has_browser():
            return
    print(
        f"setup: no Chromium was found{' and none could be installed' if apt else ''}. The console's tests that\n"
        "setup: drive one are skipped; everything else is tested. As root, `apt-get install chromium` brings it on\n"
        "setup: Debian; elsewhere install Chromium or Chrome and name it in REMANENCE_TEST_CHROMIUM.",
        file=sys.stderr,
    )


def has_browser() -> bool:
    return any(map(shutil.which, BROWSERS))


def find_apt(*, is_root: bool) -> list[str] | None:
    """How to call apt-get so that nobody is asked: as root; in a CI job also by a sudo that wants no password."""
    apt = shutil.which("apt-get")
    if apt is None:
        return None
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", apt]
    if is_root:
        return quiet
    sudo = shutil.which("sudo") if os.environ.get("CI") else None
    return [sudo, "-n", *quiet] if sudo is not None and run([sudo, "-n", "true"], quiet=True) else None


def install(extra: list[str]) -> bool:
    print("setup: installing the packages", flush=True)
    wanted = ["install", "--quiet", "--editable", str(ROOT), *extra]
    pip = find_pip()
    if find_uv() is None and pip is not None:
        run([*pip, "install", "-qq", "--disable-pip-version-check", "uv"])
    uv = find_uv()
    if uv is not None:
        settings = pip_settings(pip) if pip is not None else {}
        if run([uv, "pip", *wanted, "--python", str(PYTHON)], env=uv_environment(settings, dict(os.environ))):
            return True
        print("setup: uv could not do it; trying pip", flush=True)
    return pip is not None and run([*pip, *wanted, "--disable-pip-version-check"])


def uv_environment(settings: dict[str, str], env: dict[str, str]) -> dict[str, str]:
    """`env` with pip's settings in uv's names. A variable of uv's own that is set already is kept."""
    found = dict(env)
    for setting, value in settings.items():
        if setting in UV_VARIABLES:
            variable, between = UV_VARIABLES[setting]
            found.setdefault(variable, between.join(value.split()))
    # pip takes the best version of all indexes together; uv would stop at the first index that knows the name.
    if "UV_INDEX" in found:
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return found


def pip_settings(pip: list[str]) -> dict[str, str]:
    """What `pip config list` says. The environment counts more than `[install]`, which counts more than `[global]`."""
    asked = subprocess.run(
        [*pip, "config", "list"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in asked.stdout.splitlines():
        name, equals, value = line.partition("=")
        section, _, setting = name.rpartition(".")
        if equals and section in sections:
            sections[section][setting] = str(ast.literal_eval(value))
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def run(command: list[str], *, env: dict[str, str] | None = None, quiet: bool = False) -> bool:
    sink = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, check=False, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
