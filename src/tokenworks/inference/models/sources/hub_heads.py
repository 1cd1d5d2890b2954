"""What a model of the hub is, without its weights: their headers alone are fetched.

The headers go into files of the right size that are empty otherwise and take no space on the disk,
so that whoever reads a model's header reads these as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tokenworks.errors import DownloadError, ModelFileError
from tokenworks.inference.models.folder_files import shards_of
from tokenworks.inference.models.folder_layout import CONFIG, INDEX
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.records import MODEL_FILE
from tokenworks.inference.models.safetensors_header import MOST_HEADER_BYTES, PREFIX_BYTES
from tokenworks.inference.models.sources.hub import folder_files
from tokenworks.inference.models.sources.hub_errors import explained
from tokenworks.inference.models.sources.hub_repository import Repository, open_repository
from tokenworks.inference.models.sources.hub_source import HubSource, gguf_file
from tokenworks.inference.models.sources.space import storage_error

_SAFETENSORS_BYTES: Final = 1 << 18  # holds most headers, so that most take one request
_GGUF_BYTES: Final = (16 << 20, 96 << 20)  # a header has the vocabulary in it; then a second try


@dataclass(frozen=True, slots=True)
class ModelHead:
    """A file or folder to be read as a model's header, its weights being zeros; and what a pull
    of the model would fetch."""

    path: Path
    download_bytes: int


@contextmanager
def model_head(source: HubSource) -> Iterator[ModelHead]:
    """Fetch a model's headers for as long as the block lasts.

    Raises ModelNotFound, DownloadError or ModelFileError (no model, or one that is malformed).
    """
    with TemporaryDirectory(prefix="tokenworks-head-") as scratch:
        folder = Path(scratch)
        try:
            with explained(source):
                head = _fetch(source, open_repository(source), folder)
        except OSError as problem:
            raise storage_error(problem, folder) from None
        yield head


def _fetch(source: HubSource, repository: Repository, folder: Path) -> ModelHead:
    sizes = {name: file.file_bytes or 0 for name, file in repository.files.items()}
    gguf = gguf_file(source, sizes)
    if gguf is not None:
        return ModelHead(_gguf_head(repository, gguf, sizes[gguf], folder), sizes[gguf])
    try:
        names = folder_files(source, repository, folder)
    except Malformed as problem:
        message = f"Repository '{source.repository}' {problem}"
        raise ModelFileError(message, hint=problem.hint) from None
    for name in (CONFIG, INDEX):
        found = repository.here(name) if name in names else None
        if found is not None:
            (folder / name).symlink_to(found)
    for name in shards_of(names):
        head = repository.head(name, _SAFETENSORS_BYTES)
        header_bytes = PREFIX_BYTES + int.from_bytes(head[:PREFIX_BYTES], "little")
        if len(head) < header_bytes <= MOST_HEADER_BYTES:
            head = repository.head(name, header_bytes)
        _write(folder / name, head, sizes[name])
    return ModelHead(folder, sum(sizes[name] for name in names))


def _gguf_head(repository: Repository, name: str, file_bytes: int, folder: Path) -> Path:
    path = folder / MODEL_FILE
    for head_bytes in _GGUF_BYTES:
        _write(path, repository.head(name, head_bytes), file_bytes)
        try:
            read_gguf(path).close()
        except ModelFileError:
            if head_bytes == _GGUF_BYTES[-1] or head_bytes >= file_bytes:
                raise
        else:
            break
    return path


def _write(path: Path, head: bytes, file_bytes: int) -> None:
    if file_bytes < len(head):
        raise DownloadError(f"The hub does not tell the size of '{path.name}'")
    with path.open("wb") as file:
        file.write(head)
        file.truncate(file_bytes)
