"""The plain numpy executor: every model in float32, to be read, compared with, fallen back on.

Its matrix products run on tiles. A tile holds the tokens of one page of one sequence, each in its
slot, the missing ones zero: BLAS always sees the same shape with a token in the same place, so
the same sequence gives the same bits however it is chunked and batched.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.executors.base import PAGE_TOKENS, Batch
from tokenworks.inference.executors.float_weights import LoadedWeights, Weights
from tokenworks.inference.executors.numerics import (
    ACTIVATIONS,
    Array,
    layer_norm,
    rms_norm,
    rotate,
    softmax,
    through_codes,
)
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.model import Model


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows `row`… of the batch are the tokens `first`…`end - 1` of a page, counted within it.

    `pages` are the pages of the sequence up to the last that the tile may see; `page` is its own
    among them. Without causality a tile sees its whole span, `seen` tokens.
    """

    pages: NDArray[np.int32]
    page: int
    row: int
    first: int
    end: int
    seen: int

    @property
    def start(self) -> int:
        """The place in the sequence of the page's first token."""
        return self.page * PAGE_TOKENS


class ReferenceExecutor:
    """Float32 throughout; the file's tensors are dequantised once, at the start, unless `weights`
    answers for them.

    Keys and values take float32 in any format; with `kv_format` int8 they are rounded as the
    kernels round them. With `one_layer_kv` it keeps those of the layer at hand alone: enough where
    every span starts at 0.
    """

    def __init__(
        self,
        model: Model,
        *,
        context_length: int = 0,
        weights: Weights | None = None,
        one_layer_kv: bool = False,
        kv_format: KvFormat = "bf16",
    ) -> None:
        self._config = config = model.config
        self._context_length = context_length or config.context_length
        self._weights = weights or LoadedWeights(model)
        self._kv_format: KvFormat = kv_format
        self._kept = through_codes if kv_format == "int8" else np.asarray
        self._kv_layers = 1 if one_layer_kv else config.layers
        self._frequencies = [
            model.rope_frequencies(windowed=config.window(layer) > 0)
            for layer in range(config.layers)
        ]
        self._keys: Array = np.empty(0, np.float32)
        self._values: Array = np.empty(0, np.float32)

    @property
    def description(self) -> str:
        kv = ", int8 KV" if self._kv_format == "int8" else ""
        return f"reference (numpy, float32{kv})"

    @property
    def vocabulary_size(self) -> int:
        return self._config.vocabulary

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def page_bytes(self) -> int:
        config = self._config
        return 2 * 4 * self._kv_layers * PAGE_TOKENS * config.kv_heads * config.head_dim

    def allocate(self, pages: int) -> None:
        config = self._config
        shape = (self._kv_layers, pages, PAGE_TOKENS, config.kv_heads, config.head_dim)
        self._keys = np.zeros(shape, np.float32)
        self._values = np.zeros(shape, np.float32)

    def copy_rows(self, source: int, target: int, rows: int) -> None:
        for store in (self._keys, self._values):
            store[:, target, :rows] = store[:, source, :rows]
            store[:, target, rows:] = 0.0

    def read_page(self, page: int) -> bytes:
        return self._keys[:, page].tobytes() + self._values[:, page].tobytes()

    def write_page(self, page: int, content: bytes | memoryview) -> None:
        kept = np.frombuffer(content, np.float32).reshape(2, *self._keys[:, page].shape)
        self._keys[:, page], self._values[:, page] = kept

    def forward(self, batch: Batch) -> Array:
        tiles = self._tiles(batch)
        hidden = self._norm(self._run(batch, tiles), "output_norm")
        places = _places(tiles)
        logits = np.empty((len(batch.logit_rows), self._config.vocabulary), np.float32)
        for number, row in enumerate(batch.logit_rows.tolist()):
            logits[number] = self._weights.logits(hidden[places[row]])
        return logits

    def encode(self, batch: Batch) -> Array:
        tiles = self._tiles(batch)
        hidden = self._run(batch, tiles)
        if not self._config.is_encoder:
            hidden = self._norm(hidden, "output_norm")
        return np.stack([hidden[place] for _, place in sorted(_places(tiles).items())])

    def _run(self, batch: Batch, tiles: list[_Tile]) -> Array:
        """The residual after all blocks: [tiles, 16, hidden]."""
        hidden = np.zeros((len(tiles), PAGE_TOKENS, self._config.hidden), np.float32)
        for tile, rows in zip(tiles, hidden, strict=True):
            tokens = batch.tokens[tile.row : tile.row + tile.end - tile.first]
            rows[tile.first : tile.end] = self._embed(tokens, tile.start + tile.first)
        for layer in range(self._config.layers):
            block = f"blk.{layer}."
            match self._config.block.norms:
                case "before":
                    hidden += self._attend(layer, self._norm(hidden, f"{block}attn_norm"), tiles)
                    hidden += self._feed_forward(block, self._norm(hidden, f"{block}ffn_norm"))
                case "around":
                    mixed = self._attend(layer, self._norm(hidden, f"{block}attn_norm"), tiles)
                    hidden += self._norm(mixed, f"{block}post_attention_norm")
                    inner = self._feed_forward(block, self._norm(hidden, f"{block}ffn_norm"))
                    hidden += self._norm(inner, f"{block}post_ffw_norm")
                case "after":
                    hidden += self._attend(layer, hidden, tiles)
                    hidden = self._norm(hidden, f"{block}attn_output_norm")
                    hidden += self._feed_forward(block, hidden)
                    hidden = self._norm(hidden, f"{block}layer_output_norm")
        return hidden

    def _embed(self, tokens: NDArray[np.int32], start: int) -> Array:
        config = self._config
        rows = self._weights.rows("token_embd", tokens)
        rows = rows * np.float32(config.embedding_scale)
        if config.block.positions == "learned":
            first = start + config.position_offset
            places = np.arange(first, first + len(tokens), dtype=np.int32)
            rows = rows + self._weights.rows("position_embd", places)
            types = self._weights.rows("token_types", np.zeros(1, np.int32))
            rows = self._norm(rows + types[0], "token_embd_norm")
        return rows

    def _attend(self, layer: int, normed: Array, tiles: list[_Tile]) -> Array:
        config, block, kept = self._config, f"blk.{layer}.", layer % self._kv_layers
        heads = (len(tiles), PAGE_TOKENS, -1, config.head_dim)
        queries = self._times(normed, f"{block}attn_q").reshape(heads)
        keys = self._times(normed, f"{block}attn_k").reshape(heads)
        values = self._times(normed, f"{block}attn_v").reshape(heads)
        if config.block.head_norms:
            queries = self._norm(queries, f"{block}attn_q_norm")
            keys = self._norm(keys, f"{block}attn_k_norm")
        for number, tile in enumerate(tiles):
            if config.block.positions == "rotary":
                places = tile.start + np.arange(PAGE_TOKENS)
                angles = places[:, None, None] * self._frequencies[layer]
                rotate(queries[number], angles, interleaved=config.rope_interleaved)
                rotate(keys[number], angles, interleaved=config.rope_interleaved)
            written = slice(tile.first, tile.end)
            page = tile.pages[tile.page]
            self._keys[kept, page, written] = self._kept(keys[number, written])
            self._values[kept, page, written] = self._kept(values[number, written])
        mixed = [self._attend_tile(layer, tile, queries[i]) for i, tile in enumerate(tiles)]
        return self._times(np.stack(mixed), f"{block}attn_output")

    def _attend_tile(self, layer: int, tile: _Tile, queries: Array) -> Array:
        """queries [16, heads, head_dim] → [16, heads * head_dim]."""
        config = self._config
        group = config.heads // config.kv_heads
        # [kv_heads, tokens, head_dim]; what lies behind the last computed token is not ours.
        kept = layer % self._kv_layers
        keys = self._gather(self._keys[kept], tile)
        values = self._gather(self._values[kept], tile)
        grouped = queries.reshape(PAGE_TOKENS, config.kv_heads, group, config.head_dim)
        asked = grouped.transpose(1, 2, 0, 3).reshape(config.kv_heads, -1, config.head_dim)
        scores = asked @ keys.transpose(0, 2, 1) * np.float32(config.score_scale)
        seen = np.tile(self._sees(layer, tile, keys.shape[1]), (group, 1))
        weights = softmax(np.where(seen, scores, np.float32(-np.inf)))
        mixed = (weights @ values).reshape(config.kv_heads, group, PAGE_TOKENS, config.head_dim)
        return mixed.transpose(2, 0, 1, 3).reshape(PAGE_TOKENS, -1)

    def _sees(self, layer: int, tile: _Tile, tokens: int) -> NDArray[np.bool_]:
        """Which tokens each of a tile's sixteen sees: [16, tokens]."""
        places = tile.start + np.arange(PAGE_TOKENS)[:, None]
        others = np.arange(tokens)
        if not self._config.block.causal:
            return np.broadcast_to(others < tile.seen, (PAGE_TOKENS, tokens))
        window = self._config.window(layer)
        nearest = others > places - window if window else True
        return np.asarray((others <= places) & nearest)

    def _gather(self, store: Array, tile: _Tile) -> Array:
        rows = store[tile.pages].reshape(-1, self._config.kv_heads, self._config.head_dim)
        rows[tile.seen :] = 0.0
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def _feed_forward(self, block: str, normed: Array) -> Array:
        activate = ACTIVATIONS[self._config.block.activation]
        if self._config.block.gated:
            inner = activate(self._times(normed, f"{block}ffn_gate"))
            inner = inner * self._times(normed, f"{block}ffn_up")
        else:
            inner = activate(self._times(normed, f"{block}ffn_up"))
        return self._times(inner, f"{block}ffn_down")

    def _norm(self, rows: Array, name: str) -> Array:
        weight, epsilon = self._vector(f"{name}.weight"), self._config.norm_epsilon
        if self._config.block.norm == "rms":
            return rms_norm(rows, weight, epsilon)
        return layer_norm(rows, weight, self._vector(f"{name}.bias"), epsilon)

    def _vector(self, name: str) -> Array:
        vector = self._weights.vector(name)
        assert vector is not None, f"no {name}: the model was checked to have it"
        return vector

    def _times(self, rows: Array, name: str) -> Array:
        """rows [tiles, 16, in] times a matrix [out, in], and its bias if any."""
        product = self._weights.times(rows, name)
        bias = self._weights.vector(f"{name}.bias")
        return product if bias is None else product + bias

    def _tiles(self, batch: Batch) -> list[_Tile]:
        tiles = []
        row = 0
        for span in batch.spans:
            start, end = span.start, span.start + span.length
            while start < end:
                page, first = divmod(start, PAGE_TOKENS)
                length = min(PAGE_TOKENS - first, end - start)
                seen = start + length if self._config.block.causal else end
                pages = span.pages[: -(-seen // PAGE_TOKENS)]
                tiles.append(_Tile(pages, page, row, first, first + length, seen))
                start += length
                row += length
        return tiles


def _places(tiles: list[_Tile]) -> dict[int, tuple[int, int]]:
    """Tile and slot of every row of the batch."""
    return {
        tile.row + offset: (number, tile.first + offset)
        for number, tile in enumerate(tiles)
        for offset in range(tile.end - tile.first)
    }
