"""Blocks with packed scales, held to what ggml itself makes of them.

The literals were made with ggml (llama.cpp's libggml-base): its encoders' blocks of `wave`, and
digests of its own decoders' floats, little-endian, for these blocks and for arbitrary ones.
"""

import base64
import math
from hashlib import sha256

import numpy as np
import pytest
from numpy.typing import NDArray

from blocks import READ_ONLY, arbitrary_blocks
from tokenworks.inference.models.quantisation import dequantise, parts, quantise
from tokenworks.inference.models.tensors import TensorType

ENCODED_WAVE = {
    TensorType.Q5_0: (
        "Ha0A/gH8LdmVQhEBAzdrsARYmru5pqatA/gH8KZyLtmVQhEBEzd8sBVZm7svrg/gH8C7uaZyLtmFQhEBFDd8"
        "wRVpt64/gH8AaZu7yqdyPtmFQhEBFDd8wUCv/wD+AcEmaavLyqdyPdmFQhEBFDjJr/wD+AdIjdImeqzMyrdy"
        "LdmEQhEBBrDwD+AfARRIjdInerzc27dyPdiEMUqwwD+Af0EQARRIjdI3e73d27dyLdg="
    ),
    TensorType.Q5_1: (
        "hSxKu/8B/gOgBVmt3v7rx4It2HQxEQIm/iwHvPwH+A8mWqAFWa3u/uvHcizHczEAeS1tvPAf4D8BAiZaoAVa"
        "re7+68dyLMdjBC7xvMB/gP9zMQECJlqgBWqt7v7rt3Ecjy50vQD/Af4cx2MhAQIma7AFar3u/uu3GS/3vQP8"
        "B/i2YRy3YyEBAiZrsAZqve7+fy95vg/wH+D+67ZxHLdjIQECJmuxFnu+BDD8vj/Af4C97v3rtmEbtmMhAQMm"
        "a7EW"
    ),
    TensorType.Q2_K: (
        "aHiJeXmKmqurzM3d7u7v/wUGChsfb7++/vn55OSQgEBBAgYHGx9vv77++fnk4JCA+fnk5JCQQEEGBhsbb2+/"
        "vv75+eTkkJBBQQYGGxtvb78eLUUv"
    ),
    TensorType.Q3_K: (
        "Hh48PHh48PDg4cHDg4cHDw8eHjw8eHjw8ODhwcODhwe79u3YtGDRgkcIHSJ3i98uebv27di0YNGCRwgdIneL"
        "3wgeInuf7369+/bt2LRg0YJHCB4ie5/vfr379u3YtGDRbl1MOzopGAcAAAAANyQ="
    ),
    TensorType.Q4_K: (
        "NRzzJuLn7O/h5OjrEmar/zhafa7P7+7s2baUYjEQAQMVKFuNr9/v/vzZtpRhMBABEAEDFSdafK7O7u3r2LaD"
        "UTAQAQIVJ1p8rs/u/evYtYO2g2EwEAEDFThbjb7f7/372LaDYTAQAQMVOFuNv9///e7969i1g1EwEAEDFThb"
        "jb7f7v3r2LWDUTAQAQMVOFuN"
    ),
    TensorType.Q5_K: (
        "IRglJ+Pn6u7h5OfsA2eq/+Hhw8OHhw8PHx4+PHx4+PDw4eHDw4eHDw8fHj48fHj4YKUKXZ7O69izfSjEcjET"
        "BitQpQper9/86MN9J8NxIAIxEhYqYLUKXa7e++eyfCfDcDABBSpQpQpuv+7898J8JmwXw3EwEhY6YLUKba7d"
        "++axaxbCYCACBSpgtRptv+773uvWoWwXs2ExEhY7YbYbbr/u++exaxayYCACBithtxs="
    ),
    TensorType.Q6_K: (
        "azHZU7ARlTwWIHnhhSa0LWR7QelTsBGFLQYQauGGJ8QtZXtB2VOwEZY9FyF68oYnwz11i1HpU7ARhi0HEWvi"
        "hxNs85dH5G6lq3H5U6HyZw8ZM40EqEjlXpWbUehSoAGHMBkzjQSoWOVelZtR6FKgAoggCiSNBLhY9W6lq2D4"
        "UqD5+eTkkJBAQAECBgsbL2++vvn55OSQkEBAAQIGCxsvbwYGCxtvb76++fnk5JCAQEABBgYbG29vvr75+eTk"
        "kJBAuLSwrKalnp2WlZCMkISAgE4Q"
    ),
    TensorType.Q8_K: (
        "OGGKvPTfzL+4usTU6QAVJjAyLB4L9N3Ju7S2wdPpARcpNDYvIAvz28a3sLO+0ekCGiw4OjIjDPPZw7Osr7vP"
        "6AMcMDw+NiUN8tfAsKisuc7oBR8zQEE5Jw7x1b2spai2zOgGITdDRTwpD/HTuqihpLPL6AckO0dJPysQ8NG2"
        "pJ2hscroCSc+S01CLRDvz7OgmZ2uyOgKKkJPUUYvEe7NsJyVmqvH6QwsRVNVSTER7cqtmZGWqcbpDi9JV1hM"
        "MxLsyKmVjZOmxOkPMk1bXE81EuvGppGJkKTD6RE1UF9gUjcT6sOjjYWMosLqEzhUY2RVORPpwZ+JgYmfweoV"
        "O1hnZ1g6E+g4/yH/C//7/vn+/P4L/yX/Qv9l/4T/nf+p/6r/nf9//w=="
    ),
    TensorType.IQ4_NL: (
        "9qCWYzIRAAABEiVYi73e7u3sZqHsyaZjMhAAAAESJViLvd7u5aHu7ezKpmMxEAAAARMlWJvNbqLN3u7u7Mqm"
        "YzEQAAABEzVZ86JZnM3u7u7syqZjMRAAAAETU6MTNmmczu7+/uzKpmMxEAAAlKMAARM2aazO7//+7NqmYzEQ"
        "DKQQAAABEzZqrN7v//7s2qZj"
    ),
    TensorType.IQ4_XS: (
        "DBAAALx5NQKWZDIRAAABEiVYi73e7u3s7MmmYzEQAAABEiVYi83e7u7u7MqmYzEQAAABEiVYnM3N7u7u7Mqm"
        "YzEQAAABEyVZWZzN7u7+7MqmYzEQAAABExM2aZzO7v7+7MqmYzEQAAAAARM2aazO7//+7NqmYzEQEAAAARM2"
        "aqze7//+7NqmYw=="
    ),
}
DECODED = {  # the first half of SHA-256: of the wave's blocks, of 64 arbitrary blocks
    TensorType.Q5_0: (
        "f8cac4610e4a740c4ef848a682cd97e2",
        "7e7cb2e97501825ff896c05d6d5022bd",
    ),
    TensorType.Q5_1: (
        "8de5a11858dfe7a6f82ebfa3b1491f47",
        "52ec1424bebd099d04c76626f040f417",
    ),
    TensorType.Q2_K: (
        "9d71bd67ebab8cf743002fbba9c9daaa",
        "c2d46eba6cbb3c92230aacccaeabfe22",
    ),
    TensorType.Q3_K: (
        "ef0b68a26a5b3a4e67a90b1bd28b81d0",
        "5e1fcda3966cc5a945e464c35c3ca60a",
    ),
    TensorType.Q4_K: (
        "11bcc4a396c70d723e4adb1daba9ef2e",
        "b9f119488a73b7213fb2f6abead911af",
    ),
    TensorType.Q5_K: (
        "eaf1e0e675e0317ca54d43c42edcb1ef",
        "08d4d0e1ae0019a6c55de7034f5474d0",
    ),
    TensorType.Q6_K: (
        "decfeb294e0dee8d33e83808dbbca2d3",
        "cf10bb16e96818dce0140d59e3c020d3",
    ),
    TensorType.Q8_K: (
        "bdf6867f08f310a6e2e497bda0bd2710",
        "6e9a0e98a6805cb3a1b8fa193d679f6e",
    ),
    TensorType.IQ4_NL: (
        "5e6e844fec82d3be77065cb0cbd4fd76",
        "140b85aedc0b776b404d1a6a564d8a7a",
    ),
    TensorType.IQ4_XS: (
        "8c8a914cbb2409d794aca7c46bf9ce8b",
        "12d6f65ab5281aac06d8ff4ecfc8263f",
    ),
}
LARGEST_ERROR = {
    TensorType.Q5_0: 0.069,
    TensorType.Q5_1: 0.068,
    TensorType.Q2_K: 0.593,
    TensorType.Q3_K: 0.243,
    TensorType.Q4_K: 0.114,
    TensorType.Q5_K: 0.059,
    TensorType.Q6_K: 0.035,
    TensorType.Q8_K: 0.009,
    TensorType.IQ4_NL: 0.164,
    TensorType.IQ4_XS: 0.162,
}


