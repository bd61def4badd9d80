"""From a text to the words it is found by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.memory.words import WORD_CHARACTERS_MAX, asked, fold, indexed, name_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dogs were running, weren't they?", {"dog": 1, "run": 1}),
        ("John's car and John\u2019s bike", {"john": 2, "car": 1, "bike": 1}),
        ("L\u2019amour de l'art et qu'une idée", {"amour": 1, "art": 1, "ide": 1}),
        ("ORD-4711, v_2", {"ord": 1, "4711": 1, "v": 1, "2": 1}),
        ("东京大学 rocks", {"东京": 1, "京大": 1, "大学": 1, "rock": 1}),
        ("猫", {"猫": 1}),
        ("", {}),
        ("... !!!", {}),
    ],
)
def test_words_of_a_text(text: str, words: dict[str, int]) -> None:
    assert dict(indexed(text).words) == words


@pytest.mark.parametrize(
    ("kept", "question"),
    [
        ("She loves swimming", "swim"),
        ("Nous avons remboursé les commandes", "remboursements"),
        ("Une crème brûlée à l'école", "creme brulee"),
        ("Une crème brûlée à l'école", "ECOLES"),
        ("Die STRASSE nach Zürich", "zurich straße"),
        ("the ﬁle is naïve", "file naive"),
        ("図書館で本を読む", "図書館"),
    ],
)
def test_other_forms_of_a_word_meet(kept: str, question: str) -> None:
    words = indexed(kept).words
    for word in asked(question):
        assert any(stem in words for stem in word.stems), (word, words)


def test_what_ends_in_a_question_asks() -> None:
    assert indexed("Where?").asks
    assert indexed("Did you see it? [image: a red kite]").asks
    assert indexed("本当ですか\uff1f").asks
    assert not indexed("Where? There.").asks


def test_names_are_found_as_they_are_asked_for() -> None:
    stems = {stem for word in asked("What did Zoë's sister say to Ada Byron?") for stem in word.stems}
    assert stems.issuperset(name_words("Ada Byron")) or stems.intersection(name_words("Ada Byron"))
    assert stems.intersection(name_words("Zoë"))


def test_light_words_count_less_and_function_words_do_not_count() -> None:
    weights = {word.typed: word.weight for word in asked("What kind of tea did she like to make?")}
    assert weights["tea"] == 1.0
    assert weights["kind"] < 1.0
    assert "what" not in weights


@given(st.text())
def test_any_text_is_found_by_itself(text: str) -> None:
    kept = indexed(text)
    assert kept.length == sum(kept.words.values())
    for word in asked(text):
        assert any(stem in kept.words for stem in word.stems)
    assert all(len(word) <= 4 * WORD_CHARACTERS_MAX for word in kept.words)


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
