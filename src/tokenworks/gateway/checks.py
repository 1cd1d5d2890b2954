"""Whether a request fits the model, and what its engine is told. Pure: knows no worker."""

from tokenworks.errors import ContextLengthError, RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.inference.messages import Ready, Sampling
from tokenworks.inference.text.codec import TextCodec


def checked(tokens: list[int], codec: TextCodec, *, param: str = "prompt") -> list[int]:
    """The prompt's tokens, never none. Raises RequestError for those that the model has not."""
    if not tokens:
        if codec.bos is None:
            raise RequestError("The prompt is empty", hint="send some text", param="prompt")
        return [codec.bos]
    if not 0 <= min(tokens) <= max(tokens) < codec.vocabulary_size:
        raise RequestError(
            f"The {param} holds token {max(tokens)}; this model's go from 0 to "
            f"{codec.vocabulary_size - 1}",
            param=param,
        )
    return tokens


def room(request: Completion, prompt_tokens: int, ready: Ready) -> int:
    """How many tokens the answer may have, at least one: an engine gives no fewer.

    Raises ContextLengthError, with the numbers.
    """
    longest = ready.context_length
    left = longest - prompt_tokens
    if left < 1:
        raise ContextLengthError(
            f"The prompt has {prompt_tokens} tokens; prompt and answer together may have {longest}",
            hint="shorten the prompt, or begin a new conversation"
            + _more_memory(ready, prompt_tokens + 1),
            param="prompt" if request.messages is None else "messages",
        )
    if request.max_tokens is None:
        return left
    if request.max_tokens > left:
        raise ContextLengthError(
            f"max_tokens is {request.max_tokens} and the prompt has {prompt_tokens} tokens; "
            f"together they may have {longest}",
            hint=f"with this prompt, max_tokens can be at most {left}"
            + _more_memory(ready, prompt_tokens + request.max_tokens),
            param="max_tokens",
        )
    return max(1, request.max_tokens)


def _more_memory(ready: Ready, wanted: int) -> str:
    """What whoever runs the engine can do for a request that the model would take; else nothing."""
    if wanted > ready.model_length:
        return ""
    return (
        f"; the model takes {ready.model_length}, but the engine's KV memory is smaller: "
        "tokenworks up says which --kv-memory-mb holds them"
    )


def sampling_of(request: Completion, codec: TextCodec, max_tokens: int) -> Sampling:
    """What the engine is told.

    Raises RequestError for what does not fit the model or the answer.
    """
    if request.min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {request.min_tokens}, but the answer may have {max_tokens} tokens",
            param="min_tokens",
        )
    unknown = [token for token, _ in request.logit_bias if token >= codec.vocabulary_size]
    if unknown:
        raise RequestError(
            f"logit_bias names token {unknown[0]}; this model's go from 0 to "
            f"{codec.vocabulary_size - 1}",
            param="logit_bias",
        )
    return Sampling(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        seed=request.seed,
        stop_tokens=codec.stop_tokens,
        logprobs=request.logprobs,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=request.logit_bias,
        min_tokens=request.min_tokens,
    )
