"""Tensors as the C++ packs and decodes them, bit for bit against numpy, on every path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks import some_tensor
from panels import FORMATS, expected_panels, panel_weights
from tokenworks.inference import _kernels
from tokenworks.inference.executors.native import supported_paths
from tokenworks.inference.models.packing import WIDE_PATHS
from tokenworks.inference.models.panel_format import GroupFormat, panel_format
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType


def wanted_of(isa: str, type: TensorType, inputs: int) -> list[GroupFormat | None]:
    """What a path packs as all do: wide groups of 4 bits are those of a path of their own."""
    return [
        wanted
        for wanted in (None, *FORMATS)
        if isa not in WIDE_PATHS or not panel_format(type, inputs, wanted).startswith("q4")
    ]


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
@pytest.mark.parametrize("size", [0.1, 1e-6, 1e4], ids=["ordinary", "tiny", "huge"])
def test_panels_are_what_numpy_makes_of_the_file(type: TensorType, isa: str, size: float) -> None:
    for rows, blocks in ((1, 1), (16, 2), (45, 3)):
        shape = (rows, blocks * max(type.block_weights, 32))
        raw = some_tensor(type, shape, size)

        for wanted in wanted_of(isa, type, shape[1]):
            packed = _kernels.panels(isa, type.name, raw, *shape, wanted or "")

            assert packed == expected_panels(raw, type, shape, wanted), (shape, wanted)


@pytest.mark.parametrize("isa", [isa for isa in supported_paths() if isa not in WIDE_PATHS])
@pytest.mark.parametrize("wanted", ["q4", "q6"])
def test_errors_that_count_for_more_are_made_smaller(wanted: GroupFormat, isa: str) -> None:
    shape = (37, 96)
    raw = some_tensor(TensorType.F32, shape)
    importance = np.random.default_rng(3).choice([0.25, 1, 400], shape[1]).astype(np.float32)

    packed = _kernels.panels(isa, "F32", raw, *shape, wanted, importance)

    assert packed == expected_panels(raw, TensorType.F32, shape, wanted, importance)
    values = raw.view("<f4").reshape(shape)
    plain = expected_panels(raw, TensorType.F32, shape, wanted)
    errors = [
        (importance * (panel_weights(panels, wanted, shape) - values) ** 2).sum()
        for panels in (packed, plain)
    ]
    assert errors[0] < 0.8 * errors[1]
    with pytest.raises(ValueError, match="one number an input"):
        _kernels.panels(isa, "F32", raw, *shape, wanted, importance[:-1])


@pytest.mark.parametrize("isa", supported_paths())
@pytest.mark.parametrize(
    "type", [t for t in TensorType if t.block_weights == 1], ids=lambda t: t.name
)
@pytest.mark.parametrize("inputs", [1, 31, 72, 288, 736])
def test_rows_of_floats_need_not_be_whole_blocks(type: TensorType, isa: str, inputs: int) -> None:
    raw = some_tensor(type, (20, inputs))

    assert _kernels.panels(isa, type.name, raw, 20, inputs) == expected_panels(
        raw, type, (20, inputs)
    )


@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
def test_rows_of_an_embedding_are_the_very_floats_of_the_file(type: TensorType) -> None:
    shape = (7, 3 * max(type.block_weights, 24))
    raw = some_tensor(type, shape)

    values = np.frombuffer(_kernels.decoded(type.name, raw, *shape), np.float32).reshape(shape)

    assert (values == dequantise(raw, type, shape)).all()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
def test_any_bytes_give_the_same_panels_on_every_path(
    type: TensorType, data: st.DataObject
) -> None:
    """Infinite scales, scales that are no numbers, largest quants: none may crash or differ."""
    seed = data.draw(st.integers(0, 2**32))
    inputs = max(type.block_weights, 32)
    raw = np.random.default_rng(seed).integers(0, 256, type.nbytes((3, inputs)), dtype=np.uint8)
    for at in data.draw(st.lists(st.integers(0, len(raw) - 4), max_size=8)):
        hostile = data.draw(
            st.sampled_from([b"\x00\x7e", b"\x00\x7c\x00\xfc", b"\x80\xff\xff\x7f"])
        )
        raw[at : at + len(hostile)] = np.frombuffer(hostile, np.uint8)

    for wanted in (None, *FORMATS):
        panels = {
            _kernels.panels(isa, type.name, raw, 3, inputs, wanted or "")
            for isa in supported_paths()
            if wanted in wanted_of(isa, type, inputs)
        }

        assert panels == {expected_panels(raw, type, (3, inputs), wanted)}, wanted
    assert len(_kernels.decoded(type.name, raw, 3, inputs)) == 3 * inputs * 4


@pytest.mark.parametrize("type", TensorType, ids=lambda type: type.name)
def test_bytes_that_do_not_fill_the_rows_are_refused(type: TensorType) -> None:
    inputs = 2 * type.block_weights
    raw = some_tensor(type, (4, inputs))

    for bytes_, rows, width in ((raw[:-1], 4, inputs), (raw, 5, inputs), (raw, 0, inputs)):
        with pytest.raises(ValueError, match=r"wrong number of bytes|without rows"):
            _kernels.panels("portable", type.name, bytes_, rows, width)
    if type.block_weights > 1:
        with pytest.raises(ValueError, match="whole blocks"):
            _kernels.panels("portable", type.name, raw, 4, inputs - 1)


def test_an_encoding_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernel for the encoding IQ1_S"):
        _kernels.panels("portable", "IQ1_S", np.zeros(32, np.uint8), 1, 32)


def test_a_format_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no format q5"):
        _kernels.panels("portable", "F32", np.zeros(128, np.uint8), 1, 32, "q5")


def test_weights_are_not_rounded_to_a_format_that_only_files_have() -> None:
    with pytest.raises(ValueError, match="nothing is rounded to q4_centred"):
        _kernels.panels("portable", "F32", np.zeros(128, np.uint8), 1, 32, "q4_centred")
