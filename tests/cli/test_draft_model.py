"""`up --draft-model`: a second model that guesses, and what is said of it."""

import json
import urllib.request
from dataclasses import replace
from pathlib import Path

from factory_process import running_factory, tokenworks
from tokenworks.cli.memory import need_of, parts_of
from tokenworks.config import load
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.settings import DraftFile
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary


def answer(address: str) -> str:
    body = {"model": "tiny", "prompt": "the story of", "max_tokens": 60, "seed": 7}
    request = urllib.request.Request(
        f"{address}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        said: str = json.load(response)["choices"][0]["text"]
        return said


def guesses(address: str) -> tuple[float, float]:
    """Made, and right."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
        lines = [line.split() for line in response.read().decode().splitlines()]
    found = {line[0].partition("{")[0]: float(line[-1]) for line in lines if line[0] != "#"}
    return found["tokenworks_guessed_tokens"], found["tokenworks_guessed_tokens_right"]


def test_answers_are_the_same_and_guesses_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    flags = ("--model", str(tiny_model), "--weights", "file")
    with running_factory(tmp_path, *flags, "--speculation", "off") as address:
        plain = answer(address)
    with running_factory(tmp_path, *flags, "--draft-model", str(tiny_model)) as address:
        assert answer(address) == plain
        made, right = guesses(address)
    said = (tmp_path / "stderr.log").read_text()
    assert ", draft model " in said
    assert right <= made


def test_a_draft_model_of_another_vocabulary_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    vocabulary = tiny_vocabulary()
    tokens = list(vocabulary["tokenizer.ggml.tokens"])  # type: ignore[call-overload]
    tokens[10], tokens[11] = tokens[11], tokens[10]
    vocabulary["tokenizer.ggml.tokens"] = tokens
    write_random_model(path, replace(TINY_CONFIG, vocabulary=len(tokens)), metadata=vocabulary)

    done = tokenworks("up", "--model", str(tiny_model), "--draft-model", str(path), home=tmp_path)

    assert done.returncode == 1
    assert "has another vocabulary than" in done.stderr
    assert "a smaller model of the same family" in done.stderr


def test_the_memory_of_the_draft_model_is_counted(tiny_model: Path) -> None:
    config = load({"model": str(tiny_model)}, environment={})
    alone = need_of(config, tiny_model)
    quiet = need_of(
        load({"model": str(tiny_model), "engine.speculation": "off"}, environment={}), tiny_model
    )
    both = need_of(config, tiny_model, DraftFile(path=str(tiny_model), model_id="tiny"))

    assert both.total - alone.total == both.draft == quiet.weights + quiet.kv + quiet.buffers
    assert "draft model" in parts_of(both)
    assert "draft model" not in parts_of(alone)
