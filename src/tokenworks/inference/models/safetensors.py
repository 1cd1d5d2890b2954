"""Provisional; the checked reader replaces it."""

import json
import mmap
from pathlib import Path

import numpy as np

from tokenworks.inference.models.tensors import TensorInfo, TensorType

_TYPES = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = json.loads((path / "config.json").read_text())
        self.tensors: dict[str, TensorInfo] = {}
        self._maps = {}
        for shard in sorted(path.glob("*.safetensors")):
            with shard.open("rb") as file:
                mapped = np.frombuffer(
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8
                )
            size = int.from_bytes(mapped[:8].tobytes(), "little")
            header = json.loads(mapped[8 : 8 + size].tobytes())
            for name, info in header.items():
                if name == "__metadata__" or info["dtype"] not in _TYPES:
                    continue
                a, b = info["data_offsets"]
                self.tensors[name] = TensorInfo(
                    name, _TYPES[info["dtype"]], tuple(info["shape"]), 8 + size + a, b - a
                )
                self._maps[name] = mapped

    def raw(self, name: str) -> np.ndarray:
        info = self.tensors[name]
        return self._maps[name][info.offset : info.offset + info.nbytes]

    def close(self) -> None:
        pass


def read_folder(path: Path) -> Folder:
    return Folder(path)
