"""What a person sees who gives the program a model that it cannot run: one line, and what next."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tokenworks.inference.models.gguf_writer import write_gguf
from tokenworks.inference.models.random_model import TINY_CONFIG, config_metadata

PROGRAM = Path(sys.executable).with_name("tokenworks")


def measure() -> Mapping[str, str]:
    """The line for each problem. Exits with a message if it is not one line, or a traceback."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        foreign = folder / "foreign.gguf"
        write_gguf(foreign, {**config_metadata(TINY_CONFIG), "general.architecture": "mamba"}, [])
        return {
            "a file of another architecture": _line(foreign),
            "a folder of another architecture": _line(_folder(folder / "other", "mamba", [])),
            "a folder with a missing shard": _line(_folder(folder / "torn", "llama", [1])),
        }


def _folder(path: Path, family: str, shards: list[int]) -> Path:
    """A folder whose index names two shards, of which some are there, empty of tensors."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": family, "hidden_size": 8}))
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"metadata": {}, "weight_map": {f"tensor{i}": name for i, name in enumerate(names)}}
    for number in shards or (1, 2):
        header = json.dumps(
            {f"tensor{number - 1}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        ).encode()
        body = len(header).to_bytes(8, "little") + header + bytes(4)
        (path / names[number - 1]).write_bytes(body)
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def _line(model: Path) -> str:
    command = [PROGRAM, "up", "--port", "0", "--model", f"file:{model}"]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={"TOKENWORKS_HOME": home}
        )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    if done.returncode == 0 or len(lines) != 1 or "Traceback" in done.stderr:
        sys.exit(f"error: {model.name} was not refused in one line:\n{done.stderr}")
    return lines[0].replace(str(model), model.name)
