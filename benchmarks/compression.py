"""Compression: what `models compress` loses, against rounding each weight, at the same size.

All sides write the same tensors of the same source as Q4_0 and keep the others. Judged in float32
on a text that nothing was learnt from.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from parts import Findings, Setup
from rich.table import Table

import llamacpp
from tokenworks.inference.compression.compressing import METHODS, Method, open_compression
from tokenworks.inference.compression.compressor import compared
from tokenworks.inference.compression.plan import for_bits, types_of
from tokenworks.inference.compression.streams import StreamedWeights
from tokenworks.inference.executors.numerics import Array
from tokenworks.inference.models.gguf import read_gguf
from tokenworks.inference.models.gguf_writer import EncodedTensor, StoredValue, write_gguf
from tokenworks.inference.models.model import Model, load_model
from tokenworks.inference.models.quantisation import quantise
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Gate, Window, calibration_text, windows_of
from tokenworks.inference.text.open import open_codec

WINDOW, WINDOWS = 512, 5
STANDARD = "rounded by ggml's rule"
NAMES: dict[Method, str] = {"nearest": "rounded, best scales", "gptq": "tokenworks compress"}
_OPEN = Gate(most_kl=float("inf"), least_agreement=0.0)
_CHOICE = for_bits(TensorType.Q4_0)


def measure(setup: Setup, found: Findings) -> None:
    compressed = each_way(setup.path, setup.text)
    found.keys["compress_kl_ratio_vs_rtn"] = ratio(compressed)
    found.details["compression"] = compressed
    found.tables.append(table_of(compressed))


def each_way(path: Path, text: Path) -> dict[str, dict[str, Any]]:
    """Quality, bytes and seconds of each way to write the model in 4 bits."""
    passage = text.read_text(encoding="utf-8")[: WINDOW * WINDOWS * 8]
    windows = windows_of(open_codec(path).encode(passage)[: WINDOW * WINDOWS], WINDOW)
    source = load_model(path)
    base = hidden(source, windows)
    found: dict[str, dict[str, Any]] = {}

    def judge(name: str, file: Path, seconds: float | None) -> None:
        model = load_model(file)
        head = model.output_name().removesuffix(".weight")
        mine = StreamedWeights(model, [windows])
        theirs = StreamedWeights(source, [windows])
        quality = compared(theirs.matrix(head), base, mine.matrix(head), hidden(model, windows))
        figures = {**msgspec.structs.asdict(quality), "file_bytes": file.stat().st_size}
        found[name] = figures if seconds is None else {**figures, "seconds": round(seconds, 1)}
        model.close()

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.gguf"
        write_rounded(path, source, out)
        judge(STANDARD, out, None)
        for method in reversed(METHODS):
            began = time.perf_counter()
            with open_compression(path, calibration_text(), Path(scratch)) as compression:
                compression.write(out, compression.fixed(_CHOICE), gate=_OPEN, method=method)
            judge(NAMES[method], out, time.perf_counter() - began)
    if llamacpp.installed():
        judge("llama-quantize", llamacpp.transcoded(path, "Q4_0"), None)
    source.close()
    return found


def hidden(model: Model, windows: list[Window]) -> Array:
    (states,) = StreamedWeights(model, [windows]).hidden()
    return states


def write_rounded(path: Path, source: Model, out: Path) -> None:
    """The same tensors, rounded as ggml's reference encoder does."""
    gguf = read_gguf(path)
    types = types_of(source.tensors, _CHOICE)
    tensors = []
    for name, info in source.tensors.items():
        same = types[name] == info.type
        raw = source.tensor(name)[2] if same else quantise(source.float32(name), types[name])
        tensors.append(EncodedTensor(name, types[name], info.shape, raw))
    metadata = {key: StoredValue(gguf.stored_value(key)) for key in gguf.metadata}
    write_gguf(out, metadata, tensors)
    gguf.close()


def ratio(found: dict[str, dict[str, Any]]) -> float:
    """Our divergence to that of ggml's rounding."""
    return round(found[NAMES["gptq"]]["kl"] / found[STANDARD]["kl"], 3)


def table_of(found: dict[str, dict[str, Any]]) -> Table:
    table = Table("4 bits, against the source", "KL, nats", "± s.e.", "same top token", "MB", "s")
    for name, row in found.items():
        error, seconds = f"{row['kl_standard_error']:.4f}", str(row.get("seconds", ""))
        size, same = f"{row['file_bytes'] / 1e6:.1f}", f"{row['same_top_token']:.1%}"
        table.add_row(name, f"{row['kl']:.4f}", error, same, size, seconds)
    return table
