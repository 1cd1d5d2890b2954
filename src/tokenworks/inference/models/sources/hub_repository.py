"""A repository of the hub as one commit has it: its files, and a way to get them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import msgspec

from tokenworks.errors import DownloadError
from tokenworks.inference.models.folder_layout import CONFIG
from tokenworks.inference.models.sources.copying import Meter
from tokenworks.inference.models.sources.hub_errors import hub_address
from tokenworks.inference.models.sources.hub_source import HubSource

_LIBRARY: Final = "tokenworks"  # what the hub is told asks


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """What the hub says of a file: large ones come with a SHA-256, others with git's SHA-1; some
    mirrors say nothing."""

    file_bytes: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None


class Repository(Protocol):
    """Files by their names in the repository; commit and licence where they are known."""

    @property
    def commit(self) -> str: ...

    @property
    def licence(self) -> str | None: ...

    @property
    def files(self) -> Mapping[str, HubFile]: ...

    def here(self, name: str) -> Path | None:
        """The file if it lies on this machine already."""
        ...

    def get(self, name: str, folder: Path, meter: Meter) -> Path:
        """The file, fetched into `folder` if it is not here yet."""
        ...

    def head(self, name: str, most_bytes: int) -> bytes:
        """The file's first bytes, fetched alone."""
        ...


class _LargeFile(msgspec.Struct):
    sha256: str


class _Sibling(msgspec.Struct):
    rfilename: str
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 48)] | None
    blob_id: str | None
    lfs: _LargeFile | None


class _About(msgspec.Struct):
    """What a hub says of a repository, as the client hands it on unchecked."""

    sha: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{1,64}$")]  # a folder of the cache, too
    tags: list[str] | None
    siblings: list[_Sibling] | None


class HubRepository:
    """A repository, asked for over the network. Raises what the hub's client raises."""

    def __init__(self, source: HubSource) -> None:
        from huggingface_hub import constants
        from huggingface_hub.hf_api import HfApi  # from the top it prints what goes wrong

        self._repository = source.repository
        self._api = HfApi(library_name=_LIBRARY)
        try:
            found = self._api.model_info(
                source.repository,
                revision=source.revision or constants.DEFAULT_REVISION,
                files_metadata=True,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            )
            about = msgspec.convert(found, _About, from_attributes=True)
        except (TypeError, KeyError, AttributeError, msgspec.ValidationError):
            # The client trusts the answer's form.
            raise DownloadError(
                f"{hub_address()} does not answer as a Hugging Face Hub does",
                hint="check HF_ENDPOINT: tokenworks doctor",
            ) from None
        self.commit = about.sha
        licences = [tag for tag in about.tags or () if tag.startswith("license:")]
        self.licence = licences[0].partition(":")[2] if licences else None
        self.files: Mapping[str, HubFile] = {
            sibling.rfilename: _hub_file(sibling) for sibling in about.siblings or ()
        }

    def here(self, name: str) -> Path | None:
        """The file in the hub's own cache, which other programs fill."""
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self._repository, name, revision=self.commit)
        return Path(cached) if isinstance(cached, str) else None

    def get(self, name: str, folder: Path, meter: Meter) -> Path:
        if cached := self.here(name):
            return cached
        file = self.files[name]
        bars: Any = _bars(meter, f"'{name}' of '{self._repository}'", file.file_bytes)
        return Path(
            self._api.hf_hub_download(
                self._repository,
                name,
                revision=self.commit,
                local_dir=folder,
                tqdm_class=bars,
            )
        )

    def head(self, name: str, most_bytes: int) -> bytes:
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented there
            build_hf_headers,
            hf_raise_for_status,
        )

        url = hf_hub_url(self._repository, name, revision=self.commit)
        own = build_hf_headers(library_name=_LIBRARY)
        headers = {**own, "Range": f"bytes=0-{most_bytes - 1}", "Accept-Encoding": "identity"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        found = bytearray()
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            for chunk in response.iter_bytes():
                found += chunk
                if len(found) >= most_bytes:  # a server may send all, whatever is asked for
                    break
        return bytes(found[:most_bytes])


class CachedRepository:
    """A repository as the hub's cache on this machine has it, for HF_HUB_OFFLINE."""

    def __init__(self, source: HubSource) -> None:
        from huggingface_hub import errors, snapshot_download

        try:
            self._snapshot = Path(
                snapshot_download(
                    source.repository,
                    revision=source.revision,
                    local_files_only=True,
                    allow_patterns=[
                        source.file or CONFIG
                    ],  # whether the rest is there is seen below
                )
            )
        except errors.LocalEntryNotFoundError:
            raise DownloadError(
                f"HF_HUB_OFFLINE is set, and the hub's cache here does not hold "
                f"'{source.repository}'",
                hint="unset HF_HUB_OFFLINE, then pull again",
            ) from None
        self.commit = self._snapshot.name
        self.licence = None
        self.files: Mapping[str, HubFile] = {
            path.relative_to(self._snapshot).as_posix(): HubFile(file_bytes=path.stat().st_size)
            for folder, _, names in os.walk(self._snapshot)
            for path in (Path(folder, name) for name in names)
            if path.is_file()
        }

    def here(self, name: str) -> Path | None:
        return self._snapshot / name

    def get(self, name: str, folder: Path, meter: Meter) -> Path:
        return self._snapshot / name

    def head(self, name: str, most_bytes: int) -> bytes:
        with (self._snapshot / name).open("rb") as file:
            return file.read(most_bytes)


def open_repository(source: HubSource) -> Repository:
    """Raises what the hub's client raises, or DownloadError."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    # A connection that is taken up again is nobody's worry.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return CachedRepository(source) if constants.is_offline_mode() else HubRepository(source)


def _hub_file(sibling: _Sibling) -> HubFile:
    return HubFile(
        file_bytes=sibling.size,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
        git_sha1=None if sibling.lfs else sibling.blob_id,
    )


def _bars(meter: Meter, what: str, most_bytes: int | None) -> Callable[..., object]:
    """A stand-in for the client's progress bar, which also ends a download that will not end."""

    class Bar:
        update_transfer = set_postfix_str = set_transfer_postfix_str = staticmethod(
            lambda *_, **__: None
        )
        close = refresh = update_transfer

        def __init__(self, *_: object, total: int | None = None, **__: object) -> None:
            self.total = total
            self.n = 0

        def update(self, some_bytes: int) -> None:
            self.n += some_bytes
            if most_bytes is not None and self.n > most_bytes:
                raise DownloadError(f"The hub sends more of {what} than its {most_bytes} bytes")
            meter.add(some_bytes)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...

    return Bar
