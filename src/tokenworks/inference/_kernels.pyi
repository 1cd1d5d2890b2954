from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

def supported_paths() -> list[str]: ...
def panels(
    path: str,
    encoding: str,
    raw: NDArray[np.uint8],
    rows: int,
    inputs: int,
    format: str = "",
    importance: NDArray[np.float32] | None = None,
) -> bytes: ...
def panel_seconds(
    path: str,
    threads: int,
    inputs: int,
    formats: Sequence[str],
    rows: int,
    *,
    memory_bytes: int,
    pass_bytes: int,
    runs: int,
) -> list[float]: ...
def decoded(encoding: str, raw: NDArray[np.uint8], rows: int, inputs: int) -> bytes: ...
def choose(
    path: str,
    logits: NDArray[np.float32],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    position: float,
) -> tuple[int, int, float]: ...

class Suffixes:
    """The suffix automaton of texts; a place is (state, length of the string)."""

    size: int
    def add(self, tokens: Sequence[int]) -> None: ...
    def end(self) -> None: ...
    def tail(self) -> tuple[int, int]: ...
    def follow(self, state: int, length: int, token: int) -> tuple[int, int]: ...
    def guess(self, state: int, length: int) -> tuple[int, float] | None: ...

class Transformer:
    page_bytes: int
    weight_bytes: int
    logit_stride: int
    def __init__(
        self,
        path: str,
        threads: int,
        *,
        layers: int,
        hidden: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        feed_forward: int,
        vocabulary: int,
        norm_epsilon: float,
        norm: str,
        norms: str,
        activation: str,
        gated: bool,
        causal: bool,
        interleaved: bool,
        query_scale: float,
        embedding_scale: float,
        positions: int,
        inverse_frequencies: Sequence[float],
        window_frequencies: Sequence[float],
        windows: Sequence[int],
        kv_format: str,
    ) -> None: ...
    def set_embedding(self, encoding: str, raw: NDArray[np.uint8]) -> None: ...
    def set_matrix(
        self,
        layer: int,
        name: str,
        encoding: str,
        raw: NDArray[np.uint8],
        release: Callable[[int, int], None],
        format: str = "",
        importance: NDArray[np.float32] | None = None,
    ) -> None: ...
    def set_vector(self, layer: int, name: str, values: NDArray[np.float32]) -> None: ...
    def allocate(self, pages: int) -> None: ...
    def copy_rows(self, source: int, target: int, rows: int) -> None: ...
    def read_page(self, page: int) -> bytes: ...
    def write_page(self, page: int, content: NDArray[np.uint8]) -> None: ...
    def forward(
        self,
        tokens: NDArray[np.int32],
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        offsets: NDArray[np.int32],
        pages: NDArray[np.int32],
        wanted_rows: NDArray[np.int32],
        encode: bool,
        out: NDArray[np.float32],
    ) -> None: ...
