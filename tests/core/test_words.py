"""Words of texts and searches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remanence.core.words import LOOKED_AT_MAX, WORD_CHARS_MAX, excerpt, scope_words, wanted, words_of

texts = st.text(max_size=120) | st.text(alphabet="ab é日本語\u0301ﬁ_-1", max_size=60)


def test_words_have_no_case_no_accents_and_no_dress() -> None:
    assert words_of("Le CAFÉ du re\u0301sume\u0301, ﬁn № ２", 99) == ("le", "cafe", "du", "resume", "fin", "2")
    assert words_of("ship_to: order-42/7 (x@y.z)", 99) == ("ship", "to", "order", "42", "7", "x", "y", "z")
    assert words_of("日本語", 99) == ("日本", "本語", "語")
    assert words_of("번역 straße", 99) == ("번역", "strasse")
    assert words_of("a" * 500, 9) == ("a" * WORD_CHARS_MAX,)
    assert words_of("one two three", 2) == ("one", "two")
    assert words_of("", 9) == ()


def test_a_search_is_words_and_a_beginning() -> None:
    assert wanted("Refund ord") == (("refund",), "ord")
    assert wanted("refund order ") == (("refund", "order"), "")
    assert wanted("refund, refund") == ((), "refund")
    assert wanted("order 4") == (("order", "4"), "")
    assert wanted("re\u0301s") == ((), "res")
    assert wanted("日本語") == (("日本", "本語"), "")
    assert wanted("日") == ((), "日")
    assert wanted(" ?! ") == ((), "")


def test_an_excerpt_shows_the_first_word_that_fits() -> None:
    text = "a long beginning that nobody asked for " * 5 + "then a refund of Café money " + "and so on " * 30
    pieces = excerpt(text, ("cafe",), "refun", 80)
    assert [piece for piece, fits in pieces if fits] == ["refund", "Café"]
    assert pieces[0] == ("… ", False)
    assert pieces[-1] == ("…", False)
    assert len("".join(piece for piece, _ in pieces)) <= 80 + 4
    assert excerpt("nothing here", ("plum",), "", 80) == [("nothing here", False)]


@given(texts, st.integers(1, 30))
def test_what_is_said_is_found_by_any_of_its_words(text: str, limit: int) -> None:
    words = words_of(text, limit)
    assert len(words) <= limit
    assert len(set(words)) == len(words)
    for word in words:
        assert not word.startswith(tuple(scope_words("", "", "")))
        assert all(char.isalnum() for char in word), "the databases part words at anything else"


@given(texts)
def test_a_text_is_found_by_itself(text: str) -> None:
    said = set(words_of(text, 10_000))
    words, prefix = wanted(text)
    assert set(words) <= said
    assert not prefix or any(word.startswith(prefix) for word in said)


@given(texts, texts, st.integers(1, 80))
def test_an_excerpt_is_of_its_text(text: str, search: str, chars: int) -> None:
    pieces = excerpt(text, *wanted(search), chars)
    assert all(piece for piece, _ in pieces)
    inner = "".join(piece for piece, _ in pieces)
    assert inner.removeprefix("… ").removesuffix("…").strip("… ") in text or inner in text


def test_what_comes_again_and_what_is_endless_is_not_looked_at_for_ever() -> None:
    """The same words as of a short text, in the same order."""
    assert words_of("b a b c " * 100_000, 9) == ("b", "a", "c")
    assert words_of("e\u0301te\u0301 " * 50_000 + "fin", 9) == ("ete", "fin")
    assert words_of("x" * 3_000_000, 9) == ("x" * WORD_CHARS_MAX,)
    assert set(words_of("日本" * 500_000, 9)) == {"日本", "本日"}
    assert (
        len(words_of(" ".join(f"w{number}" for number in range(LOOKED_AT_MAX + 9)), LOOKED_AT_MAX + 9)) == LOOKED_AT_MAX
    )


def test_an_excerpt_of_a_long_text_is_where_the_word_is() -> None:
    text = "nothing here " * 50_000 + "a red kite " + "nothing there " * 50_000
    assert ("kite", True) in excerpt(text, ("kite",), "", 80)
    assert ("kite", True) in excerpt(text, (), "kit", 80)
    assert excerpt(text, ("dog",), "", 80)[0][0].startswith("nothing here")
