"""Where models lie on this machine: pulled ones by their ids, others by their paths."""

import os
import shlex
from pathlib import Path

from tokenworks.errors import ModelNotFound
from tokenworks.inference.models.records import MODEL_FILE, read_record
from tokenworks.inference.models.sources.spelling import parse_source
from tokenworks.inference.models.workspaces import folder_name


def pulled_folder(models: Path, id: str) -> Path | None:
    """The folder of a pulled model all of whose files have the sizes that were pulled."""
    if folder_name(id) != id:
        return None
    folder = models / id
    record = read_record(folder)
    if record is None:
        return None
    for name, stored in record.files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != stored.file_bytes:
            return None
    return folder


def model_in(folder: Path) -> Path:
    """What of a pulled model's folder is opened: its GGUF file, or the folder itself."""
    record = read_record(folder)
    return folder / MODEL_FILE if record is None or record.is_one_file else folder


def path_named(name: str) -> Path | None:
    """The GGUF file or the folder that a name is a path of; absolute."""
    path = Path(os.path.expanduser(name))  # its own raises for a user that does not exist
    try:
        is_model = (path.suffix.lower() == ".gguf" and path.is_file()) or path.is_dir()
    except (OSError, ValueError):  # too long for the file system, or a zero byte: no path
        return None
    return path.absolute() if name and is_model else None


def no_path(name: str) -> ModelNotFound:
    """The error for a name that looks like a path where it does not serve as one."""
    quoted = shlex.quote(name)
    if path_named(name):
        return ModelNotFound(
            f"'{name}' is a path, not the name of a pulled model",
            hint=f"run it where it lies: tokenworks up --model {quoted}; "
            f"to pull it: tokenworks models pull file:{quoted}",
        )
    if os.path.isfile(os.path.expanduser(name)):
        return ModelNotFound(
            f"'{name}' is no GGUF file",
            hint="name a file that ends in .gguf, or the folder that holds config.json",
        )
    on_hub = parse_source(f"hf:{name}")
    hint = f"on the Hugging Face Hub: hf:{name}" if on_hub else "check how it is written"
    return ModelNotFound(f"There is no file or folder '{name}'", hint=hint)
