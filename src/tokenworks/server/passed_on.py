"""Parameters of a chat that only some backends take: checked for their shape, then passed on."""

from collections.abc import Callable
from typing import Any, Final

from tokenworks.errors import RequestError

MOST_TOOLS: Final = 128
EFFORTS: Final = ("minimal", "low", "medium", "high", "xhigh")
FORMATS: Final = ("text", "json_object", "json_schema")
CHOICES: Final = ("none", "auto", "required")

_EMPTY: Final[tuple[object, ...]] = (None, [], {})

PASSED_ON: Final[dict[str, tuple[object, ...]]] = {
    "tools": _EMPTY,
    "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "reasoning_effort": (None, "none"),
}
"""Each with the values that ask for nothing."""


def asks_for_nothing(value: object, neutral: tuple[object, ...]) -> bool:
    """Whether a value is one of these, in type too: 0 is not False here."""
    return any(type(value) is type(one) and value == one for one in neutral)


def further_of(body: dict[str, object]) -> dict[str, object]:
    """Those of the request that ask for something. Raises RequestError for a wrong shape."""
    further = {
        name: body[name]
        for name, neutral in PASSED_ON.items()
        if name in body and not asks_for_nothing(body[name], neutral)
    }
    for name, value in further.items():
        if problem := _CHECKS[name](value):
            raise RequestError(f"{name}: {problem}", param=name)
    if "tools" in further:
        parallel = body.get("parallel_tool_calls")
        if isinstance(parallel, bool):
            further["parallel_tool_calls"] = parallel
        if body.get("tool_choice") == "none":
            further["tool_choice"] = "none"
    elif "tool_choice" in further:
        raise RequestError("tool_choice is only allowed with tools", param="tool_choice")
    return further


def _tools(value: Any) -> str:
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        return f"must be a list of at most {MOST_TOOLS} tools"
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            return f"tool {index} must be {{'type': 'function', 'function': {{…}}}}"
        if not isinstance(function.get("name"), str) or not function["name"]:
            return f"tool {index} has no name"
        if not isinstance(function.get("parameters", {}), dict):
            return f"the parameters of tool {index} must be a JSON schema"
    return ""


def _tool_choice(value: Any) -> str:
    if value in CHOICES:
        return ""
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return ""
    return f"must be one of {', '.join(CHOICES)}, or name a function"


def _response_format(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in FORMATS:
        return f"its type must be one of {', '.join(FORMATS)}"
    if kind == "json_schema":
        schema = value.get("json_schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
            return "json_schema must hold a schema"
    return ""


def _reasoning_effort(value: Any) -> str:
    return "" if value in EFFORTS else f"must be one of none, {', '.join(EFFORTS)}"


_CHECKS: Final[dict[str, Callable[[Any], str]]] = {
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "reasoning_effort": _reasoning_effort,
}
