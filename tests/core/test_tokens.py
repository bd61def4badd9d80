"""Estimated tokens beside those of five published tokenizers, on a sample of languages and of what tools return.

The counts were made once, with the vocabularies that `gpt-tokenizer` (o200k, cl100k), `mistral-common` (tekken,
llama32k) and an early release of `anthropic` (claude) carry; no text of it
is in the sets that the rates were fitted on.
"""

from __future__ import annotations

from typing import get_args

import pytest

from remanence.content import Image, Message, Text, ToolCall, ToolResult, Usage
from remanence.core.context import Transcript, prompt_of
from remanence.core.session import evolve
from remanence.core.state import Session
from remanence.core.tokens import Family, family_of, message_tokens, text_tokens
from remanence.events import Event, TurnEnded, TurnStarted
from remanence.spec import AgentSpec
from remanence.testing.journals import called, heard, journal, replied

SAMPLE: dict[str, str] = {
    "English prose": (
        "The parcel left the warehouse on Tuesday and should have arrived yesterday. I called t"
        "he carrier twice, but nobody could tell me where it is. Could you please look into it "
        "and let me know whether I should wait, or whether you would rather send a new one? I n"
        "eed it before the weekend, because it is a present for my sister."
    ),
    "French": (
        "Bonjour, j'ai bien reçu la commande, mais l'un des deux verres était cassé à l'intérie"
        "ur du carton. Pourriez-vous m'en renvoyer un, s'il vous plaît, ou me rembourser la moi"
        "tié du prix ? J'ai gardé l'emballage et je peux vous envoyer des photos dès ce soir. M"
        "erci d'avance de votre réponse."
    ),
    "German": (
        "Guten Tag, die Rechnung vom letzten Monat enthält einen Posten, den ich nicht zuordnen"
        " kann. Könnten Sie mir bitte erklären, wofür die zusätzliche Gebühr berechnet wurde? A"
        "ußerdem möchte ich meine Lieferanschrift ändern, weil wir Anfang des Jahres umgezogen "
        "sind."
    ),
    "Spanish": (
        "Hola, quisiera cambiar la fecha de mi reserva porque el vuelo se ha retrasado. ¿Es pos"
        "ible llegar el jueves por la noche en lugar del miércoles? Si hay que pagar algún supl"
        "emento, dígamelo antes de confirmar el cambio, por favor."
    ),
    "Polish": (
        "Dzień dobry, zamówienie przyszło wczoraj, ale brakuje w nim jednej książki. Proszę o i"
        "nformację, kiedy mogę się jej spodziewać, albo o zwrot pieniędzy na konto, z którego z"
        "apłaciłem."
    ),
    "Russian": (
        "Здравствуйте! Я оформил заказ неделю назад, но до сих пор не получил подтверждения. Пр"
        "оверьте, пожалуйста, прошла ли оплата, и напишите, когда примерно можно ожидать достав"
        "ку."
    ),
    "Arabic": (
        "مرحبا، لقد طلبت حذاء قبل أسبوعين ولم يصل حتى الآن. هل يمكنكم التحقق من حالة الشحنة وإخ"
        "باري بالموعد المتوقع للتسليم؟ وشكرا جزيلا لكم."
    ),
    "Hindi": ("नमस्ते, मेरा आदेश पिछले सोमवार को पहुँचना था, लेकिन अभी तक नहीं आया है। कृपया जाँच करें और मुझे बताएँ कि वह कब तक आएगा।"),
    "Chinese": (
        "你好，我上周下的订单到现在还没有发货。请帮我查一下原因，如果没有库存，可以换成蓝色的吗？麻烦尽快回复，谢谢。"
    ),
    "Japanese": (
        "お世話になっております。先日注文した商品がまだ届いていません。配送状況を"
        "確認していただけますか。もし在庫がない場合は、キャンセルをお願いします。"
    ),
    "Korean": (
        "안녕하세요. 지난주에 주문한 상품이 아직 도착하지 않았습니다. 배송 상"
        "태를 확인해 주시고 언제쯤 받을 수 있는지 알려 주시면 감사하겠습니다."
    ),
    "JSON": (
        '{"order":"A-10442","status":"shipped","customer":{"id":"cus_9f83kd02","email":"mara.li'
        'nd@example.com","since":"2024-03-17"},"items":[{"sku":"LMP-220-W","quantity":2,"unit_p'
        'rice":3490},{"sku":"CBL-15","quantity":1,"unit_price":799}],"total":7779,"currency":"E'
        'UR","tracking":"JD014600006281230701","note":"leave with the neighbour"}'
    ),
    "code": (
        'def settle(book: Book, charges: Sequence[Charge]) -> int:\n    """Apply every charge, o'
        'r none of them."""\n    total = 0\n    for charge in charges:\n        if charge.amount_c'
        'ents < 0:\n            raise ValueError(f"{charge.id} is negative")\n        total += ch'
        "arge.amount_cents\n    book.apply(charges)\n    return total\n"
    ),
    "log": (
        "2026-11-03 09:14:22.187 [WARN] worker-3 request 7f3a91c2 took 1841 ms path=/v1/orders/"
        "58213 status=200\n2026-11-03 09:14:23.004 [ERROR] worker-1 request 0b77e4d9 failed: con"
        "nection reset by peer (attempt 2 of 5)\n"
    ),
}
COUNTED: dict[Family, tuple[int, ...]] = {
    "o200k": (69, 75, 58, 50, 58, 42, 45, 38, 37, 43, 40, 108, 78, 89),
    "cl100k": (69, 86, 73, 60, 70, 78, 101, 125, 61, 71, 69, 106, 77, 89),
    "claude": (69, 102, 85, 72, 89, 92, 123, 135, 59, 68, 81, 112, 81, 84),
    "tekken": (69, 76, 62, 59, 63, 55, 45, 45, 48, 49, 41, 142, 78, 119),
    "llama32k": (70, 109, 87, 75, 80, 72, 121, 134, 57, 79, 85, 156, 95, 121),
}

