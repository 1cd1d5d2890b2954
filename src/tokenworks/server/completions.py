"""`POST /v1/completions`: text goes on where the prompt ends, without a chat template."""

import codecs
from collections.abc import Mapping, Sequence
from functools import partial

from fastapi import APIRouter
from msgspec import json
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.gateway.backend import Chunk, TokenLogprob
from tokenworks.server.answer import collect, usage_json
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, completion_of, json_response, request_id_of
from tokenworks.server.parameters import CompletionParameters, read_parameters
from tokenworks.server.stream import EventStream, OpenAIShape, unless_client_leaves


def completions_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        check = partial(read_parameters, CompletionParameters)
        parameters = await read_object(request, context.settings, check)
        model = context.gateway.resolve(parameters.model)
        completion = completion_of(
            request,
            parameters,
            model=model,
            prompt=parameters.prompt,
            max_tokens=parameters.max_tokens,
            logprobs=parameters.logprobs,
            echo=bool(parameters.echo),
        )
        admitted = await context.admit(request, completion)
        chunks = admitted.stream()
        head = {
            "id": f"cmpl-{request_id_of(request)}",
            "object": "text_completion",
            "created": context.now(),
            "model": admitted.model,
        }
        if parameters.stream:
            return EventStream(chunks, _TextEvents(head, parameters.include_usage, completion.n))
        answers, usage = await unless_client_leaves(request.receive, collect(chunks, completion.n))
        choices = [
            {
                "index": index,
                "text": answer.text,
                "logprobs": None
                if parameters.logprobs is None
                else _logprobs_json(answer.logprobs, offset=0),
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return json_response(json.encode({**head, "choices": choices, "usage": usage_json(usage)}))

    return router


class _TextEvents(OpenAIShape):
    """The parts of an event that never change are bytes already when the first token comes."""

    def __init__(self, head: Mapping[str, object], include_usage: bool, n: int) -> None:
        self._head = b"data: " + json.encode(head)[:-1] + b',"choices":['
        self._tail = (b',"usage":null}' if include_usage else b"}") + b"\n\n"
        self._before_text = [self._head + b'{"index":%d,"text":' % index for index in range(n)]
        self._include_usage = include_usage
        self._characters = [0] * n

    def opening(self) -> bytes:
        return b""

    def piece(self, chunk: Chunk) -> bytes:
        if not (chunk.text or chunk.logprobs or chunk.finish_reason or chunk.restarted):
            return b""
        if chunk.restarted:
            self._characters = [0] * len(self._characters)
        logprobs = b"null"
        if chunk.logprobs:
            logprobs = json.encode(
                _logprobs_json(chunk.logprobs, offset=self._characters[chunk.index])
            )
        self._characters[chunk.index] += len(chunk.text)
        reason = b'"%b"' % chunk.finish_reason.encode() if chunk.finish_reason else b"null"
        restarted = b',"tokenworks":{"restarted":true}' if chunk.restarted else b""
        event = b'%b%b,"logprobs":%b,"finish_reason":%b}]%b%b' % (
            self._before_text[chunk.index],
            json.encode(chunk.text),
            logprobs,
            reason,
            restarted,
            self._tail,
        )
        if self._include_usage and chunk.usage is not None:
            event += self._head + b'],"usage":' + json.encode(usage_json(chunk.usage)) + b"}\n\n"
        return event


def _logprobs_json(logprobs: Sequence[TokenLogprob], *, offset: int) -> dict[str, object]:
    """`offset` is the number of characters before the first of these tokens."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets = []
    for token in logprobs:
        offsets.append(offset)
        if token.text:  # a control token of the prompt has no place in the text
            offset += len(decoder.decode(token.raw))
    return {
        "tokens": [_name(token) for token in logprobs],
        "token_logprobs": [token.logprob for token in logprobs],
        "top_logprobs": [_alternatives(token) for token in logprobs],
        "text_offset": offsets,
    }


def _alternatives(token: TokenLogprob) -> dict[str, float | None] | None:
    """None for a prompt's first token, which nothing goes before."""
    if token.logprob is None:
        return None
    return {_name(other): other.logprob for other in token.alternatives}


def _name(token: TokenLogprob) -> str:
    r"""The token's text; for a part of a character its bytes, as in `bytes:\xe2\x82`."""
    try:
        return token.raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)
