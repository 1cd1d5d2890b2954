"""`hf:OWNER/NAME[@REVISION][#FILE.gguf]` takes a model from the Hugging Face Hub, or a mirror.

By the hub's own client, so its variables count: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the rest.
Weights that its cache holds are linked from there. Pickles and code are never fetched.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tokenworks.errors import DownloadError, ModelFileError
from tokenworks.inference.models.folder_config import architecture_of
from tokenworks.inference.models.folder_files import read_config, read_index
from tokenworks.inference.models.folder_layout import (
    CONFIG,
    INDEX,
    WEIGHTS,
    files_of,
    weights_file,
)
from tokenworks.inference.models.malformed import Malformed
from tokenworks.inference.models.progress import silent
from tokenworks.inference.models.records import MODEL_FILE, StoredFile
from tokenworks.inference.models.sources.copying import Meter, digest, sync_below, take
from tokenworks.inference.models.sources.hub_errors import explained
from tokenworks.inference.models.sources.hub_repository import (
    HubFile,
    Repository,
    open_repository,
)
from tokenworks.inference.models.sources.hub_source import HubSource, gguf_file
from tokenworks.inference.models.sources.pull import Fetched, Pull

_MOST_HEADER_FILE_BYTES: Final = 64 << 20  # config and index, fetched before the space is checked


def fetch_hub(source: HubSource, pull: Pull) -> Fetched:
    """Raises ModelNotFound, DownloadError, ModelFileError (no model in it) or OSError."""
    with explained(source):
        repository = open_repository(source)
        names = _wanted(source, repository, pull)
        arrived = _download(repository, names.values(), pull)
    return Fetched(
        files=_place(source, repository, names, arrived, pull),
        revision=repository.commit,
        licence=repository.licence,
    )


def _wanted(source: HubSource, repository: Repository, pull: Pull) -> dict[str, str]:
    """The repository's files to take, by path below `pull.place`."""
    gguf = gguf_file(
        source, {name: file.file_bytes or 0 for name, file in repository.files.items()}
    )
    if gguf is not None:
        return {MODEL_FILE: gguf}
    try:
        files = folder_files(source, repository, pull.kept)
    except Malformed as problem:
        message = f"Repository '{source.repository}' {problem}"
        raise ModelFileError(message, hint=problem.hint) from None
    return {name: name for name in files}


def folder_files(source: HubSource, repository: Repository, folder: Path) -> list[str]:
    """The names of a repository's model files, after looking at its config and index.

    Both are put into `folder`: a model that is not supported is not worth a download. Raises
    Malformed or ModelFileError, or what the hub's client raises.
    """
    start = weights_file(repository.files)
    config = _small(repository, CONFIG, folder)
    architecture_of(Path(source.repository), read_config(config.parent))
    shards = {WEIGHTS}
    if start == INDEX:
        shards = set(read_index(_small(repository, INDEX, folder)).values())
    return files_of(repository.files, shards)


def _small(repository: Repository, name: str, folder: Path) -> Path:
    size = repository.files[name].file_bytes or 0
    if size > _MOST_HEADER_FILE_BYTES:
        raise Malformed(f"has a {name} of {size} bytes")
    return repository.get(name, folder, Meter("downloading", None, silent))


def _download(repository: Repository, names: Iterable[str], pull: Pull) -> dict[str, Path]:
    """Where each file is now: in `pull.kept`, or in the hub's cache."""
    names = list(names)
    for partial in pull.kept.rglob("*.incomplete"):  # of a pull that was killed; never used again
        partial.unlink()
    missing = [
        name for name in names if not (repository.here(name) or (pull.kept / name).is_file())
    ]
    sizes = {name: repository.files[name].file_bytes or 0 for name in missing}
    pull.check_space(sum(sizes.values()))
    meter = Meter("downloading", sum(sizes.values()), pull.progress)
    return {name: repository.get(name, pull.kept, meter) for name in names}


def _place(
    source: HubSource,
    repository: Repository,
    names: Mapping[str, str],
    arrived: Mapping[str, Path],
    pull: Pull,
) -> dict[str, StoredFile]:
    """Move what was fetched to its place and link what others fetched; check all of it."""
    found = take(
        {
            target: arrived[name]
            for target, name in names.items()
            if not arrived[name].is_relative_to(pull.kept)
        },
        pull,
    )
    fetched = {target: name for target, name in names.items() if target not in found}
    for target, name in fetched.items():
        (pull.place / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(arrived[name], pull.place / target)
        with (pull.place / target).open("rb") as file:
            os.fsync(file.fileno())
    sync_below(pull.place)
    sizes = {target: (pull.place / target).stat().st_size for target in fetched}
    found |= digest(pull.place, sizes, pull.progress)
    for target, name in names.items():
        _check(source, name, repository.files[name], pull.place / target, found[target])
    return found


def _check(source: HubSource, name: str, expected: HubFile, path: Path, found: StoredFile) -> None:
    right = expected.file_bytes in (None, found.file_bytes)
    if right and expected.sha256:
        right = found.sha256 == expected.sha256
    elif right and expected.git_sha1:
        blob = b"blob %d\0" % found.file_bytes + path.read_bytes()
        right = hashlib.sha1(blob, usedforsecurity=False).hexdigest() == expected.git_sha1
    if not right:
        raise DownloadError(
            f"'{name}' of '{source.repository}' is not what the hub lists: its checksum or size "
            "differs",
            hint="pull again; if it stays so, HF_ENDPOINT serves another file",
        )
