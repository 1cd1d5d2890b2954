"""`tokenworks up --kv-format int8`: the engine says so, answers, and holds twice the tokens."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from factory_process import running_factory

LITTLE = "[engine]\nkv_memory_mb = 1\n"  # less than all sequences together could need


def engine_of(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/health") as answer:
        (model,) = json.load(answer)["models"].values()
    return dict(model)


def tokens_of(address: str) -> int:
    body = {"model": "tiny", "prompt": "once", "max_tokens": 40, "temperature": 0}
    headers = {"content-type": "application/json"}
    url = f"{address}/v1/completions"
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), headers)
    ) as answer:
        return int(json.load(answer)["usage"]["completion_tokens"])


def test_int8_holds_about_twice_the_tokens(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenworks.toml").write_text(LITTLE)
    model = ("--model", str(tiny_model), "--weights", "file")

    with running_factory(tmp_path, *model) as address:
        plain = engine_of(address)
    with running_factory(tmp_path, *model, "--kv-format", "int8") as address:
        coded, tokens = engine_of(address), tokens_of(address)

    assert coded["executor"] == f"{plain['executor']}, int8 KV"
    assert 1.7 < coded["pages_total"] / plain["pages_total"] < 2
    assert tokens > 0
