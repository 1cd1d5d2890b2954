"""What `hf:OWNER/NAME[@REVISION][#FILE.gguf]` names, and which files of a repository it means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenworks.errors import DownloadError, ModelNotFound
from tokenworks.inference.models.folder_layout import CONFIG, INDEX, WEIGHTS

_PIECE: Final = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
_MOST_LISTED: Final = 40


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the Hugging Face Hub; `file` is one GGUF file in it, None its folder.

    `revision` is a branch, tag or commit; None is the main branch.
    """

    repository: str
    revision: str | None
    file: str | None


def gguf_file(source: HubSource, sizes: Mapping[str, int]) -> str | None:
    """The GGUF file that the source means, given the repository's files; None if its folder.

    A repository without safetensors is taken for its GGUF file, if it has but one. Raises
    ModelNotFound or DownloadError, with the names that can be asked for.
    """
    found = {name: size for name, size in sizes.items() if name.lower().endswith(".gguf")}
    if source.file is not None:
        if source.file not in sizes:
            raise ModelNotFound(
                f"Repository '{source.repository}' has no file '{source.file}'{_listed(found)}",
                hint=_naming(source, found),
            )
        return _whole(source, source.file)
    if (CONFIG in sizes and not {WEIGHTS, INDEX}.isdisjoint(sizes)) or not found:
        return None
    if len(found) > 1:
        raise DownloadError(
            f"Repository '{source.repository}' has {len(found)} GGUF files{_listed(found)}",
            hint=_naming(source, found),
        )
    return _whole(source, next(iter(found)))


def _whole(source: HubSource, name: str) -> str:
    piece = _PIECE.search(name)
    if piece and int(piece[1]) > 1:
        raise DownloadError(
            f"'{name}' in '{source.repository}' is one of {int(piece[1])} pieces of a model; "
            "GGUF files in pieces are not read",
            hint="take a smaller quantisation, which comes in one file",
        )
    return name


def _listed(sizes: Mapping[str, int]) -> str:
    lines = [f"\n  {name}  ({size / 1e6:,.0f} MB)" for name, size in sorted(sizes.items())]
    more = len(lines) - _MOST_LISTED
    return "".join(lines[:_MOST_LISTED]) + (f"\n  and {more} more" if more > 0 else "")


def _naming(source: HubSource, found: Mapping[str, int]) -> str:
    revision = f"@{source.revision}" if source.revision else ""
    name = min(found) if found else "FILE.gguf"
    return f"name one: tokenworks models pull 'hf:{source.repository}{revision}#{name}'"
