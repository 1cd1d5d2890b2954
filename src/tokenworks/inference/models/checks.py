"""Holds a model file's tensors to what its configuration calls for."""

from collections.abc import Mapping
from pathlib import Path

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.config import ModelConfig, expected_tensors
from tokenworks.inference.models.tensors import TensorInfo


def check_tensors(path: Path, tensors: Mapping[str, TensorInfo], config: ModelConfig) -> None:
    """Raise ModelFileError for a tensor (by GGUF's name) that is missing, wrong, or unknown."""
    expected = set()
    for name, shape, types in expected_tensors(config):
        info = tensors.get(name)
        if info is None:
            raise _error(path, f"tensor {name!r} is missing")
        if info.shape != shape:
            raise _error(path, f"tensor {name!r} has shape {list(info.shape)}, not {list(shape)}")
        if info.type not in types:
            raise _error(
                path,
                f"tensor {name!r} has type {info.type.name}, which is not supported for it",
                hint=f"supported: {', '.join(type.name for type in types)}",
            )
        expected.add(name)
    unknown = next((name for name in tensors if name not in expected), None)
    if unknown is not None:
        # Ignoring a tensor (a bias, say) would compute another model than the file holds.
        raise _error(
            path, f"tensor {unknown!r} is not part of a supported {config.architecture} model"
        )


def _error(path: Path, problem: str, *, hint: str | None = None) -> ModelFileError:
    return ModelFileError(f"Model file '{path}': {problem}", hint=hint)
