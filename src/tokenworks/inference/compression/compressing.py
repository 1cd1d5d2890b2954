"""Compresses a GGUF file into another: plans, writes, judges, and publishes what passes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from tokenworks.errors import ModelError, QualityError
from tokenworks.inference.compression.compressor import Compressor
from tokenworks.inference.compression.material import material_of
from tokenworks.inference.compression.memory import memory_bytes
from tokenworks.inference.compression.plan import Choice, choose, data_bytes, part_of, types_of
from tokenworks.inference.compression.solving import Moments
from tokenworks.inference.compression.source import as_gguf
from tokenworks.inference.compression.weighing import Weigher, smallest_types
from tokenworks.inference.models.gguf import GGUF, read_gguf
from tokenworks.inference.models.gguf_config import load_config
from tokenworks.inference.models.gguf_writer import (
    NewTensor,
    StoredValue,
    Writable,
    open_gguf_writer,
)
from tokenworks.inference.models.model import Model
from tokenworks.inference.models.progress import Phase, Progress, silent
from tokenworks.inference.models.tensors import TensorType
from tokenworks.inference.quality import Gate, Quality, Verdict
from tokenworks.inference.text.gguf_text import codec_of_gguf

Method = Literal["gptq", "nearest"]
METHODS: Final[tuple[Method, ...]] = ("gptq", "nearest")
Types = Mapping[str, TensorType]

_FILE_TYPES: Final = {
    TensorType.Q4_0: 2,
    TensorType.Q4_1: 3,
    TensorType.Q8_0: 7,
    TensorType.Q5_0: 8,
}
"""What `general.file_type` says of a file that is mostly of a type: llama.h, `llama_ftype`."""
_UNTRUE_NOW: Final = ("general.alignment", "general.file_type", "quantize.")
"""How metadata begins that would not be true of what is written."""
_HEADER_SLACK: Final = 256


@dataclass(frozen=True)
class Plan:
    """What every tensor is written as. `head_inputs` are known where parts were weighed."""

    types: dict[str, TensorType]
    file_bytes: int
    head_inputs: Moments | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and how it was judged."""

    path: str
    file_bytes: int
    source_bytes: int
    quality: Quality
    verdict: Verdict


