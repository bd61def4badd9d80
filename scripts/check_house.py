"""Check the rules of the house that no linter knows: sizes, names, no mocks, no sleeping tests.

Prints one line per finding, `file:line: what is wrong`, and leaves with 1 when there is any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("src", "tests", "scripts", "bench")

FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
FILE_LINES_MAX = 500
BANNED_WORDS = {"utils", "common", "helpers", "manager", "base", "handler", "misc"}
VERSION = re.compile(r"v([2-9]|\d\d+)")
# Words of a name: parts between underscores, and the humps of CamelCase.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Finding = tuple[int, str]


def main() -> int:
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    count = 0
    for path in paths:
        found = [*check(path, is_test=path.is_relative_to(ROOT / "tests")), *check_twin(path, paths)]
        for line, what in sorted(found):
            print(f"{path.relative_to(ROOT)}:{line}: {what}")
            count += 1
    print(f"House rules: {len(paths)} files, {count} findings")
    return 1 if count else 0


def check(path: Path, *, is_test: bool) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    yield from check_file(path, text)
    for node in ast.walk(tree):
        yield from check_definition(node)
        yield from check_mock(node)
        if is_test:
            yield from check_sleep(node)


def check_file(path: Path, text: str) -> Iterator[Finding]:
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield 1, f"the file has {lines} lines, at most {FILE_LINES_MAX}"
    for word in banned(path.stem):
        yield 1, f"{word!r} is not a name for a file: say what it is about"


def check_twin(path: Path, paths: list[Path]) -> Iterator[Finding]:
    """Test files outside packages are modules by their bare names: of two with one name only one is collected."""
    if path.name.startswith("test_") and not (path.parent / "__init__.py").exists():
        for other in paths:
            if other != path and other.name == path.name and not (other.parent / "__init__.py").exists():
                yield 1, f"{other.relative_to(ROOT)} has the same name: call one of them something else"


def check_definition(node: ast.AST) -> Iterator[Finding]:
    if not isinstance(node, Function | ast.ClassDef):
        return
    for word in banned(node.name):
        yield node.lineno, f"{word!r} in {node.name!r} says nothing: name what it does"
    if isinstance(node, ast.ClassDef):
        return
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES_MAX:
        yield node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
    count = len(parameters(node))
    if count > PARAMETERS_MAX:
        yield node.lineno, f"{node.name} takes {count} parameters, at most {PARAMETERS_MAX}"


def parameters(node: Function) -> list[str]:
    given = node.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    found += [extra for extra in (given.vararg, given.kwarg) if extra is not None]
    names = [argument.arg for argument in found]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def banned(name: str) -> list[str]:
    """The words of a name that say nothing. `new` is banned as a beginning only: `new_store`, but not `renew`."""
    words = [word.lower() for word in WORD.findall(name)]
    found = [word for word in words if word in BANNED_WORDS or VERSION.fullmatch(word)]
    return [*found, "new_"] if name.lstrip("_").startswith("new_") else found


def check_mock(node: ast.AST) -> Iterator[Finding]:
    for name in names(node):
        if name.startswith(("unittest.mock", "mock.", "pytest_mock")) or name.endswith(("MagicMock", "AsyncMock")):
            yield line_of(node), f"{name}: no mocks; use the real thing, or a fake at one of our own ports"


def check_sleep(node: ast.AST) -> Iterator[Finding]:
    if "time.sleep" in names(node):
        yield line_of(node), "time.sleep: tests wait for an event, or move a fake clock"


def names(node: ast.AST) -> list[str]:
    """The dotted names that a node brings in or reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    return []


def line_of(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)


if __name__ == "__main__":
    sys.exit(main())
