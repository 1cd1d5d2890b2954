"""Start-up settings of one engine worker: which model, on what, and how much at once."""

from typing import Literal

import msgspec

from tokenworks.errors import ConfigError

ExecutorName = Literal["auto", "native", "reference"]
IsaName = Literal["auto", "avx512vnni", "avx2", "portable"]

_AT_LEAST = {
    "threads": 0,
    "max_sequences": 1,
    "max_batch_tokens": 1,
    "queue_limit": 0,
    "context_length": 0,
    "kv_memory_mb": 1,
}


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Raises ConfigError for a value out of range or a contradiction."""

    model_path: str  # a GGUF file
    model_id: str  # the name that requests use
    executor: ExecutorName = "auto"  # auto: native, or reference where no kernel fits
    isa: IsaName = "auto"  # instruction set of the native kernels
    threads: int = 0  # 0 takes the physical cores that this process may use
    max_sequences: int = 32  # requests computed at once
    max_batch_tokens: int = 256  # rows of one forward
    queue_limit: int = 256  # requests that may wait beyond those computed
    context_length: int = 0  # most tokens of prompt and answer; 0 takes the model's
    kv_memory_mb: int = 1024  # upper limit of the KV store, in MiB

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} {getattr(self, name)} is less than {least}")
        if self.max_batch_tokens < self.max_sequences:
            raise ConfigError(
                f"max_batch_tokens {self.max_batch_tokens} is less than max_sequences "
                f"{self.max_sequences}, but each sequence needs a row of every forward",
                hint=f"max_batch_tokens = {self.max_sequences} or more",
            )
