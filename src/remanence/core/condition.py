"""The condition language of rules: a small, typed test on the arguments of one call, such as `cents > 5000`.

    condition   a and b, a or b, not a, (a), a comparison, or a path to a boolean argument
    comparison  == != < <= > >= in, not in; chains as in `0 < cents <= 5000`
    operand     a path (`cents`, `order.total`), len(path), a number, a string, true false null, a list of literals
    path        names joined by dots; a name with other signs in it stands in brackets, as in `args["reply-to"]` or
                `order["unit price"].cents`. `args` with a bracket is all arguments, even when one is called `args`

It reads like Python and is parsed with Python's own grammar, but nothing is ever evaluated as Python: the tree is
checked against a whitelist and compiled once into closures that know only the arguments.

Nothing is guessed. An argument that is missing, a comparison of a number with a string, an order between booleans:
each raises `ConditionError`, and the policy then lets the doubt count against the call. `and` and `or` read from left
to right and stop as soon as they know.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

__all__ = ["Condition", "ConditionError", "holds", "parse", "unknown_names"]

LENGTH_MAX: Final = 1_000
DEPTH_MAX: Final = 24

Arguments = Mapping[str, Any]
_Operand = Callable[[Arguments], Any]
_Test = Callable[[Arguments], bool]
_HINTS: Final = {"=": "; write == to compare", "&": "; write `and`", "|": "; write `or`", "!": "; write `not`"}
_PATH: Final = 'a path is names, such as `order.total`; one with other signs in it is written `args["reply-to"]`'
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


class ConditionError(ValueError):
    """A condition that does not parse (`column` counts from 1), or that these arguments cannot answer (`column` 0)."""

    def __init__(self, message: str, *, column: int = 0) -> None:
        super().__init__(f"{message} (column {column})" if column else message)
        self.column = column


class Condition:
    """A parsed condition: its text, the argument paths it reads, in order, and the test itself."""

    __slots__ = ("paths", "test", "text")

    def __init__(self, text: str, paths: tuple[tuple[str, ...], ...], test: _Test) -> None:
        self.text = text
        self.paths = paths
        self.test = test

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


@lru_cache(maxsize=4_096)
def parse(text: str) -> Condition:
    """The condition that `text` writes, at most 1,000 characters on one line.

    Raises `ConditionError`, with the column, for anything else. Parsed once per text.
    """
    if len(text) > LENGTH_MAX:
        raise ConditionError(f"a condition has at most {LENGTH_MAX:,} characters, this one has {len(text):,}")
    if not text.strip():
        raise ConditionError("the condition is empty")
    if len(text.splitlines()) > 1:
        raise ConditionError("a condition stands on one line", column=len(text.splitlines()[0]) + 1)
    reader = _Reader(text)
    test = reader.test(_tree(text), 0)
    return Condition(text, tuple(dict.fromkeys(reader.paths)), test)


def holds(condition: Condition, arguments: Arguments) -> bool:
    """Whether the condition holds on these arguments. Raises `ConditionError` when they cannot answer it."""
    try:
        return condition.test(arguments)
    except RecursionError:
        raise ConditionError("the arguments are nested too deeply to be compared") from None


def unknown_names(condition: Condition, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The dotted paths that cannot exist under a JSON Schema of type object.

    A schema that lists properties without `additionalProperties` is read as closed; one that lists none, as open.
    """
    return tuple(".".join(path) for path in condition.paths if not _may_exist(path, parameters, parameters))


# --- parsing ----------------------------------------------------------------------------------------------------------


def _tree(text: str) -> ast.expr:
    start = len(text) - len(text.lstrip())
    try:
        return ast.parse(text.strip(), "<condition>", mode="eval").body
    except SyntaxError as error:
        # An offset of 0 means that the text ended too early.
        column = min(start + error.offset, len(text) + 1) if error.offset else len(text.rstrip()) + 1
        hint = _HINTS.get(text[column - 1 : column], "")
        raise ConditionError(f"not a condition: {error.msg}{hint}", column=column) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConditionError(f"not a condition: {error or 'nested too deeply'}") from None


