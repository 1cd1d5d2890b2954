"""The response object: what was asked, echoed with every default filled in, and what came of it."""

from typing import Any

from tokenworks.gateway.backend import FinishReason, Usage
from tokenworks.server.responses.parameters import ResponsesParameters


def described(
    identity: str,
    parameters: ResponsesParameters,
    *,
    model: str,
    created: int,
    store: bool,
) -> dict[str, Any]:
    """One that is in progress. Clients want every field there, none of them missing."""
    given = parameters
    text = given.text.model_dump(by_alias=True, exclude_none=True) if given.text else {}
    effort = given.reasoning.effort if given.reasoning else None
    return {
        "id": identity,
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": given.instructions,
        "max_output_tokens": given.max_output_tokens,
        "max_tool_calls": None,
        "metadata": given.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True
        if given.parallel_tool_calls is None
        else given.parallel_tool_calls,
        "presence_penalty": given.presence_penalty or 0.0,
        "frequency_penalty": given.frequency_penalty or 0.0,
        "previous_response_id": given.previous_response_id,
        "prompt_cache_key": None,
        "reasoning": {"effort": effort, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": store,
        "temperature": 1.0 if given.temperature is None else given.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": given.tool_choice or "auto",
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": tool.strict,
            }
            for tool in given.tools or ()
        ],
        "top_logprobs": 0,
        "top_p": 1.0 if given.top_p is None else given.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def completed(
    response: dict[str, Any],
    output: list[dict[str, Any]],
    reason: FinishReason,
    usage: Usage,
    now: int,
) -> dict[str, Any]:
    """The same once it is answered; an answer that was cut is incomplete, and says by what."""
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reason)
    return {
        **response,
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else now,
        "incomplete_details": {"reason": cut} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }
