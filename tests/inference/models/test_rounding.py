"""Which matrices are of one class, and how much errors in their inputs count."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.inference.models.config import expected_tensors
from tokenworks.inference.models.random_model import TINY_CONFIG
from tokenworks.inference.models.rounding import (
    CLASSES,
    NO_ROUNDING,
    Rounding,
    importance_of,
    matrix_class,
)


@pytest.mark.parametrize("tied", [True, False])
def test_every_matrix_of_a_product_has_a_class(tied: bool) -> None:
    config = replace(TINY_CONFIG, tied_embedding=tied)
    matrices = [name for name, shape, _ in expected_tensors(config) if len(shape) == 2]

    classes = {name: matrix_class(name, tied=tied) for name in matrices}

    assert {name for name, of in classes.items() if of is None} == (
        set() if tied else {"token_embd.weight"}
    )
    assert set(classes.values()) - {None} == set(CLASSES)
    assert matrix_class("position_embd.weight", tied=tied) is None
    assert matrix_class("token_types.weight", tied=tied) is None


def test_an_input_twice_as_large_counts_four_times() -> None:
    states = np.array([[1, 2, 1, 0, 1, -8]] * 3, np.float32)

    assert importance_of(states) == (0, 2, 0, -20, 0, 6)


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1))
def test_importance_is_finite_whatever_the_states(states: list[list[float]]) -> None:
    exponents = importance_of(np.array(states, np.float32))

    importance = Rounding({"output": "q6"}, exponents).importance("output")
    assert importance is not None
    assert np.isfinite(importance).all()
    assert (importance > 0).all()


def test_only_the_output_head_has_an_importance() -> None:
    rounding = Rounding({"output": "q6", "down": "q6"}, (1, 0, -1))

    assert rounding.importance("down") is None
    assert rounding.importance("output").tolist() == [2, 1, 0.5]
    assert NO_ROUNDING.importance("output") is None
