"""From a Python signature to what a model may send: JSON Schema one way, checked and typed arguments the other.

The schema is what is enforced, no more and no less: objects with named members are closed, in depth, and every
definition that does not refer to itself is written in place, because not every provider follows references.

Two kinds of parameter are the runtime's and never shown to the model: `effect_key: str`, and any parameter annotated
`ToolCallContext`. An argument the model leaves out is not passed at all, so the function's own default applies.
"""

from __future__ import annotations

import datetime
import inspect
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from remanence.content import parse_arguments
from remanence.errors import InvalidSpec
from remanence.ports import ToolCallContext
from remanence.tools.docstring import read_docstring
from remanence.tools.pydantic_kinds import PydanticKind, is_field, needs_pydantic, whole
from remanence.tools.schema import closed, closed_schemas, shape, unknown_members

__all__ = ["EFFECT_KEY", "Signature", "read_signature"]

EFFECT_KEY: Final = "effect_key"
_STRANGERS: Final = ("agents", "fastmcp", "google", "langchain", "langchain_core", "langgraph", "mcp", "pydantic_ai")
_MOMENTS: Final = {datetime.datetime: "date-time", datetime.time: "time"}
_ANY_TEXT: Final = {"type": "string"}
_JSON_WORDS: Final = {"int": "integer", "str": "string", "bool": "boolean", "float": "number"}


class Signature:
    """What a function takes. `parameters` is the JSON Schema, `description` the docstring, that the model reads."""

    def __init__(
        self,
        fields: dict[str, Any],
        optional: set[str],
        parameters: dict[str, Any],
        pydantics: Mapping[str, PydanticKind],
    ) -> None:
        self.parameters = parameters
        self.description = ""
        self.takes_effect_key = False
        self.contexts: tuple[str, ...] = ()
        self._pydantics = pydantics
        # To msgspec what pydantic reads may be anything: it is read in a second step.
        self._fields = fields = {name: Any if name in pydantics else kind for name, kind in fields.items()}
        self._required = [name for name in fields if name not in optional]
        declared = [(name, kind, None) if name in optional else (name, kind) for name, kind in fields.items()]
        self._struct: type[msgspec.Struct] = msgspec.defstruct("Arguments", declared, kw_only=True)

    def bind(self, arguments: str) -> dict[str, Any]:
        """The arguments the model gave, typed, by name.

        Raises `ValueError` with sentences a model can act on: which field is wrong, and the shape that is expected.
        """
        given = parse_arguments(arguments)
        try:
            wrong = [*self._misnamed(given), *unknown_members(given, self.parameters)]
            if not wrong:
                value = self._typed(given)
                wrong = self._unread(given)
                if not wrong:
                    return {name: self._read(name, getattr(value, name)) for name in given}
            else:
                wrong += self._mistyped(given)
        except msgspec.ValidationError:
            wrong = self._mistyped(given)
        except RecursionError:
            wrong = ["the arguments are nested too deeply"]
        raise ValueError(f"{'; '.join(wrong)}. Expected: {shape(self.parameters)}")

    def _typed(self, given: Mapping[str, Any]) -> msgspec.Struct:
        """The arguments as declared. Where an integer is wanted, `9000.0` is one: the schema that the model was shown,
        and that the call was judged by, says so."""
        try:
            return msgspec.convert(given, self._struct, str_keys=True)
        except msgspec.ValidationError:
            return msgspec.convert(whole(given), self._struct, str_keys=True)

    def _read(self, name: str, value: object) -> object:
        kind = self._pydantics.get(name)
        return value if kind is None else kind.read(value)

    def _unread(self, given: Mapping[str, Any]) -> list[str]:
        return [
            clause
            for name, kind in self._pydantics.items()
            if name in given
            for clause in kind.complaints(given[name], name)
        ]

    def hidden(self, context: ToolCallContext) -> dict[str, Any]:
        """The arguments that the runtime gives."""
        values: dict[str, Any] = dict.fromkeys(self.contexts, context)
        if self.takes_effect_key:
            values[EFFECT_KEY] = context.effect_key
        return values

    def _misnamed(self, given: Mapping[str, Any]) -> list[str]:
        missing = [name for name in self._required if name not in given]
        words = [f"`{name}` is missing" for name in missing]
        for name in given:
            if name not in self._fields:
                close = get_close_matches(name, [other for other in self._fields if other not in given], n=1)
                words.append(f"`{name}` is not an argument" + (f" (`{close[0]}` is)" if close else ""))
        return words

    def _mistyped(self, given: Mapping[str, Any]) -> list[str]:
        words: list[str] = []
        for name in [name for name in given if name in self._fields]:
            try:
                msgspec.convert(whole(given[name]), self._fields[name], str_keys=True)
            except msgspec.ValidationError as error:
                words.append(_in_json_words(name, str(error)))
        return words + self._unread(given)


