"""The gateway's benchmark sees what it is to see: leaks, answers that break off, failures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory_process import surroundings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BACKENDS = {"near", "site", "cloud", "claude", "open"}
SEARCH = """
import base64, json, random
from gateway_canaries import MAKERS, Net, canary, disguised
from tokenworks.gateway.labels import Label

dice = random.Random(1)
made = [canary(kind, dice, Label.PUBLIC) for kind in MAKERS for _ in range(20)]
net = Net(made)
for one in made:
    text = f"x {disguised(one, dice)} y"
    inner = json.dumps({"a": text})
    encoded = base64.b64encode(text.encode()).decode()
    forms = (text, inner, json.dumps({"b": inner}), f"data:{encoded}", text.replace(" ", "%20"))
    for form in forms:
        assert net.caught(form.encode()) == {one}, (one, form)
assert net.caught(b"nothing of it, 13800000000 and 4111111111111111") == set()
"""
LOAD = """
import tempfile
from pathlib import Path
import sys
from gateway_litellm import Asked, per_s
from gateway_overhead import HERE, line_of, running

with running([sys.executable, HERE / "instant_backend.py"], {}, sys.stderr) as backend:
    url = f"http://127.0.0.1:{line_of(backend)}/v1/chat/completions"
    for stream in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            assert per_s(Asked(url, "none"), Path(folder), 0.3, stream=stream) > 10
"""


def program(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=BENCHMARKS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def figures(home: Path, name: str, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *options],
        capture_output=True,
        text=True,
        timeout=170,
        env=surroundings(home),
        cwd=home,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_private_item_is_found_in_whatever_it_was_made_into() -> None:
    program(SEARCH)


@pytest.mark.timeout(180)
def test_a_gateway_that_may_send_everything_everywhere_leaks(tmp_path: Path) -> None:
    options = ("--conversations", "24", "--blocks", "1")
    all_shown = figures(tmp_path, "gateway_leaks", *options, "--allow-everything")
    undetected = figures(tmp_path, "gateway_leaks", *options, "--detect-nothing")

    for found in (all_shown, undetected):
        assert {one["seen_by"] for one in found["samples"]} & {"cloud", "claude", "open"}
        assert found["label_leaks"] > 5


@pytest.mark.timeout(180)
def test_our_policies_keep_private_items_from_backends(tmp_path: Path) -> None:
    found = figures(tmp_path, "gateway_leaks", "--conversations", "40", "--blocks", "1")

    assert [one for one in found["samples"] if one["seen_by"] in BACKENDS] == []
    assert found["received"]["near: items"] > 10
    assert found["received"]["cloud: masked"] + found["received"]["claude: masked"] > 3
    assert found["outcomes"]["answered"] > 20
    assert found["answers_with_originals"]["right"] > 20
    assert found["wrong_answers"] == []


@pytest.mark.timeout(180)
def test_answers_that_break_off_are_counted_as_they_end(tmp_path: Path) -> None:
    options = ("--kills", "12", "--only", "continuable")
    failing = figures(tmp_path, "gateway_midstream", *options, "--no-failover")["continuable"]
    going_on = figures(tmp_path, "gateway_midstream", *options)["continuable"]

    assert failing["rate"] == 0.0
    assert failing["streams"] >= 3
    assert going_on["rate"] == 1.0, going_on["wrong"]
    assert going_on["streams"] >= 3


def test_answers_a_second_are_counted_streamed_or_not() -> None:
    program(LOAD)


def test_what_was_asked_wrongly_is_said_with_a_hint(tmp_path: Path) -> None:
    for option, problem in (("--shard=5/4", "may be: 1/4"), ("--only=x", "there is no 'x'")):
        done = subprocess.run(
            [sys.executable, BENCHMARKS / "gateway.py", option],
            capture_output=True,
            text=True,
            env=surroundings(tmp_path),
        )
        assert done.returncode != 0
        assert problem in done.stderr
        assert "hint: " in done.stderr