families = pytest.mark.parametrize("family", get_args(Family))


@families
def test_a_mixed_conversation_is_estimated_within_eight_percent(family: Family) -> None:
    estimated = sum(text_tokens(text, family) for text in SAMPLE.values())
    assert abs(estimated / sum(COUNTED[family]) - 1) < 0.08


@families
def test_no_text_of_the_sample_is_far_off(family: Family) -> None:
    errors = [abs(text_tokens(text, family) / n - 1) for text, n in zip(SAMPLE.values(), COUNTED[family], strict=True)]
    assert sum(errors) / len(errors) < 0.10
    assert max(errors) < 0.35


def test_half_of_the_letters_are_half_of_the_tokens() -> None:
    text = SAMPLE["English prose"]
    assert text_tokens("") == 0
    assert text_tokens(text * 10) == pytest.approx(10 * text_tokens(text))
    assert text_tokens("\ud800 broken") > 0


def test_a_model_is_counted_by_its_tokenizer() -> None:
    named = {
        "openai:gpt-6-astra": "o200k",
        "openai:gpt-4-turbo": "cl100k",
        "anthropic:claude-opus": "claude",
        "mistral:large": "tekken",
        "local": "cl100k",
    }
    assert {name: family_of(name) for name in named} == named


def test_messages_weigh_what_is_in_them() -> None:
    call = Message("assistant", (ToolCall("c", "find_order", '{"order":"A-1"}'),))
    result = Message("tool", (ToolResult("c", "find_order", (Text("x" * 400),)),))
    assert 10 < message_tokens(call) < 40
    assert message_tokens(result) > 80
    assert message_tokens(Message("user", (Image("image/png", data="x" * 1_000_000),))) < 2_000


def test_what_a_provider_counts_corrects_the_estimate() -> None:
    spec = AgentSpec("a", "openai:gpt", instructions="Help. " * 300)
    s, text, records = Session("s"), Transcript(), ()

    def write(*events: Event) -> None:
        nonlocal s, records
        for record in journal(*events, after=records):
            records = (*records, record)
            s = evolve(s, record)
            text.add(record)

    write(heard("hello " * 300), TurnStarted(1, (1,)))
    prompt_of(text, s, spec)
    estimated = text.fixed_tokens(spec) + text.tokens(s.window)
    write(called("model_1_1"), replied("model_1_1", "hi", usage=Usage(input_tokens=2 * estimated)))
    assert text.scale == pytest.approx(2.0)
    write(TurnEnded(1, "completed"), heard("more"), TurnStarted(2, (6,)))
    write(called("model_2_1", window_from=1), replied("model_2_1", "hi", usage=Usage(input_tokens=1_000_000)))
    assert text.scale == 3.0, "what cannot be is not believed"
