"""What three providers' answers look like on the wire: whole bodies, streams of events, and errors.

Shapes follow the public references of OpenAI's Chat Completions and Responses and of Anthropic's Messages. Ids and
times are constants, so that two runs put the same bytes on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["Answer", "WireCall", "body", "error_body", "events", "overloaded_event"]

_AT = 1_760_000_000


class WireCall(msgspec.Struct, frozen=True):
    """A tool call as a provider makes it: its own id, the tool's name, the arguments as JSON text."""

    id: str
    name: str
    arguments: str = "{}"


class Answer(msgspec.Struct, frozen=True):
    """What the server says. `cached_tokens` are part of `input_tokens`; a `status` other than 200 makes it an error.

    `likely`: it says how likely its tokens were. `service_tier` is the one it says it used, in OpenAI's formats.

    `piece` is how many characters go into one event of a stream. `cut_after`, `end_after`, `stall_after` and
    `error_after` count events: then the connection breaks, the stream ends as if it were whole, nothing comes any more,
    or the provider says inside the stream that it is overloaded.

    `raw` is sent as it stands, head and all, in place of everything else, and then the connection ends.
    """

    text: str = ""
    thinking: str = ""
    signature: str = "c2lnbmF0dXJl"
    calls: tuple[WireCall, ...] = ()
    input_tokens: int = 100
    output_tokens: int = 20
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    counts: bool = True
    stop: str = ""
    likely: bool = False
    service_tier: str = ""
    piece: int = 7
    status: int = 200
    headers: dict[str, str] = {}
    code: str = ""
    stall: bool = False
    cut_after: int | None = None
    end_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    raw: bytes | None = None


