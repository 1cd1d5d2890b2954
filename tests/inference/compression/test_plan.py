from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.compression.plan import (
    Choice,
    Option,
    choose,
    data_bytes,
    for_bits,
    part_of,
    types_of,
    with_types,
)
from tokenworks.inference.models.tensors import TensorInfo, TensorType

PARTS = ("values", "down", "output")
SIZES = {TensorType.Q4_0: 4.5, TensorType.Q5_0: 5.5, TensorType.Q8_0: 8.5, None: 16.0}


def stored_as(name: str, type: TensorType, shape: tuple[int, int] = (8, 64)) -> TensorInfo:
    return TensorInfo(name, type, shape, 0, type.nbytes(shape))


def options(*kls: float) -> list[Option]:
    return [Option(type, kl) for type, kl in zip(SIZES, (*kls, 0.0), strict=True)]


def cost(choice: Choice, weights: Mapping[str, float] | None = None) -> float:
    return sum(SIZES[choice.get(part)] * (weights or {}).get(part, 1.0) for part in PARTS)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("token_embd.weight", "embedding"),
        ("output.weight", "output"),
        ("blk.17.attn_k.weight", "queries and keys"),
        ("blk.0.ffn_up.weight", "gate and up"),
        ("blk.0.attn_q_norm.weight", None),
        ("blk.0.attn_q.bias", None),
        ("output_norm.weight", None),
        ("rope_freqs.weight", None),
    ],
)
def test_every_tensor_is_of_its_part(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_what_is_as_small_already_or_has_odd_rows_stays_as_it_is() -> None:
    found = [
        stored_as("blk.0.attn_q.weight", TensorType.F16),
        stored_as("blk.0.attn_v.weight", TensorType.Q4_1),
        stored_as("blk.0.ffn_down.weight", TensorType.IQ4_NL),
        stored_as("token_embd.weight", TensorType.F16, (8, 48)),
    ]
    stored = {info.name: info for info in found}

    types = types_of(stored, for_bits(TensorType.Q4_0))

    assert types == {
        "blk.0.attn_q.weight": TensorType.Q4_0,
        "blk.0.attn_v.weight": TensorType.Q4_0,
        "blk.0.ffn_down.weight": TensorType.IQ4_NL,
        "token_embd.weight": TensorType.F16,
    }
    made = with_types(stored, types)
    assert made["blk.0.attn_q.weight"].nbytes == 8 * 64 // 32 * 18
    assert data_bytes(stored, types) == 288 + 288 + 288 + 768


def test_the_part_that_gains_most_for_its_size_gets_bits_first() -> None:
    ways = {
        "values": options(0.5, 0.1, 0.01),
        "down": options(0.05, 0.01, 0.001),
        "output": options(0.05, 0.01, 0.001),
    }

    assert choose(ways, cost, 3 * 4.5) == dict.fromkeys(PARTS, TensorType.Q4_0)
    assert choose(ways, cost, 3 * 4.5 + 1) == {
        "values": TensorType.Q5_0,
        "down": TensorType.Q4_0,
        "output": TensorType.Q4_0,
    }
    assert choose(ways, cost, 48) == dict.fromkeys(PARTS, None)
    assert choose(ways, cost, 13) is None


def test_what_costs_the_same_is_had_at_its_best() -> None:
    ways = {"values": [Option(TensorType.Q4_0, 0.2), Option(TensorType.Q4_1, 0.1)]}

    assert choose(ways, lambda choice: 1.0, 1.0) == {"values": TensorType.Q4_1}


kls = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(lambda x: sorted(x, reverse=True))


@given(st.lists(kls, min_size=3, max_size=3), st.floats(0, 60))
def test_a_choice_is_within_its_limit_and_no_step_is_left_that_fits(
    found: list[list[float]], limit: float
) -> None:
    ways = {part: options(*its) for part, its in zip(PARTS, found, strict=True)}

    choice = choose(ways, cost, limit)

    if choice is None:
        assert limit < 3 * 4.5
        return
    assert cost(choice) <= limit
    for part in PARTS:
        kl = {way.type: way.kl for way in ways[part]}
        for way in ways[part]:
            if way.kl < kl[choice[part]]:
                assert cost({**choice, part: way.type}) > limit
