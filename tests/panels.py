"""Panels in numpy: how kernels/layout.h says that weights lie, and how they are rounded to it."""

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.factors import take_apart
from tokenworks.inference.models.panel_format import GROUP, GroupFormat, PanelFormat, panel_format
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.tensors import TensorType

ROWS = 16
QUANTS_KEPT = (TensorType.Q5_0, TensorType.IQ4_NL, TensorType.IQ4_XS)
FORMATS: tuple[GroupFormat, ...] = ("q4", "q6", "q8")
Floats = NDArray[np.float32]


def expected_panels(
    raw: NDArray[np.uint8],
    type: TensorType,
    shape: tuple[int, int],
    wanted: GroupFormat | None = None,
    importance: Floats | None = None,
) -> bytes:
    """A matrix [rows, inputs] as the kernels hold it, rows filled up with zeros to whole panels."""
    with np.errstate(all="ignore"):
        format = panel_format(type, shape[1], wanted)
        if format == "bf16":
            return _bf16(dequantise(raw, type, shape))
        own = format == panel_format(type, shape[1])
        counts = (np.ones(shape[1], "f4") if importance is None else importance).reshape(-1, GROUP)
        if format == "q4_centred":
            quants, scale, _ = _nibbles(raw, type, shape)
            return _q4(quants, scale)
        if format == "q4":
            if own:
                return _q4(*_nibbles(raw, type, shape))
            return _q4(*_round_q4(_values(raw, type, shape), counts))
        if own and type in (TensorType.Q8_0, *QUANTS_KEPT):
            quants, scale = _kept(raw, type, shape)
        elif format == "q6":
            quants, scale = _round_q6(_values(raw, type, shape), counts)
        else:
            quants, scale = _round_q8(_values(raw, type, shape))
        scale = np.where(np.isnan(scale), 0, scale).astype("<f2")
        return _q6(quants, scale) if format == "q6" else _q8(quants, scale)


def _values(raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]) -> Floats:
    """float32 [rows, groups, 32]."""
    values = np.nan_to_num(dequantise(raw, type, shape), nan=0, posinf=np.inf, neginf=-np.inf)
    return values.reshape(shape[0], -1, GROUP)


