"""Sets that are made here, each with a property of its own: recall takes them all, and never does worse than FTS5.

Each has facts that a message says by itself, and facts that an answer says to a question before it, among small talk.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.memory import __main__ as bench

MEASURES = ("recall@5", "recall@10", "recall@20", "recall<1000t")


class Tongue(msgspec.Struct, frozen=True):
    """How one language says it: `{t}` a thing, `{c}` a town, `{n}` a name."""

    names: str
    things: str
    towns: str
    told: str
    """A fact by itself."""
    wondered: str
    replied: str
    """A question, and the answer to it."""
    asked: tuple[str, str]
    """What is asked afterwards about the one and the other."""
    talk: str


EN = Tongue(
    "Ada Ben Cleo Dan Eve Finn",
    "umbrella teapot violin lantern compass kettle bicycle telescope carpet hammock accordion globe",
    "Lyon Porto Bergen Ghent Turin Malmo Cork Basel Graz Bilbao Split Tartu",
    "I bought my {t} in {c} last spring and I still like it.",
    "Where did you find that old {t}?",
    "In {c}, at the market behind the station.",
    ("Where did {n} buy the {t}?", "Where did {n} find the {t}?"),
    "How was your day?|The weather is fine today.|I slept badly.|Shall we talk later?|My boss called.|That is nice.",
)
FR = Tongue(
    "Adèle Benoît Chloé Damien Élise Félix",
    "parapluie théière violon lanterne boussole bouilloire bicyclette longue-vue tapis hamac accordéon globe",
    "Lyon Porto Bergen Gand Turin Malmö Cork Bâle Graz Bilbao Split Tartu",
    "J'ai acheté mon {t} à {c} au printemps dernier et je l'aime toujours.",
    "Où as-tu trouvé ce vieux {t} ?",
    "À {c}, au marché derrière la gare.",
    ("Où {n} a-t-il acheté le {t} ?", "Où {n} a-t-il trouvé le {t} ?"),
    "Comment s'est passée ta journée ?|Il fait beau aujourd'hui.|J'ai mal dormi.|On se parle plus tard ?|C'est bien.",
)
JA = Tongue(
    "花子 太郎 美咲 健太 由美 大輔",
    "雨傘 急須 提琴 提灯 羅針盤 薬缶 自転車 望遠鏡 絨毯 釣床 風琴 地球儀",
    "札幌 仙台 横浜 金沢 京都 神戸 広島 高松 福岡 長崎 那覇 新潟",
    "去年の春に{c}で{t}を買いました。今でも気に入っています。",
    "その古い{t}はどこで見つけたのですか？",
    "{c}です。駅の裏の市場でした。",
    ("{n}は{t}をどこで買いましたか？", "{n}は{t}をどこで見つけましたか？"),
    "今日はどうでしたか？|いい天気ですね。|よく眠れませんでした。|また後で話しましょう。|それはいいですね。",
)
DE = Tongue(
    "Anna Bernd Clara Dirk Else Franz",
    "Regenschirm Teekanne Geige Laterne Kompass Kessel Fahrrad Fernrohr Teppich Kahn Akkordeon Globus",
    "Lyon Porto Bergen Gent Turin Malmö Cork Basel Graz Bilbao Split Tartu",
    "Ich habe den {t} letztes Frühjahr in {c} gekauft und mag ihn noch immer.",
    "Wo hast du dieses alte Stück gefunden, den {t}?",
    "In {c}, auf dem Markt hinter dem Bahnhof.",
    ("Wo hat {n} den {t} gekauft?", "Wo hat {n} den {t} gefunden?"),
    "Wie war dein Tag?|Das Wetter ist schön.|Ich habe schlecht geschlafen.|Reden wir später?|Das ist schön.",
)


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a set is like."""

    tongue: Tongue = EN
    sessions: int = 8
    speakers: int = 2
    dates: str = "1:56 pm on {d} May, 2023"
    padding: int = 0
    """So many words of talk more in each message."""
    alone: bool = False
    """Every fact is said by itself, and what stands beside it has nothing to do with it."""
    ask: str = ""
    """Instead of the language's question: `words` are a thing and a town, `quoted` three words of a message that shares
    each of them with others; `nameless` leaves the name out."""


