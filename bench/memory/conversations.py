"""Sets of conversations with questions, in the form of LoCoMo: who said what when, and where the answers are.

Each message becomes one episode, as it would from a journal: its text (and what an image shows), its speaker, the
moment it was said. The moment of a message is that of its session, a second apart; a question is asked a day after the
last session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from remanence.recollections import Keep, Memory, Place

__all__ = ["CATEGORIES", "PROJECT", "Conversation", "Question", "keeps", "load"]

PROJECT = "bench"
STORE = "default"
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open domain", 4: "single hop", 5: "adversarial"}
"""What LoCoMo's numbers mean."""

_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_SESSION = re.compile(r"session_(\d+)")


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


def load(path: Path) -> list[Conversation]:
    """Every conversation of a file. Questions without evidence are left out: nothing could be found for them."""
    return [_conversation(number, row) for number, row in enumerate(json.loads(path.read_text(encoding="utf-8")))]


def keeps(conversation: Conversation) -> list[Keep]:
    """What is applied to the index."""
    return [Keep(memory) for memory in conversation.memories]


def _conversation(number: int, row: dict[str, Any]) -> Conversation:
    name = str(row.get("sample_id", number))
    place = Place(STORE, f"user:{name}")
    memories = tuple(_memories(name, place, row["conversation"]))
    known = {memory.id for memory in memories}
    questions: list[Question] = []
    for asked in row["qa"]:
        evidence = frozenset(_ids(name, asked.get("evidence", ()))) & known
        if evidence:
            category = CATEGORIES.get(asked.get("category"), str(asked.get("category")))
            questions.append(Question(asked["question"], evidence, category))
    now = max(memory.recorded_at for memory in memories) + DAY_US
    return Conversation(name, place, memories, tuple(questions), now)


def _ids(name: str, evidence: list[str]) -> Iterator[str]:
    for text in evidence:
        for session, turn in _EVIDENCE.findall(text.replace(" ", "")):
            yield f"{name}/D{int(session)}:{int(turn)}"


def _memories(name: str, place: Place, said: dict[str, Any]) -> Iterator[Memory]:
    sessions = sorted(int(match[1]) for key in said if (match := _SESSION.fullmatch(key)))
    for session in sessions:
        when = datetime.strptime(said[f"session_{session}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        at = int(when.timestamp()) * SECOND_US
        for position, turn in enumerate(said[f"session_{session}"], 1):
            caption = turn.get("blip_caption")
            yield Memory(
                id=f"{name}/{turn['dia_id']}",
                kind="episode",
                project=PROJECT,
                place=place,
                text=turn["text"] + (f" [image: {caption}]" if caption else ""),
                session=f"{name}/{session}",
                position=position,
                author=f"user:{turn['speaker']}",
                speaker=turn["speaker"],
                recorded_at=at + position * SECOND_US,
            )
