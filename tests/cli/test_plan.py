"""Plans as people meet them: chosen when a factory starts, remembered, shown, kept to."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from factory_process import running_factory, tokenworks
from tokenworks.cli.plan import remembered_formats
from tokenworks.config import load
from tokenworks.fleet.discover.processors import usable_cores
from tokenworks.inference.executors.native import supported_paths
from tokenworks.inference.models.packing import footprint_of
from tokenworks.inference.models.random_model import TINY_CONFIG
from tokenworks.inference.models.rounding import Rounding
from tokenworks.inference.plan.plan import Plan
from tokenworks.store.home import Home


def the_plan(home: Path) -> tuple[Path, Plan]:
    (place,) = Home(home).plans.glob("*.json")
    return place, msgspec.json.decode(place.read_bytes(), type=Plan)


def executor_of(address: str) -> str:
    with urllib.request.urlopen(f"{address}/health") as answer:
        (model,) = json.load(answer)["models"].values()
    return str(model["executor"])


def answer_of(address: str) -> str:
    body = {"model": "tiny", "prompt": "once", "max_tokens": 12, "temperature": 0, "logprobs": 1}
    request = urllib.request.Request(
        f"{address}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.dumps(json.load(answer)["choices"])


def shown(home: Path, *arguments: str) -> dict[str, Any]:
    answer = tokenworks(*arguments, "--json", home=home)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_a_plan_is_made_once_and_every_part_keeps_to_it(tiny_model: Path, tmp_path: Path) -> None:
    model = str(tiny_model)
    with running_factory(tmp_path, "--model", model):
        log = tmp_path / "stderr.log"
        assert f"choosing how weights of {model} are held here" in log.read_text()
    place, plan = the_plan(tmp_path)
    # What was chosen depends on this machine's speed; from here on it is known.
    plan = msgspec.structs.replace(plan, rounding=Rounding({"output": "q6"}, (1, 0) * 32))
    place.write_bytes(msgspec.json.encode(plan))

    with running_factory(tmp_path, "--model", model) as address:
        planned = executor_of(address), answer_of(address)
        assert "choosing" not in (tmp_path / "stderr.log").read_text()
    with running_factory(tmp_path, "--model", model, "--weights", "file") as address:
        as_stored = executor_of(address), answer_of(address)

    assert planned[0] == f"{as_stored[0]}, output in 6 bits"
    assert planned[1] != as_stored[1]
    inside = shown(tmp_path, "models", "inspect", model)
    forms = {group["tensor_class"]: group["runs_as"] for group in inside["groups"]}
    assert forms["output"] == "6-bit, rounded"
    assert forms["feed forward"] == "8-bit, rounded"
    environment = {"TOKENWORKS_HOME": str(tmp_path)}
    formats = remembered_formats(load(environment=environment), model)
    assert formats == {"output": "q6"}  # by which `models fit` and this tell what memory it takes:
    saved = footprint_of(tiny_model).packed_bytes - footprint_of(tiny_model, formats).packed_bytes
    output = next(group for group in inside["groups"] if group["tensor_class"] == "output")
    panels = -(-output["weights"] // (16 * TINY_CONFIG.hidden))
    assert saved == panels * 16 * TINY_CONFIG.hidden * 2 // 8  # two bits of each weight
    as_stored_here = load(environment=environment | {"TOKENWORKS_ENGINE_WEIGHTS": "file"})
    assert remembered_formats(as_stored_here, model) == {}


def test_inspect_shows_the_plan_and_remembers_it(tiny_model: Path, tmp_path: Path) -> None:
    found = shown(tmp_path, "models", "inspect", str(tiny_model), "--plan")

    assert found["path"] == supported_paths()[0]
    assert {row["matrix_class"] for row in found["rows"]} == {
        *("attention", "gate and up", "down", "output"),
    }
    assert msgspec.convert(found, Plan) == the_plan(tmp_path)[1]

    again = tokenworks("models", "inspect", str(tiny_model), "--plan", home=tmp_path)

    assert again.stderr == ""
    for word in ("class", "as stored", "6-bit", "4-bit", "weights", "output"):
        assert word in again.stdout


def test_another_file_path_or_number_of_threads_has_a_plan_of_its_own(
    tiny_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "tiny.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    shown(tmp_path, "models", "inspect", str(copy), "--plan")

    os.utime(copy, (1, 1))
    shown(tmp_path, "models", "inspect", str(copy), "--plan")
    for setting in ("threads = 1", 'isa = "portable"'):
        (tmp_path / "tokenworks.toml").write_text(f"[engine]\n{setting}\n")
        shown(tmp_path, "models", "inspect", str(copy), "--plan")

    alike = usable_cores() == 1  # then one thread is what it was
    assert len(list(Home(tmp_path).plans.glob("*.json"))) == 4 - alike


def test_a_damaged_plan_is_made_anew(tiny_model: Path, tmp_path: Path) -> None:
    shown(tmp_path, "models", "inspect", str(tiny_model), "--plan")
    place, plan = the_plan(tmp_path)
    place.write_bytes(place.read_bytes()[:100])

    shown(tmp_path, "models", "inspect", str(tiny_model), "--plan")

    assert the_plan(tmp_path)[1].stored_bytes == plan.stored_bytes


@pytest.mark.parametrize("flag", [("--executor", "reference"), ("--weights", "file")])
def test_no_plan_is_made_where_none_is_wanted(
    tiny_model: Path, tmp_path: Path, flag: tuple[str, str]
) -> None:
    with running_factory(tmp_path, "--model", str(tiny_model), *flag):
        pass

    assert "choosing" not in (tmp_path / "stderr.log").read_text()
    assert not list(Home(tmp_path).plans.glob("*"))
