"""An answer in pieces, and what is made of them: one completion, or the chunks of a stream.

However an answer comes about, it is a row of pieces: words, calls that begin, arguments of calls, and the end. What a
model streams is a preview; what it settles on is the truth. `ReplyPieces` tells the preview as it comes and, when the
reply is settled, only what is still missing. If a reader was told something that the settled reply does not begin with
(an attempt broke off and the next one said something else), there is no taking it back: the stream ends with an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Literal, get_args

import msgspec

from remanence.api.chat.shapes import (
    ChatAnswer,
    ChatChunk,
    ChatUsage,
    Choice,
    ChunkChoice,
    ChunkDelta,
    FunctionCall,
    FunctionPiece,
    MessageCall,
    PromptDetails,
    ReplyDetails,
    ReplyMessage,
    Tier,
    TokenLogprobs,
    ToolPiece,
)
from remanence.api.padding import padding
from remanence.content import Part, Text, ToolCall, Usage, logprobs_in, text_of
from remanence.errors import ModelError
from remanence.ports import DeltaKind

__all__ = [
    "Arguments",
    "CallBegun",
    "Done",
    "Finish",
    "Heading",
    "Piece",
    "ReplyPieces",
    "Stopper",
    "Words",
    "chunks",
    "completion",
    "contradicted",
    "finish_of",
    "likely_in",
    "padded",
    "visible",
]

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class Words(msgspec.Struct, frozen=True):
    """Text that was said."""

    text: str


class CallBegun(msgspec.Struct, frozen=True):
    """The call with this number (from 0) begins."""

    number: int
    call: str
    name: str


class Arguments(msgspec.Struct, frozen=True):
    """JSON text that follows in the arguments of a call."""

    number: int
    text: str


class Done(msgspec.Struct, frozen=True):
    """The answer is whole."""

    finish: Finish
    usage: Usage
    tier: str = ""
    """The service tier, as the provider says."""
    likely: tuple[dict[str, Any], ...] | None = None
    """How likely the tokens of the answer were, for those who asked."""


Piece = Words | CallBegun | Arguments | Done


class Heading(msgspec.Struct, frozen=True):
    """What every piece of one answer repeats. `created` is in seconds since 1970, `service_tier` the one asked for."""

    id: str
    created: int
    model: str
    service_tier: Tier | None = None
    metadata: dict[str, str] | None = None


_TIERS: dict[str, Tier] = {name: name for name in get_args(Tier)}


def used_tier(heading: Heading, tier: str) -> Heading:
    """The heading with the tier that was used, for those who asked for one. Providers with others have but one here."""
    if heading.service_tier is None:
        return heading
    return msgspec.structs.replace(heading, service_tier=_TIERS.get(tier, "default"))


def finish_of(stop: str) -> Finish:
    """Why a reply ended, in the words of this wire format."""
    reasons: dict[str, Finish] = {"length": "length", "content_filter": "content_filter", "tool_calls": "tool_calls"}
    return reasons.get(stop, "stop")


def visible(parts: Iterable[Part]) -> str:
    """What a client is shown of a reply's text."""
    return text_of(tuple(part for part in parts if isinstance(part, Text) and part.text))


# --- one reply of a model ---------------------------------------------------------------------------------------------


class ReplyPieces:
    """One reply, told piece by piece. `name_call` gives the id of the n-th call of the reply (from 1), `shows` says by
    a tool's name whether the client runs it; `lead` is what stands before the reply's first words, if it has any."""

    def __init__(
        self, name_call: Callable[[int], str], shows: Callable[[str], bool], *, lead: str = "", first: int = 0
    ) -> None:
        self._name_call = name_call
        self._shows = shows
        self._lead = lead
        self._first = first
        self._text = ""
        self._text_index = -1
        self._numbers: dict[int, int | None] = {}
        """By the index of a part: the number of its call among those shown, None when it is not shown."""
        self._told: list[tuple[str, str]] = []
        self._held = False

    def restart(self) -> None:
        """The attempt broke off: tell nothing more until the reply is settled."""
        self._held = bool(self._text or self._told)
        self._text_index, self._numbers = -1, {}

    def delta(self, index: int, kind: DeltaKind, text: str) -> list[Piece]:
        """What a piece of the running reply adds."""
        if self._held:
            return []
        match kind:
            case "text":
                gap = "\n" if self._text and index != self._text_index else ""
                self._text_index = index
                return self._say(gap + text)
            case "tool_name" if index not in self._numbers:
                shown = self._shows(text)
                self._numbers[index] = len(self._told) if shown else None
                return self._begin(len(self._numbers), text) if shown else []
            case "tool_arguments":
                number = self._numbers.get(index)
                return [] if number is None else self._argue(number, text)
            case _:
                return []

    def settle(self, parts: tuple[Part, ...]) -> list[Piece]:
        """What is still missing. Raises ModelError when something else was told."""
        text = visible(parts)
        if not text.startswith(self._text):
            raise contradicted()
        made = self._say(text[len(self._text) :])
        calls = [part for part in parts if isinstance(part, ToolCall)]
        shown = [(place, call) for place, call in enumerate(calls, 1) if self._shows(call.name)]
        if len(shown) < len(self._told):
            raise contradicted()
        for number, (place, call) in enumerate(shown):
            if number == len(self._told):
                made += self._begin(place, call.name)
            name, told = self._told[number]
            arguments = call.arguments or "{}"
            if name != call.name or not arguments.startswith(told):
                raise contradicted()
            made += self._argue(number, arguments[len(told) :])
        return made

    @property
    def text(self) -> str:
        """The words that were told so far."""
        return self._text

    @property
    def calls(self) -> int:
        """How many calls the client was told of."""
        return len(self._told)

    def _say(self, text: str) -> list[Piece]:
        if not text:
            return []
        lead = "" if self._text else self._lead
        self._text += text
        return [Words(lead + text)]

    def _begin(self, place: int, name: str) -> list[Piece]:
        self._told.append((name, ""))
        return [CallBegun(self._first + len(self._told) - 1, self._name_call(place), name)]

    def _argue(self, number: int, text: str) -> list[Piece]:
        name, told = self._told[number]
        self._told[number] = (name, told + text)
        return [Arguments(self._first + number, text)] if text else []


