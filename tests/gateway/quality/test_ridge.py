import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.gateway.quality.ridge import decomposed, fit

PENALTY = 3.0


def plain_ridge(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and offset, by the textbook: a constant column that is not penalised."""
    wide = np.column_stack([rows, np.ones(len(rows))])
    ridge = np.diag([PENALTY] * rows.shape[1] + [0.0])
    found = np.linalg.solve(wide.T @ wide + ridge, wide.T @ scores)
    return found[:-1], float(found[-1])


@given(st.integers(0, 10**6), st.sampled_from([(12, 3), (8, 20), (20, 20)]))
@settings(max_examples=30)
def test_a_fold_is_predicted_as_by_a_fit_without_it(seed: int, shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=shape)
    rows -= rows.mean(axis=0)
    scores = draw.random(len(rows))

    folds = np.array_split(draw.permutation(len(rows)), 4)

    found = fit(*decomposed(rows), scores, folds, [PENALTY])

    weights, offset = plain_ridge(rows, scores)
    assert found.mean == pytest.approx(offset)
    assert rows.T @ found.dual == pytest.approx(weights)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(rows)), fold)
        weights, offset = plain_ridge(rows[others], scores[others])
        assert found.left_out[fold] == pytest.approx(rows[fold] @ weights + offset)


def test_the_penalty_is_the_one_that_predicts_what_was_left_out_best() -> None:
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(60, 5))
    rows -= rows.mean(axis=0)
    told, noise = rows @ np.ones(5) / 5, draw.random(60)
    folds = np.array_split(np.arange(60), 6)

    assert fit(*decomposed(rows), told, folds, [1e-3, 1e3]).penalty == 1e-3
    assert fit(*decomposed(rows), noise, folds, [1e-3, 1e3]).penalty == 1e3


def test_rows_that_are_all_alike_give_the_mean() -> None:
    scores = np.array([0.0, 1.0, 1.0, 1.0])
    found = fit(*decomposed(np.zeros((4, 9))), scores, [np.arange(2), np.arange(2, 4)], [1.0])

    assert found.mean == 0.75
    assert found.left_out == pytest.approx([1.0, 1.0, 0.5, 0.5])


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        fit(np.full((3, 1), np.nan), np.ones(1), np.ones(3), [np.arange(3)], [1.0])
