"""`POST /v1/embeddings`: vectors of texts, in OpenAI's shape."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from msgspec import json
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.gateway.backend import Chunk
from tokenworks.gateway.embedding import EmbeddingRequest, Vectors
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, json_response, key_of, request_id_of
from tokenworks.server.parameters import explained, refuse_unknown
from tokenworks.server.stream import unless_client_leaves

MOST_INPUTS: Final = 2048
FEW: Final = 8
"""Vectors that are written in place; more are in a thread, so that they stall nobody's stream."""

IGNORED: Final = frozenset({"user"})
"""Parameters that cannot change a vector here."""


def _inputs(given: object) -> object:
    """A text, tokens, or a list of either, as a list."""
    inputs = given
    if isinstance(given, str) or (isinstance(given, list) and _are_tokens(given)):
        inputs = [given]
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("must be a string, a list of strings, token ids, or lists of token ids")
    if len(inputs) > MOST_INPUTS:
        raise ValueError(f"holds {len(inputs)} inputs; at most {MOST_INPUTS} are allowed")
    if not all(isinstance(one, str) for one in inputs) and not all(map(_are_tokens, inputs)):
        raise ValueError("must hold texts, or lists of token ids (integers from 0), not both")
    if not all(inputs):
        raise ValueError("holds an empty text; leave it out")
    return inputs


def _are_tokens(given: object) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(type(token) is int and 0 <= token < 2**31 for token in given)
    )


class EmbeddingParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[list[Any], BeforeValidator(_inputs)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None


def read_embeddings(body: dict[str, object]) -> EmbeddingParameters:
    """Check a request's JSON object. Raises RequestError naming what to change."""
    known = EmbeddingParameters.model_fields
    for name in body:
        if name not in known and name not in IGNORED:
            refuse_unknown(name, {*known, *IGNORED})
    try:
        wanted = {name: value for name, value in body.items() if name in known}
        return EmbeddingParameters.model_validate(wanted)
    except ValidationError as error:
        raise explained(error) from None


def embeddings_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        parameters = await read_object(request, context.settings, read_embeddings)
        wanted = EmbeddingRequest.made(
            parameters.input,
            request_id=request_id_of(request),
            model=context.gateway.resolve(parameters.model),
            dimensions=parameters.dimensions,
            encoding=parameters.encoding_format or "float",
            tenant=key_of(request).tenant,
        )
        chunks = (await context.admit(request, wanted)).stream()
        made = await unless_client_leaves(request.receive, _vectors(chunks))
        write = partial(_reply, wanted.model, made)
        large = len(made.vectors) > FEW
        return json_response(await asyncio.to_thread(write) if large else write())

    return router


async def _vectors(stream: AsyncGenerator[Chunk, None]) -> Vectors:
    made: Vectors | None = None
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, Vectors):
                made = chunk
    assert made is not None  # a stream that ends without its one chunk has raised
    return made


def _reply(model: str, made: Vectors) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(made.vectors)
    ]
    tokens = made.usage.prompt_tokens if made.usage else 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.encode({"object": "list", "data": data, "model": model, "usage": usage})
