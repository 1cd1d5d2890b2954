"""Opens the tokenizer and chat template of a model, whatever form it comes in."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.text.codec import TextCodec
from tokenworks.inference.text.folder import codec_of_folder
from tokenworks.inference.text.gguf_text import codec_of_gguf


def open_codec(path: Path, *, now: Callable[[], datetime] = datetime.now) -> TextCodec:
    """The codec of a GGUF file or of a Hugging Face folder; nothing stays open.

    `now` is the clock for chat templates that ask for it. Raises ModelFileError, naming the file
    and the problem, for a tokenizer that is missing, malformed or not supported.
    """
    if path.is_dir():
        return codec_of_folder(path, now=now)
    gguf = read_gguf(path)
    try:
        return codec_of_gguf(gguf, now=now)
    finally:
        gguf.close()
