import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from factory_process import running_factory, tokenworks
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary
from tokenworks.store.home import Home

LOOSE = ("--most-kl", "10", "--least-agreement", "0")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short one, so that commands end soon."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("The dog saw the other dog, and then the other one saw it too. " * 20)
    return str(path)


def compress(model: Path, text: str, *options: str, home: Path, out: str = "small.gguf") -> object:
    command = ("models", "compress", str(model), "--out", out, "--text", text, *options)
    return tokenworks(*command, home=home)


def test_a_model_is_made_smaller_inspected_and_served(
    tiny_model: Path, text: str, tmp_path: Path
) -> None:
    made = compress(tiny_model, text, *LOOSE, home=tmp_path)

    assert made.returncode == 0, made.stderr
    assert "quality: KL divergence" in made.stdout
    assert ": passes" in made.stdout
    assert "next: tokenworks up --model small.gguf" in made.stdout
    assert re.search(r"memory: up to \S+ [MG]B while it works; \S+ [MG]B can be taken", made.stderr)
    assert "down Q4_0" in made.stderr
    small = tmp_path / "small.gguf"
    assert small.stat().st_size < tiny_model.stat().st_size / 3
    shown = tokenworks("models", "inspect", "small.gguf", home=tmp_path).stdout
    assert "4-bit, exact" in shown
    with running_factory(tmp_path, "--model", str(small)) as address:
        answer = tokenworks("chat", "hello", "--url", address, "--max-tokens", "3", home=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_programs_get_the_result_as_json(tiny_model: Path, text: str, tmp_path: Path) -> None:
    made = compress(tiny_model, text, *LOOSE, "--bits", "8", "--json", home=tmp_path)

    said = json.loads(made.stdout)
    assert said["path"] == "small.gguf"
    assert said["file_bytes"] == (tmp_path / "small.gguf").stat().st_size
    assert said["quality"]["kl"] < 0.01
    assert said["verdict"]["passed"] is True


def test_a_file_of_a_wanted_size(tiny_model: Path, text: str, tmp_path: Path) -> None:
    made = compress(tiny_model, text, *LOOSE, "--size", "0.1", home=tmp_path)

    assert made.returncode == 0, made.stderr
    assert 80_000 < (tmp_path / "small.gguf").stat().st_size <= 100_000


def test_a_wanted_speed_goes_by_what_this_machine_was_measured_to_do(
    text: str, tmp_path: Path
) -> None:
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens), hidden=256, head_dim=64, rope_dim=64)
    write_random_model(tmp_path / "model.gguf", config, metadata=vocabulary)
    fit = json.loads(tokenworks("models", "fit", "model.gguf", "--json", home=tmp_path).stdout)
    (place,) = Home(tmp_path).measurements.glob("*.json")
    measured = json.loads(place.read_text())
    # A machine on which nothing but the weights takes time: 8 bits would go at this speed.
    slow = {"layer_seconds": 0.0, "step_seconds": 0.0, "entry_seconds": 0.0, "kv_rate": 1e15}
    rates = {"four_bit_rate": 1e6, "weight_rate": 1e6}
    place.write_text(json.dumps({**measured, "kernels": {**measured["kernels"], **slow, **rates}}))
    now = 1e6 / fit["packed_bytes"]

    made = compress(
        tmp_path / "model.gguf", text, *LOOSE, "--decode", f"{1.5 * now}", home=tmp_path
    )
    small = json.loads(tokenworks("models", "fit", "small.gguf", "--json", home=tmp_path).stdout)
    beyond = compress(
        tmp_path / "model.gguf", text, *LOOSE, "--decode", f"{3 * now}", home=tmp_path, out="x.gguf"
    )

    assert made.returncode == 0, made.stderr
    assert small["packed_bytes"] <= fit["packed_bytes"] / 1.5
    assert "Q4_1" in made.stderr  # the same speed as Q4_0, and nearer
    assert "cannot be made so small" in beyond.stderr
    assert not (tmp_path / "x.gguf").exists()


def test_what_strays_too_far_is_not_kept_unless_asked(
    tiny_model: Path, text: str, tmp_path: Path
) -> None:
    refused = compress(tiny_model, text, "--most-kl", "0", home=tmp_path)

    assert refused.returncode == 1
    assert "strays too far" in refused.stderr
    assert "--force" in refused.stderr
    assert not (tmp_path / "small.gguf").exists()

    kept = compress(tiny_model, text, "--most-kl", "0", "--force", home=tmp_path)
    assert kept.returncode == 0
    assert "FAILS the gate" in kept.stdout
    assert (tmp_path / "small.gguf").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bits", "3"), "it can be: 4, 5, 8"),
        (("--bits", "4", "--size", "1"), "contradict each other"),
        (("--size", "-1"), "more than 0"),
        (("--decode", "nan"), "more than 0"),
        (("--method", "magic"), "it can be: gptq, nearest"),
        (("--out", "there.gguf"), "is there already"),
        (("--out", "nowhere/x.gguf"), "mkdir -p nowhere"),
        (("--text", "absent.txt"), "cannot be read"),
        (("--size", "100"), "as it is"),
        (("--size", "0.01"), "--bits 4"),
    ],
)
def test_mistakes_are_told_with_a_hint(
    options: tuple[str, ...], said: str, tiny_model: Path, text: str, tmp_path: Path
) -> None:
    (tmp_path / "there.gguf").touch()

    answer = compress(tiny_model, text, *options, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "small.gguf").exists()


def test_the_commands_of_the_guide_run(tiny_model: Path, text: str, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "compressing.md").read_text()
    shown = re.search(
        r"<!-- tests/cli/test_compress.py runs these -->\n```sh\n(.*?)```", guide, re.S
    )
    assert shown is not None
    commands = [line.partition("#")[0].split()[1:] for line in shown[1].splitlines()]
    assert len(commands) == 3
    for words in commands:
        # Another model, of random weights and of another size; the rest as it stands.
        words = [{"smollm2": str(tiny_model), "95": "0.1"}.get(word, word) for word in words]
        own = (*LOOSE, "--text", text) if "compress" in words else ()

        answer = tokenworks(*words, *own, home=tmp_path)

        assert answer.returncode == 0, answer.stderr
        assert answer.stdout
