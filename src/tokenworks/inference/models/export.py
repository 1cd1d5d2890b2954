"""Says a model folder's weights and configuration as GGUF, as llama.cpp's converter does.

Norms are whole (folders of Gemma store them less one), vectors F32, and where a family's GGUF files
have rotated pairs as neighbours, the rows of queries and keys are reordered.
Source: llama.cpp, convert_hf_to_gguf.py (`LlamaModel.permute`, `norm_shift`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import ModelError
from tokenworks.inference.models.architectures.description import Architecture
from tokenworks.inference.models.architectures.registry import ARCHITECTURES, of_gguf
from tokenworks.inference.models.config import ModelConfig
from tokenworks.inference.models.gguf_writer import NewTensor, Writable
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.random_model import config_metadata
from tokenworks.inference.models.tensors import TensorType

_SHARED: Final = {"mistral": "llama"}
"""Families whose GGUF files are another's."""
_FACTORS: Final = "rope_freqs.weight"
_STORED_OTHERWISE: Final = (
    *("name", "architecture", "norm_offset"),
    *("rope_interleaved", "rope_factors", "has_rope_factors"),
)
"""What differs between the two forms of one model."""


class GGUFForm:
    """A folder's model as a GGUF file has it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._family = _family(model.config)
        factors = model.config.rope_factors
        self._factors = np.array(factors, np.float32) if factors else None

    @property
    def metadata(self) -> dict[str, Writable]:
        return config_metadata(replace(self._model.config, architecture=self._family.gguf))

    @property
    def tensors(self) -> list[NewTensor]:
        found = self._model.tensors.items()
        tensors = [NewTensor(name, self._type(name), info.shape) for name, info in found]
        if self._factors is not None:
            tensors.append(NewTensor(_FACTORS, TensorType.F32, self._factors.shape))
        return tensors

    def raw(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Names and bytes, one tensor after the other; the file's memory behind it is let go."""
        for name, info in self._model.tensors.items():
            yield name, self._raw(name)
            self._model.release(name, 0, info.nbytes)
        if self._factors is not None:
            yield _FACTORS, self._factors.view(np.uint8)

    def _type(self, name: str) -> TensorType:
        info = self._model.tensors[name]
        return TensorType.F32 if len(info.shape) == 1 else info.type

    def _raw(self, name: str) -> NDArray[np.uint8]:
        _, shape, raw = self._model.tensor(name)
        if len(shape) == 1:
            norm = name.endswith("_norm.weight")
            values = self._model.norm(name[:-7]) if norm else self._model.float32(name)
            raw = values.view(np.uint8)
        stem = name.rpartition(".")[0].rpartition(".")[2]
        config = self._model.config
        swaps = self._family.interleaved_in_gguf and not config.rope_interleaved
        if not swaps or stem not in ("attn_q", "attn_k"):
            return raw
        halves = raw.reshape(-1, 2, config.head_dim // 2, raw.nbytes // shape[0])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1)


def check_same(folder: ModelConfig, written: ModelConfig) -> None:
    """Raise ModelError, naming it, for what a GGUF file does not say of a folder's model."""
    for field in fields(ModelConfig):
        ours, theirs = getattr(folder, field.name), getattr(written, field.name)
        same = ours == theirs or (
            isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-6)
        )
        if not same and field.name not in _STORED_OTHERWISE:
            raise ModelError(
                f"GGUF files of {folder.architecture} models cannot say that "
                f"{field.name.replace('_', ' ')} is {ours}",
                hint="compress a GGUF file of the same model, if there is one",
            )


def _family(config: ModelConfig) -> Architecture:
    families: Mapping[str, Architecture] = {known.name: known for known in ARCHITECTURES}
    family = families[config.architecture]
    shared = of_gguf(_SHARED.get(family.name, family.gguf))
    if shared is None:
        raise ModelError(f"GGUF files of {family.name} models are not known")
    return shared
