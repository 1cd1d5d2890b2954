"""What a request can ask of sampling, by the official client against a real engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from serving import Serving, serving
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.sampler import choice_seed
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.open import open_codec
from tokenworks.telemetry.metrics import Metrics

HELLO: Any = [{"role": "user", "content": "hello"}]
PROMPT = "the rain in Spain stays mainly in the plain, € and all"


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Serving]:
    settings = EngineSettings(
        model_path=str(tiny_model), model_id="tiny", executor="native", threads=1, max_sequences=20
    )
    with serving(EngineBackend(settings, metrics=Metrics())) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> TextCodec:
    return open_codec(tiny_model)


def complete(client: openai.OpenAI, **changes: Any) -> Any:
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 24, "seed": 3}
    return client.completions.create(**(asked | changes))


def text(client: openai.OpenAI, **changes: Any) -> str:
    answer: str = complete(client, **changes).choices[0].text
    return answer


def test_a_bias_forces_a_token_or_rules_it_out(client: openai.OpenAI, codec: TextCodec) -> None:
    q, r = (str(token) for token in codec.encode("qr"))

    assert text(client, logit_bias={q: 100, r: 50}) == "q" * 24
    assert text(client, logit_bias={q: -100, r: 50}) == "r" * 24
    assert "q" not in text(client, logit_bias={q: -100}, max_tokens=300, temperature=2)


def test_penalties_keep_an_answer_from_repeating_itself(
    client: openai.OpenAI, codec: TextCodec
) -> None:
    letters = codec.encode("xqz")  # none of them is in the prompt
    bias = {str(token): 80 + 10 * index for index, token in enumerate(letters)}

    assert text(client, logit_bias=bias, temperature=0, max_tokens=6) == "zzzzzz"
    frequent = text(client, logit_bias=bias, temperature=0, max_tokens=30, frequency_penalty=2)
    assert {"x", "q", "z"} <= set(frequent)
    repeated = {"extra_body": {"repetition_penalty": 2}, "logit_bias": bias, "temperature": 0}
    assert text(client, **repeated, max_tokens=3) == "zqx"
    # The repetition penalty counts the prompt too.
    assert text(client, **repeated, max_tokens=2, prompt="z") == "qx"


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_changes_the_answer_reproducibly_in_both_apis(
    client: openai.OpenAI, penalty: str
) -> None:
    def chat(value: float) -> str | None:
        asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 40, "seed": 2}
        answer = client.chat.completions.create(**asked, **{penalty: value})
        content: str | None = answer.choices[0].message.content
        return content

    assert chat(2) == chat(2) != chat(0)
    assert text(client, **{penalty: 2}) == text(client, **{penalty: 2}) != text(client)


def test_no_answer_ends_before_its_least_length(client: openai.OpenAI, codec: TextCodec) -> None:
    end = {str(codec.stop_tokens[0]): 100}

    short = complete(client, logit_bias=end)
    long = complete(client, logit_bias=end, extra_body={"min_tokens": 10})
    free = text(client, temperature=0)
    words = {"stop": [free[2:4]], "temperature": 0}
    cut = complete(client, **words)
    late = complete(client, **words, extra_body={"min_tokens": 20})

    assert (short.usage.completion_tokens, short.choices[0].finish_reason) == (1, "stop")
    assert (long.usage.completion_tokens, long.choices[0].finish_reason) == (11, "stop")
    assert cut.choices[0].text == free[: free.index(free[2:4])]
    assert late.usage.completion_tokens >= 20
    assert late.choices[0].text.startswith(free[:4])


def test_a_least_length_that_cannot_be_is_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="may have 24") as refused:
        complete(client, extra_body={"min_tokens": 25})

    assert refused.value.param == "min_tokens"


def test_a_bias_of_a_token_that_the_model_has_not_is_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="99999") as refused:
        complete(client, logit_bias={"99999": 1})

    assert refused.value.param == "logit_bias"


def test_choice_i_is_the_answer_to_the_seed_derived_for_it(client: openai.OpenAI) -> None:
    several = complete(client, n=5)
    alone = [complete(client, seed=choice_seed(3, choice)) for choice in range(5)]

    assert [choice.index for choice in several.choices] == [0, 1, 2, 3, 4]
    assert [c.text for c in several.choices] == [one.choices[0].text for one in alone]
    assert len({choice.text for choice in several.choices}) == 5
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert several.usage.completion_tokens == sum(o.usage.completion_tokens for o in alone)


def test_streamed_choices_interleave_and_add_up_to_the_unstreamed_ones(
    client: openai.OpenAI,
) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "seed": 5, "n": 16}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
    pieces = [""] * 16
    order = []
    for choice in (event.choices[0] for event in events if event.choices):
        pieces[choice.index] += choice.delta.content or ""
        order.append(choice.index)
    first_end = next(n for n, e in enumerate(events) if e.choices and e.choices[0].finish_reason)

    assert pieces == [choice.message.content for choice in whole.choices]
    assert set(order[16:first_end]) == set(range(16)), "all go on before the first one ends"
    assert sum(bool(e.choices and e.choices[0].finish_reason) for e in events) == 16
    assert [event.usage is not None for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].usage == whole.usage


def test_a_choice_that_a_stop_string_ends_leaves_the_others_alone(client: openai.OpenAI) -> None:
    free = [choice.text for choice in complete(client, n=4).choices]
    stop = free[2][3:5]
    stopped = complete(client, n=4, stop=stop)
    with complete(client, n=4, stop=stop, stream=True) as stream:
        streamed = [""] * 4
        for event in stream:
            streamed[event.choices[0].index] += event.choices[0].text

    assert [c.text for c in stopped.choices] == [one.partition(stop)[0] for one in free]
    assert streamed == [choice.text for choice in stopped.choices]
    assert stopped.choices[2].finish_reason == "stop"


def test_a_stop_string_over_many_tokens_is_never_shown_in_part(
    client: openai.OpenAI, codec: TextCodec
) -> None:
    free = text(client, temperature=0)
    for start, end in ((4, 12), (1, 20), (0, 6)):
        stop = free[start:end]
        assert len(codec.encode(stop)) > 2
        with complete(client, temperature=0, stop=stop, stream=True) as stream:
            pieces = [event.choices[0].text for event in stream]

        assert "".join(pieces) == free[: free.index(stop)]


def test_more_answers_than_the_engine_holds_are_400(tiny_model: Path) -> None:
    settings = EngineSettings(
        model_path=str(tiny_model), model_id="tiny", threads=1, max_sequences=2, queue_limit=1
    )
    with (
        serving(EngineBackend(settings, metrics=Metrics())) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="at most 3") as refused:
            complete(client, n=4)

        assert refused.value.param == "n"
        assert len(complete(client, n=3, max_tokens=3).choices) == 3


def test_an_echo_scores_each_prompt_token_as_if_it_had_been_generated(
    client: openai.OpenAI, codec: TextCodec
) -> None:
    complete(client)  # the prompt's pages are known: its rows are computed all the same
    echo = complete(client, echo=True, logprobs=2, max_tokens=3, temperature=0)
    logprobs = echo.choices[0].logprobs
    plain = complete(client, logprobs=2, max_tokens=3, temperature=0).choices[0]
    tokens = codec.prompt(PROMPT)

    assert echo.choices[0].text == PROMPT + plain.text
    assert echo.usage.prompt_tokens == len(tokens)
    assert echo.usage.completion_tokens == 3
    assert (logprobs.token_logprobs[0], logprobs.top_logprobs[0]) == (None, None)
    assert logprobs.token_logprobs[len(tokens) :] == plain.logprobs.token_logprobs
    assert logprobs.tokens[len(tokens) :] == plain.logprobs.tokens
    assert logprobs.text_offset[len(tokens)] == len(PROMPT)
    for number in range(1, len(tokens), 7):
        forced = complete(
            client,
            prompt=tokens[:number],
            logit_bias={str(tokens[number]): 100},
            temperature=0,
            max_tokens=1,
            logprobs=2,
        )
        assert forced.choices[0].logprobs.token_logprobs == [logprobs.token_logprobs[number]]
        assert forced.choices[0].logprobs.top_logprobs == [logprobs.top_logprobs[number]]


def test_an_echo_of_nothing_but_the_prompt_computes_no_answer(client: openai.OpenAI) -> None:
    for stream in (False, True):
        scored = complete(client, echo=True, logprobs=0, max_tokens=0, stream=stream)
        choices = [e.choices[0] for e in scored] if stream else [scored.choices[0]]

        assert "".join(choice.text for choice in choices) == PROMPT
        assert choices[-1].finish_reason == "length"
        values = choices[0].logprobs.token_logprobs
        assert values[0] is None
        assert all(value < 0 for value in values[1:])
        if not stream:
            assert scored.usage.completion_tokens == 0
            assert scored.usage.total_tokens == scored.usage.prompt_tokens == len(values)
    assert complete(client, echo=True, max_tokens=0).choices[0].logprobs is None


def test_every_choice_echoes_the_prompt(client: openai.OpenAI, codec: TextCodec) -> None:
    prompt = codec.prompt(PROMPT)
    several = complete(client, prompt=prompt, echo=True, logprobs=1, n=3, max_tokens=4)

    assert all(choice.text.startswith(PROMPT) for choice in several.choices)
    assert len({choice.text for choice in several.choices}) == 3
    scores = [choice.logprobs.token_logprobs[: len(prompt)] for choice in several.choices]
    assert scores[0] == scores[1] == scores[2]
    assert all(len(choice.logprobs.tokens) == len(prompt) + 4 for choice in several.choices)
