"""Tokens of texts and back, by the tokenizer of a real engine; nothing goes elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest

from hybrid_servers import described, hybrid, key_for
from serving import Serving, serving
from tokenworks.accounts.books import opened
from tokenworks.accounts.limits import Allowance
from tokenworks.gateway.engine import EngineBackend
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.open import open_codec
from tokenworks.telemetry.metrics import Metrics
from upstream_server import upstream_server

HELLO = [{"role": "user", "content": "hello <|im_end|> there"}]


def engine_of(model: Path) -> EngineBackend:
    settings = EngineSettings(
        model_path=str(model), model_id="tiny", executor="reference", threads=1
    )
    return EngineBackend(settings, metrics=Metrics())


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Serving]:
    with serving(engine_of(tiny_model)) as running:
        yield running


def post(server: Serving, path: str, body: dict[str, object], key: str = "") -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": "tiny", **body}
    return httpx2.post(f"{server.url}{path}", json=body, headers=headers)


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_prompt_s_tokens_are_those_that_the_engine_would_compute(
    server: Serving, tiny_model: Path, prefix: str
) -> None:
    codec = open_codec(tiny_model)
    text = "Hello, 世界! <|im_end|>" + "long " * 1000
    told = post(server, f"{prefix}/tokenize", {"prompt": text}).json()
    bare = post(server, f"{prefix}/tokenize", {"prompt": text, "add_special_tokens": False}).json()
    back = post(server, f"{prefix}/detokenize", {"tokens": bare["tokens"]}).json()

    assert told["tokens"] == codec.prompt(text)
    assert bare["tokens"] == codec.encode(text)
    assert told["count"] == len(told["tokens"])
    assert told["max_model_len"] == 1024
    assert told["token_strs"] is None
    assert back == {"prompt": text}


def test_a_chat_has_as_many_tokens_as_its_answer_s_usage_says(
    server: Serving, tiny_model: Path
) -> None:
    asked = {"messages": HELLO, "return_token_strs": True}
    told = post(server, "/tokenize", asked).json()
    chat = {"messages": HELLO, "max_tokens": 1}
    usage = post(server, "/v1/chat/completions", chat).json()["usage"]
    back = post(server, "/detokenize", {"tokens": told["tokens"]}).json()

    assert told["tokens"] == open_codec(tiny_model).chat(HELLO)
    assert told["count"] == usage["prompt_tokens"]
    assert "".join(told["token_strs"]) == back["prompt"]
    assert "hello <|im_end|> there" in back["prompt"]


def test_each_api_counts_a_prompt_as_its_answer_s_usage_does(server: Serving) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        asked = {"model": "tiny", "input": "hello there", "instructions": "Be brief."}
        counted = client.responses.input_tokens.count(**asked).input_tokens
        answer = client.responses.create(**asked, max_output_tokens=1)
        goes_on = {"model": "tiny", "input": "more", "previous_response_id": answer.id}
        longer = client.responses.input_tokens.count(**goes_on).input_tokens
        with pytest.raises(openai.BadRequestError, match="'tools' is not counted"):
            client.responses.input_tokens.count(
                **asked, tools=[{"type": "function", "name": "f", "parameters": {}}]
            )
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as other:
        said: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hello there"}]
        told = other.messages.count_tokens(model="tiny", messages=said, system="Be brief.")

    assert answer.usage is not None
    assert counted == answer.usage.input_tokens == told.input_tokens
    assert longer > 0


def test_nothing_in_makes_nothing_out(server: Serving) -> None:
    assert post(server, "/detokenize", {"tokens": []}).json() == {"prompt": ""}
    empty = {"prompt": "", "add_special_tokens": False}
    assert post(server, "/tokenize", empty).json()["tokens"] == []


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        ("/tokenize", {}, "either prompt or messages"),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, "either prompt or messages"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "adds its own"),
        ("/tokenize", {"messages": HELLO, "continue_final_message": True}, "not supported"),
        ("/tokenize", {"messages": HELLO, "tools": [{}]}, "not supported"),
        ("/tokenize", {"prompt": "a", "chat_template_kwargs": {"x": 1}}, "only allowed with"),
        ("/tokenize", {"promt": "a"}, "id you mean 'prompt'"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "a", "model": "gpt-9"}, "not served"),
        ("/detokenize", {"tokens": [10**6]}, "tokens holds token 1000000"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {}, "'tokens' is missing"),
    ],
)
def test_what_is_wrong_is_named(
    server: Serving, path: str, wrong: dict[str, object], said: str
) -> None:
    answer = post(server, path, wrong)

    assert 400 <= answer.status_code < 500
    assert said in answer.json()["error"]["message"]


def test_texts_are_not_sent_elsewhere_to_be_counted(tmp_path: Path) -> None:
    with upstream_server() as cloud:
        far = described(cloud, "far", "cloud", "secret")
        with hybrid(tmp_path, far) as server:
            answers = [
                post(server, "/tokenize", {"model": "helper", "prompt": "my plan"}),
                post(server, "/detokenize", {"model": "helper", "tokens": [1]}),
            ]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert "not on this machine" in answers[0].json()["error"]["message"]
        assert cloud.asked == []


def test_keys_and_their_limits_count_here_too(tmp_path: Path, tiny_model: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as books:
        twice = key_for(books, allowance=Allowance(requests_per_minute=2))
        other = key_for(books, models=("x-*",))
        with serving(engine_of(tiny_model), books=books) as server:
            asked = {"prompt": "a"}
            told = [post(server, "/tokenize", asked, key) for key in ("x", other, *[twice] * 3)]
    assert [answer.status_code for answer in told] == [401, 403, 200, 200, 429]
    assert int(told[-1].headers["retry-after"]) > 0
