"""What `up` says of memory, and how it refuses what cannot fit."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from factory_process import running_factory, tokenworks
from tokenworks.cli.memory import check_memory, need_of, statement_of
from tokenworks.config import Config, load
from tokenworks.errors import ConfigError
from tokenworks.fleet.discover.memory import Memory
from tokenworks.inference.models.random_model import TINY_CONFIG, write_random_model

MIB = 2**20


def machine(usable: int) -> Memory:
    return Memory(total=10**12, available=10**12, limit=2 * usable, left=usable)


def config_of(model: Path, **flags: object) -> Config:
    return load({"model": str(model), **flags}, environment={})


def test_memory_is_stated_before_it_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    flags = ("--kv-memory-mb", "1", "--weights", "file")
    with running_factory(tmp_path, "--model", str(tiny_model), *flags):
        said = (tmp_path / "stderr.log").read_text()

    need = need_of(config_of(tiny_model, **{"engine.kv_memory_mb": 1}), tiny_model)
    assert need.kv == MIB
    stated = said.index(f"KV 1.0 MB for {need.kv_tokens:,} tokens, buffers")
    assert stated < said.index("loading")


def test_a_store_that_holds_no_whole_context_says_what_would(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_random_model(path, replace(TINY_CONFIG, context_length=9000))  # 256 bytes a token
    flags = {"engine.executor": "native", "engine.kv_memory_mb": 1}
    small = statement_of(need_of(config_of(path, **flags), path), machine(10**9))

    offered = re.search(r"for the model's 9,000: --kv-memory-mb (\d+)", small)
    assert offered is not None
    flags["engine.kv_memory_mb"] = int(offered[1])
    enough = statement_of(need_of(config_of(path, **flags), path), machine(10**9))
    assert "no request can have more" not in enough


def test_what_cannot_fit_now_is_refused_with_the_command_that_fits(tiny_model: Path) -> None:
    config = config_of(tiny_model, **{"engine.max_sequences": 200})
    need = need_of(config, tiny_model)
    check_memory(config, need, machine(need.total))

    with pytest.raises(ConfigError, match="can be taken here now: weights") as refused:
        check_memory(config, need, machine(need.total - 10 * MIB))

    offered = re.search(r"tokenworks up --model \S+ .*--kv-memory-mb (\d+)", str(refused.value))
    assert offered is not None
    smaller = config_of(
        tiny_model, **{"engine.max_sequences": 200, "engine.kv_memory_mb": int(offered[1])}
    )
    check_memory(smaller, need_of(smaller, tiny_model), machine(need.total - 10 * MIB))


def test_the_command_that_fits_keeps_what_was_given_and_some_memory_free(tiny_model: Path) -> None:
    flags = {"engine.max_sequences": 200, "engine.kv_format": "int8", "server.port": 0}
    config = config_of(tiny_model, **flags)
    need = need_of(config, tiny_model)
    usable = need.total - 3 * MIB

    with pytest.raises(ConfigError) as refused:
        check_memory(config, need, machine(usable))

    command, _, said = str(refused.value.hint).partition("   # ")
    assert "--kv-format int8" in command
    assert "--port 0" in command
    words = shlex.split(command)
    flags["engine.kv_memory_mb"] = int(words[words.index("--kv-memory-mb") + 1])
    smaller = need_of(config_of(tiny_model, **flags), tiny_model)
    assert said.startswith(f"{smaller.kv_tokens:,} tokens")
    assert 0.9 * usable < smaller.total < 0.97 * usable


def test_where_no_kv_memory_fits_a_smaller_model_is_advised(tiny_model: Path) -> None:
    config = config_of(tiny_model)
    need = need_of(config, tiny_model)

    with pytest.raises(ConfigError) as refused:
        check_memory(config, need, machine(need.weights))

    assert "tokenworks models list" in str(refused.value)


def test_up_refuses_before_it_loads(tiny_model: Path, tmp_path: Path) -> None:
    answer = tokenworks(
        "up", "--port", "0", "--model", str(tiny_model), "--context-length", "5000", home=tmp_path
    )

    assert answer.returncode == 1
    assert "context_length 5000 is more than the 1024" in answer.stderr
    assert "loading" not in answer.stderr
