"""The documentation cannot rot: its blocks run, its links lead somewhere, and what it names exists."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import click
import pytest
from doc_pages import DOCS, ROOT, RUNS, anchors_of, blocks_of, inline_of, links_of, name_of, pages, text_of

from remanence.cli.root import remanence

PAGES = pages()
NOT_RUN_MAX = 6
"""Blocks that cannot run here. Each says why; raising this number needs a reason."""

KINDS = (*RUNS, "toml", "json", "text")
PAGE_S_MAX = 100

TEST = re.compile(r"(?P<path>[\w./]+\.py)::(?P<name>\w+)")
FILE = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w-]+\.(py|md|toml|sql)")
PLACES = (ROOT, ROOT / "src/remanence", ROOT / "docs")
OF_THE_READER = {"agent.py", "agent.toml", "remanence.toml", "ledger.txt", "bench/results/"}
"""Files of a reader's own project, and what commands make."""


def runnable() -> list[Path]:
    return [page for page in PAGES if any(b.kind in RUNS and not b.reason for b in blocks_of(text_of(page)))]


@pytest.mark.parametrize("page", runnable(), ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    environment = {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "REMANENCE_USER": "ada",
    }
    if "$POSTGRES_URL" in text_of(page):
        environment["POSTGRES_URL"] = request.getfixturevalue("empty_postgres_database")
    code, printed = run_page(page, folder, environment)
    assert code == 0, printed


def run_page(page: Path, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of the runner. One that takes too long is told to end, and ends what it started."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("doc_runner.py")), str(page)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as runner:
        try:
            printed, _ = runner.communicate(timeout=PAGE_S_MAX)
        except subprocess.TimeoutExpired:
            runner.terminate()
            printed, _ = runner.communicate()
            printed += f"\nThe page took more than {PAGE_S_MAX} s."
        return runner.returncode, printed


LIES = {
    "a command that fails": "```sh\nfalse\necho on\n```\n",
    "another exit code": "<!-- exits 5 -->\n```sh\ntrue\n```\n",
    "another output": "```console\n$ echo one\ntwo\n```\n",
    "an output that is not shown": "```console\n$ echo one\n```\n",
    "Python that raises": "```python\nassert not 1\n```\n",
    "Python that prints otherwise": "```python\nprint(1)\n```\n\n<!-- prints -->\n```text\n2\n```\n",
}


@pytest.mark.parametrize("text", LIES.values(), ids=LIES.keys())
def test_a_page_that_lies_is_noticed(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    code, printed = run_page(page, tmp_path, {"PATH": os.environ["PATH"]})
    assert code == 1, printed
    assert "page.md" in printed


def test_few_blocks_are_not_run() -> None:
    left_out = [block for page in PAGES for block in blocks_of(text_of(page)) if block.reason]
    assert len(left_out) <= NOT_RUN_MAX, [block.reason for block in left_out]
    assert shutil.which("bash"), "shell blocks are run by bash"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block without a kind, or with a misspelt one, would not be run and nobody would notice.

    The reference is written from the code, and has nothing to run.
    """
    odd = [(block.kind, block.line) for block in blocks_of(text_of(page)) if block.kind not in KINDS]
    assert not odd


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [link for link in links_of(text_of(page)) if not leads_somewhere(page, link)]
    assert not dead


def leads_somewhere(page: Path, link: str) -> bool:
    if link.startswith(("http://", "https://")):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors_of(text_of(target)))


PROOF = re.compile(r"\[`(?P<name>\w+)`\]\((?P<path>[\w./-]+\.py)\)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_to_a_proof_leads_to_the_file_that_holds_it(page: Path) -> None:
    found = [(match["name"], (page.parent / match["path"]).resolve()) for match in PROOF.finditer(text_of(page))]
    assert [name for name, path in found if name not in functions_of(path)] == []
    assert found or name_of(page) != "README.md"


def test_every_page_can_be_reached_from_the_index() -> None:
    found: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        linked = (page.parent / link.partition("#")[0] for link in links_of(text_of(page)) if ".md" in link)
        waiting += [target.resolve() for target in linked if target.resolve().is_relative_to(DOCS)]
    assert {page for page in PAGES if page.is_relative_to(DOCS)} <= found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_names_exists(page: Path) -> None:
    text = text_of(page)
    named = inline_of(text)
    made = OF_THE_READER | {block.file for block in blocks_of(text)}
    assert not [code for code in named if (found := TEST.fullmatch(code)) and not names_a_test(found)]
    assert not [code for code in named if FILE.fullmatch(code) and code not in made and not file_exists(code)]
    assert not [code for code in named if code.startswith("remanence ") and not command_exists(code)]


def file_exists(code: str) -> bool:
    return code.startswith("path/to/") or any((place / code).exists() for place in PLACES)


def names_a_test(found: re.Match[str]) -> bool:
    """A law of the stores, or a test of the suite."""
    path = next((place / found["path"] for place in PLACES if (place / found["path"]).exists()), None)
    return path is not None and found["name"] in functions_of(path)


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(text_of(path))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def command_exists(code: str) -> bool:
    """Whether the command line has this command, with the options that are named."""
    command: click.Command = remanence
    words = code.split()[1:]
    context = click.Context(command)
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        if found is None:
            return False
        command, context = found, click.Context(found, parent=context)
    options = {name for parameter in command.get_params(context) for name in parameter.opts}
    return {word.partition("=")[0] for word in words if word.startswith("-")} <= options
