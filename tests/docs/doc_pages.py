"""The pages of the documentation, as data: their blocks of code, their links, and what they name.

A comment right before a block says what the block is, where that is not obvious:

    <!-- file: agent.py -->        the block is written to that file, in the folder the page's shell is in
    <!-- exits 5 -->               the shell block ends with this exit code
    <!-- prints -->                a `text` block: what the block before it printed (`...` stands for anything)
    <!-- not run: REASON -->       it cannot run here, and why

and, anywhere on a page, `<!-- models: served by a local server -->`: model names of providers are answered on this
machine; `<!-- port: any free one -->`: the server's port on the page is another one when it runs. Blocks of `python`,
`sh` and `console` run, in order, in one folder for each page; see `doc_runner.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUNS = ("python", "sh", "console")
LOCAL_MODELS = "<!-- models: served by a local server -->"
FREE_PORT = "<!-- port: any free one -->"

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"<!-- (file: (?P<file>\S+)|exits (?P<exits>\d+)|prints|not run: (?P<reason>[^>]+)) -->\s*\Z")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """One fenced block. `line` is that of its first line of code."""

    kind: str
    code: str
    line: int
    file: str = ""
    exits: int = 0
    prints: bool = False
    reason: str = ""


def pages() -> list[Path]:
    """Every page a reader may open: those of `docs/` and those beside it."""
    beside = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
    return [*beside, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a page, in order, each with what the comment before it says."""
    end = 0
    for fence in _FENCE.finditer(text):
        said = _DIRECTIVE.search(text[end : fence.start()])
        end = fence.end()
        line = text.count("\n", 0, fence.start(2)) + 1
        kind, code = fence.groups()
        if said is None:
            yield Block(kind, code, line)
            continue
        yield Block(
            kind,
            code,
            line,
            file=said["file"] or "",
            exits=int(said["exits"] or 0),
            prints=said[1] == "prints",
            reason=said["reason"] or "",
        )


def prose_of(text: str) -> str:
    """The page without its blocks, each replaced by its line breaks so that lines keep their numbers."""
    return _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)


def links_of(text: str) -> list[str]:
    """Where the page's links go."""
    return _LINK.findall(prose_of(text))


def inline_of(text: str) -> list[str]:
    """What stands between backticks in the page's sentences."""
    return _CODE.findall(prose_of(text))


def anchors_of(text: str) -> set[str]:
    """The anchors that the page's headings make, as hosting platforms spell them."""
    titles = (re.sub(r"[`*]", "", title).lower() for title in _HEADING.findall(prose_of(text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
