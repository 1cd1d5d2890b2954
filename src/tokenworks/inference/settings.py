"""Start-up settings of one engine worker: which model, on what, and how much at once."""

from typing import Annotated, Literal

import msgspec

from tokenworks.errors import ConfigError
from tokenworks.inference.models.kv_format import KvFormat
from tokenworks.inference.models.rounding import NO_ROUNDING, Rounding

ExecutorName = Literal["auto", "native", "reference"]
IsaName = Literal[
    "auto", "amx", "avx512bf16", "avx512vnni", "avx2", "neon-i8mm", "neon", "portable"
]
WeightsName = Literal["auto", "file"]
SpeculationName = Literal["auto", "off"]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Threads = Annotated[int, msgspec.Meta(ge=0, le=1024)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class DraftFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A smaller model of the same vocabulary, a GGUF file, and its name; without a path, none."""

    path: str = ""
    model_id: str = ""


NO_DRAFT = DraftFile()


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raises ConfigError for a contradiction; ranges are checked where values are read in."""

    model_path: str  # a GGUF file
    model_id: str  # the name that requests use
    rounding: Rounding = NO_ROUNDING  # what the plan for `weights` says
    draft: DraftFile = NO_DRAFT  # the model that guesses, if one is given
    executor: ExecutorName = "auto"  # auto: native, or reference where no kernel fits
    isa: IsaName = "auto"  # instruction set of the native kernels
    weights: WeightsName = "auto"  # auto: smaller where that is measured faster and as good; file
    threads: Threads = 0  # 0 takes the physical cores that this process may use
    max_sequences: Positive = 32  # requests computed at once
    max_batch_tokens: Positive = 256  # rows of one forward
    speculation: SpeculationName = "auto"  # guess tokens and verify them, where that is faster
    queue_limit: Count = 256  # requests that may wait beyond those computed
    stall_ms: Count = 50  # what a forward may take beside answers that are read; 0 does not limit
    wait_limit_s: Count = 120  # refuse who would wait longer for the first token; 0 does not
    context_length: Count = 0  # most tokens of prompt and answer; 0 takes the model's
    kv_format: KvFormat = "bf16"  # of keys and values; int8 takes half the memory
    kv_memory_mb: Positive = 1024  # upper limit of the KV store, in MiB
    prefix_cache_dir: str = ""  # folder that keeps computed beginnings over restarts; empty: none
    prefix_cache_mb: Positive = 4096  # most that it holds, in MiB

    def __post_init__(self) -> None:
        if self.max_batch_tokens < self.max_sequences:
            raise ConfigError(
                f"max_batch_tokens {self.max_batch_tokens} is less than max_sequences "
                f"{self.max_sequences}, but each sequence needs a row of every forward",
                hint=f"set max_batch_tokens to {self.max_sequences} or more",
            )
