"""An opened model: its configuration and weights, checked against each other.

It comes from a GGUF file or from a Hugging Face folder; whoever computes need not know which.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.folder_config import load_folder_config
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.gguf_config import load_config
from tokenworks.inference.models.quantisation import dequantise
from tokenworks.inference.models.safetensors import read_folder
from tokenworks.inference.models.tensors import TensorInfo, TensorType


class WeightFile(Protocol):
    """Tensors by the names that the file gives them."""

    @property
    def path(self) -> Path: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The tensor's bytes, a read-only view into the file."""
        ...

    def release(self, name: str, begin: int, end: int) -> None:
        """Give the memory of the tensor's bytes [begin, end) back; views read the file again."""
        ...

    def close(self) -> None: ...


class Model:
    """A checked model: every tensor that `config` calls for (`expected_tensors`) is there.

    Tensors go by GGUF's names. Matrices are [out, in].
    """

    def __init__(
        self,
        config: ModelConfig,
        file: WeightFile,
        *,
        metadata: Mapping[str, object],
        names: Mapping[str, str] | None = None,
    ) -> None:
        """`metadata` is what the file says of itself, as it says it; `names` are the file's names
        of tensors by GGUF's, None if they are the same."""
        self.config = config
        self.metadata = metadata
        self._file = file
        self._names = names

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """All tensors by GGUF's names."""
        if self._names is None:
            return dict(self._file.tensors)
        return {name: self._file.tensors[stored] for name, stored in self._names.items()}

    def tensor(self, name: str) -> tuple[TensorType, tuple[int, ...], NDArray[np.uint8]]:
        """Type, shape and bytes (a read-only view into the file) of a tensor."""
        stored = self._stored(name)
        info = self._file.tensors[stored]
        return info.type, info.shape, self._file.raw(stored)

    def release(self, name: str, begin: int, end: int) -> None:
        """Give the memory of the tensor's bytes [begin, end) back; views read the file again."""
        self._file.release(self._stored(name), begin, end)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The tensor's values in its own shape, a new array."""
        type, shape, raw = self.tensor(name)
        return dequantise(raw, type, shape)

    def norm(self, name: str) -> NDArray[np.float32]:
        """The weights of a norm as they are multiplied with: float32 [size], a new array."""
        return self.float32(f"{name}.weight") + np.float32(self.config.norm_offset)

    def output_name(self) -> str:
        """The tensor that turns hidden states into logits."""
        return "token_embd.weight" if self.config.tied_embedding else "output.weight"

    def rope_frequencies(self, *, windowed: bool = False) -> NDArray[np.float64]:
        """Angle per position of each rotated pair: [rope_dim / 2], scaling included.

        `windowed` asks for those of layers that see a window, where they are their own.
        """
        config = self.config
        pairs = np.arange(config.rope_dim // 2, dtype=np.float64)
        if windowed and config.window_rope_theta:
            return np.asarray(config.window_rope_theta ** (-2.0 * pairs / config.rope_dim))
        frequencies = config.rope_theta ** (-2.0 * pairs / config.rope_dim) / config.rope_scale
        if config.rope_factors:
            frequencies = frequencies / np.array(config.rope_factors)
        if config.has_rope_factors:
            frequencies = frequencies / self.float32("rope_freqs.weight")
        return np.asarray(frequencies, dtype=np.float64)

    def _stored(self, name: str) -> str:
        return self._names[name] if self._names is not None else name

    def close(self) -> None:
        """Let go of the file; views that are still held stay valid."""
        self._file.close()


def load_model(path: Path) -> Model:
    """Open and check a GGUF file, or a folder with config.json and safetensors.

    Raises ModelFileError, naming what is wrong or unsupported.
    """
    return _load_folder(path) if path.is_dir() else _load_gguf(path)


def _load_gguf(path: Path) -> Model:
    gguf = read_gguf(path)
    try:
        return Model(load_config(gguf), gguf, metadata=gguf.metadata)
    except BaseException:
        gguf.close()
        raise


def _load_folder(path: Path) -> Model:
    folder = read_folder(path)
    try:
        config, names = load_folder_config(path, folder.config, folder.tensors, folder.foreign)
        return Model(config, folder, metadata=folder.config, names=names)
    except BaseException:
        folder.close()
        raise