def made(form: Form, seed: int) -> dict[str, Any]:
    """A conversation of this form."""
    chance, tongue = random.Random(seed), form.tongue
    names, talk = tongue.names.split()[: form.speakers], tongue.talk.split("|")
    towns = tongue.towns.split()
    said: list[list[tuple[str, str, str]]] = []
    facts: list[tuple[str, str]] = []
    for number, thing in enumerate(tongue.things.split() * 2):
        name, other = chance.sample(names, 2) if len(names) > 1 else (names[0], names[0])
        words = {"t": thing if number < 12 else f"{thing} {number}", "c": chance.choice(towns), "n": name}
        alone = form.alone or number % 2 == 0
        question = tongue.asked[0 if alone else 1]
        if form.ask == "words":
            question = "{t} {c}"
        elif form.ask == "nameless":
            question = question.replace("{n}", "")
        facts.append((question.format(**words), f"fact {number}"))
        if alone:
            said.append([(name, tongue.told.format(**words), f"fact {number}")])
        else:
            answer = (name, tongue.replied.format(**words), f"fact {number}")
            said.append([(other, tongue.wondered.format(**words), ""), answer])
        said += [[(chance.choice(names), chance.choice(talk), "")] for _ in range(6)]
    chance.shuffle(said)
    return {"sample_id": seed, "conversation": laid(form, said, chance), "qa": asked(facts)}


def quoted(form: Form, seed: int) -> dict[str, Any]:
    """A conversation of messages that share their words; three words of one are asked for."""
    chance, tongue = random.Random(seed), form.tongue
    words, names = [*tongue.things.split(), *tongue.towns.split()], tongue.names.split()[: form.speakers]
    facts, said = list[tuple[str, str]](), list[list[tuple[str, str, str]]]()
    for number in range(120):
        here = chance.sample(words, 5)
        said.append([(chance.choice(names), " ".join(here) + ".", f"fact {number}")])
        if number % 4 == 0:
            facts.append((" ".join(chance.sample(here, 3)), f"fact {number}"))
    return {"sample_id": seed, "conversation": laid(form, said, chance), "qa": asked(facts)}


def asked(facts: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"question": question, "evidence": [fact], "category": 1} for question, fact in facts]


def laid(form: Form, said: list[list[tuple[str, str, str]]], chance: random.Random) -> dict[str, Any]:
    """The messages in their sessions; nobody hangs up between a question and its answer."""
    talk = form.tongue.talk.split("|")
    found: dict[str, Any] = {}
    for number in range(form.sessions):
        turns = [turn for group in said[number :: form.sessions] for turn in group]
        found[f"session_{number + 1}"] = [
            {
                "speaker": speaker,
                "dia_id": fact or f"t{number}.{at}",
                "text": " ".join([text, *chance.choices(talk, k=form.padding)]),
            }
            for at, (speaker, text, fact) in enumerate(turns)
        ]
        if form.dates:
            found[f"session_{number + 1}_date_time"] = form.dates.format(d=number % 28 + 1)
    return found


FORMS = {
    "plain": Form(),
    "french": Form(tongue=FR, dates="le {d} mai 2023 à 13h56"),
    "japanese": Form(tongue=JA, dates="2023年5月{d}日"),
    "german": Form(tongue=DE, dates="{d}.5.2023"),
    "six speakers": Form(speakers=6),
    "one speaker": Form(speakers=1),
    "no dates": Form(dates=""),
    "one session": Form(sessions=1),
    "a hundred sessions": Form(sessions=100),
    "long messages": Form(padding=40),
    "very long messages": Form(padding=400),
    "nothing belongs together": Form(alone=True, sessions=100),
    "words alone": Form(ask="words"),
    "words alone, nothing together": Form(ask="words", alone=True),
    "words alone, in Japanese": Form(ask="words", tongue=JA, alone=True),
    "three words of a message": Form(ask="quoted"),
    "three words of a message, in Japanese": Form(ask="quoted", tongue=JA),
    "no names": Form(ask="nameless", speakers=4),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_worse_than_full_text_search(tmp_path: Path, form: str) -> None:
    path, out = tmp_path / "set.json", tmp_path / "out.json"
    make = quoted if FORMS[form].ask == "quoted" else made
    path.write_text(json.dumps([make(FORMS[form], seed) for seed in range(4)]))
    bench.main([str(path), "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    ours = {measure: rows["remanence"]["all"][measure] for measure in MEASURES}
    for rival in ("FTS5 unicode61", "FTS5 porter"):
        theirs = {measure: rows[rival]["all"][measure] for measure in MEASURES}
        worse = {measure: (ours[measure], theirs[measure]) for measure in MEASURES if ours[measure] < theirs[measure]}
        assert not worse, f"{form}: worse than {rival}: {worse}"
    assert ours["recall@10"] > 0.9, ours