def contradicted() -> ModelError:
    """What is said when a reply turns out other than it was told."""
    return ModelError(
        "The model broke off and began again with other words, so what this stream has told so far is void. The answer "
        "it settled on is kept where there is a session; ask again, or read it there.",
        kind="connection",
    )


class Stopper:
    """Cuts a text before the first of the stop texts, wherever the pieces of the stream break."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._waiting: str = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        text = self._waiting + text
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped, self._waiting = True, ""
            return text[:found]
        held = max(_overlap(text, stop) for stop in self._stops)
        self._waiting = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back because a stop text might have begun there."""
        held, self._waiting = self._waiting, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How long an end of `text` is that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


# --- what is made of the pieces ---------------------------------------------------------------------------------------


async def completion(heading: Heading, pieces: AsyncIterator[Piece]) -> ChatAnswer:
    """All the pieces as one completion."""
    text: list[str] = []
    calls: list[tuple[CallBegun, list[str]]] = []
    done = Done("stop", Usage())
    async for piece in pieces:
        match piece:
            case Words(text=words):
                text.append(words)
            case CallBegun():
                calls.append((piece, []))
            case Arguments(number=number, text=arguments):
                calls[number][1].append(arguments)
            case Done():
                done = piece
    made = [
        MessageCall(id=begun.call, function=FunctionCall(name=begun.name, arguments="".join(arguments)))
        for begun, arguments in calls
    ]
    message = ReplyMessage(content="".join(text) or (None if made else ""), tool_calls=made or None)
    return ChatAnswer(
        **msgspec.structs.asdict(used_tier(heading, done.tier)),
        choices=[Choice(message=message, finish_reason=done.finish, logprobs=_likely(done))],
        usage=_usage(done.usage),
    )


async def chunks(
    heading: Heading, pieces: AsyncIterator[Piece], *, usage: bool, begins: bool = True
) -> AsyncGenerator[ChatChunk]:
    """The pieces as the chunks of a stream; with `usage`, one more chunk that holds it. `begins`: it is not gone on."""
    if begins:
        yield _chunk(heading, ChunkDelta(role="assistant", content=""))
    async for piece in pieces:
        match piece:
            case Words(text=words):
                yield _chunk(heading, ChunkDelta(content=words))
            case CallBegun(number=number, call=call, name=name):
                begun = ToolPiece(
                    index=number, id=call, type="function", function=FunctionPiece(name=name, arguments="")
                )
                yield _chunk(heading, ChunkDelta(tool_calls=[begun]))
            case Arguments(number=number, text=text):
                more = ToolPiece(index=number, function=FunctionPiece(arguments=text))
                yield _chunk(heading, ChunkDelta(tool_calls=[more]))
            case Done(finish=finish, usage=used, tier=tier):
                heading = used_tier(heading, tier)
                last = _chunk(heading, ChunkDelta(), finish)
                last.choices[0].logprobs = _likely(piece)
                yield last
                if usage:
                    yield _last(heading, used)


async def padded(made: AsyncGenerator[ChatChunk]) -> AsyncGenerator[ChatChunk]:
    """The same chunks, those with a piece of text filled up."""
    async with aclosing(made):
        async for chunk in made:
            for choice in chunk.choices:
                calls = choice.delta.tool_calls or ()
                said = [choice.delta.content, *(call.function.arguments for call in calls if call.function)]
                if text := "".join(piece for piece in said if piece):
                    chunk.obfuscation = padding(text)
            yield chunk


def _likely(done: Done) -> TokenLogprobs | None:
    return None if done.likely is None else TokenLogprobs(content=list(done.likely))


def likely_in(parts: tuple[Part, ...]) -> tuple[dict[str, Any], ...]:
    """How likely the tokens of a reply's texts were."""
    return tuple(token for _, tokens in sorted(logprobs_in(parts).items()) for token in tokens)


def _chunk(heading: Heading, delta: ChunkDelta, finish: Finish | None = None) -> ChatChunk:
    chunk = _last(heading, None)
    chunk.choices = [ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=finish)]
    return chunk


def _last(heading: Heading, used: Usage | None) -> ChatChunk:
    """Every field is set, because those that are not are left out of the stream: in a delta, what did not change."""
    return ChatChunk(
        id=heading.id,
        object="chat.completion.chunk",
        created=heading.created,
        model=heading.model,
        service_tier=heading.service_tier,
        system_fingerprint=None,
        choices=[],
        usage=None if used is None else _usage(used),
    )


def _usage(used: Usage) -> ChatUsage:
    return ChatUsage(
        prompt_tokens=used.input_tokens,
        completion_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
        prompt_tokens_details=PromptDetails(
            cached_tokens=used.cached_tokens, cache_write_tokens=used.cache_write_tokens
        ),
        completion_tokens_details=ReplyDetails(reasoning_tokens=used.reasoning_tokens),
    )
