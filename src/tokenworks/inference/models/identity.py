"""Tells a model's files from all others without reading them."""

from pathlib import Path

from tokenworks.inference.models.folder_files import model_files


def identity_of(path: Path, sha256: str = "") -> str:
    """Names, sizes and times of change of a model's files, and the checksum it was pulled with.

    `path` is a GGUF file or a folder. Raises ModelFileError for a folder that is no model's.
    """
    files = [path / name for name in model_files(path)] if path.is_dir() else [path]
    states = [(file.name, file.stat()) for file in files]
    said = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return "\n".join([sha256, *said])
