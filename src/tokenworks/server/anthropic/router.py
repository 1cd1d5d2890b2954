"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

import secrets

from fastapi import APIRouter
from msgspec import json
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.gateway.backend import Completion
from tokenworks.server.answer import collect
from tokenworks.server.anthropic.conversion import further_of, messages_of
from tokenworks.server.anthropic.events import MessageEvents, message_json
from tokenworks.server.anthropic.parameters import MessagesParameters, read_messages
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, json_response, key_of, request_id_of
from tokenworks.server.stream import EventStream, unless_client_leaves
from tokenworks.server.tokenizing import prompt_tokens


def messages_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/messages")
    async def messages(request: Request) -> Response:
        parameters = await read_object(request, context.settings, read_messages)
        model = context.gateway.resolve(parameters.model)
        completion = _completion(request, parameters, model)
        admitted = await context.admit(request, completion)
        model, chunks = admitted.model, admitted.stream()
        identity = request_id_of(request)
        if parameters.stream:
            return EventStream(chunks, MessageEvents(identity, model))
        answers, usage = await unless_client_leaves(request.receive, collect(chunks, 1))
        return json_response(json.encode(message_json(identity, model, answers[0], usage)))

    @router.post("/v1/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        parameters = await read_object(request, context.settings, _read_for_counting)
        completion = _completion(request, parameters, parameters.model)
        tokens = await prompt_tokens(context, request, completion)
        return json_response(json.encode({"input_tokens": tokens}))

    return router


def _read_for_counting(body: dict[str, object]) -> MessagesParameters:
    return read_messages({"max_tokens": 1, **body})  # nothing is answered


def _completion(request: Request, parameters: MessagesParameters, model: str) -> Completion:
    given = parameters
    return Completion(
        request_id=request_id_of(request),
        model=model,
        messages=messages_of(given),
        max_tokens=given.max_tokens,
        temperature=1.0 if given.temperature is None else given.temperature,
        top_k=given.top_k or 0,
        top_p=1.0 if given.top_p is None else given.top_p,
        seed=secrets.randbits(63),
        stop=tuple(given.stop_sequences or ()),
        further=further_of(given),
        tenant=key_of(request).tenant,
    )
