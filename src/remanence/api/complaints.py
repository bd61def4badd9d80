"""What the library says of a request that does not fit, as whoever sent it can use it: the path of the field in what
was sent, and what is wrong with it, in the words of JSON.

Where a field may be one of several things, the library complains once for each. What is said is the complaint that
reached deepest into what was sent, for that is the thing that was meant; where none got further than the field itself,
all of them.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from remanence.api.decoding import DEPTH_MAX
from remanence.errors import InvalidInput

__all__ = ["Complaint", "MissingParameter", "UnknownParameter", "complaint", "no_json"]


class UnknownParameter(InvalidInput):
    """A field that is not known here, or not here yet."""

    code = "unknown_parameter"


class MissingParameter(InvalidInput):
    """A field that is needed is not there."""

    code = "missing_required_parameter"


class InvalidType(InvalidInput):
    """A field holds another type of JSON than it takes."""

    code = "invalid_type"


class InvalidValue(InvalidInput):
    """A field holds a value that it does not take."""

    code = "invalid_value"


class Complaint(NamedTuple):
    """What is wrong: the path of a field, the words, and the error that says so on the vendors' faces."""

    path: str
    words: str
    kind: type[InvalidInput]


_KINDS: dict[str, type[InvalidInput]] = {
    "extra_forbidden": UnknownParameter,
    "missing": MissingParameter,
    "union_tag_not_found": MissingParameter,
    "int_parsing": InvalidType,
    "float_parsing": InvalidType,
    "bool_parsing": InvalidType,
}

PATH_MAX = 200
_WORDS = {
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "none_required": "it is not served here; leave it out",
    "int_parsing_size": "the number is too large",
    "union_tag_not_found": "Field required",
}
_SHOULD_BE = "Input should be "
_JSON = {"True": "true", "False": "false", "None": "null"}
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PYDANTIC = re.compile(r" after validation, not \w+$")
_PYTHON = re.compile(r"\b(?:True|False|None)\b")


def no_json(error: Exception, given: bytes) -> str:
    """Why what was sent could not be read as JSON."""
    if isinstance(error, RecursionError):
        return f"it is nested too deeply: {DEPTH_MAX} levels are the most"
    if given.startswith(_MARKS):
        return "it begins with a byte order mark: send UTF-8 without one"
    if _SURROGATE.search(given):
        try:
            json.loads(given)
        except (ValueError, RecursionError):
            return str(error)
        return "an escape from \\ud800 to \\udfff stands alone: it is half of a character, and no text holds that"
    return str(error)


def complaint(errors: Sequence[Mapping[str, Any]], body: Any) -> Complaint:
    """What is wrong with `body`, of pydantic's complaints about it."""
    told = [Complaint(_path_of(one, body), _words_of(one), _kind_of(one)) for one in errors]
    top = told[0].path
    near = [one for one in told if one.path == top or one.path.startswith((f"{top}.", f"{top}["))]
    path, words, kind = max(near, key=lambda one: len(re.findall(r"[.\[]", one.path)))
    if path == top:
        others = dict.fromkeys(one.words.removeprefix(_SHOULD_BE) for one in near if one.words.startswith(_SHOULD_BE))
        if len(others) > 1:
            words = _SHOULD_BE + " or ".join(others)
    return Complaint(path if len(path) <= PATH_MAX else f"{path[:PATH_MAX]}...", words, kind)


def _kind_of(error: Mapping[str, Any]) -> type[InvalidInput]:
    kind = str(error["type"])
    return _KINDS.get(kind) or (InvalidType if kind.endswith("_type") else InvalidValue)


def _path_of(error: Mapping[str, Any], body: Any) -> str:
    path = _path(error["loc"], body, absent=error["type"] == "missing")
    if error["type"].startswith("union_tag"):  # it is about the field that tells which it is
        path += f".{error['ctx']['discriminator'].strip(chr(39))}"
    return path


def _words_of(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "union_tag_invalid":
            return f"{_SHOULD_BE}one of {error['ctx']['expected_tags']}"
        case "literal_error":
            return _PYTHON.sub(lambda found: _JSON[found[0]], str(error["msg"]))
        case kind:
            return _WORDS.get(kind) or _PYDANTIC.sub("", str(error["msg"])).replace("Dictionary", "Object")


def _path(loc: tuple[str | int, ...], body: Any, *, absent: bool) -> str:
    """The place of a complaint as a path in what was sent: without the names of the alternatives that were tried.

    `absent`: the last step names a field that is not there.
    """
    source, *steps = loc
    if source != "body":
        return ".".join(str(step) for step in steps) or str(source)
    path = ""
    for number, step in enumerate(steps):
        last = absent and number == len(steps) - 1
        if isinstance(body, dict) and isinstance(step, str) and (step in body or last):
            path += f".{step}" if path else step
            body = cast("dict[str, Any]", body).get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(cast("list[Any]", body)):
            path += f"[{step}]"
            body = cast("list[Any]", body)[step]
    return path or "body"
