"""What a request to `/v1/responses` may hold. As in the other APIs, nothing is dropped silently."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tokenworks.errors import RequestError
from tokenworks.server.parameters import explained, refuse_unknown
from tokenworks.server.passed_on import EFFORTS, asks_for_nothing

MOST_ITEMS = 4096
MOST_METADATA = 16

IGNORED = frozenset(
    {
        "background_webhook",
        "client_metadata",
        "include",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "stream_options",
        "user",
    }
)
"""Parameters that cannot change an answer here."""

UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "background": (None, False),
    "context_management": (None, []),
    "conversation": (None,),
    "max_tool_calls": (None,),
    "moderation": (None,),
    "prompt": (None,),
    "top_logprobs": (None, 0),
    "service_tier": (None, "auto", "default"),
    "truncation": (None, "disabled"),
}
"""Parameters that are known but not supported, with the values that ask for nothing."""


class _Open(BaseModel):
    """Items come back as they were sent out: what they hold beside what counts is let be."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class TextPart(_Open):
    type: Literal["input_text", "output_text"]
    text: str


class ImagePart(_Open):
    type: Literal["input_image"]
    image_url: Annotated[str, Field(pattern=r"^(https://|data:image/)")]
    detail: Literal["auto", "low", "high"] | None = None


class RefusalPart(_Open):
    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class MessageItem(_Open):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class CallItem(_Open):
    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str


class ResultItem(_Open):
    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    output: str | list[TextPart]


class ReasoningItem(_Open):
    """What a model thought in an earlier answer: it is not shown to a model again."""

    type: Literal["reasoning"]


Item = Annotated[MessageItem | CallItem | ResultItem | ReasoningItem, Field(discriminator="type")]


def _typed(items: object) -> object:
    """Items of which a message may leave its type out."""
    if not isinstance(items, list):
        return items
    return [
        {"type": "message", **item} if isinstance(item, dict) and "role" in item else item
        for item in items
    ]


class FunctionTool(_Open):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Format(_Open):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    description: str | None = None


class Text(_Open):
    format: Format | None = None
    verbosity: str | None = None


class Reasoning(_Open):
    effort: str | None = None
    summary: str | None = None


class ResponsesParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: str | Annotated[list[Item], Field(max_length=MOST_ITEMS), BeforeValidator(_typed)]
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(max_length=200)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    store: bool | None = None
    stream: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MOST_METADATA)] | None = None


def read_responses(body: dict[str, object]) -> ResponsesParameters:
    """Check a request's JSON object. Raises RequestError naming what to change."""
    known = ResponsesParameters.model_fields
    for name, value in body.items():
        if name in UNSUPPORTED:
            if not asks_for_nothing(value, UNSUPPORTED[name]):
                raise RequestError(
                    f"The parameter {name!r} is not supported with this value",
                    hint="leave it out",
                    param=name,
                )
        elif name not in known and name not in IGNORED:
            refuse_unknown(name, {*known, *UNSUPPORTED, *IGNORED})
    wanted = {name: value for name, value in body.items() if name in known}
    try:
        found = ResponsesParameters.model_validate(wanted)
    except ValidationError as error:
        raise explained(error) from None
    _check(found)
    return found


def _check(found: ResponsesParameters) -> None:
    effort = found.reasoning.effort if found.reasoning else None
    if effort not in (None, "none", *EFFORTS):
        raise RequestError("reasoning.effort is unknown", param="reasoning")
    choice = found.tool_choice
    if choice not in (None, "auto", "none") and not found.tools:
        raise RequestError("tool_choice is only allowed with tools", param="tool_choice")
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        raise RequestError(
            "tool_choice must be auto, none, required, or name a function", param="tool_choice"
        )
    if isinstance(choice, dict) and not isinstance(choice.get("name"), str):
        raise RequestError("tool_choice must name a function", param="tool_choice")
