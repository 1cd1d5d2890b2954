"""What a pull is given and what it brings, whatever the source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenworks.inference.models.progress import Progress
from tokenworks.inference.models.records import StoredFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Where a model is to go, and whom to tell.

    `place` gets `model.gguf`, or becomes a folder in Hugging Face's layout; synced. `scratch` is on
    the same disk and goes when the pull ends. So is `kept`, which need not exist yet and stays when
    the pull is interrupted with weights in it.
    `lock` is the descriptor of the lock on all three: whatever works in them holds it.
    `download_bytes` is what is known to be fetched. `check_space` raises DownloadError if so many
    bytes more do not fit on the disk.
    """

    place: Path
    scratch: Path
    kept: Path
    lock: int
    download_bytes: int | None
    progress: Progress
    check_space: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What arrived, by path below `place`; commit and licence if the source states them."""

    files: Mapping[str, StoredFile]
    revision: str | None = None
    licence: str | None = None
