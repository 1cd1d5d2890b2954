from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def supported_paths() -> list[str]: ...

class Llama:
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
        rms_epsilon: float,
        inverse_frequencies: Sequence[float],
    ) -> None: ...
    def set_embedding(self, encoding: str, raw: NDArray[np.uint8]) -> None: ...
    def set_head(self, encoding: str, raw: NDArray[np.uint8]) -> None: ...
    def set_final_norm(self, weight: NDArray[np.float32]) -> None: ...
    def set_norms(
        self, layer: int, attention: NDArray[np.float32], feed_forward: NDArray[np.float32]
    ) -> None: ...
    def set_matrix(self, layer: int, name: str, encoding: str, raw: NDArray[np.uint8]) -> None: ...
    def allocate(self, pages: int) -> None: ...
    def forward(
        self,
        tokens: NDArray[np.int32],
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        offsets: NDArray[np.int32],
        pages: NDArray[np.int32],
        logit_rows: NDArray[np.int32],
        logits: NDArray[np.float32],
    ) -> None: ...
