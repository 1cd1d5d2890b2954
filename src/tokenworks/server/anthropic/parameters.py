"""What a request to `/v1/messages` may hold. As in OpenAI's API, nothing is dropped silently."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokenworks.errors import RequestError
from tokenworks.server.parameters import explained, refuse_unknown

MOST_BLOCKS = 4096
MOST_TOOLS = 128
MOST_STOPS = 16

IGNORED = frozenset({"metadata", "service_tier", "container", "inference_geo"})
"""Parameters that cannot change an answer here."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Cacheable(_Strict):
    cache_control: dict[str, Any] | None = None  # prefixes are reused without being asked


class TextBlock(_Cacheable):
    type: Literal["text"]
    text: str
    citations: list[Any] | None = Field(default=None, max_length=0)


class Source(_Strict):
    type: Literal["base64", "url"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"] | None = None
    data: str | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "base64" and (self.data is None or self.media_type is None):
            raise ValueError("a base64 source needs media_type and data")
        if self.type == "url" and not (self.url or "").startswith("https://"):
            raise ValueError("an image's url begins with https://")
        return self


class ImageBlock(_Cacheable):
    type: Literal["image"]
    source: Source


class ToolUseBlock(_Cacheable):
    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    input: dict[str, Any]


class ToolResultBlock(_Cacheable):
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1, max_length=256)]
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None


class ThinkingBlock(_Cacheable):
    """What a model thought in an earlier answer: it is not shown to a model again."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str = ""
    signature: str = ""
    data: str = ""


Block = Annotated[
    TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock,
    Field(discriminator="type"),
]


class Message(_Strict):
    role: Literal["user", "assistant"]
    content: str | Annotated[list[Block], Field(max_length=MOST_BLOCKS)]

    @model_validator(mode="after")
    def _each_in_its_place(self) -> Self:
        kinds = set() if isinstance(self.content, str) else {block.type for block in self.content}
        foreign = {"tool_use", "thinking", "redacted_thinking"}
        if self.role == "assistant":
            foreign = {"tool_result", "image"}
        if wrong := sorted(kinds & foreign):
            raise ValueError(f"a message of role {self.role!r} cannot hold {wrong[0]!r}")
        return self


class Tool(_Cacheable):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class ToolChoice(_Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("a tool_choice of type 'tool', and only it, needs a name")
        return self


class Thinking(_Strict):
    type: Literal["disabled"]


class MessagesParameters(_Strict):
    model: Annotated[str, Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)]
    messages: Annotated[list[Message], Field(min_length=1)]
    system: str | list[TextBlock] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None


def read_messages(body: dict[str, object]) -> MessagesParameters:
    """Check a request's JSON object. Raises RequestError naming what to change."""
    known = MessagesParameters.model_fields
    for name in body:
        if name not in known and name not in IGNORED:
            refuse_unknown(name, {*known, *IGNORED})
    wanted = {name: value for name, value in body.items() if name in known}
    try:
        found = MessagesParameters.model_validate(wanted)
    except ValidationError as error:
        raise explained(error) from None
    if any(not 0 < len(stop) <= 256 for stop in found.stop_sequences or ()):
        raise RequestError(
            "stop_sequences: each must have 1 to 256 characters", param="stop_sequences"
        )
    if found.tool_choice is not None and not found.tools:
        raise RequestError("tool_choice is only allowed with tools", param="tool_choice")
    return found
