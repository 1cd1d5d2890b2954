"""`tokenworks backup` beside a running factory, and `restore` on another machine."""

import json
import os
import stat
from pathlib import Path

import httpx2

from factory_process import running_factory, tokenworks
from upstream_server import upstream_server

POLICIES = """
[[backends]]
name = "near"
url = "{url}"
tier = "site"
clearance = "secret"
models = {{ helper = "their-model" }}
"""


def ask(address: str, key: str) -> int:
    body = {"model": "helper", "messages": [{"role": "user", "content": "Say hello."}]}
    headers = {"authorization": f"Bearer {key}"}
    url = f"{address}/v1/chat/completions"
    return httpx2.post(url, json=body, headers=headers, timeout=30).status_code


def bill(home: Path) -> list[dict[str, object]]:
    """What is owed for what, without how long it took."""
    told = json.loads(tokenworks("bill", "--json", home=home).stdout)
    (one,) = told
    counted = ("group", "requests", "lost", "prompt_tokens", "completion_tokens", "money")
    return [{name: line[name] for name in counted} for line in one["lines"]]


def test_a_key_and_the_bill_survive_the_loss_of_a_machine(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    policies, file = first / "policies.toml", tmp_path / "all.backup"
    made = tokenworks("keys", "create", "--tenant", "acme", "--json", home=first, check=True)
    key = json.loads(made.stdout)["key"]
    with upstream_server() as server:
        policies.write_text(POLICIES.format(url=server.url))
        up = ("--model", "none", "--policies", str(policies))
        with running_factory(first, *up) as address:
            assert ask(address, key) == 200
            told = tokenworks("backup", str(file), "--policies", str(policies), home=first)
            assert told.returncode == 0, told.stderr
            refused = tokenworks("restore", str(file), "--replace", home=first)
            assert refused.returncode == 1
            assert "A program uses this state" in refused.stderr
            assert ask(address, key) == 200
        before = bill(first)

        done = tokenworks("restore", str(file), home=second)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        there = second / "policies.toml"
        assert there.read_text() == policies.read_text()
        with running_factory(second, "--model", "none", "--policies", str(there)) as address:
            assert ask(address, key) == 200
            assert ask(address, key[:-1] + "x") == 401
    # The request after the backup is not in it; the one after the restore is.
    assert bill(second) == before


def test_a_file_that_is_no_backup_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "no.backup"
    file.write_text("hello")
    told = tokenworks("restore", str(file), home=tmp_path)

    assert told.returncode == 1
    assert "damaged, cut short, or none at all" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_any_state_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    told = tokenworks("backup", str(tmp_path / "all.backup"), home=tmp_path)

    assert told.returncode == 1
    assert "secret" in told.stderr
    assert not (tmp_path / "all.backup").exists()
