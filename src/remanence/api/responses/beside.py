"""What stands beside the text of a reply that a client brings along: where it was taken from, of which phase it was.

A model is told nothing of it. Clients are shown it again with the message, so it is kept as an item for them; a shape
that their types do not know is refused, or they could not read what they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from remanence.errors import InvalidInput

__all__ = ["beside", "told"]


class _Citation(msgspec.Struct, forbid_unknown_fields=True, tag_field="type"):
    pass


class _FileCitation(_Citation, tag="file_citation"):
    file_id: str
    filename: str
    index: int


class _UrlCitation(_Citation, tag="url_citation"):
    url: str
    title: str
    start_index: int
    end_index: int


class _ContainerFileCitation(_Citation, tag="container_file_citation"):
    container_id: str
    file_id: str
    filename: str
    start_index: int
    end_index: int


class _FilePath(_Citation, tag="file_path"):
    file_id: str
    index: int


_Annotation = _FileCitation | _UrlCitation | _ContainerFileCitation | _FilePath


class _Beside(msgspec.Struct, omit_defaults=True):
    """As it is kept, of a `message` that holds nothing else."""

    annotations: list[_Annotation] = []
    phase: Literal["commentary", "final_answer"] | None = None


def beside(message: Mapping[str, Any], path: str) -> dict[int, dict[str, Any]]:
    """What stands beside each part of a reply, by the part's place. Raises InvalidInput with the path of what does not
    fit."""
    content, phase = message.get("content"), message.get("phase")
    parts: list[Any] = cast("list[Any]", content) if isinstance(content, list) else [{}]
    found: dict[int, dict[str, Any]] = {}
    for place, part in enumerate(parts):
        try:
            read = msgspec.convert(part.get("annotations") or [], list[_Annotation])
        except msgspec.ValidationError as error:
            where = f"{path}.content[{place}].annotations"
            raise InvalidInput(f"{where}: {error}. Nothing was written.", param=where) from None
        if read or phase:
            found[place] = {"type": "message", **msgspec.to_builtins(_Beside(read, phase))}
    return found


def told(item: dict[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a reply, with what was brought along beside its text."""
    (part,) = item["content"]
    made = {**item, "content": [{**part, "annotations": kept.get("annotations", [])}]}
    return {**made, "phase": kept["phase"]} if kept.get("phase") else made
