"""Several answers to one question: `n` calls of the model, side by side, as the choices of one completion.

No provider is asked for several at once: each answer is a call of its own, reserved, settled and priced like any other,
and what is shown as usage is their sum, the question counted as often as it was asked. When one call fails the others
are ended, and the whole is an error: half of the choices is not what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import TypeVar

from remanence.api.chat.answer import Heading, Piece, chunks, completion
from remanence.api.chat.shapes import ChatAnswer, ChatChunk, ChatUsage, PromptDetails, ReplyDetails

__all__ = ["Answers", "begun", "choices", "choices_in_chunks"]

Answers = Sequence[AsyncGenerator[Piece]]
T = TypeVar("T")


async def begun(answers: Answers) -> list[AsyncGenerator[Piece]]:
    """The same answers, of each of which the first piece has come. Raises what the first that fails raises."""
    try:
        firsts = await _all([anext(pieces) for pieces in answers])
    except BaseException:
        for pieces in answers:
            await pieces.aclose()
        raise
    return [_from(first, pieces) for first, pieces in zip(firsts, answers, strict=True)]


async def choices(heading: Heading, answers: Answers) -> ChatAnswer:
    """All the answers as one completion."""
    made = await _all([completion(heading, pieces) for pieces in answers])
    for index, one in enumerate(made):
        one.choices[0].index = index
    shown = [one.choices[0] for one in made]
    return made[0].model_copy(update={"choices": shown, "usage": _sum([one.usage for one in made])})


async def choices_in_chunks(heading: Heading, answers: Answers, *, usage: bool) -> AsyncGenerator[ChatChunk]:
    """The answers as the chunks of one stream, as they come; with `usage`, one more chunk that holds their sum."""
    coming: asyncio.Queue[ChatChunk | None] = asyncio.Queue(len(answers))
    telling = asyncio.create_task(_tell_all(heading, answers, coming))
    used: list[ChatChunk] = []
    try:
        while (chunk := await coming.get()) is not None:
            if chunk.choices:
                yield chunk
            else:
                used.append(chunk)
        await telling
        if usage:
            yield used[0].model_copy(update={"usage": _sum([one.usage for one in used if one.usage])})
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _tell_all(heading: Heading, answers: Answers, coming: asyncio.Queue[ChatChunk | None]) -> None:
    """Put every chunk of all of them there, and None at the end, also when it is an error."""

    async def tell(index: int, pieces: AsyncGenerator[Piece]) -> None:
        # The chunks do not close what they are made of: a call would go on until whoever reads has heard of the end.
        async with aclosing(pieces), aclosing(chunks(heading, pieces, usage=True)) as made:
            async for chunk in made:
                for choice in chunk.choices:
                    choice.index = index
                await coming.put(chunk)

    try:
        await _all([tell(index, pieces) for index, pieces in enumerate(answers)])
    except BaseException:
        while not coming.empty():
            coming.get_nowait()  # nobody is told the rest of what ends with an error
        coming.put_nowait(None)
        raise
    await coming.put(None)


async def _all(coming: Sequence[Awaitable[T]]) -> list[T]:
    """What all of them come to. When one fails, the others are ended, and that is raised."""
    tasks = [asyncio.ensure_future(one) for one in coming]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _from(first: Piece, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece


def _sum(used: Sequence[ChatUsage]) -> ChatUsage:
    return ChatUsage(
        prompt_tokens=sum(one.prompt_tokens for one in used),
        completion_tokens=sum(one.completion_tokens for one in used),
        total_tokens=sum(one.total_tokens for one in used),
        prompt_tokens_details=PromptDetails(
            cached_tokens=sum(one.prompt_tokens_details.cached_tokens for one in used),
            cache_write_tokens=sum(one.prompt_tokens_details.cache_write_tokens for one in used),
        ),
        completion_tokens_details=ReplyDetails(
            reasoning_tokens=sum(one.completion_tokens_details.reasoning_tokens for one in used)
        ),
    )