class _Reader:
    """Compiles a whitelisted tree into closures and gathers the paths it reads."""

    def __init__(self, text: str) -> None:
        self._start = len(text) - len(text.lstrip())
        self._source = text.strip().encode()
        self.paths: list[tuple[str, ...]] = []

    def test(self, node: ast.expr, depth: int) -> _Test:
        """A node that must say yes or no."""
        self._check_depth(node, depth)
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _all([self.test(value, depth + 1) for value in values])
            case ast.BoolOp(values=values):
                return _any([self.test(value, depth + 1) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(self.test(operand, depth + 1))
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Constant(value=bool() as answer):
                return _constant(answer)
            case ast.Name(id="true" | "false" as word):
                return _constant(word == "true")
            case ast.Name() | ast.Attribute() | ast.Subscript() if ast.unparse(node) != "null":
                return _boolean(self._path(node), ast.unparse(node))
            case _:
                raise self._error(node, "expected a comparison such as `cents > 5000`")

    def _comparison(self, node: ast.Compare, depth: int) -> _Test:
        operands = [self.operand(side, depth + 1) for side in (node.left, *node.comparators)]
        links: list[_Test] = []
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            compare = _COMPARISONS.get(type(operator))
            if compare is None:
                raise self._error(node, "`is` is not part of the language; write == or !=")
            links.append(_link(compare, left, right))
        return links[0] if len(links) == 1 else _all(links)

    def operand(self, node: ast.expr, depth: int) -> _Operand:
        """A node that stands for a value."""
        self._check_depth(node, depth)
        match node:
            case ast.Name(id=name) if name in _WORDS:
                return _fixed(_WORDS[name])
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._path(node)
            case ast.Call(
                func=ast.Name(id="len"), args=[ast.Name() | ast.Attribute() | ast.Subscript() as measured], keywords=[]
            ):
                return _length(self._path(measured), ast.unparse(measured))
            case _:
                return _fixed(self._literal(node, depth))

    def _literal(self, node: ast.expr, depth: int) -> Any:
        self._check_depth(node, depth)
        match node:
            case ast.Constant(value=str() | bool() | int() | float() | None as fixed):
                return fixed
            case ast.Name(id=name) if name in _WORDS:
                return _WORDS[name]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if not isinstance(
                number, bool
            ):
                return -number
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._literal(item, depth + 1) for item in items]
            case _:
                raise self._error(node, "expected an argument, len(argument), a number, a string or a list of these")

    def _path(self, node: ast.expr) -> _Operand:
        steps: list[str] = []
        at = node
        bracket = False
        while isinstance(at, ast.Attribute | ast.Subscript):
            bracket = isinstance(at, ast.Subscript)
            steps.append(at.attr if isinstance(at, ast.Attribute) else self._bracketed(at))
            at = at.value
        if not isinstance(at, ast.Name) or at.id in _WORDS:
            raise self._error(node, _PATH)
        whole = bracket and at.id == "args"
        path = tuple(reversed(steps)) if whole else (at.id, *reversed(steps))
        if len(path) > DEPTH_MAX:
            raise self._error(node, f"a path has at most {DEPTH_MAX} steps")
        self.paths.append(path)
        return _lookup(path)

    def _bracketed(self, node: ast.Subscript) -> str:
        match node.slice:
            case ast.Constant(value=str() as name):
                return name
            case _:
                raise self._error(node, _PATH)

    def _check_depth(self, node: ast.expr, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise self._error(node, f"nested more than {DEPTH_MAX} deep")

    def _error(self, node: ast.expr, message: str) -> ConditionError:
        # The tree counts bytes of UTF-8, a person counts characters.
        before = self._source[: node.col_offset].decode(errors="replace")
        return ConditionError(f"not a condition: {message}", column=self._start + len(before) + 1)


# --- evaluation -------------------------------------------------------------------------------------------------------


def _fixed(value: Any) -> _Operand:
    return lambda _: value


def _constant(answer: bool) -> _Test:
    return lambda _: answer


def _all(tests: list[_Test]) -> _Test:
    return lambda arguments: all(test(arguments) for test in tests)


def _any(tests: list[_Test]) -> _Test:
    return lambda arguments: any(test(arguments) for test in tests)


def _negated(test: _Test) -> _Test:
    return lambda arguments: not test(arguments)


def _boolean(operand: _Operand, text: str) -> _Test:
    def test(arguments: Arguments) -> bool:
        value = operand(arguments)
        if not isinstance(value, bool):
            raise ConditionError(f"`{text}` is {_kind(value)}, not true or false")
        return value

    return test


def _lookup(path: tuple[str, ...]) -> _Operand:
    def value_of(arguments: Arguments) -> Any:
        value: Any = arguments
        for depth, name in enumerate(path):
            members = _object(value)
            if members is None or name not in members:
                raise ConditionError(f"the argument `{'.'.join(path[: depth + 1])}` is missing")
            value = members[name]
        return value

    return value_of


def _length(operand: _Operand, text: str) -> _Operand:
    def value_of(arguments: Arguments) -> int:
        value = operand(arguments)
        for sized in (value if isinstance(value, str) else None, _list(value), _object(value)):
            if sized is not None:
                return len(sized)
        raise ConditionError(f"`{text}` is {_kind(value)}, which has no length")

    return value_of


def _link(compare: Callable[[Any, Any], bool], left: _Operand, right: _Operand) -> _Test:
    return lambda arguments: compare(left(arguments), right(arguments))


def _kind(value: Any) -> str:
    """The JSON kind of a value. Integers and floats are one kind; a boolean is not a number."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def _object(value: Any) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _list(value: Any) -> list[Any] | None:
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else None


def _same(left: Any, right: Any) -> bool:
    """Equality by JSON's kinds: `1` is `1.0`, and never `true`."""
    if _kind(left) != _kind(right):
        return False
    left_items, right_items = _list(left), _list(right)
    if left_items is not None and right_items is not None:
        return len(left_items) == len(right_items) and all(map(_same, left_items, right_items))
    left_members, right_members = _object(left), _object(right)
    if left_members is not None and right_members is not None:
        return left_members.keys() == right_members.keys() and all(
            _same(left_members[key], right_members[key]) for key in left_members
        )
    return bool(left == right)


def _equal(left: Any, right: Any) -> bool:
    if left is not None and right is not None and _kind(left) != _kind(right):
        raise ConditionError(f"{_kind(left)} cannot be compared with {_kind(right)}")
    return _same(left, right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(left: Any, right: Any) -> bool:
        kinds = {_kind(left), _kind(right)}
        if kinds not in ({"a number"}, {"a string"}):
            raise ConditionError(f"{_kind(left)} and {_kind(right)} have no order")
        return compare(left, right)

    return test


def _contains(item: Any, container: Any) -> bool:
    if isinstance(item, str) and isinstance(container, str):
        return item in container
    members = _object(container)
    if isinstance(item, str) and members is not None:
        return item in members
    items = _list(container)
    if items is None:
        raise ConditionError(f"{_kind(item)} cannot be in {_kind(container)}")
    kinds = {_kind(member) for member in items if member is not None}
    if item is not None and kinds and _kind(item) not in kinds:
        raise ConditionError(f"{_kind(item)} cannot be among these: they are of another type")
    return any(_same(item, member) for member in items)


_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: not _equal(left, right),
    ast.Lt: _ordered(lambda left, right: left < right),
    ast.LtE: _ordered(lambda left, right: left <= right),
    ast.Gt: _ordered(lambda left, right: left > right),
    ast.GtE: _ordered(lambda left, right: left >= right),
    ast.In: _contains,
    ast.NotIn: lambda left, right: not _contains(left, right),
}


# --- against a schema -------------------------------------------------------------------------------------------------


def _may_exist(path: tuple[str, ...], schema: Any, root: Mapping[str, Any], hops: int = 0) -> bool:
    """Whether a value may stand at `path` under `schema`: only a plain "no" of the schema is a no."""
    node = _object(schema)
    if not path or node is None or hops > DEPTH_MAX:
        return schema is not False
    if isinstance(reference := node.get("$ref"), str):
        return _may_exist(path, _resolved(reference, root), root, hops + 1)
    for union in ("anyOf", "oneOf"):
        if (branches := _list(node.get(union))) is not None:
            return any(_may_exist(path, branch, root, hops + 1) for branch in branches)
    properties = _object(node.get("properties"))
    if properties is not None and path[0] in properties:
        return _may_exist(path[1:], properties[path[0]], root, hops + 1)
    if properties is not None or "additionalProperties" in node:
        extra = node.get("additionalProperties", "allOf" in node or "patternProperties" in node)
        return _may_exist(path[1:], extra, root, hops + 1)
    kinds = node.get("type", "object")
    return kinds == "object" or "object" in (_list(kinds) or [])


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    value: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        members = _object(value)
        value = members.get(step) if members is not None else None
    return True if value is None else value
