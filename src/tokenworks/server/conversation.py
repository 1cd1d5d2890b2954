"""The messages of OpenAI's chat API: what each may hold, and the plain form the gateway takes."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tokenworks.server.shown import shown

MOST_TOOL_CALLS = 128
LONGEST_NAME = 256

_EMPTY: tuple[object, ...] = (None, [], {})
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "refusal": (None,),
    "audio": (None,),
    "annotations": _EMPTY,
    "function_call": (None,),
    "tool_calls": _EMPTY,
    "reasoning_content": (None, ""),
}
"""Fields of a message that clients send back from an answer, with the values that say nothing."""

Content = str | list[dict[str, Any]] | None


def _content(content: object) -> object:
    """Text; text parts as one text, joined by line ends; parts where an image is among them."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("must be a valid string, or a list of parts")
    parts = [_part(index, part) for index, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(index: int, part: object) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in ("text", "image_url"):
        raise ValueError(
            f"part {index} is of type {shown(kind)}; only 'text' and 'image_url' are taken"
        )
    if kind == "image_url":
        return _image(index, part)
    if set(part) != {"type", "text"} or not isinstance(part["text"], str):
        raise ValueError(f"part {index} must be exactly {{'type': 'text', 'text': '…'}}")
    return part


def _image(index: int, part: dict[str, Any]) -> dict[str, Any]:
    image = part.get("image_url")
    if set(part) != {"type", "image_url"} or not isinstance(image, dict):
        raise ValueError(f"part {index}, of type 'image_url', needs {{'url': '…'}}")
    url = image.get("url")
    if not isinstance(url, str) or not url.startswith(("data:image/", "https://")):
        raise ValueError(
            f"part {index}: the url of an image_url begins with data:image/ or https://"
        )
    if set(image) - {"url", "detail"} or image.get("detail", "auto") not in ("auto", "low", "high"):
        raise ValueError(f"part {index}: an image_url has 'url' and 'detail' (auto, low or high)")
    return part


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FunctionCall(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    arguments: str


class ToolCall(_Strict):
    id: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Content, BeforeValidator(_content)]
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOL_CALLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        said = {
            name: field
            for name, field in value.items()
            if not (name in _NEUTRAL and field in _NEUTRAL[name])
        }
        if said.get("tool_calls") and said.get("role") == "assistant":
            said.setdefault("content", None)  # a message that calls tools may say nothing
        return said

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role {self.role!r} cannot call tools")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of role 'tool', and only it, needs a tool_call_id")
        if self.content is None and not self.tool_calls:
            raise ValueError("content must be a valid string")
        if isinstance(self.content, list) and self.role != "user":
            raise ValueError(f"a message of role {self.role!r} cannot hold images")
        return self

    def plain(self) -> dict[str, Any]:
        """As `gateway.backend.Completion` takes it."""
        said: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": self.content,
        }
        if self.tool_calls:
            said["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            said["tool_call_id"] = self.tool_call_id
        return said
