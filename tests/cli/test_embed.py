"""`tokenworks embed` as a program, against transformers."""

import json
from pathlib import Path

import numpy as np
import pytest

from factory_process import tokenworks
from trained_tokenizers import save_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["The quick brown fox", "jumps over the lazy dog, and the dog says nothing.", "Äpfel"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
        initializer_range=0.2,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def expected(folder: Path) -> np.ndarray:
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    vectors = []
    for text in TEXTS:
        with torch.no_grad():
            states = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state
        pooled = states[0].mean(dim=0).numpy()
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.stack(vectors)


# Random weights pass rounding errors on multiplied, and which ids a text has is left to chance: the
# tokenizer's trainer breaks ties differently each time.
@pytest.mark.parametrize(("executor", "least"), [("native", 0.99), ("reference", 1 - 1e-6)])
def test_vectors_are_those_of_transformers(
    encoder: Path, tmp_path: Path, executor: str, least: float
) -> None:
    answer = tokenworks(
        *("embed", "--model", str(encoder), "--executor", executor), *TEXTS, home=tmp_path
    )

    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2], answer.stderr
    vectors = np.array([line["embedding"] for line in lines])
    assert (vectors * expected(encoder)).sum(axis=1).min() > least


def test_standard_input_is_a_text_a_line(encoder: Path, tmp_path: Path) -> None:
    command = ("embed", "--model", str(encoder))
    piped = tokenworks(*command, home=tmp_path, stdin="\n".join(TEXTS) + "\n", check=True)
    given = tokenworks(*command, *TEXTS, home=tmp_path)

    assert piped.stdout == given.stdout != ""


def test_a_text_that_is_too_long_is_named(encoder: Path, tmp_path: Path) -> None:
    answer = tokenworks("embed", "--model", str(encoder), "short", "fox " * 90, home=tmp_path)

    assert answer.returncode == 1
    assert "error: Text 1 has " in answer.stderr
    assert "the model takes 48" in answer.stderr
    assert answer.stdout == ""
