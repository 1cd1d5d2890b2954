"""Predicts whether a model fits here and how fast it decodes, from footprint and measured rates.

Pure: a footprint, a machine's memory and its calibration in, numbers out.
"""

import msgspec

from tokenworks.inference.models.footprint import Footprint

CONTEXTS = (64, 2048, 8192)
PROGRAM_BYTES = 150 * 10**6
"""What server and engine take beside weights and KV (interpreters, libraries, tokenizer): 92 MB of
their own were measured with SmolLM2-135M and about 30 MB of libraries; rounded up."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a second at which one token's forward reads weights in 4-bit groups, other weights, and
    KV; seconds that each layer, each engine step and each entry of the vocabulary cost beside;
    8-bit operations a second of reading a prompt (a multiply-add is two). Medians."""

    path: str
    threads: int
    four_bit_rate: float
    weight_rate: float
    kv_rate: float
    layer_seconds: float
    step_seconds: float
    entry_seconds: float
    int8_operations: float


class AtContext(msgspec.Struct, frozen=True, kw_only=True):
    """One request with `tokens` of context: its KV, everything needed, what of the memory that can
    be taken is left then (negative: too little; None: unknown), and the speed of one answer."""

    tokens: int
    kv_bytes: int
    needed_bytes: int
    margin_bytes: int | None
    fits: bool | None
    read_bytes_per_token: int
    tokens_per_second: float | None


def at_contexts(
    footprint: Footprint, usable_bytes: int | None, calibration: Calibration | None
) -> tuple[AtContext, ...]:
    """The forecast at 64, 2k, 8k and the model's own limit, as far as the model goes."""
    longest = footprint.context_length
    lengths = sorted({min(tokens, longest) for tokens in (*CONTEXTS, longest)})
    return tuple(at(footprint, tokens, usable_bytes, calibration) for tokens in lengths)


def at(
    footprint: Footprint, tokens: int, usable_bytes: int | None, calibration: Calibration | None
) -> AtContext:
    kv = footprint.kv_bytes(tokens)
    needed = footprint.packed_bytes + kv + PROGRAM_BYTES
    margin = None if usable_bytes is None else usable_bytes - needed
    seconds = None if calibration is None else token_seconds(footprint, tokens, calibration)
    return AtContext(
        tokens=tokens,
        kv_bytes=kv,
        needed_bytes=needed,
        margin_bytes=margin,
        fits=None if margin is None else margin >= 0,
        read_bytes_per_token=footprint.packed_bytes + tokens * footprint.kv_bytes_per_token,
        tokens_per_second=None if seconds is None else 1.0 / seconds,
    )


def weights_seconds(footprint: Footprint, calibration: Calibration) -> float:
    """Seconds in which a token's forward reads all weights."""
    others = footprint.packed_bytes - footprint.four_bit_bytes
    four_bit = footprint.four_bit_bytes / calibration.four_bit_rate
    return four_bit + others / calibration.weight_rate


def token_seconds(footprint: Footprint, tokens: int, calibration: Calibration) -> float:
    """Seconds from one token of a lone answer to the next with `tokens` before it: what is read
    at the measured rates, and what each layer, step and vocabulary entry costs."""
    return (
        weights_seconds(footprint, calibration)
        + tokens * footprint.kv_bytes_per_token / calibration.kv_rate
        + footprint.layers * calibration.layer_seconds
        + footprint.vocabulary * calibration.entry_seconds
        + calibration.step_seconds
    )
