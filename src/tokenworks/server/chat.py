"""`POST /v1/chat/completions`."""

from collections.abc import Mapping, Sequence
from functools import partial

from fastapi import APIRouter
from msgspec import json
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.gateway.backend import Chunk, TokenLogprob, ToolCallPiece
from tokenworks.server.answer import Answer, collect, usage_json
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, completion_of, json_response, request_id_of
from tokenworks.server.parameters import ChatParameters, read_parameters
from tokenworks.server.stream import EventStream, OpenAIShape, unless_client_leaves


def chat_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        check = partial(read_parameters, ChatParameters)
        parameters = await read_object(request, context.settings, check)
        model = context.gateway.resolve(parameters.model)
        completion = completion_of(
            request,
            parameters,
            model=model,
            messages=[message.plain() for message in parameters.messages],
            max_tokens=parameters.max_completion_tokens or parameters.max_tokens,
            logprobs=(parameters.top_logprobs or 0) if parameters.logprobs else None,
            template_options=parameters.chat_template_kwargs,
            further=parameters.further,
        )
        admitted = await context.admit(request, completion)
        chunks = admitted.stream()
        head = {
            "id": f"chatcmpl-{request_id_of(request)}",
            "object": "chat.completion.chunk" if parameters.stream else "chat.completion",
            "created": context.now(),
            "model": admitted.model,
        }
        if parameters.stream:
            return EventStream(chunks, _ChatEvents(head, parameters.include_usage, completion.n))
        answers, usage = await unless_client_leaves(request.receive, collect(chunks, completion.n))
        choices = [
            {
                "index": index,
                "message": _message_json(answer),
                "logprobs": _logprobs_json(answer.logprobs) if parameters.logprobs else None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return json_response(json.encode({**head, "choices": choices, "usage": usage_json(usage)}))

    return router


class _ChatEvents(OpenAIShape):
    """The parts of an event that never change are bytes already when the first token comes."""

    def __init__(self, head: Mapping[str, object], include_usage: bool, n: int) -> None:
        self._head = b"data: " + json.encode(head)[:-1] + b',"choices":['
        self._tail = (b',"usage":null}' if include_usage else b"}") + b"\n\n"
        self._before_delta = [self._head + b'{"index":%d,"delta":{' % index for index in range(n)]
        self._before_text = [before + b'"content":' for before in self._before_delta]
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._include_usage = include_usage

    def opening(self) -> bytes:
        role = b'"role":"assistant","content":""'
        return b"".join(before + role + self._after_text for before in self._before_delta)

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.logprobs:
            return self._with_logprobs(chunk) + self._end(chunk)
        if chunk.tool_calls or chunk.reasoning or chunk.restarted:
            return self._rare(chunk) + self._end(chunk)
        text = json.encode(chunk.text)
        event = self._before_text[chunk.index] + text + self._after_text if chunk.text else b""
        return event + self._end(chunk) if chunk.finish_reason else event

    def _with_logprobs(self, chunk: Chunk) -> bytes:
        logprobs = json.encode(_logprobs_json(chunk.logprobs))
        middle = b'},"logprobs":' + logprobs + b',"finish_reason":null}]'
        return self._before_text[chunk.index] + json.encode(chunk.text) + middle + self._tail

    def _rare(self, chunk: Chunk) -> bytes:
        delta: dict[str, object] = {"content": chunk.text} if chunk.text else {}
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.tool_calls:
            delta["tool_calls"] = [_piece_json(piece) for piece in chunk.tool_calls]
        after = b',"logprobs":null,"finish_reason":null}]'
        if chunk.restarted:
            after += b',"tokenworks":{"restarted":true}'
        return self._before_delta[chunk.index][:-1] + json.encode(delta) + after + self._tail

    def _end(self, chunk: Chunk) -> bytes:
        if chunk.finish_reason is None:
            return b""
        rest = b'},"logprobs":null,"finish_reason":"%b"}]' % chunk.finish_reason.encode()
        event = self._before_delta[chunk.index] + rest + self._tail
        if self._include_usage and chunk.usage is not None:
            event += self._head + b'],"usage":' + json.encode(usage_json(chunk.usage)) + b"}\n\n"
        return event


def _message_json(answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.tool_calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for _, call in sorted(answer.tool_calls.items())
        ]
    return message


def _piece_json(piece: ToolCallPiece) -> dict[str, object]:
    function = {"arguments": piece.arguments}
    if not piece.name:
        return {"index": piece.index, "function": function}
    named = {"name": piece.name, **function}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": named}


def _logprobs_json(logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
    content = [
        {**_token_json(token), "top_logprobs": [_token_json(t) for t in token.alternatives]}
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


def _token_json(token: TokenLogprob) -> dict[str, object]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}
