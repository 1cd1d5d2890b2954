"""The plain numpy executor: a Llama in float32, to be read, to be compared with, to fall back on.

Its matrix products run on tiles. A tile holds the tokens of one page of one sequence, each in its
slot, the missing ones zero: BLAS always sees the same shape with a token in the same place, so
the same sequence gives the same bits however it is chunked and batched.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch
from tokenworks.inference.models.llama import Model

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows `row`… of the batch are the tokens `first`…`end - 1` of a page, counted within it.

    `pages` are the pages of the sequence up to this one.
    """

    pages: NDArray[np.int32]
    row: int
    first: int
    end: int

    @property
    def start(self) -> int:
        """The place in the sequence of the page's first token."""
        return (len(self.pages) - 1) * PAGE_TOKENS


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block's weights; matrices are [out, in]."""

    attention_norm: Array
    query: Array
    key: Array
    value: Array
    attention_output: Array
    feed_forward_norm: Array
    gate: Array
    up: Array
    down: Array


class ReferenceExecutor:
    """Float32 throughout; the file's tensors are dequantised once, at the start."""

    def __init__(self, model: Model, *, context_length: int = 0) -> None:
        self._config = config = model.config
        self._context_length = context_length or config.context_length
        self._embedding = model.float32("token_embd.weight")
        tied = config.tied_embedding
        self._head = self._embedding if tied else model.float32(model.output_name())
        self._output_norm = model.float32("output_norm.weight")
        self._layers = [_load_layer(model, index) for index in range(config.layers)]
        self._frequencies = model.rope_frequencies()
        self._keys: Array = np.empty(0, np.float32)
        self._values: Array = np.empty(0, np.float32)

    @property
    def description(self) -> str:
        return "reference (numpy, float32)"

    @property
    def vocabulary_size(self) -> int:
        return self._config.vocabulary

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def page_bytes(self) -> int:
        config = self._config
        return 2 * 4 * config.layers * PAGE_TOKENS * config.kv_heads * config.head_dim

    def allocate(self, pages: int) -> None:
        config = self._config
        shape = (config.layers, pages, PAGE_TOKENS, config.kv_heads, config.head_dim)
        self._keys = np.zeros(shape, np.float32)
        self._values = np.zeros(shape, np.float32)

    def forward(self, batch: Batch) -> Array:
        tiles = _tiles(batch)
        hidden = np.zeros((len(tiles), PAGE_TOKENS, self._config.hidden), np.float32)
        for tile, rows in zip(tiles, hidden, strict=True):
            tokens = batch.tokens[tile.row : tile.row + tile.end - tile.first]
            rows[tile.first : tile.end] = self._embedding[tokens]
        rotations = [self._rotation(tile) for tile in tiles]
        for index, layer in enumerate(self._layers):
            hidden += self._attend(index, layer, hidden, tiles, rotations)
            hidden += self._feed_forward(layer, hidden)
        return self._logits(hidden, tiles, batch.logit_rows)

    def _attend(
        self,
        index: int,
        layer: _Layer,
        hidden: Array,
        tiles: list[_Tile],
        rotations: list[tuple[Array, Array]],
    ) -> Array:
        config = self._config
        normed = self._norm(hidden, layer.attention_norm)
        heads = (len(tiles), PAGE_TOKENS, -1, config.head_dim)
        queries = _times(normed, layer.query).reshape(heads)
        keys = _times(normed, layer.key).reshape(heads)
        values = _times(normed, layer.value).reshape(heads)
        for number, tile in enumerate(tiles):
            self._rotate(queries[number], *rotations[number])
            self._rotate(keys[number], *rotations[number])
            written = slice(tile.first, tile.end)
            self._keys[index, tile.pages[-1], written] = keys[number, written]
            self._values[index, tile.pages[-1], written] = values[number, written]
        mixed = np.stack(
            [self._attend_tile(index, tile, queries[number]) for number, tile in enumerate(tiles)]
        )
        return _times(mixed, layer.attention_output)

    def _attend_tile(self, index: int, tile: _Tile, queries: Array) -> Array:
        """queries [16, heads, head_dim] → [16, heads * head_dim]."""
        config = self._config
        group = config.heads // config.kv_heads
        # [kv_heads, tokens, head_dim]; what lies behind the last computed token is not ours.
        keys = self._gather(self._keys[index], tile)
        values = self._gather(self._values[index], tile)
        grouped = queries.reshape(PAGE_TOKENS, config.kv_heads, group, config.head_dim)
        asked = grouped.transpose(1, 2, 0, 3).reshape(config.kv_heads, -1, config.head_dim)
        scores = asked @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(config.head_dim))
        places = tile.start + np.arange(PAGE_TOKENS)
        hidden_from = np.arange(keys.shape[1]) > np.tile(places, group)[:, None]
        weights = _softmax(np.where(hidden_from, np.float32(-np.inf), scores))
        mixed = (weights @ values).reshape(config.kv_heads, group, PAGE_TOKENS, config.head_dim)
        return mixed.transpose(2, 0, 1, 3).reshape(PAGE_TOKENS, -1)

    def _gather(self, store: Array, tile: _Tile) -> Array:
        rows = store[tile.pages].reshape(-1, self._config.kv_heads, self._config.head_dim)
        rows[tile.start + tile.end :] = 0.0
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def _feed_forward(self, layer: _Layer, hidden: Array) -> Array:
        normed = self._norm(hidden, layer.feed_forward_norm)
        gate = _times(normed, layer.gate)
        with np.errstate(over="ignore"):  # exp(-gate) may reach infinity; the quotient is 0 then
            inner = gate / (1.0 + np.exp(-gate)) * _times(normed, layer.up)
        return _times(inner.astype(np.float32, copy=False), layer.down)

    def _logits(self, hidden: Array, tiles: list[_Tile], wanted: NDArray[np.int32]) -> Array:
        place = {
            tile.row + offset: (number, tile.first + offset)
            for number, tile in enumerate(tiles)
            for offset in range(tile.end - tile.first)
        }
        logits = np.empty((len(wanted), self._config.vocabulary), np.float32)
        for number, row in enumerate(wanted.tolist()):
            logits[number] = self._head @ self._norm(hidden[place[row]], self._output_norm)
        return logits

    def _norm(self, rows: Array, weight: Array) -> Array:
        """RMSNorm (Zhang and Sennrich 2019) over the last axis."""
        mean = np.mean(rows * rows, axis=-1, keepdims=True)
        normed: Array = rows / np.sqrt(mean + np.float32(self._config.rms_eps)) * weight
        return normed

    def _rotation(self, tile: _Tile) -> tuple[Array, Array]:
        """Cosine and sine [16, 1, rope_dim / 2] for a tile's places."""
        places = tile.start + np.arange(PAGE_TOKENS)
        angles = places[:, None, None] * self._frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _rotate(self, heads: Array, cosine: Array, sine: Array) -> None:
        """RoPE (Su et al. 2021) in place on [16, heads, head_dim]: elements 2i, 2i+1 are a pair."""
        even = heads[..., 0 : self._config.rope_dim : 2].copy()
        odd = heads[..., 1 : self._config.rope_dim : 2].copy()
        heads[..., 0 : self._config.rope_dim : 2] = even * cosine - odd * sine
        heads[..., 1 : self._config.rope_dim : 2] = even * sine + odd * cosine


