"""Parts of a benchmark become one record, and only parts of one commit on one machine do."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks" / "shards.py"


@pytest.fixture(scope="module")
def shards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shards", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(shard: str, *, commit: str = "abc", cpu: str = "some", **keys: float) -> dict[str, Any]:
    environment = {"commit": commit, "cpu": cpu, "cores": 2}
    details = {f"part {shard}": 1}
    return {
        "environment": environment,
        "shards": {shard: environment},
        "keys": keys,
        "details": details,
    }


def test_a_shard_stands_for_one_part_and_none_for_all(shards: ModuleType) -> None:
    assert shards.chosen("", 3) == [0, 1, 2]
    assert shards.chosen("2/3", 3) == [1]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1/3", "1", "1/2/2", "a/b", "-1/2", " 1/2"])
def test_a_shard_that_does_not_exist_is_refused(shard: str, shards: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"may be: 1/2, 2/2"):
        shards.chosen(shard, 2)


def test_parts_of_one_commit_become_one_record(shards: ModuleType) -> None:
    first = shards.merged(None, record("1/2", a=1, b=2))
    both = shards.merged(first, record("2/2", c=3))
    again = shards.merged(both, record("1/2", a=9, b=2))

    assert both["keys"] == {"a": 1, "b": 2, "c": 3}
    assert both["shards"].keys() == {"1/2", "2/2"}
    assert both["details"].keys() == {"part 1/2", "part 2/2"}
    assert again["keys"] == {"a": 9, "b": 2, "c": 3}


@pytest.mark.parametrize("other", [{"commit": "abd"}, {"cpu": "another"}])
def test_another_commits_or_machines_results_are_let_go(
    other: dict[str, str], shards: ModuleType
) -> None:
    old = record("1/2", a=1, **other)

    assert shards.merged(old, record("2/2", c=3))["keys"] == {"c": 3}
    assert "shards" in shards.merged(old, record("2/2", c=3))


def test_a_record_from_before_there_were_parts_is_no_error(shards: ModuleType) -> None:
    old = record("all", a=1)
    del old["shards"]

    assert shards.merged(old, record("1/2", b=2))["keys"] == {"a": 1, "b": 2}
