"""Has whatever the library opens as a GGUF file: a folder is written as one that lasts a while."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenworks.errors import ModelError
from tokenworks.inference.models.export import GGUFForm, check_same
from tokenworks.inference.models.gguf_writer import open_gguf_writer
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.progress import Progress, silent
from tokenworks.inference.text.export import check_same_tokens, tokenizer_metadata
from tokenworks.inference.text.open import open_codec


@contextmanager
def as_gguf(path: Path, probe: str, scratch: Path, progress: Progress = silent) -> Iterator[Path]:
    """The file itself, or one in `scratch` with the folder's weights as they are.

    Raises ModelError for a folder that no GGUF file can hold; its tokens are compared on `probe`.
    """
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=".compress-", dir=scratch) as place:
        file = Path(place) / "source.gguf"
        model = load_model(path)
        try:
            _write(model, path, file, probe, progress)
        finally:
            model.close()
        yield file


def _write(model: Model, folder: Path, file: Path, probe: str, progress: Progress) -> None:
    form = GGUFForm(model)
    tensors = form.tensors
    size, free = sum(tensor.nbytes for tensor in tensors), shutil.disk_usage(file.parent).free
    if free < size:
        raise ModelError(
            f"Compressing a folder takes {size:,} bytes of disk for a while, "
            f"but only {free:,} are free",
            hint="name a file on another disk with --out",
        )
    metadata = {**form.metadata, **tokenizer_metadata(folder, model.config.vocabulary, probe)}
    with open_gguf_writer(file, metadata, tensors) as writer:
        done = 0
        for name, raw in form.raw():
            writer.write(name, raw)
            done += raw.nbytes
            progress("copying", done, size)
    written = load_model(file)
    check_same(model.config, written.config)
    written.close()
    check_same_tokens(open_codec(folder), open_codec(file), probe, folder)
