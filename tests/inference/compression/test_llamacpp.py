"""llama.cpp opens what `compress` writes, and finds the same next tokens likely."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llamacpp import likeliest
from tokenworks.inference.compression.compressing import open_compression
from tokenworks.inference.compression.plan import for_bits
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Gate, calibration_text, log_softmax, window_logits
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

pytest.importorskip("xllamacpp", reason="no wheel of llama.cpp for this platform")

OPEN = Gate(most_kl=100.0, least_agreement=0.0)


@pytest.mark.parametrize("type", [TensorType.Q4_0, TensorType.Q5_0, TensorType.Q8_0])
@pytest.mark.parametrize("tied", [False, True], ids=["a head of its own", "tied"])
def test_llama_cpp_opens_the_file_and_computes_the_same(
    type: TensorType, tied: bool, tmp_path: Path
) -> None:
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(TINY_CONFIG, vocabulary=len(tokens), tied_embedding=tied)
    write_random_model(tmp_path / "source.gguf", config, metadata=vocabulary, seed=7)
    out = tmp_path / "out.gguf"
    with open_compression(tmp_path / "source.gguf", calibration_text()[:1500], tmp_path) as job:
        job.write(out, job.fixed(for_bits(type)), gate=OPEN)
    tokens_of_text = open_codec(out).prompt("hello, quick one")
    ends = range(4, len(tokens_of_text) + 1)

    theirs = likeliest(out, [tokens_of_text[:end] for end in ends], tokens_of_text[-1])

    executor = ReferenceExecutor(load_model(out))
    executor.allocate(2)
    ours = log_softmax(window_logits(executor, tokens_of_text))[3:]
    assert len(theirs) == len(ours) > 3
    for mine, place in zip(ours, theirs, strict=True):
        # llama.cpp rounds activations to 8 bits, we do not.
        np.testing.assert_allclose(mine[list(place)], list(place.values()), atol=0.1)
        assert place[int(mine.argmax())] > max(place.values()) - 0.1
