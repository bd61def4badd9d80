"""A Chromium that is absent is installed where that is possible; elsewhere it is said how to come by one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from a_browser import WITHOUT, chromium

ROOT = Path(__file__).resolve().parents[2]
# What stands in for Debian here: it has no list of packages until it is asked to fetch one.
APT = """#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/asked"
case $1 in
update) {update} ;;
install) test -e "$here/lists" && printf '#!/bin/sh\\n' > "$here/chromium" && chmod +x "$here/chromium" ;;
esac
"""
FETCHES, HAS_NO_NETWORK = ': > "$here/lists"', 'echo "E: no network" >&2; exit 100'


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The folder of everything that a machine has: not much."""
    for name in ("sh", "env", "dirname", "chmod"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    return tmp_path


def put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def bring_browser(machine: Path, *, is_root: bool = True, **told: str) -> subprocess.CompletedProcess[str]:
    """`make setup`'s search for a browser on that machine."""
    program = f"import setup; setup.bring_browser(is_root={is_root})"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "scripts",
        env={"PATH": str(machine), **told},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_debians_is_installed_after_its_lists_were_fetched(machine: Path) -> None:
    put(machine / "apt-get", APT.format(update=FETCHES))
    done = bring_browser(machine)
    assert (machine / "asked").read_text().split() == ["install", "update", "install"]
    assert (done.stdout, done.stderr) == ("setup: installing Debian's chromium for the tests of the console\n", "")
    assert bring_browser(machine).stdout == "", "once it is there nothing is asked for"


def test_without_a_network_it_goes_on_and_says_how_else(machine: Path) -> None:
    put(machine / "apt-get", APT.format(update=HAS_NO_NETWORK))
    said = bring_browser(machine).stderr
    assert "E: no network" in said
    assert "none could be installed" in said
    assert "apt-get install chromium" in said
    assert "REMANENCE_TEST_CHROMIUM" in said


def test_who_is_not_root_is_told_and_nothing_is_tried(machine: Path) -> None:
    put(machine / "apt-get", APT.format(update=FETCHES))
    put(machine / "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    done = bring_browser(machine, is_root=False)
    assert "apt-get install chromium" in done.stderr
    assert not (machine / "asked").exists()
    put(machine / "true", "#!/bin/sh\n")
    done = bring_browser(machine, is_root=False, CI="true")
    assert done.stderr == "", "a job of CI whose sudo asks for no password has it installed"
    assert (machine / "chromium").exists()


def test_a_browser_that_is_named_is_not_looked_for(machine: Path) -> None:
    assert bring_browser(machine, REMANENCE_TEST_CHROMIUM="/somewhere/chromium").stderr == ""


def test_a_machine_without_apt_is_told_how_else(machine: Path) -> None:
    said = bring_browser(machine).stderr
    assert "REMANENCE_TEST_CHROMIUM" in said
    assert "none could be installed" not in said


def test_the_tests_know_a_machine_without_a_browser(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    monkeypatch.setenv("PATH", str(machine))
    monkeypatch.delenv("REMANENCE_TEST_CHROMIUM", raising=False)
    assert chromium() is None
    assert "apt-get install chromium" in WITHOUT
    monkeypatch.setenv("REMANENCE_TEST_CHROMIUM", "/somewhere/chromium")
    assert chromium() == "/somewhere/chromium", "one that is named and is not there fails the tests"
