"""The page at `/docs`: the OpenAPI document for people. One HTML text, no script, no font, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

from remanence.errors import RemanenceError

__all__ = ["docs_page", "render"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 0 1rem .5rem; margin: 1rem 0; }
code, pre { font: .9em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: .25rem; }
code { padding: .1em .3em; }
pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; border-top: 1px solid var(--line); padding: .35rem .75rem .35rem 0; }
.method { font-weight: 600; }
"""


def docs_page(document: dict[str, Any]) -> HTMLResponse:
    """The page as a response that forbids itself everything it does not need."""
    return HTMLResponse(render(document), headers={"content-security-policy": _POLICY, "cache-control": "no-cache"})


def render(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML: every operation with its parameters, body, answers and the curl line."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    components = document.get("components", {})
    schemas: dict[str, Any] = components.get("schemas", {})
    shared: dict[str, Any] = components.get("responses", {})
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{title}</h1><p>{_text(info.get('summary', ''))}</p><p>{_text(info.get('description', ''))}</p>",
        "<p>For programs: <a href=/openapi.json>/openapi.json</a></p>",
        *(_operation(*operation, shared) for operation in operations),
        "<h2 id=errors>Errors</h2>",
        *_errors(),
        "<h2 id=schemas>Schemas</h2>",
        *(_schema(name, schema) for name, schema in sorted(schemas.items())),
        "</main></body></html>",
    ]
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any], shared: dict[str, Any]) -> str:
    answers = {
        status: shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for status, answer in operation["responses"].items()
    }
    rows = "".join(_answer(status, answer) for status, answer in sorted(answers.items()))
    return (
        f'<article id="{escape(operation.get("operationId", path), quote=True)}">'
        f"<h2><span class=method>{escape(method.upper())}</span> <code>{escape(path)}</code></h2>"
        f"<p><b>{_text(operation.get('summary', ''))}.</b> {_text(operation.get('description', ''))}</p>"
        f"{_parameters(operation.get('parameters', []))}{_body(operation)}"
        f"<table><tr><th>Status<th>Answer<th>Schema</tr>{rows}</table>"
        f"<pre>{escape(_curl(path, method, operation))}</pre></article>"
    )


_OF_HTTP = (
    ("request_timeout", 408, "The rest of the request did not come; nothing was done."),
    ("headers_too_large", 431, "The headers of the request are larger than the server takes."),
    ("http_error", 400, "The request is refused by the rules of HTTP; the message says by which."),
    ("internal_error", 500, "Something happened that should not; the log says what, under the id of the request."),
    ("method_not_allowed", 405, "The path does not take this method."),
    ("misdirected", 421, "The server does not answer for the host that the request names."),
    ("stopping", 503, "The server stopped before the request was answered. Send it again."),
)
"""The codes that no error of the program has."""


def _errors() -> Iterator[str]:
    """What each error code means, at the place its `doc_url` names."""
    for code, status, about in _OF_HTTP:
        yield f'<p id="error-{code}"><code>{code}</code> ({status}): {about}</p>'
    seen: dict[str, type[RemanenceError]] = {}
    pending: list[type[RemanenceError]] = [RemanenceError]
    while pending:
        kind = pending.pop(0)
        pending += kind.__subclasses__()
        seen.setdefault(kind.code, kind)
    for code, kind in sorted(seen.items()):
        about = _text((kind.__doc__ or "").strip())
        yield f'<p id="error-{escape(code, quote=True)}"><code>{escape(code)}</code> ({kind.status}): {about}</p>'


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code>"
        f"<td>{escape(one['in'])}{'' if one.get('required') else ', optional'}"
        f"<td>{_kind(one.get('schema', {}))}<td>{_text(one.get('description', ''))}</tr>"
        for one in parameters
    )
    return f"<table><tr><th>Parameter<th>In<th>Type<th>Meaning</tr>{rows}</table>"


def _body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    kinds = [f"<code>{escape(kind)}</code>: {_kind(one.get('schema', {}))}" for kind, one in content.items()]
    return f"<p>Body: {'; '.join(kinds)}</p>" if kinds else ""


def _answer(status: str, answer: dict[str, Any]) -> str:
    kinds = ", ".join(_kind(one.get("schema", {})) for one in answer.get("content", {}).values())
    return f"<tr><td>{escape(status)}<td>{_text(answer.get('description', ''))}<td>{kinds}</tr>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{'' if field in required else ' (optional)'}"
        f"<td>{_kind(one)}<td>{_text(one.get('description', ''))}</tr>"
        for field, one in schema.get("properties", {}).items()
    )
    table = f"<table><tr><th>Field<th>Type<th>Meaning</tr>{rows}</table>" if rows else ""
    about = _text(schema.get("description", ""))
    return f'<article id="schema-{escape(name, quote=True)}"><h3>{escape(name)}</h3><p>{about}</p>{table}</article>'


def _kind(schema: dict[str, Any]) -> str:
    """The type of a value in a few words; a named schema as a link."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2], quote=True)
        return f'<a href="#schema-{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " | ".join(map(_kind, schema[word]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_kind(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "any")))


def _curl(path: str, method: str, operation: dict[str, Any]) -> str:
    verb = "" if method == "get" else f" -X {method.upper()}"
    body = " -H 'content-type: application/json' -d '{}'" if "requestBody" in operation else ""
    return f"curl{verb} http://127.0.0.1:7410{path}{body}"


def _text(text: str) -> str:
    """Prose with `code` in it."""
    return "".join(_pieces(escape(text)))


def _pieces(text: str) -> Iterator[str]:
    for number, piece in enumerate(text.split("`")):
        yield f"<code>{piece}</code>" if number % 2 else piece.replace("\n\n", "<br>")
