"""Embeddings of this machine's own encoder, by the official client against the real server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest

from factory_process import running_factory
from hybrid_servers import client_of, described, hybrid
from serving import Serving, serving
from tokenworks.gateway.embedding_device import EncoderBackend
from tokenworks.inference.encoder import Encoder
from tokenworks.inference.executors.choose import open_executor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.settings import EngineSettings
from tokenworks.inference.text.open import open_codec
from trained_tokenizers import save_folder
from upstream_server import upstream_server

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["The quick brown fox", "jumps over ada.lovelace@example.org", "Äpfel"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EngineSettings:
    folder = tmp_path_factory.mktemp("encoders") / "tiny-encoder"
    tokenizer = save_folder(folder, "bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return EngineSettings(
        model_path=str(folder), model_id="tiny-encoder", executor="reference", threads=1
    )


@pytest.fixture
def server(settings: EngineSettings) -> Iterator[Serving]:
    with serving(EncoderBackend(settings)) as running:
        yield running


def test_vectors_are_the_encoder_s_own(server: Serving, settings: EngineSettings) -> None:
    path = Path(settings.model_path)
    codec, model = open_codec(path), load_model(path)
    tokens = [codec.document(text) for text in TEXTS]
    expected = Encoder(open_executor(model, settings), model.config).vectors(tokens)
    model.close()
    with client_of(server) as client:
        made = client.embeddings.create(model="Tiny-Encoder", input=TEXTS)
        floats = client.embeddings.create(
            model="tiny-encoder", input=TEXTS * 20, encoding_format="float", dimensions=64
        )
        given = client.embeddings.create(model="tiny-encoder", input=tokens)

    for vectors in (made, given):
        assert np.array_equal(np.array([one.embedding for one in vectors.data], "f4"), expected)
        assert vectors.usage.prompt_tokens == sum(map(len, tokens))
    repeated = np.array([one.embedding for one in floats.data])
    np.testing.assert_allclose(repeated, np.tile(expected, (20, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input": "word " * 100}, "the model takes 48"),
        ({"input": "a", "dimensions": 32}, "dimensions can only be 64"),
        ({"input": [[10**6]]}, "input holds token 1000000"),
    ],
)
def test_what_the_model_cannot_take_is_named(
    server: Serving, wrong: dict[str, object], said: str
) -> None:
    body = {"model": "tiny-encoder", **wrong}
    answer = httpx2.post(f"{server.url}/v1/embeddings", json=body)

    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_an_encoder_does_not_answer_and_counts_tokens(server: Serving) -> None:
    with client_of(server) as client, pytest.raises(openai.BadRequestError, match="embeddings"):
        client.chat.completions.create(
            model="tiny-encoder", messages=[{"role": "user", "content": "hi"}]
        )
    asked = {"model": "tiny-encoder", "prompt": TEXTS[0]}
    counted = httpx2.post(f"{server.url}/tokenize", json=asked).json()
    with client_of(server) as client:
        made = client.embeddings.create(model="tiny-encoder", input=TEXTS[0])

    assert counted["count"] == made.usage.prompt_tokens
    assert counted["max_model_len"] == 48


def test_private_texts_are_embedded_here_and_go_nowhere(
    tmp_path: Path, settings: EngineSettings
) -> None:
    with upstream_server() as cloud:
        far = described(cloud, "far", "cloud", "internal", 'abilities = ["embeddings"]')
        far = far.replace("helper", "tiny-encoder")
        with (
            hybrid(tmp_path, far, own=(EncoderBackend(settings),)) as server,
            client_of(server) as client,
        ):
            made = client.embeddings.create(model="tiny-encoder", input=TEXTS)
        assert len(made.data[0].embedding) == 64
        assert cloud.asked == []


def test_it_can_be_closed_before_and_after_it_was_started(settings: EngineSettings) -> None:
    async def both() -> None:
        unstarted, started = EncoderBackend(settings), EncoderBackend(settings)
        await unstarted.close()
        await started.start()
        assert started.status().state == "ready"
        await started.close()
        await started.close()

    asyncio.run(both())


def test_up_serves_an_encoder(tmp_path: Path, settings: EngineSettings) -> None:
    arguments = ("--model", settings.model_path, "--executor", "reference")
    with running_factory(tmp_path, *arguments) as address:
        (model,) = (one["id"] for one in httpx2.get(f"{address}/v1/models").json()["data"])
        body = {"model": model, "input": TEXTS}
        made = httpx2.post(f"{address}/v1/embeddings", json=body).json()
        ready = httpx2.get(f"{address}/ready").status_code

    assert [len(one["embedding"]) for one in made["data"]] == [64] * 3
    assert ready == 200