class Compression:
    """A GGUF file that was opened to be compressed, and the text to do it by."""

    def __init__(self, gguf: GGUF, text: str) -> None:
        self._gguf = gguf
        self.model = model = Model(load_config(gguf), gguf, metadata=gguf.metadata)
        if model.config.is_encoder:
            raise ModelError(
                f"{model.config.name!r} makes vectors of texts: it has no answers by which a "
                "smaller one could be judged",
                hint="models that answer can be compressed: tokenworks models list",
            )
        self.material = material_of(codec_of_gguf(gguf).prompt(text), model.config)
        self.source_bytes = gguf.path.stat().st_size

    @property
    def memory_bytes(self) -> int:
        """What planning and writing take at most, beside the program."""
        return memory_bytes(self.model, self.material.computed_tokens)

    def fixed(self, choice: Choice) -> Plan:
        """The plan that follows from a choice. Raises ModelError if nothing gets smaller by it."""
        types = types_of(self.model.tensors, choice)
        if types == {name: info.type for name, info in self.model.tensors.items()}:
            raise ModelError(
                "Nothing gets smaller: the model's tensors take no more bits already",
                hint=f"see what they are: tokenworks models inspect {self._gguf.path}",
            )
        return Plan(types, self.file_bytes(types))

    def within(
        self, limit: float, cost: Callable[[Types], float], progress: Progress = silent
    ) -> Plan:
        """The plan that should stay nearest to the source at a cost of no more than `limit`.

        What each part loses in its smallest type is measured for it. Raises ModelError if the
        limit is out of reach, or met already.
        """
        tensors = self.model.tensors

        def price(choice: Choice) -> float:
            return cost(types_of(tensors, choice))

        if price({}) <= limit:
            raise ModelError("The model is within that as it is", hint="use it, or ask for less")
        if price(smallest_types(tensors)) > limit:
            raise ModelError(
                "The model cannot be made so small or fast",
                hint="the smallest there is: tokenworks models compress with --bits 4",
            )
        weigher = Weigher(self.model, self.material.weighed)
        with _told(progress, "weighing", self.model) as done:
            options, head_inputs = weigher.run(done)
        choice = choose(options, price, limit)
        assert choice is not None, "the smallest types are within the limit"
        types = types_of(tensors, choice)
        return Plan(types, self.file_bytes(types), head_inputs)

    def file_bytes(self, types: Types) -> int:
        """What a file with these types takes at most."""
        tensors = self.model.tensors
        now = data_bytes(tensors, {name: info.type for name, info in tensors.items()})
        return self.source_bytes - now + data_bytes(tensors, types) + _HEADER_SLACK

    def write(
        self,
        out: Path,
        plan: Plan,
        *,
        gate: Gate,
        method: Method = "gptq",
        force: bool = False,
        progress: Progress = silent,
    ) -> Result:
        """Write the file, whole or not at all.

        Raises QualityError, and writes nothing, for a result that the gate does not let pass,
        unless `force`.
        """
        tensors = self.model.tensors.items()
        wanted = [NewTensor(name, plan.types[name], info.shape) for name, info in tensors]
        metadata = self._metadata(plan.types, method)
        with open_gguf_writer(out, metadata, wanted) as writer:
            compressor = Compressor(
                self.model,
                plan.types,
                self.material,
                writer.write,
                solves=method == "gptq",
                head_inputs=plan.head_inputs,
            )
            with _told(progress, "compressing", self.model) as done:
                quality = compressor.run(done)
            verdict = gate.judge(quality)
            if not (verdict.passed or force):
                raise QualityError(
                    f"The compressed model strays too far: {verdict.explanation}",
                    hint="ask for more bits (--bits 5, a larger --size), or keep it: --force",
                )
        return Result(
            path=str(out),
            file_bytes=out.stat().st_size,
            source_bytes=self.source_bytes,
            quality=quality,
            verdict=verdict,
        )

    def _metadata(self, types: Types, method: Method) -> dict[str, Writable]:
        """The source's, as it has it, and what is new."""
        layers = [type for name, type in types.items() if part_of(name) is not None]
        mostly = max(set(layers), key=layers.count)
        kept: dict[str, Writable] = {
            key: StoredValue(self._gguf.stored_value(key))
            for key in self._gguf.metadata
            if not key.startswith(_UNTRUE_NOW)
        }
        if mostly in _FILE_TYPES:
            kept["general.file_type"] = _FILE_TYPES[mostly]
        return {
            **kept,
            "general.quantization_version": 2,
            "general.quantized_by": "Tokenworks",
            "tokenworks.compression.method": method,
        }


@contextmanager
def open_compression(
    path: Path, text: str, scratch: Path, progress: Progress = silent
) -> Iterator[Compression]:
    """Open a GGUF file or a model folder to compress it by a text.

    A folder is written as GGUF first, into `scratch`, where it takes its own size until the end.
    Raises ModelFileError for what cannot be read and ModelError for what cannot be compressed.
    """
    with as_gguf(path, text, scratch, progress) as file:
        gguf = read_gguf(file)
        try:
            yield Compression(gguf, text)
        finally:
            gguf.close()


@contextmanager
def _told(progress: Progress, phase: Phase, model: Model) -> Iterator[Callable[[int], None]]:
    """Takes the bytes of each matrix that is done with."""
    tensors = model.tensors.items()
    total = sum(info.nbytes for name, info in tensors if part_of(name) is not None)
    done = 0

    def count(nbytes: int) -> None:
        nonlocal done
        done = min(done + nbytes, total)
        progress(phase, done, total)

    progress(phase, 0, total)
    yield count
    progress(phase, total, total)
