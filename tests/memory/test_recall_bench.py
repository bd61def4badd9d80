"""The bench of recall takes any set in the form of LoCoMo, however odd, and says what it left out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from bench.memory import __main__ as bench
from bench.memory.conversations import Unusable, load
from bench.memory.moments import moment_of
from hypothesis import given, settings
from hypothesis import strategies as st

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["D1:1", "D1:99", "?", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def small() -> dict[str, Any]:
    return {
        "sample_id": "c",
        "conversation": {
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ada", "dia_id": "D1:1", "text": "The parcel went to Lyon."},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Who signed for it?"},
                {"speaker": "Ada", "dia_id": "D1:3", "text": "", "blip_caption": "a signature"},
            ],
            "session_2_date_time": "2:00 am on 9 May, 2023",
            "session_2": [{"speaker": "Ada", "dia_id": "D2:1", "text": "The neighbour did."}],
        },
        "qa": [{"question": "Where did the parcel go?", "evidence": ["D1:1"], "category": 4, "answer": "Lyon"}],
    }


def saved(folder: Path, value: object) -> Path:
    path = folder / "set.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every key and index of a value, with what holds it."""
    if isinstance(value, dict):
        inner = [place for each in value.values() for place in places_in(each)]
        return [(value, key) for key in value] + inner
    if isinstance(value, list):
        return [(value, at) for at in range(len(value))] + [place for each in value for place in places_in(each)]
    return []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_set_of_that_form_is_measured_or_refused_in_words(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = [small(), small()]
    for _ in range(data.draw(st.integers(1, 3))):
        where = places_in(whole)
        if not where:
            break
        holder, key = data.draw(st.sampled_from(where))
        if data.draw(st.booleans()):
            holder[key] = data.draw(ODD)
        else:
            del holder[key]
    path, refused = saved(tmp_path_factory.mktemp("set"), whole), ""
    try:
        load(path)
    except Unusable as error:
        refused = str(error)
    if refused:
        assert str(path) in refused
        return
    out = path.with_name("out.json")
    bench.main([str(path), "--by-category", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert all(0.0 <= value <= 1.0 for row in rows.values() for name, value in row["all"].items() if name != "n")


def test_what_is_left_out_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = small()
    odd["conversation"]["session_2_date_time"] = "the day after"
    odd["conversation"]["session_2"] += [{"speaker": "Ben"}, 7]
    odd["qa"] += [{"question": "?"}, {"question": "Who signed?", "evidence": "D1:3; D2:01", "category": "1"}]
    bench.main([str(saved(tmp_path, [odd, small(), {"conversation": {}}]))])
    told = capsys.readouterr().out
    assert "2 messages without a text" in told
    assert "1 sessions without a date" in told
    assert "1 questions without evidence" in told
    assert "1 conversations without a message" in told
    conversations, _ = load(saved(tmp_path, [odd, small()]))
    assert [c.name for c in conversations] == ["c", "c~2"]
    assert [sorted(q.evidence) for q in conversations[0].questions] == [["c/D1:1"], ["c/D1:3", "c/D2:1"]]
    assert conversations[0].questions[1].category == "multi-hop"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "There is no file"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"[{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "holds no conversation"),
        (b"7", "holds no conversation"),
        (json.dumps([{**small(), "qa": []}]).encode(), "no question names a message"),
        (json.dumps([{**small(), "qa": [{"question": "Where?", "evidence": ["D9:9"]}]}]).encode(), "1 questions"),
    ],
)
def test_a_file_of_no_use_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, why: str
) -> None:
    path = tmp_path / "set.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        bench.main([str(path)])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert why in told
    assert str(path) in told
    assert "Traceback" not in told


def test_a_folder_is_no_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main([str(tmp_path)])
    assert "cannot be read" in capsys.readouterr().err


def test_a_question_without_a_word_finds_nothing(tmp_path: Path) -> None:
    odd = small()
    odd["qa"] = [{"question": "?!", "evidence": ["D1:1"]}]
    out = tmp_path / "out.json"
    bench.main([str(saved(tmp_path, odd)), "--out", str(out)])
    assert {row["all"]["recall@20"] for row in json.loads(out.read_text())["rows"].values()} == {0.0}


def test_one_conversation_without_a_list_around_it_will_do(tmp_path: Path) -> None:
    whole = small()
    before = copy.deepcopy(whole)
    assert len(load(saved(tmp_path, whole))[0]) == 1
    assert whole == before


@pytest.mark.parametrize(
    ("said", "iso"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08T13:56"),
        ("12:09 am on 13 September, 2023", "2023-09-13T00:09"),
        ("2023-05-08", "2023-05-08"),
        ("2023-05-08T15:56:00+02:00", "2023-05-08T13:56"),
        ("2023/05/08 (Mon) 13:56", "2023-05-08T13:56"),
        ("May 8th, 2023 at 1:56 PM", "2023-05-08T13:56"),
        ("le 8 août 2023 à 13h56", "2023-08-08T13:56"),
        ("8.5.2023", "2023-05-08"),
        ("5/8/2023", "2023-05-08"),
        ("25/8/2023", "2023-08-25"),
        ("2023年5月8日 13:56", "2023-05-08T13:56"),
        ("May 2023", "2023-05-01"),
        (1_683_554_160, "2023-05-08T13:56"),
        (1_683_554_160_000, "2023-05-08T13:56"),
    ],
)
def test_dates_are_read_as_people_write_them(said: object, iso: str) -> None:
    assert moment_of(said) == moment_of(iso) is not None


@pytest.mark.parametrize("said", [None, "", "soon", "31 June 2023", "9999-12-31", 1e300, float("nan"), True, [], {}])
def test_what_is_no_date_is_none(said: object) -> None:
    assert moment_of(said) is None
