"""How the files of sentence-transformers beside a model say that texts become vectors."""

from pathlib import Path
from typing import Any, Final

from tokenworks.errors import ModelFileError
from tokenworks.inference.models.folder_files import read_json

POOLING_FILE: Final = "1_Pooling/config.json"
_MODULES_FILE: Final = "modules.json"
_MOST_BYTES: Final = 1 << 16
_MODULES: Final = {"Transformer", "Pooling", "Normalize"}
# GGUF's numbers, by what sentence-transformers calls them, and called them as switches.
_POOLINGS: Final = {"mean": 1, "mean_tokens": 1, "cls": 2, "cls_token": 2, "lasttoken": 3}
_SWITCH: Final = "pooling_mode_"


def read_pooling(folder: Path) -> int | None:
    """GGUF's number of the pooling, None if the folder does not say.

    Raises ModelFileError for another pooling, and for a module that works on the vectors after it:
    they would be other vectors than the model's.
    """
    _check_modules(folder / _MODULES_FILE)
    path = folder / POOLING_FILE
    if not path.exists():
        return None
    said = read_json(path, dict[str, Any], _MOST_BYTES)
    modes = said.get("pooling_mode") or [
        key.removeprefix(_SWITCH) for key, on in said.items() if key.startswith(_SWITCH) and on
    ]
    if not modes:
        return None
    one = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    if not isinstance(one, str) or one not in _POOLINGS:
        raise ModelFileError(
            f"Model file '{path}': pooling by {str(one)[:80]} is not supported",
            hint="supported: mean, cls, lasttoken",
        )
    return _POOLINGS[one]


def _check_modules(path: Path) -> None:
    if not path.exists():
        return
    for module in read_json(path, list[dict[str, Any]], _MOST_BYTES):
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in _MODULES:
            raise ModelFileError(
                f"Model file '{path}': module {kind[:80]!r} is not supported",
                hint=f"supported: {', '.join(sorted(_MODULES))}",
            )
