"""`file:PATH` takes a GGUF file of this machine, or a model folder in Hugging Face's layout."""

from dataclasses import dataclass
from pathlib import Path

from tokenworks.errors import ModelNotFound
from tokenworks.inference.models.folder_files import model_files
from tokenworks.inference.models.model import load_model
from tokenworks.inference.models.progress import silent
from tokenworks.inference.models.records import MODEL_FILE, StoredFile
from tokenworks.inference.models.sources.copying import digest, take
from tokenworks.inference.models.sources.pull import Fetched, Pull


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file or folder; absolute."""

    path: Path


def fetch_local(source: FileSource, pull: Pull) -> Fetched:
    """Raises ModelNotFound, ModelFileError (no model, refused before it is copied), or OSError."""
    _files(source)
    load_model(source.path).close()
    return Fetched(files=take(_files(source), pull))


def stored_files(source: FileSource) -> dict[str, StoredFile]:
    """What a pull would bring now. Raises as `fetch_local`."""
    files = _files(source)
    found = {}
    for name, path in files.items():
        found[name] = digest(path.parent, {path.name: path.stat().st_size}, silent)[path.name]
    return found


def _files(source: FileSource) -> dict[str, Path]:
    """The files to take, by path below a pulled model's folder."""
    if source.path.is_dir():
        return {name: source.path / name for name in model_files(source.path)}
    if not source.path.is_file():
        raise ModelNotFound(
            f"There is no file or folder '{source.path}'", hint="check how it is written"
        )
    return {MODEL_FILE: source.path}
