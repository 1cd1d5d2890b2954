"""Limits of requests and tokens a minute by their commands."""

import json
from pathlib import Path

import pytest

from factory_process import tokenworks


def test_limits_are_set_listed_and_removed(tmp_path: Path) -> None:
    made = tokenworks("keys", "create", "--tenant", "acme", "--json", home=tmp_path, check=True)
    key = f"key:{json.loads(made.stdout)['id']}"
    for holder, unit, number in (
        ("user:acme/ada", "--tokens-per-minute", "5000"),
        (key, "--requests-per-minute", "7"),
    ):
        tokenworks("limits", "set", holder, unit, number, home=tmp_path, check=True)

    listed = json.loads(tokenworks("limits", "list", "--json", home=tmp_path, check=True).stdout)
    assert listed == [
        {"holder": key, "requests_per_minute": 7, "tokens_per_minute": None},
        {"holder": "user:acme/ada", "requests_per_minute": None, "tokens_per_minute": 5000},
    ]
    assert "5,000" in tokenworks("limits", "list", home=tmp_path).stdout
    tokenworks("limits", "remove", key, home=tmp_path, check=True)
    assert key not in tokenworks("limits", "list", home=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "tenant:acme"), "nothing to limit"),
        (("set", "acme", "--requests-per-minute", "5"), "names nobody"),
        (("set", "key:nobody", "--requests-per-minute", "5"), "no key"),
        (("remove", "tenant:acme"), "has no limits"),
    ],
)
def test_a_mistake_is_said_with_what_to_do(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    answer = tokenworks("limits", *arguments, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "hint:" in answer.stderr
