"""`POST /v1/responses`: make one, keep it unless that is not wanted; count what it would read."""

import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter
from msgspec import json
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.errors import RequestError, TokenworksError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labels import Label, label_of
from tokenworks.gateway.request_text import strings_of
from tokenworks.server.answer import collect
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, json_response, key_of, request_id_of
from tokenworks.server.kept import Kept, Owner, owner_of
from tokenworks.server.responses.conversion import (
    further_of,
    input_items,
    messages_of,
    output_items,
)
from tokenworks.server.responses.described import completed, described
from tokenworks.server.responses.events import ResponseEvents
from tokenworks.server.responses.parameters import Item, ResponsesParameters, read_responses
from tokenworks.server.responses.reading import add_reading, kept_response
from tokenworks.server.stream import EventStream, unless_client_leaves
from tokenworks.server.tokenizing import prompt_tokens

logger = logging.getLogger(__name__)

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def responses_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/responses")
    async def create(request: Request) -> Response:
        parameters = await read_object(request, context.settings, read_responses)
        made = await _making(context, request, parameters)
        admitted = await context.admit(request, made.completion, made.given)
        made = replace(made, label=admitted.base_label)
        made.response["model"] = admitted.model
        if admitted.label > label_of(context.settings.responses_label):
            made.response["store"] = False
        chunks = admitted.stream()
        if parameters.stream:
            events = ResponseEvents(made.response, context.now)
            return EventStream(chunks, events, before_end=partial(_keep, context, made, events))
        answers, usage = await unless_client_leaves(request.receive, collect(chunks, 1))
        output = output_items(made.key, answers[0])
        reason = answers[0].finish_reason
        whole = completed(made.response, output, reason, usage, context.now())
        await _keep_whole(context, made, whole)
        return json_response(json.encode(whole))

    @router.post("/v1/responses/input_tokens")
    async def input_tokens(request: Request) -> Response:
        parameters = await read_object(request, context.settings, read_responses)
        made = await _making(context, request, parameters)
        tokens = await prompt_tokens(context, request, made.completion)
        counted = {"object": "response.input_tokens", "input_tokens": tokens}
        return json_response(json.encode(counted))

    add_reading(router, context)
    return router


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A response about to be answered: as clients see it, as the gateway does, what led to it."""

    key: str
    response: dict[str, Any]
    completion: Completion
    items: Sequence[Item]
    owner: Owner
    given: tuple[Label, ...]  # that of the conversation before, if there is one
    label: Label = Label.SECRET  # of all of it, once it is known


async def _making(context: Context, request: Request, parameters: ResponsesParameters) -> _Made:
    items = input_items(parameters)
    given_labels: tuple[Label, ...] = ()
    if parameters.previous_response_id is not None:
        before = await kept_response(context, request, parameters.previous_response_id)
        items, given_labels = [*_ITEMS.validate_json(before.items), *items], (before.label,)
    model = context.gateway.resolve(parameters.model)
    # Ids name what is kept, so they must not be guessed: a request's own id may be the caller's.
    key = secrets.token_hex(16)
    store = parameters.store is not False
    response = described(f"resp_{key}", parameters, model=model, created=context.now(), store=store)
    given = parameters
    completion = Completion(
        request_id=request_id_of(request),
        model=model,
        messages=messages_of(items, given.instructions),
        max_tokens=given.max_output_tokens,
        temperature=1.0 if given.temperature is None else given.temperature,
        top_p=1.0 if given.top_p is None else given.top_p,
        presence_penalty=given.presence_penalty or 0.0,
        frequency_penalty=given.frequency_penalty or 0.0,
        seed=secrets.randbits(63),
        further=further_of(given),
        tenant=key_of(request).tenant,
    )
    if not completion.messages:
        raise RequestError("input holds nothing to answer", param="input")
    return _Made(
        key=key,
        response=response,
        completion=completion,
        items=items,
        owner=owner_of(key_of(request)),
        given=given_labels,
    )


async def _keep(context: Context, made: _Made, events: ResponseEvents) -> None:
    await _keep_whole(context, made, events.whole())


async def _keep_whole(context: Context, made: _Made, whole: dict[str, Any]) -> None:
    """An answer that cannot be kept is an answer all the same, and says that it is not."""
    if not whole["store"]:
        return
    said = [*_said(whole["output"]), *strings_of(whole["metadata"])]
    label = max(made.label, await context.gateway.label_of(said))
    if label > label_of(context.settings.responses_label):
        whole["store"] = False
        return
    items = [item.model_dump(mode="json", exclude_none=True) for item in made.items]
    kept = Kept(
        identity=whole["id"],
        owner=made.owner,
        label=made.label,  # what detectors find is found again whenever it is gone on from
        response=json.encode(whole),
        items=json.encode([*items, *whole["output"]]),
    )
    try:
        whole["store"] = await context.responses.put(kept)
    except TokenworksError as error:
        logger.error("a response is not kept: %s", error.message)
        whole["store"] = False


def _said(output: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the answer says; its ids are ours, and random."""
    for item in output:
        yield from (str(item.get("name", "")), str(item.get("arguments", "")))
        for part in (*(item.get("content") or ()), *(item.get("summary") or ())):
            yield str(part.get("text", ""))