def _in_json_words(name: str, message: str) -> str:
    what, _, path = message.partition(" - at `$")
    for python, json in _JSON_WORDS.items():
        what = what.replace(f"`{python}", f"`{json}").replace(f"| {python}", f"| {json}")
    return f"`{name}{path.removesuffix('`')}`: {what[:1].lower()}{what[1:]}"


# --- reading a function -----------------------------------------------------------------------------------------------


def read_signature(function: Callable[..., Any], where: str, namespace: Mapping[str, Any]) -> Signature:
    """What `function` takes. `where` names it in errors; `namespace` resolves names that its module does not have.

    Raises `InvalidSpec` for a parameter that cannot be given by name or whose annotation says nothing about JSON.
    """
    description, about = read_docstring(function.__doc__ or "")
    fields: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    contexts: list[str] = []
    takes_effect_key = False
    for parameter in inspect.signature(function).parameters.values():
        annotation = _annotation(function, parameter, where, namespace)
        if parameter.name == EFFECT_KEY:
            _check(annotation is str, where, f"`{EFFECT_KEY}` receives the effect key: annotate it `str`")
            takes_effect_key = True
        elif _is_context(annotation):
            contexts.append(parameter.name)
        else:
            fields[parameter.name] = annotation
            if parameter.default is not inspect.Parameter.empty:
                defaults[parameter.name] = parameter.default
    pydantics = _pydantics(fields, where)
    parameters = _parameters(fields, pydantics, where)
    for name, shown in parameters["properties"].items():
        described = about.get(name) or _described(fields[name])
        if described:
            shown["description"] = described
        if name in defaults:
            shown.update(_shown_default(defaults[name], fields[name], pydantics.get(name)))
    required = [name for name in fields if name not in defaults]
    if required:
        parameters["required"] = required
    signature = Signature(fields, set(defaults), parameters, pydantics)
    signature.description, signature.takes_effect_key, signature.contexts = (
        description,
        takes_effect_key,
        tuple(contexts),
    )
    return signature


def _check(right: bool, where: str, words: str) -> None:
    if not right:
        raise InvalidSpec(f"Tool {where}: {words}.")


