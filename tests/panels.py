"""Panels in numpy: how kernels/layout.h says that weights lie, and how they are rounded to it."""

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.factors import take_apart
from tokenworks.inference.models.panel_format import GROUP, PanelFormat
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType

ROWS = 16
Q8_QUANTS_KEPT = (TensorType.Q5_0, TensorType.IQ4_NL, TensorType.IQ4_XS)


def expected_panels(raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]) -> bytes:
    """A matrix [rows, inputs] as the kernels hold it, rows filled up with zeros to whole panels."""
    with np.errstate(all="ignore"):
        if type in (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q4_K):
            return _q4(raw, type, shape)
        if shape[1] % GROUP:
            return _bf16(dequantise(raw, type, shape))
        return _q8(*_steps(raw, type, shape))


def _steps(
    raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """int8 [rows, groups, 32] and their scales [rows, groups]."""
    groups = (shape[0], -1, GROUP)
    if type is TensorType.Q8_0:
        blocks = raw.reshape(shape[0], -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0]
        quants = np.maximum(blocks[..., 2:].view(np.int8), -127)
    elif type in Q8_QUANTS_KEPT:
        factors = take_apart(raw.reshape(-1, type.block_bytes), type)
        scale = factors.scale.astype("<f2").reshape(shape[0], -1)
        quants = factors.quants.reshape(groups)
    else:
        values = np.nan_to_num(dequantise(raw, type, shape), nan=0, posinf=np.inf, neginf=-np.inf)
        values = values.reshape(groups)
        scale = (np.abs(values).max(axis=-1) / np.float32(127)).astype("<f2")
        step = scale.astype(np.float32)[..., None]
        steps = np.rint(values / np.where(step > 0, step, np.inf))
        quants = np.clip(np.nan_to_num(steps, nan=0), -127, 127).astype(np.int8)
    return quants, np.where(np.isnan(scale), 0, scale).astype("<f2")


def _q8(quants: NDArray[np.int8], scale: NDArray[np.float16]) -> bytes:
    codes = _panelled(quants).reshape(-1, ROWS, quants.shape[1], 8, 4).transpose(0, 2, 3, 1, 4)
    scales = _panelled(scale).reshape(-1, ROWS, quants.shape[1]).transpose(0, 2, 1)
    return _joined(codes, scales)


def _q4(raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]) -> bytes:
    groups = shape[1] // GROUP
    if type is TensorType.Q4_K:
        factors = take_apart(raw.reshape(-1, type.block_bytes), type)
        assert factors.minimum is not None
        scale, least = factors.scale.astype("<f2"), (-factors.minimum).astype("<f2")
        quants = factors.quants.view(np.uint8).reshape(-1, GROUP)
        nibbles = quants[:, :16] | quants[:, 16:] << 4
    else:
        blocks = raw.reshape(-1, type.block_bytes)
        scale = blocks[:, :2].copy().view("<f2")
        least = (scale.astype(np.float32) * -8).astype("<f2")
        if type is TensorType.Q4_1:
            least = blocks[:, 2:4].copy().view("<f2")
        nibbles = blocks[:, -16:]
    codes = _panelled(nibbles.reshape(shape[0], groups, 16))
    codes = codes.reshape(-1, ROWS, groups, 4, 4).transpose(0, 2, 3, 1, 4)
    scales, leasts = (
        _panelled(np.where(np.isnan(half), 0, half).astype("<f2").reshape(shape[0], groups))
        .reshape(-1, ROWS, groups)
        .transpose(0, 2, 1)
        for half in (scale, least)
    )
    return _joined(codes, scales, leasts)


def _bf16(values: NDArray[np.float32]) -> bytes:
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    return _panelled(rounded).reshape(-1, ROWS, values.shape[1]).transpose(0, 2, 1).tobytes()


def _panelled(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    more = -len(rows) % ROWS
    return np.concatenate([rows, np.zeros((more, *rows.shape[1:]), rows.dtype)])


def _joined(*parts: NDArray[np.generic]) -> bytes:
    """[panels, groups, …] of several arrays, group by group one after the other."""
    panels, groups = parts[0].shape[:2]
    flat = [
        np.ascontiguousarray(part)
        .reshape(panels, groups, -1)
        .view(np.uint8)
        .reshape(panels, groups, -1)
        for part in parts
    ]
    return np.concatenate(flat, axis=-1).tobytes()


def panel_weights(
    packed: bytes, format: PanelFormat, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The weights that panels stand for: float32 of `shape`."""
    rows, inputs = shape
    panels = -(-rows // ROWS)
    if format == "bf16":
        bits = np.frombuffer(packed, "<u2").reshape(panels, inputs, ROWS).transpose(0, 2, 1)
        return (bits.astype(np.uint32) << 16).view(np.float32).reshape(-1, inputs)[:rows]
    groups = np.frombuffer(packed, np.uint8).reshape(panels, inputs // GROUP, -1)
    codes, halves = np.split(groups, [256 if format == "q4" else 512], axis=-1)
    codes = codes.reshape(panels, inputs // GROUP, -1, ROWS, 4)
    if format == "q4":
        codes = np.concatenate([codes & 15, codes >> 4], axis=2)
    quants = codes.view(np.int8).transpose(0, 3, 1, 2, 4).reshape(panels, ROWS, -1, GROUP)
    numbers = np.ascontiguousarray(halves).view("<f2").astype(np.float32)
    of_rows = numbers.reshape(panels, inputs // GROUP, -1, ROWS).transpose(2, 0, 3, 1)[..., None]
    weights = quants * of_rows[0] + (of_rows[1] if format == "q4" else np.float32(0))
    return np.asarray(weights.reshape(-1, inputs)[:rows])