def _kept(
    raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """int8 [rows, groups, 32] and their scales [rows, groups]."""
    if type is TensorType.Q8_0:
        blocks = raw.reshape(shape[0], -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0]
        return np.maximum(blocks[..., 2:].view(np.int8), -127), scale
    factors = take_apart(raw.reshape(-1, type.block_bytes), type)
    quants = factors.quants.reshape(shape[0], -1, GROUP)
    return quants, factors.scale.astype("<f2").reshape(shape[0], -1)


def _steps(values: Floats, step: Floats, least: int, most: int) -> Floats:
    steps = values / np.where(step != 0, step, np.float32(np.inf))[..., None]
    return np.rint(np.clip(np.where(np.isnan(steps), np.float32(0), steps), least, most))


def _sum(values: Floats) -> Floats:
    """Over the last axis of 32, in the order of the kernels' lanes: by halves."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]


def _round_q8(values: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    scale = (np.abs(values).max(axis=-1) / np.float32(127)).astype("<f2")
    return _steps(values, scale.astype(np.float32), -127, 127).astype(np.int8), scale


def _round_q6(values: Floats, counts: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    size = np.abs(values).max(axis=-1)
    largest = np.where(values.max(axis=-1) == size, size, -size)
    scale = largest / np.float32(-32)
    best, quants = np.zeros_like(size), np.zeros_like(values)
    for parts in range(30, 35):
        codes = _steps(values, largest / np.float32(-parts), -32, 31)
        with_weights, squares = _sum(values * codes * counts), _sum(codes * codes * counts)
        fit = with_weights * with_weights / squares
        better = fit > best
        best = np.where(better, fit, best)
        scale = np.where(better, with_weights / squares, scale)
        quants = np.where(better[..., None], codes, quants)
    return quants.astype(np.int8), scale.astype("<f2")


def _round_q4(
    values: Floats, counts: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]:
    low = values.min(axis=-1) + np.float32(0)
    width = values.max(axis=-1) + np.float32(0) - low
    total, all_counts = _sum(values * counts), _sum(counts)
    scale, least = width / np.float32(15), low
    best, quants = np.full_like(low, np.inf), np.zeros_like(values)
    for parts, refined in ((15, False), (15, True), (15.7, True), (16.4, True)):
        step = width / np.float32(parts)
        start = low + (width - np.float32(15) * step) / np.float32(2)
        usable = np.ones(low.shape, bool)
        if refined:
            codes = _steps(values - start[..., None], step, 0, 15)
            sums, squares = _sum(codes * counts), _sum(codes * codes * counts)
            spread = all_counts * squares - sums * sums
            usable = spread > 0
            step = (all_counts * _sum(values * codes * counts) - sums * total) / spread
            start = (total - step * sums) / all_counts
        step, start = (x.astype("<f2").astype(np.float32) for x in (step, start))
        codes = _steps(values - start[..., None], step, 0, 15)
        error = values - (step[..., None] * codes + start[..., None])
        errors = _sum(error * error * counts)
        better = usable & (errors < best)
        best = np.where(better, errors, best)
        scale, least = np.where(better, step, scale), np.where(better, start, least)
        quants = np.where(better[..., None], codes, quants)
    codes = quants.astype(np.uint8)
    return codes[..., :16] | codes[..., 16:] << 4, scale.astype("<f2"), least.astype("<f2")


def _q8(quants: NDArray[np.int8], scale: NDArray[np.float16]) -> bytes:
    codes = _panelled(quants).reshape(-1, ROWS, quants.shape[1], 8, 4).transpose(0, 2, 3, 1, 4)
    scales = _panelled(scale).reshape(-1, ROWS, quants.shape[1]).transpose(0, 2, 1)
    return _joined(codes, scales)


def _q6(quants: NDArray[np.int8], scale: NDArray[np.float16]) -> bytes:
    """The codes of inputs 24 to 31 in the top bits of the others', two bits in each of three."""
    codes = (quants + 32).astype(np.uint8).reshape(*quants.shape[:2], 8, 4)
    above = codes[:, :, 6:, None, :] >> np.array([0, 2, 4], np.uint8)[:, None] & 3
    lines = codes[:, :, :6] | above.reshape(*quants.shape[:2], 6, 4) << 6
    lines = _panelled(lines).reshape(-1, ROWS, quants.shape[1], 6, 4).transpose(0, 2, 3, 1, 4)
    scales = _panelled(scale).reshape(-1, ROWS, quants.shape[1]).transpose(0, 2, 1)
    return _joined(lines, scales)


def _nibbles(
    raw: NDArray[np.uint8], type: TensorType, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]:
    """uint8 [rows, groups, 16], scales and minima [rows, groups]."""
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
    of_rows = (shape[0], shape[1] // GROUP)
    return nibbles.reshape(*of_rows, 16), scale.reshape(of_rows), least.reshape(of_rows)


def _q4(nibbles: NDArray[np.uint8], *numbers: NDArray[np.float16]) -> bytes:
    """With scales, and with minima too unless nibbles are centred."""
    groups = nibbles.shape[1]
    codes = _panelled(nibbles).reshape(-1, ROWS, groups, 4, 4).transpose(0, 2, 3, 1, 4)
    halves = [
        _panelled(np.where(np.isnan(half), 0, half).astype("<f2"))
        .reshape(-1, ROWS, groups)
        .transpose(0, 2, 1)
        for half in numbers
    ]
    return _joined(codes, *halves)


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
    size = {"q4_centred": 256, "q4": 256, "q6": 384, "q8": 512}[format]
    codes, halves = np.split(groups, [size], axis=-1)
    codes = codes.reshape(panels, inputs // GROUP, -1, ROWS, 4)
    if format.startswith("q4"):
        codes = np.concatenate([codes & 15, codes >> 4], axis=2)
    if format == "q6":
        above = codes >> 6 << np.array([0, 2, 4] * 2, np.uint8)[:, None, None]
        first, second = above[:, :, :3].sum(2), above[:, :, 3:].sum(2)
        codes = np.concatenate([codes & 63, np.stack([first, second], 2)], axis=2).astype("i1") - 32
    quants = codes.astype(np.int8, copy=False) if format == "q6" else codes.view(np.int8)
    quants = quants.transpose(0, 3, 1, 2, 4).reshape(panels, ROWS, -1, GROUP)
    numbers = np.ascontiguousarray(halves).view("<f2").astype(np.float32)
    of_rows = numbers.reshape(panels, inputs // GROUP, -1, ROWS).transpose(2, 0, 3, 1)[..., None]
    if format == "q4_centred":
        quants = quants - np.int8(8)
    weights = quants * of_rows[0] + (of_rows[1] if format == "q4" else np.float32(0))
    return np.asarray(weights.reshape(-1, inputs)[:rows])