def _annotation(
    function: Callable[..., Any], parameter: inspect.Parameter, where: str, namespace: Mapping[str, Any]
) -> Any:
    name = parameter.name
    _check(
        parameter.kind is not parameter.VAR_POSITIONAL, where, f"`*{name}` cannot be described to a model; use a list"
    )
    _check(parameter.kind is not parameter.VAR_KEYWORD, where, f"`**{name}` cannot be described to a model; use a dict")
    _check(
        parameter.kind is not parameter.POSITIONAL_ONLY, where, f"`{name}` is positional-only; arguments come by name"
    )
    hint = (
        "; functions can be tools, and methods of an object: tool(the_object.method)" if name in ("self", "cls") else ""
    )
    _check(parameter.annotation is not parameter.empty, where, f"the parameter `{name}` has no annotation{hint}")
    _check(
        not is_field(parameter.default),
        where,
        f"the default of `{name}` is a `Field(...)`, and the function itself would be given it; say it in the "
        f"annotation, as in `{name}: Annotated[int, Field(le=10)] = 3`",
    )
    known = getattr(inspect.unwrap(function), "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
    try:
        return get_type_hints(holder, {**known, **namespace}, None, include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        words = f"the annotation `{parameter.annotation}` of `{name}` cannot be resolved: {error}"
        raise InvalidSpec(f"Tool {where}: {words}.") from None


def _is_context(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return set(get_args(annotation)) == {ToolCallContext, types.NoneType}
    return annotation is ToolCallContext


def _pydantics(fields: Mapping[str, Any], where: str) -> dict[str, PydanticKind]:
    """What pydantic reads: whatever carries something of its own, and what msgspec has no words for."""
    found: dict[str, PydanticKind] = {}
    for name, annotation in fields.items():
        stranger = _context_of_another(annotation)
        _check(
            not stranger,
            where,
            f"`{name}` is annotated `{stranger}`, which another library gives to its tools; here the runtime gives "
            "what is annotated `remanence.ports.ToolCallContext`",
        )
        why = "" if needs_pydantic(annotation) else _objection(annotation)
        if not why and not needs_pydantic(annotation):
            continue
        try:
            found[name] = PydanticKind(annotation)
        except TypeError as error:
            shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
            words = f"the annotation `{shown}` of `{name}` says nothing that JSON can: {why or error}"
            raise InvalidSpec(
                f"Tool {where}: {words}. Use str, int, float, bool, list, dict, Literal, an Enum, a TypedDict, a "
                "dataclass, a pydantic model or a msgspec Struct; `Any` takes everything. What the runtime gives is "
                "annotated `ToolCallContext`."
            ) from None
    return found


def _context_of_another(annotation: Any) -> str:
    """The class that another library would have filled in. Some are dataclasses or models, and could be read as such:
    then a model would be asked for what only that library can know."""
    union = get_origin(annotation) in (Union, types.UnionType)
    for arm in get_args(annotation) if union else (annotation,):
        kind = get_origin(arm) or arm
        home, name = getattr(kind, "__module__", "").partition(".")[0], getattr(kind, "__name__", "")
        if home in _STRANGERS and any(word in name for word in ("Context", "Runtime")):
            return name
    return ""


def _objection(annotation: Any) -> str:
    """Why msgspec cannot read it; empty when it can."""
    try:
        msgspec.json.schema_components([annotation])
        msgspec.convert(None, annotation, strict=True)
    except msgspec.ValidationError:
        return ""
    except (TypeError, NameError, RecursionError) as error:
        return str(error).strip().splitlines()[-1]
    return ""


def _parameters(fields: Mapping[str, Any], pydantics: Mapping[str, PydanticKind], where: str) -> dict[str, Any]:
    """The JSON Schema of all, without the words for people and without what is required."""
    others = {name: annotation for name, annotation in fields.items() if name not in pydantics}
    read, definitions = closed_schemas(list(others.values()))
    schemas = dict(zip(others, read, strict=True))
    for name, kind in pydantics.items():
        (schemas[name],), more = closed([kind.schema], kind.definitions)
        clash = [shared for shared in more if definitions.get(shared, more[shared]) != more[shared]]
        _check(not clash, where, f"two types called `{clash[0] if clash else ''}` refer to themselves; rename one")
        definitions = {**definitions, **more}
    properties = {name: _with_format(schemas[name], annotation) for name, annotation in fields.items()}
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**parameters, "$defs": definitions} if definitions else parameters


def _with_format(schema: Mapping[str, Any], annotation: Any) -> dict[str, Any]:
    """msgspec names the format of a date, and not that of a moment: a model would have to guess how one is written."""
    written = dict(schema)
    arms = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if str not in arms:
        formats = [word for kind, word in _MOMENTS.items() if kind in arms]
        branches = written.get("anyOf")
        if written == _ANY_TEXT and formats:
            written["format"] = formats[0]
        elif branches and len(formats) == 1:
            written["anyOf"] = [{**_ANY_TEXT, "format": formats[0]} if arm == _ANY_TEXT else arm for arm in branches]
    return written


def _described(annotation: Any) -> str:
    """`Annotated[int, "how many"]` describes itself; `Annotated[int, Doc("how many")]` does too."""
    extras: tuple[Any, ...] = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    words = (extra if isinstance(extra, str) else getattr(extra, "documentation", None) for extra in extras)
    return next((text for text in words if isinstance(text, str)), "")


def _shown_default(default: Any, annotation: Any, kind: PydanticKind | None) -> dict[str, Any]:
    """The default as JSON. One that JSON cannot write, or a model could not send, is the function's own affair."""
    try:
        if kind is not None:
            return {"default": kind.written(default)}
        value: object = msgspec.json.decode(msgspec.json.encode(default))
        msgspec.convert(value, annotation, str_keys=True)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return {}
    return {"default": value}
