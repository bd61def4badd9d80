"""Sets of conversations with questions, in the form of LoCoMo: who said what when, and where the answers are.

Each message becomes one episode, as it would from a journal: its text (and what an image shows), its speaker, the
moment it was said. The moment of a message is that of its session, a second apart; a question is asked a day after the
last session.

People make such files by hand and by many programs. What cannot be used is left out and counted (`Counted`), so that
one odd message does not cost the others; a file of which nothing is left is refused with the reason (`Unusable`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from bench.memory.moments import DAY_US, SECOND_US, moment_of

from remanence.recollections import Keep, Memory, Place

__all__ = ["CATEGORIES", "PROJECT", "Conversation", "Counted", "Question", "Unusable", "keeps", "load"]

PROJECT = "bench"
STORE = "default"
FIRST_DAY_US = 1_577_836_800 * SECOND_US
"""When a conversation begins that has no dates: 2020-01-01."""
CATEGORIES = {"1": "multi-hop", "2": "temporal", "3": "open domain", "4": "single hop", "5": "adversarial"}
"""What LoCoMo's numbers mean."""

_ID = re.compile(r"D:?(\d+):(\d+)")
_SESSION = re.compile(r"session_(\d+)")

Counted = Counter[str]
"""What was left out, or understood in a roundabout way, and how often."""


class Unusable(Exception):
    """A file nothing can be measured on; its text says why, for people."""


class Question(msgspec.Struct, frozen=True):
    """A question, and the ids of the messages that hold its answer."""

    text: str
    evidence: frozenset[str]
    category: str


class Conversation(msgspec.Struct, frozen=True):
    """One conversation: its messages as memories, each with its own id, and its questions."""

    name: str
    place: Place
    memories: tuple[Memory, ...]
    questions: tuple[Question, ...]
    now: int


def load(path: Path) -> tuple[list[Conversation], Counted]:
    """Every conversation of a file with a message, and what was left out. Raises Unusable when no question is left."""
    rows, counted = _rows(path), Counted()
    names: Counter[str] = Counter()
    found: list[Conversation] = []
    for number, row in enumerate(rows):
        name = _text(row.get("sample_id")) or str(number)
        names[name] += 1
        conversation = _conversation(f"{name}~{names[name]}" if names[name] > 1 else name, row, counted)
        if conversation is not None:
            found.append(conversation)
    if not any(conversation.questions for conversation in found):
        said = ", ".join(f"{count} {what}" for what, count in counted.items()) or "it has no questions"
        raise Unusable(
            f"Nothing can be measured on {path}: no question names a message that is there ({said}). A question needs "
            'an "evidence" such as ["D1:3"], the "dia_id" of the messages that answer it.'
        )
    return found, counted


def keeps(conversation: Conversation) -> list[Keep]:
    """What is applied to the index."""
    return [Keep(memory) for memory in conversation.memories]


# --- the file ---------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[dict[str, Any]]:
    """The conversations of a file: a list of them, or a single one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Unusable(f"There is no file {path}. Give the path of a set in the form of LoCoMo.") from None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise Unusable(f"{path} is no text in UTF-8 (byte {error.start}). Convert it, or give another file.") from None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unusable(f"{path} is no JSON: {error}. A set is a list of conversations, as LoCoMo has them.") from None
    rows = [row for row in cast("list[Any]", value if isinstance(value, list) else [value]) if isinstance(row, dict)]
    if not any("conversation" in row for row in rows):
        raise Unusable(
            f'{path} holds no conversation. A set is a list of objects with "conversation" (session_1, '
            'session_1_date_time, ...) and "qa" (question, evidence).'
        )
    return rows


def _conversation(name: str, row: dict[str, Any], counted: Counted) -> Conversation | None:
    place = Place(STORE, f"user:{name}")
    said = _object(row.get("conversation"))
    memories: dict[str, Memory] = {}
    for memory in _memories(name, place, said, counted):
        if memory.id in memories:
            counted["messages with an id that another has (the first keeps it)"] += 1
            memory = msgspec.structs.replace(memory, id=f"{memory.id}~{len(memories)}")
        memories[memory.id] = memory
    if not memories:
        counted["conversations without a message"] += 1
        return None
    questions = tuple(_questions(name, row.get("qa"), memories, counted))
    now = max(memory.recorded_at for memory in memories.values()) + DAY_US
    return Conversation(name, place, tuple(memories.values()), questions, now)


def _questions(name: str, qa: object, memories: Mapping[str, Memory], counted: Counted) -> Iterator[Question]:
    for asked in map(_object, _list(qa)):
        text = _text(asked.get("question"))
        evidence = frozenset(_ids(name, asked.get("evidence"))) & memories.keys()
        if not text:
            counted["questions without a text"] += 1
        elif not evidence:
            counted["questions without evidence"] += 1
        else:
            category = _text(asked.get("category"))
            yield Question(text, evidence, CATEGORIES.get(category, category or "none"))


def _ids(name: str, evidence: object) -> Iterator[str]:
    """The messages an evidence names: ids as they are, or in the form of LoCoMo, several in one text, too."""
    for one in _list(evidence):
        if isinstance(one, list):
            yield from _ids(name, cast("list[Any]", one))
            continue
        text = _text(one)
        yield _id(name, text)
        for match in _ID.finditer(text.replace(" ", "")):
            yield _id(name, match[0])


def _id(name: str, text: str) -> str:
    match = _ID.fullmatch(text.replace(" ", ""))
    return f"{name}/{text}" if match is None else f"{name}/D{int(match[1])}:{int(match[2])}"


def _memories(name: str, place: Place, said: dict[str, Any], counted: Counted) -> Iterator[Memory]:
    sessions = sorted({int(match[1]): key for key in said if (match := _SESSION.fullmatch(key))}.items())
    at = FIRST_DAY_US - DAY_US
    for session, key in sessions:
        read = moment_of(said.get(f"{key}_date_time"))
        if read is None:
            counted["sessions without a date that can be read (a day after the one before)"] += 1
        at = at + DAY_US if read is None else read
        for position, turn in enumerate(map(_object, _list(said[key])), 1):
            text = _text(turn.get("text"))
            caption = _text(turn.get("blip_caption"))
            if not text and not caption:
                counted["messages without a text"] += 1
                continue
            speaker = _text(turn.get("speaker"))
            yield Memory(
                id=_id(name, _text(turn.get("dia_id")) or f"D{session}:{position}"),
                kind="episode",
                project=PROJECT,
                place=place,
                text=text + (f" [image: {caption}]" if caption else ""),
                session=f"{name}/{session}",
                position=position,
                author=f"user:{speaker}",
                speaker=speaker,
                recorded_at=at + position * SECOND_US,
            )


# --- what people put where something else belongs ---------------------------------------------------------------------


def _list(value: object) -> Iterable[Any]:
    if value is None:
        return ()
    return cast("list[Any]", value) if isinstance(value, list) else (value,)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """A text as it can be kept: of numbers and lists, too; without halves of characters and zero bytes."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\0", " ").strip()
        case list():
            return " ".join(filter(None, map(_text, cast("list[Any]", value))))
        case bool() | None | dict():
            return ""
        case _:
            return str(value)
