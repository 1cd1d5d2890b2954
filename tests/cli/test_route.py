"""`tokenworks route` as a program: judged answers in, a router out."""

import csv
import json
from pathlib import Path

import pytest

from factory_process import tokenworks
from judged_prompts import hard, judged
from tokenworks.gateway.quality.files import load


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "judged.csv"
    pairs = judged()
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["prompt", "small", "large"])
        lines.writerows(zip(pairs.prompts, pairs.weak, pairs.strong, strict=True))
    return path


def test_a_router_is_trained_shown_and_used(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "router.bin"
    models = ("--weak", "small", "--strong", "large")
    made = tokenworks(
        *("route", "train", str(data), *models, "--quality", "0.97", "--out", str(out)),
        home=tmp_path,
        check=True,
    )
    shown = tokenworks("route", "show", str(out), home=tmp_path, check=True)
    told = json.loads(tokenworks("route", "show", str(out), "--json", home=tmp_path).stdout)

    assert f"written to {out}" in made.stderr
    assert made.stdout == shown.stdout
    for said in ("120 prompts", "small scores 0.500", "large scores 1.000", "0.97 *", "chance"):
        assert said in shown.stdout
    assert (told["quality"], told["weak"]["name"], told["strong"]["name"]) == (
        0.97,
        "small",
        "large",
    )
    assert len(told["curve"]) == 21
    assert sum(one["prompts"] for one in told["strong"]["reliability"]) == 120
    weak, strong = load(out).chances([hard(9000)])
    assert strong[0] - weak[0] > 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "DATA", "--weak", "tiny", "--strong", "large"), "no column 'tiny'"),
        (("train", "DATA", "--weak", "large", "--strong", "small"), "'small' is no stronger"),
        (("train", "none.csv", "--weak", "small", "--strong", "large"), "cannot be read"),
        (("show", "none.bin"), "'none.bin' cannot be read"),
        (("show", "DATA"), "is no router"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    data: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "router.bin"
    more = ("--out", str(out)) if arguments[0] == "train" else ()
    given = [str(data) if one == "DATA" else one for one in arguments]
    answer = tokenworks("route", *given, *more, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not out.exists()
