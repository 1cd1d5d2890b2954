"""What a request needs of a backend beside its model. Pure."""

from typing import Final, Literal

from tokenworks.gateway.backend import Completion

Need = Literal["tools", "schema", "vision", "reasoning", "extended"]
"""`extended`: sampling and template variables that OpenAI's own API does not have."""

PARAMETERS: Final[dict[str, Need]] = {
    "tools": "tools",
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "response_format": "schema",
    "reasoning_effort": "reasoning",
}
"""What each parameter that is passed on needs."""

WORDS: Final[dict[Need, str]] = {
    "tools": "tool calls",
    "schema": "a format for its answer",
    "vision": "images",
    "reasoning": "a reasoning effort",
    "extended": "parameters beyond OpenAI's own",
}

EVERYWHERE: Final[frozenset[str]] = frozenset({"reasoning"})
"""What every backend that is reached by HTTP takes, or refuses by name itself."""


def needs_of(request: Completion) -> dict[Need, str]:
    """Each need with the parameter that has it, for people."""
    needs: dict[Need, str] = {
        PARAMETERS[name]: name for name in request.further if name in PARAMETERS
    }
    for message in request.messages or ():
        content = message.get("content")
        if message.get("tool_calls") or message["role"] == "tool":
            needs.setdefault("tools", "messages")
        if isinstance(content, list) and any(part["type"] == "image_url" for part in content):
            needs["vision"] = "messages"
    if name := _extension(request):
        needs["extended"] = name
    return needs


def _extension(request: Completion) -> str:
    """The first parameter that only some servers of OpenAI's API know; empty if there is none."""
    given = (
        ("top_k", request.top_k != 0),
        ("min_p", request.min_p != 0.0),
        ("repetition_penalty", request.repetition_penalty != 1.0),
        ("min_tokens", request.min_tokens != 0),
        ("chat_template_kwargs", bool(request.template_options)),
    )
    return next((name for name, is_given in given if is_given), "")