def wave() -> NDArray[np.float32]:
    """256 weights about 0.2, the later ones larger."""
    return np.array([math.sin(0.37 * i) * (1 + i / 256) + 0.2 for i in range(256)], np.float32)


def encoded_wave(type: TensorType) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(ENCODED_WAVE[type]), np.uint8)


def digest(values: NDArray[np.float32]) -> str:
    return sha256(values.astype("<f4").tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_blocks_decode_to_the_very_floats_of_ggml(type: TensorType) -> None:
    of_wave = dequantise(encoded_wave(type), type, (256,))
    of_any = dequantise(arbitrary_blocks(type, 64), type, (64, type.block_weights))

    assert (digest(of_wave), digest(of_any)) == DECODED[type]


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_what_ggml_encoded_is_near_what_it_was(type: TensorType) -> None:
    error = np.abs(dequantise(encoded_wave(type), type, (256,)) - wave())

    assert 0 < error.max() <= LARGEST_ERROR[type]


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_a_tensor_of_many_parts_decodes_as_its_blocks_do(type: TensorType) -> None:
    blocks = arbitrary_blocks(type, 3)
    times = (1 << 19) // type.block_weights + 1  # not a whole number of parts
    raw = np.tile(blocks, times)
    assert len(list(parts(raw, type))) > 3

    values = dequantise(raw, type, (times, 3 * type.block_weights))

    assert (values == dequantise(blocks, type, (3 * type.block_weights,))).all()


@pytest.mark.parametrize("type", READ_ONLY, ids=lambda type: type.name)
def test_they_are_not_written(type: TensorType) -> None:
    with pytest.raises(ValueError, match=f"{type.name} can be read, but not written"):
        quantise(wave(), type)
