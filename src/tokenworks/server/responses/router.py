"""`/v1/responses`: make one, read it, read what led to it, delete it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter
from msgspec import Raw, json
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.labels import Label
from tokenworks.server.answer import collect
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, json_response, key_of, request_id_of
from tokenworks.server.kept import Kept
from tokenworks.server.replies import refuse
from tokenworks.server.responses.conversion import (
    further_of,
    input_items,
    messages_of,
    output_items,
)
from tokenworks.server.responses.described import completed, described
from tokenworks.server.responses.events import ResponseEvents
from tokenworks.server.responses.parameters import Item, ResponsesParameters, read_responses
from tokenworks.server.stream import EventStream, unless_client_leaves

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def responses_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/responses")
    async def create(request: Request) -> Response:
        parameters = await read_object(request, context.settings, read_responses)
        made = await _making(context, request, parameters)
        admitted = context.admit(request, made.completion, made.given)
        made = replace(made, label=admitted.base_label)
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

    @router.get("/v1/responses/{identity}")
    async def read(request: Request, identity: str) -> Response:
        return json_response((await _kept(context, request, identity)).response)

    @router.get("/v1/responses/{identity}/input_items")
    async def read_items(request: Request, identity: str) -> Response:
        kept = await _kept(context, request, identity)
        answered = len(json.decode(kept.response)["output"])
        items = json.decode(kept.items, type=list[Raw])
        given = items[: len(items) - answered]
        listed = {"object": "list", "data": given, "has_more": False}
        return json_response(json.encode(listed))

    @router.delete("/v1/responses/{identity}")
    async def delete(request: Request, identity: str) -> Response:
        await _kept(context, request, identity)
        await context.responses.delete(key_of(request).tenant, identity)
        gone = {"id": identity, "object": "response", "deleted": True}
        return json_response(json.encode(gone))

    return router


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A response about to be answered: as clients see it, as the gateway does, what led to it."""

    key: str
    response: dict[str, Any]
    completion: Completion
    items: Sequence[Item]
    tenant: str
    given: tuple[Label, ...]  # that of the conversation before, if there is one
    label: Label = Label.SECRET  # of all of it, once it is known


async def _making(context: Context, request: Request, parameters: ResponsesParameters) -> _Made:
    items = input_items(parameters)
    given_labels: tuple[Label, ...] = ()
    if parameters.previous_response_id is not None:
        before = await _kept(context, request, parameters.previous_response_id)
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
        tenant=completion.tenant,
        given=given_labels,
    )


async def _keep(context: Context, made: _Made, events: ResponseEvents) -> None:
    await _keep_whole(context, made, events.whole())


async def _keep_whole(context: Context, made: _Made, whole: dict[str, Any]) -> None:
    if not whole["store"]:
        return
    items = [item.model_dump(mode="json", exclude_none=True) for item in made.items]
    await context.responses.put(
        Kept(
            identity=whole["id"],
            tenant=made.tenant,
            label=made.label,
            response=json.encode(whole),
            items=json.encode([*items, *whole["output"]]),
        )
    )


async def _kept(context: Context, request: Request, identity: str) -> Kept:
    """Raises HttpRefusal (404) for one that is not there, or another tenant's: nobody can tell."""
    found = await context.responses.get(key_of(request).tenant, identity)
    if found is None:
        raise refuse(404, "response_not_found", "There is no response of this id that is kept")
    return found