def body(api: str, answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """The whole answer as one JSON body, for a request that does not stream."""
    model = str(request.get("model", ""))
    match api:
        case "chat":
            return _chat_body(answer, model)
        case "responses":
            return _response_object(answer, model, _response_items(answer), "completed")
        case _:
            return _message(answer, model, _blocks(answer), _stop_reason(answer))


def events(api: str, answer: Answer, request: dict[str, Any]) -> Iterator[str]:
    """The answer as server-sent events, each with its closing blank line."""
    model = str(request.get("model", ""))
    match api:
        case "chat":
            yield from (f"data: {json.dumps(chunk)}\n\n" for chunk in _chat_chunks(answer, model))
            yield "data: [DONE]\n\n"
        case "responses":
            for number, event in enumerate(_response_events(answer, model)):
                yield _named({**event, "sequence_number": number})
        case _:
            yield from map(_named, _message_events(answer, model))


def error_body(api: str, answer: Answer) -> dict[str, Any]:
    """The body of an error, in the shape of the provider."""
    message = answer.text or f"status {answer.status}"
    if api == "anthropic":
        return {"type": "error", "error": {"type": answer.code or "api_error", "message": message}}
    return {"error": {"message": message, "type": answer.code or None, "code": answer.code or None, "param": None}}


def overloaded_event(api: str) -> str:
    """The event by which a provider says in mid-stream that it is overloaded."""
    if api == "anthropic":
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return _named({"type": "error", "error": error})
    if api == "responses":
        code = {"code": "server_is_overloaded", "message": "Overloaded", "param": None}
        return _named({"type": "error", "sequence_number": 0, **code})
    return f"data: {json.dumps({'error': {'message': 'Overloaded', 'type': 'overloaded', 'code': None}})}\n\n"


def _named(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _tokens(answer: Answer) -> list[dict[str, Any]]:
    """How likely the pieces of the text were, each taken for a token, with one that would have been less so."""

    def token(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "bytes": list(text.encode()), "logprob": logprob}

    return [
        {**token(piece, -0.25), "top_logprobs": [token(piece, -0.25), token("?", -2.5)]}
        for piece in _pieces(answer.text, answer.piece)
    ]


# --- Chat Completions -------------------------------------------------------------------------------------------------


def _chat_body(answer: Answer, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [_chat_call(call) for call in answer.calls]
    choice = {"index": 0, "message": message, "finish_reason": _chat_finish(answer), "logprobs": None}
    if answer.likely:
        choice["logprobs"] = {"content": _tokens(answer), "refusal": None}
    made = {"id": "chatcmpl-1", "object": "chat.completion", "created": _AT, "model": model, "choices": [choice]}
    made |= _tier(answer)
    return {**made, "usage": _chat_usage(answer)} if answer.counts else made


def _tier(answer: Answer) -> dict[str, str]:
    return {"service_tier": answer.service_tier} if answer.service_tier else {}


def _chat_call(call: WireCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _chat_finish(answer: Answer) -> str:
    return answer.stop or ("tool_calls" if answer.calls else "stop")


def _chat_usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def _chat_chunks(answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": _AT, "model": model, **_tier(answer)}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(answer.thinking, answer.piece):
        yield chunk({"reasoning_content": piece})
    for place, piece in enumerate(_pieces(answer.text, answer.piece)):
        made = chunk({"content": piece})
        if answer.likely:
            made["choices"][0]["logprobs"] = {"content": [_tokens(answer)[place]], "refusal": None}
        yield made
    for index, call in enumerate(answer.calls):
        yield chunk({"tool_calls": [{"index": index, **_chat_call(WireCall(call.id, call.name, ""))}]})
    # The arguments of calls made side by side arrive interleaved.
    cut = [_pieces(call.arguments, answer.piece) for call in answer.calls]
    for round_ in range(max(map(len, cut), default=0)):
        for index, pieces in enumerate(cut):
            if round_ < len(pieces):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": pieces[round_]}}]})
    yield chunk({}, _chat_finish(answer))
    if answer.counts:
        yield {**frame, "choices": [], "usage": _chat_usage(answer)}


# --- Responses --------------------------------------------------------------------------------------------------------


def _response_items(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.thinking:
        summary = [{"type": "summary_text", "text": answer.thinking}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": answer.signature})
    if answer.text:
        content: list[dict[str, Any]] = [
            {
                "type": "output_text",
                "text": answer.text,
                "annotations": [],
                "logprobs": _tokens(answer) if answer.likely else [],
            }
        ]
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
    for index, call in enumerate(answer.calls):
        made = {"type": "function_call", "id": f"fc_{index}", "call_id": call.id, "name": call.name}
        items.append({**made, "arguments": call.arguments, "status": "completed"})
    return items


def _response_object(answer: Answer, model: str, items: list[dict[str, Any]], status: str) -> dict[str, Any]:
    cut = status == "completed" and answer.stop == "length"
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": _AT,
        "status": "incomplete" if cut else status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": None,
        "model": model,
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if status == "completed" and answer.counts else None,
        **_tier(answer),
    }


def _response_events(answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    items = _response_items(answer)
    started = _response_object(answer, model, [], "in_progress")
    yield {"type": "response.created", "response": started}
    for index, item in enumerate(items):
        at = {"output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
        match item["type"]:
            case "reasoning":
                yield from _summary_events(item, {**at, "summary_index": 0}, answer.piece)
            case "message":
                yield from _text_events(item, {**at, "content_index": 0}, answer.piece)
            case _:
                for piece in _pieces(item["arguments"], answer.piece):
                    yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
                done = {"arguments": item["arguments"], "name": item["name"]}
                yield {"type": "response.function_call_arguments.done", **at, **done}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    ended = _response_object(answer, model, items, "completed")
    yield {"type": f"response.{ended['status']}", "response": ended}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    match item["type"]:
        case "reasoning":
            return {**item, "summary": []}
        case "message":
            return {**item, "content": [], "status": "in_progress"}
        case _:
            return {**item, "arguments": "", "status": "in_progress"}


def _summary_events(item: dict[str, Any], at: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    whole = item["summary"][0]
    yield {"type": "response.reasoning_summary_part.added", **at, "part": {**whole, "text": ""}}
    for piece in _pieces(whole["text"], size):
        yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
    yield {"type": "response.reasoning_summary_text.done", **at, "text": whole["text"]}
    yield {"type": "response.reasoning_summary_part.done", **at, "part": whole}


def _text_events(item: dict[str, Any], at: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    whole = item["content"][0]
    yield {"type": "response.content_part.added", **at, "part": {**whole, "text": ""}}
    for piece in _pieces(whole["text"], size):
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": whole["text"], "logprobs": whole["logprobs"]}
    yield {"type": "response.content_part.done", **at, "part": whole}


# --- Messages ---------------------------------------------------------------------------------------------------------


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": answer.signature})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text, "citations": None})
    calls = ((call, json.loads(call.arguments)) for call in answer.calls)
    blocks += [{"type": "tool_use", "id": call.id, "name": call.name, "input": given} for call, given in calls]
    return blocks


def _stop_reason(answer: Answer) -> str:
    if answer.stop == "length":
        return "max_tokens"
    return answer.stop or ("tool_use" if answer.calls else "end_turn")


def _message(answer: Answer, model: str, blocks: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    # This provider counts what it read from a cache apart from the rest of the input.
    usage = {
        "input_tokens": answer.input_tokens - answer.cached_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": answer.output_tokens if stop else 1,
    }
    made = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": blocks}
    return {**made, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _message_events(answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message(answer, model, [], None)}
    for index, block in enumerate(_blocks(answer)):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        for delta in _deltas(block, answer):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": answer.output_tokens}}
    yield {"type": "message_stop"}


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "text":
            return {**block, "text": ""}
        case _:
            return {**block, "input": {}}


def _deltas(block: dict[str, Any], answer: Answer) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            for piece in _pieces(block["thinking"], answer.piece):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "text":
            for piece in _pieces(block["text"], answer.piece):
                yield {"type": "text_delta", "text": piece}
        case _:
            for piece in _pieces(json.dumps(block["input"]), answer.piece):
                yield {"type": "input_json_delta", "partial_json": piece}
