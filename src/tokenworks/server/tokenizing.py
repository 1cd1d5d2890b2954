"""`POST /tokenize` and `/detokenize`, in vLLM's shapes, for models whose tokenizer is here.

vLLM has them beside `/v1`, other servers below it: both names are taken.
"""

from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter
from msgspec import json
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.server.body import read_object
from tokenworks.server.context import Context, json_response, key_of, request_id_of
from tokenworks.server.conversation import Message
from tokenworks.server.parameters import Options, explained, refuse_unknown, template_options
from tokenworks.server.passed_on import asks_for_nothing

UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "add_generation_prompt": (None, True),
    "continue_final_message": (None, False),
    "chat_template": (None,),
    "mm_processor_kwargs": (None, {}),
    "tools": (None, []),
}
"""Parameters of vLLM's that are known but not supported, with the values that ask for nothing."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]


class TokenizeParameters(_Strict):
    """`add_special_tokens` None: as it is for a model's own prompts."""

    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    chat_template_kwargs: Annotated[Options, BeforeValidator(template_options)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.messages is not None and self.add_special_tokens:
            raise ValueError("add_special_tokens: a chat template adds its own")
        if self.messages is None and self.chat_template_kwargs:
            raise ValueError("chat_template_kwargs is only allowed with messages")
        return self


class DetokenizeParameters(_Strict):
    tokens: list[Annotated[int, Field(ge=0, lt=2**31)]]


def _read(kind: type[_Strict], body: dict[str, object]) -> Any:
    known = set(kind.model_fields)
    for name, value in body.items():
        if name in UNSUPPORTED and kind is TokenizeParameters:
            if not asks_for_nothing(value, UNSUPPORTED[name]):
                raise RequestError(
                    f"The parameter {name!r} is not supported with this value",
                    hint="leave it out",
                    param=name,
                )
        elif name not in known:
            refuse_unknown(name, known)
    try:
        return kind.model_validate({name: body[name] for name in body if name in known})
    except ValidationError as error:
        raise explained(error) from None


def tokenizing_router(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize")
    @router.post("/v1/tokenize")
    async def tokenize(request: Request) -> Response:
        check = partial(_read, TokenizeParameters)
        given: TokenizeParameters = await read_object(request, context.settings, check)
        tokenizer, longest = context.gateway.tokenizer(given.model, key_of(request))
        tokens = await tokenizer.tokenize(
            _completion(request, given), begin=given.add_special_tokens is not False
        )
        names = None
        if given.return_token_strs:
            _, names = await tokenizer.detokenize(tokens)
        said = {"count": len(tokens), "max_model_len": longest or None, "tokens": tokens}
        return json_response(json.encode({**said, "token_strs": names}))

    @router.post("/detokenize")
    @router.post("/v1/detokenize")
    async def detokenize(request: Request) -> Response:
        check = partial(_read, DetokenizeParameters)
        given: DetokenizeParameters = await read_object(request, context.settings, check)
        tokenizer, _ = context.gateway.tokenizer(given.model, key_of(request))
        text, _ = await tokenizer.detokenize(given.tokens)
        return json_response(json.encode({"prompt": text}))

    return router


async def prompt_tokens(context: Context, request: Request, completion: Completion) -> int:
    """How many tokens a prompt has, before anybody is asked to answer it.

    Raises RequestError for what is not counted here, and as `Gateway.tokenizer`.
    """
    for name in completion.further:
        raise RequestError(
            f"{name!r} is not counted: this machine's engine does not take it",
            hint="leave it out, or read the usage of an answer",
            param=name,
        )
    tokenizer, _ = context.gateway.tokenizer(completion.model, key_of(request))
    return len(await tokenizer.tokenize(completion))


def _completion(request: Request, given: TokenizeParameters) -> Completion:
    messages = given.messages
    return Completion(
        request_id=request_id_of(request),
        model=given.model,
        messages=None if messages is None else [message.plain() for message in messages],
        prompt=given.prompt,
        template_options=given.chat_template_kwargs or {},
    )