def _load_layer(model: Model, index: int) -> _Layer:
    block = f"blk.{index}."
    return _Layer(
        attention_norm=model.float32(block + "attn_norm.weight"),
        query=model.float32(block + "attn_q.weight"),
        key=model.float32(block + "attn_k.weight"),
        value=model.float32(block + "attn_v.weight"),
        attention_output=model.float32(block + "attn_output.weight"),
        feed_forward_norm=model.float32(block + "ffn_norm.weight"),
        gate=model.float32(block + "ffn_gate.weight"),
        up=model.float32(block + "ffn_up.weight"),
        down=model.float32(block + "ffn_down.weight"),
    )


def _tiles(batch: Batch) -> list[_Tile]:
    tiles = []
    row = 0
    for span in batch.spans:
        start, end = span.start, span.start + span.length
        while start < end:
            page, first = divmod(start, PAGE_TOKENS)
            length = min(PAGE_TOKENS - first, end - start)
            tiles.append(_Tile(span.pages[: page + 1], row, first, first + length))
            start += length
            row += length
    return tiles


def _times(rows: Array, matrix: Array) -> Array:
    """rows [tiles, 16, in] times matrix [out, in], tile by tile."""
    product = np.empty((*rows.shape[:-1], matrix.shape[0]), np.float32)
    for tile, out in zip(rows, product, strict=True):
        np.matmul(tile, matrix.T, out=out)
    return product


def _softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)
