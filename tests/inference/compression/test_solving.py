import numpy as np
import pytest
from numpy.typing import NDArray

from tokenworks.inference.compression.codes import CODES, Code, encode
from tokenworks.inference.compression.solving import Curvature, Solved, nearest, solve
from tokenworks.inference.models.quantisation import dequantise, quantise
from tokenworks.inference.models.tensors import TensorType

Array = NDArray[np.float32]
Q4_0 = CODES[TensorType.Q4_0]


def inputs(columns: int, rows: int = 1500, seed: int = 0) -> Array:
    """Inputs that vary together, a few of them far more than others, as a model's do."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(rows, columns // 4))
    mixed = causes @ random.normal(size=(columns // 4, columns)) + random.normal(
        0, 0.3, (rows, columns)
    )
    return (mixed * random.lognormal(0, 1, columns)).astype(np.float32)


def matrix(rows: int, columns: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(np.float32)


def moments(left: Array, right: Array) -> NDArray[np.float64]:
    return (left.astype(np.float64).T @ right).astype(np.float64)


def values(code: Code, pieces: list[Solved], columns: int) -> Array:
    raw = np.concatenate([encode(code, piece.quants, piece.groups) for piece in pieces])
    return dequantise(raw.reshape(-1), code.type, (len(raw), columns))


def output_error(given: Array, wanted: Array, found: Array) -> float:
    return float(np.square(given @ (wanted - found).T).mean())


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.type.name)
@pytest.mark.parametrize("shape", [(3, 32), (40, 96), (600, 160)])
def test_products_change_less_than_by_rounding_each_weight(
    code: Code, shape: tuple[int, int]
) -> None:
    weights, seen, others = matrix(*shape), inputs(shape[1]), inputs(shape[1])[750:]
    curvature = Curvature.of(moments(seen[:750], seen[:750]))

    solved = values(code, list(solve(code, weights, curvature)), shape[1])
    rounded = values(code, list(nearest(code, weights, np.ones(shape[1]))), shape[1])

    # On inputs that it did not see.
    assert output_error(others, weights, solved) < 0.7 * output_error(others, weights, rounded)


def test_gptq_beats_ggml_s_own_rounding_by_far_where_inputs_vary_together() -> None:
    weights, seen = matrix(64, 128), inputs(128)
    standard = dequantise(quantise(weights, TensorType.Q4_0), TensorType.Q4_0, weights.shape)

    curvature = Curvature.of(moments(seen[:750], seen[:750]))
    solved = values(Q4_0, list(solve(Q4_0, weights, curvature)), 128)

    assert output_error(seen[750:], weights, solved) < 0.5 * output_error(
        seen[750:], weights, standard
    )


def test_inputs_that_have_strayed_are_made_up_for() -> None:
    weights, source = matrix(48, 96), inputs(96)
    given = source + np.random.default_rng(3).normal(0, 0.2, source.shape).astype(np.float32)
    given[:, ::3] *= 0.7  # what layers before lost
    alike = moments(given, given)

    plain = values(Q4_0, list(solve(Q4_0, weights, Curvature.of(alike))), 96)
    curvature = Curvature.of(alike, moments(source - given, given))
    shifted = values(Q4_0, list(solve(Q4_0, weights, curvature)), 96)

    def strayed(found: Array) -> float:
        return float(np.square(source @ weights.T - given @ found.T).mean())

    assert strayed(shifted) < 0.7 * strayed(plain)


def test_rows_do_not_depend_on_each_other() -> None:
    weights, curvature = matrix(530, 64), Curvature.of(moments(inputs(64), inputs(64)))

    together = values(Q4_0, list(solve(Q4_0, weights, curvature)), 64)
    alone = values(Q4_0, list(solve(Q4_0, weights[517:518], curvature)), 64)

    assert len(list(solve(Q4_0, weights, curvature))) == 2
    np.testing.assert_allclose(together[517], alone[0], atol=1e-6)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(np.zeros((5, 64), np.float32), id="never given anything"),
        pytest.param(np.ones((5, 64), np.float32), id="always given the same"),
        pytest.param(np.eye(64, dtype=np.float32)[:3] * 1e4, id="few inputs"),
    ],
)
def test_inputs_that_hardly_vary_give_a_solution_all_the_same(seen: Array) -> None:
    weights = matrix(8, 64)

    solved = values(Q4_0, list(solve(Q4_0, weights, Curvature.of(moments(seen, seen)))), 64)

    assert np.isfinite(solved).all()
    assert np.abs(solved - weights).max() < 0.2


def test_the_triangle_is_that_of_the_inverse() -> None:
    alike = moments(inputs(160), inputs(160))
    curvature = Curvature.of(alike)
    upper = curvature.upper.astype(np.float64)
    damped = alike[np.ix_(curvature.order, curvature.order)]
    damped[np.diag_indices(160)] += np.trace(alike) / 160

    assert (np.tril(upper, -1) == 0).all()
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(160), atol=1e-3)
