"""The dialect of OpenAI's chat completions and completions, as most engines and clouds speak it."""

from collections.abc import Mapping
from typing import Any

from tokenworks.errors import RequestError
from tokenworks.gateway.backend import Completion
from tokenworks.gateway.needs import PARAMETERS
from tokenworks.gateway.upstream.dialect import (
    Answers,
    Call,
    cannot_continue,
    check_abilities,
    encoded,
    refuse,
)
from tokenworks.gateway.upstream.openai_events import OpenAIAnswers
from tokenworks.gateway.upstream.settings import UpstreamSettings


class OpenAIDialect:
    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings

    @property
    def models_path(self) -> str:
        return "/models"

    def key_fields(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def answers(self, request: Completion) -> Answers:
        return OpenAIAnswers(self._settings.name, request)

    def call(self, request: Completion, model: str) -> Call:
        check_abilities(self._settings, request)
        body: dict[str, Any] = {"model": model}
        if request.messages is not None:
            self._chat(request, body)
        else:
            self._completion(request, body)
        body |= _sampling(request)
        body |= self._extended(request)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        for name in self._settings.omit:
            body.pop(name, None)
        return Call(
            "/chat/completions" if request.messages is not None else "/completions", encoded(body)
        )

    def _chat(self, request: Completion, body: dict[str, Any]) -> None:
        for name, value in request.further.items():
            if name not in PARAMETERS:
                raise refuse(self._settings, name)
            body[name] = value
        body["messages"] = request.messages
        if request.begun:
            self._continue(request, body)
        if request.max_tokens is not None:
            body[self._settings.max_tokens_name] = request.max_tokens
        if request.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        if request.template_options:
            self._need_extended("chat_template_kwargs")
            body["chat_template_kwargs"] = dict(request.template_options)

    def _continue(self, request: Completion, body: dict[str, Any]) -> None:
        how = self._settings.continues
        if how == "no":
            raise cannot_continue(self._settings)
        messages, begun = list(request.messages or ()), request.begun
        if messages and messages[-1]["role"] == "assistant":  # the client had begun it before
            begun = (messages.pop()["content"] or "") + begun
        said: dict[str, Any] = {"role": "assistant", "content": begun}
        if how == "prefix":
            said["prefix"] = True
        elif how == "continue_final_message":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        body["messages"] = [*messages, said]

    def _completion(self, request: Completion, body: dict[str, Any]) -> None:
        if request.further:
            raise refuse(self._settings, next(iter(request.further)))
        prompt = request.prompt
        if request.begun:
            if not isinstance(prompt, str):
                raise cannot_continue(self._settings)
            prompt += request.begun
        body["prompt"] = prompt
        # This API's own default is 16 tokens, or all that the context leaves.
        wanted = request.max_tokens
        body["max_tokens"] = self._settings.answer_tokens if wanted is None else wanted
        if request.logprobs is not None:
            body["logprobs"] = request.logprobs
        if request.echo:
            body["echo"] = True

    def _extended(self, request: Completion) -> dict[str, Any]:
        """Parameters beyond OpenAI's, those that ask for something."""
        asked = {
            "top_k": request.top_k or None,
            "min_p": request.min_p or None,
            "repetition_penalty": None
            if request.repetition_penalty == 1.0
            else request.repetition_penalty,
            "min_tokens": request.min_tokens or None,
        }
        said = {name: value for name, value in asked.items() if value is not None}
        for name in said:
            self._need_extended(name)
        return said

    def _need_extended(self, name: str) -> None:
        if "extended" not in self._settings.abilities:
            raise refuse(self._settings, name)


def _sampling(request: Completion) -> dict[str, Any]:
    """What OpenAI's API knows, left out where it asks for the API's own default.

    The seed is always said: with it, an engine gives an answer again.
    """
    said: dict[str, Any] = {"seed": request.seed}
    if request.temperature != 1.0:
        said["temperature"] = request.temperature
    if request.top_p != 1.0:
        said["top_p"] = request.top_p
    if request.stop:
        said["stop"] = list(request.stop)
    if request.presence_penalty:
        said["presence_penalty"] = request.presence_penalty
    if request.frequency_penalty:
        said["frequency_penalty"] = request.frequency_penalty
    if request.logit_bias:
        said["logit_bias"] = {str(token): bias for token, bias in request.logit_bias}
    if request.n != 1:
        said["n"] = request.n
    return said


def embeddings_call(
    settings: UpstreamSettings, model: str, inputs: object, further: Mapping[str, object]
) -> Call:
    """`further` are `dimensions`, `encoding_format` and the like. Raises RequestError."""
    if settings.dialect != "openai":
        raise RequestError(f"The backend {settings.name!r} makes no embeddings", param="model")
    known = {"dimensions", "encoding_format", "input_type"}
    for name in further:
        if name not in known:
            raise refuse(settings, name)
    return Call("/embeddings", encoded({"model": model, "input": inputs, **further}))
