"""Whole models, compressed: real files of random weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenworks.errors import ModelError, ModelFileError, QualityError
from tokenworks.inference.compression.compressing import (
    Compression,
    Method,
    Plan,
    Result,
    open_compression,
)
from tokenworks.inference.compression.plan import for_bits, part_of
from tokenworks.inference.executors.reference import ReferenceExecutor
from tokenworks.inference.models.architectures.bert import BERT
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.gguf_values import LazyArray
from tokenworks.inference.models.gguf_writer import EncodedTensor, StoredValue, write_gguf
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.random_model import TINY_CONFIG, tiny_config, write_random_model
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Gate, Quality, calibration_text, compare, windows_of
from tokenworks.inference.text.open import open_codec
from tokenworks.inference.text.tiny_vocabulary import tiny_vocabulary

TEXT = calibration_text()[:2600]
OTHER_TEXT = calibration_text()[5000:8000]
OPEN = Gate(most_kl=100.0, least_agreement=0.0)
SHUT = Gate(most_kl=0.0, least_agreement=1.0)
FOUR_BITS = for_bits(TensorType.Q4_0)


@pytest.fixture(scope="module", params=["a head of its own", "tied"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "model.gguf"
    write_model(path, tied=request.param == "tied")
    return path


def write_model(path: Path, *, tied: bool = False, type: TensorType = TensorType.F16) -> None:
    vocabulary = tiny_vocabulary()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    config = replace(
        TINY_CONFIG, vocabulary=len(tokens), layers=3, hidden=128, head_dim=32, rope_dim=32,
        feed_forward=192, tied_embedding=tied,
    )  # fmt: skip
    write_random_model(path, config, type=type, metadata=vocabulary, seed=5)


def compressed(
    source: Path, out: Path, *, method: Method = "gptq", gate: Gate = OPEN, text: str = TEXT
) -> Result:
    with open_compression(source, text, out.parent) as compression:
        return compression.write(out, compression.fixed(FOUR_BITS), method=method, gate=gate)


def quality(source: Path, other: Path) -> Quality:
    """By what ships: the reference executor on both files, on a text that was not learnt from."""
    windows = windows_of(open_codec(source).prompt(OTHER_TEXT), 64)[:12]
    executors = [ReferenceExecutor(load_model(path)) for path in (source, other)]
    for executor in executors:
        executor.allocate(4)
    return compare(*executors, windows)


def types(path: Path) -> dict[str, TensorType]:
    model = load_model(path)
    found = {name: info.type for name, info in model.tensors.items()}
    model.close()
    return found


def test_learning_beats_rounding_at_the_same_size_on_a_text_it_did_not_see(
    model: Path, tmp_path: Path
) -> None:
    learnt, rounded = tmp_path / "learnt.gguf", tmp_path / "rounded.gguf"
    compressed(model, learnt)
    compressed(model, rounded, method="nearest")

    assert types(learnt) == types(rounded)
    assert abs(learnt.stat().st_size - rounded.stat().st_size) <= 32  # the method's name
    assert quality(model, learnt).kl < 0.7 * quality(model, rounded).kl


def test_what_is_told_of_the_result_is_what_the_file_gives(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"

    with open_compression(model, TEXT, tmp_path) as compression:
        plan = compression.fixed(FOUR_BITS)
        result = compression.write(out, plan, gate=OPEN)
        judged = compression.material.judged

    executors = [ReferenceExecutor(load_model(path)) for path in (model, out)]
    for executor in executors:
        executor.allocate(16)
    found = compare(*executors, judged)
    assert result.quality.tokens == found.tokens
    assert result.quality.kl == pytest.approx(found.kl, rel=0.02)
    assert result.quality.same_top_token == pytest.approx(found.same_top_token, abs=0.01)
    assert result.file_bytes == out.stat().st_size
    assert result.source_bytes == model.stat().st_size
    assert 0 <= plan.file_bytes - result.file_bytes <= 512


def test_the_metadata_stays_but_for_what_is_no_longer_true(model: Path, tmp_path: Path) -> None:
    compressed(model, tmp_path / "out.gguf")

    before, after = read_gguf(model), read_gguf(tmp_path / "out.gguf")
    assert after.metadata["general.file_type"] == 2
    assert after.metadata["general.quantization_version"] == 2
    for key, value in before.metadata.items():
        assert before.stored_value(key) == after.stored_value(key), key
        if isinstance(value, LazyArray):
            assert len(value) == len(after.metadata[key])
    assert open_codec(model).prompt(TEXT) == open_codec(tmp_path / "out.gguf").prompt(TEXT)


def test_norms_are_as_they_were_and_outside_of_the_layers_8_bits_stay(
    model: Path, tmp_path: Path
) -> None:
    compressed(model, tmp_path / "out.gguf")

    source, result = load_model(model), load_model(tmp_path / "out.gguf")
    for name, info in result.tensors.items():
        if part_of(name) is None:
            np.testing.assert_array_equal(source.float32(name), result.float32(name))
        elif part_of(name) in ("embedding", "output"):
            assert info.type is TensorType.Q8_0
        else:
            assert info.type is TensorType.Q4_0


def test_what_the_gate_does_not_pass_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    with pytest.raises(QualityError, match=r"strays too far.*is above 0") as caught:
        compressed(model, tmp_path / "out.gguf", gate=SHUT)

    assert "--bits 5" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_force_keeps_what_fails_and_says_so(model: Path, tmp_path: Path) -> None:
    with open_compression(model, TEXT, tmp_path) as compression:
        result = compression.write(
            tmp_path / "out.gguf", compression.fixed(FOUR_BITS), gate=SHUT, force=True
        )

    assert not result.verdict.passed
    assert load_model(tmp_path / "out.gguf").config.layers == 3


def within(path: Path, limit: float) -> tuple[Plan, Compression]:
    with open_compression(path, TEXT, path.parent) as compression:
        return compression.within(limit, compression.file_bytes), compression


@pytest.mark.parametrize("share", [0.35, 0.45, 0.6])
def test_a_file_of_a_wanted_size_is_no_larger(model: Path, share: float, tmp_path: Path) -> None:
    limit = share * model.stat().st_size
    with open_compression(model, TEXT, tmp_path) as compression:
        plan = compression.within(limit, compression.file_bytes)
        result = compression.write(tmp_path / "out.gguf", plan, gate=OPEN)

    assert result.file_bytes <= plan.file_bytes <= limit
    assert result.file_bytes > 0.75 * limit


def test_more_room_gives_a_nearer_model(model: Path, tmp_path: Path) -> None:
    found = []
    with open_compression(model, TEXT, tmp_path) as compression:
        for number, share in enumerate((0.33, 0.45, 0.54)):
            limit = share * model.stat().st_size
            plan = compression.within(limit, compression.file_bytes)
            out = tmp_path / f"{number}.gguf"
            found.append(compression.write(out, plan, gate=OPEN).quality.kl)

    assert found[0] > found[1] > found[2]


def test_a_target_out_of_reach_or_met_already_is_told(model: Path) -> None:
    size = model.stat().st_size

    with pytest.raises(ModelError, match="cannot be made so small"):
        within(model, size / 10)
    with pytest.raises(ModelError, match="as it is"):
        within(model, size * 1.1)


def test_a_model_that_is_as_small_already_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "small.gguf", type=TensorType.Q4_0)

    with pytest.raises(ModelError, match="Nothing gets smaller"):
        compressed(tmp_path / "small.gguf", tmp_path / "out.gguf")


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    write_random_model(tmp_path / "encoder.gguf", tiny_config(BERT))

    with pytest.raises(ModelError, match="makes vectors of texts"):
        compressed(tmp_path / "encoder.gguf", tmp_path / "out.gguf")


def test_a_text_that_is_too_short_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too short to learn from") as caught:
        compressed(model, tmp_path / "out.gguf", text="hello")

    assert "--text" in str(caught.value.hint)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 7e4])
def test_weights_that_no_type_holds_are_refused(value: float, tmp_path: Path) -> None:
    name = "blk.1.ffn_up.weight"
    write_changed(tmp_path / "bad.gguf", name, (3, 5), value)

    with pytest.raises(ModelFileError, match=f"{name}.*no scale reaches so far"):
        compressed(tmp_path / "bad.gguf", tmp_path / "out.gguf")

    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_a_model_that_computes_no_numbers_is_refused(value: float, tmp_path: Path) -> None:
    write_changed(tmp_path / "bad.gguf", "blk.1.attn_norm.weight", (7,), value)

    with pytest.raises(ModelFileError, match=r"no finite numbers before 'blk\.1\.attn_q\.weight'"):
        compressed(tmp_path / "bad.gguf", tmp_path / "out.gguf")


def write_changed(path: Path, name: str, place: tuple[int, ...], value: float) -> None:
    """A model with one weight that is not as it should be."""
    write_model(path, type=TensorType.F32)
    good, tensors = load_model(path), []
    for known, info in good.tensors.items():
        values = good.float32(known)
        if known == name:
            values[place] = value
        tensors.append(EncodedTensor(known, info.type, info.shape, quantise(values, info.type)))
    gguf = read_gguf(path)
    metadata = {key: StoredValue(gguf.stored_value(key)) for key in gguf.metadata}
    write_gguf(path, metadata, tensors)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_memory_stays_below_what_was_told(tmp_path: Path) -> None:
    write_model(tmp_path / "model.gguf")
    program = """if True:
        import re, sys
        from pathlib import Path
        from tokenworks.inference.compression.compressing import open_compression
        from tokenworks.inference.compression.plan import for_bits
        from tokenworks.inference.models.tensors import TensorType
        from tokenworks.inference.quality import Gate, calibration_text

        def peak():
            status = Path("/proc/self/status").read_text()
            return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])

        folder = Path(sys.argv[1])
        with open_compression(folder / "model.gguf", calibration_text(), folder) as compression:
            plan, before = compression.fixed(for_bits(TensorType.Q4_0)), peak()
            gate = Gate(most_kl=100.0, least_agreement=0.0)
            compression.write(folder / "out.gguf", plan, gate=gate)
            print(compression.memory_bytes, peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told, taken = map(int, done.stdout.split())

    assert 0.1 * told < taken < told


def test_progress_goes_from_nothing_to_all(model: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with open_compression(model, TEXT, tmp_path) as compression:
        limit = 0.4 * model.stat().st_size
        plan = compression.within(limit, compression.file_bytes, lambda *its: told.append(its))
        compression.write(
            tmp_path / "o.gguf", plan, gate=OPEN, progress=lambda *its: told.append(its)
        )

    for phase in ("weighing", "compressing"):
        steps = [(done, total) for its, done, total in told if its == phase]
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert len(steps) > 20
