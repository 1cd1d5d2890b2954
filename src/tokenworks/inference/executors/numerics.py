"""The arithmetic of transformers in plain numpy, float32 in and out."""

from collections.abc import Callable
from math import erf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.config import Activation

Array = NDArray[np.float32]


def rms_norm(rows: Array, weight: Array, epsilon: float) -> Array:
    """Over the last axis (Zhang and Sennrich 2019)."""
    mean = np.mean(rows * rows, axis=-1, keepdims=True)
    normed: Array = rows / np.sqrt(mean + np.float32(epsilon)) * weight
    return normed


def layer_norm(rows: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Over the last axis (Ba, Kiros and Hinton 2016)."""
    centred = rows - np.mean(rows, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias
    return normed


def rotate(heads: Array, angles: NDArray[np.float64], *, interleaved: bool) -> None:
    """RoPE (Su et al. 2021) in place: [16, heads, head_dim] by angles [16, 1, pairs].

    Of the first 2 * pairs elements of a head, i and i + pairs are a pair, or 2i and 2i + 1.
    """
    pairs = angles.shape[-1]
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    if interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    a, b = heads[..., first].copy(), heads[..., second].copy()
    heads[..., first] = a * cosine - b * sine
    heads[..., second] = a * sine + b * cosine


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)


def through_codes(vectors: Array) -> Array:
    """Keys or values, over the last axis, as they are read again where the kernels keep int8 codes
    with a bf16 scale (kernels/pages.h)."""
    largest = np.abs(vectors).max(-1, keepdims=True)
    # To bf16 upwards, so that no code is beyond 127.
    bits = (largest / np.float32(127)).view(np.uint32) + np.uint32(0xFFFF)
    scales = np.where(largest < 2.0**-50, 0, bits & np.uint32(0xFFFF0000)).astype(np.uint32)
    scale = scales.view(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.asarray(np.rint(vectors * inverse) * scale, np.float32)


def _sigmoid_weighted(x: Array, argument: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) may reach infinity; the quotient is 0 then
        return np.asarray(x / (1.0 + np.exp(-argument)), np.float32)


def silu(x: Array) -> Array:
    return _sigmoid_weighted(x, x)


def gelu_tanh(x: Array) -> Array:
    """GELU by its tanh approximation: 0.5 (1 + tanh u) is the logistic function of 2u."""
    u = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return _sigmoid_weighted(x, 2 * u)


def gelu(x: Array) -> Array:
    """GELU (Hendrycks and Gimpel 2016), exact."""
    return np.asarray(x * 0.5 * (1.0 + _erf(x / np.sqrt(2.0))), np.float32)


_erf = np.frompyfunc(erf, 1, 1)

ACTIVATIONS: Final[dict[Activation, Callable[[Array], Array]]] = {
    "silu": silu,
    "gelu_tanh": gelu_tanh,
    "gelu": gelu,
}
