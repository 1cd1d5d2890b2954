"""Keys, budgets and the bill by their commands, with a gateway in front of another server."""

import csv
import json
from pathlib import Path

import openai
import pytest

from factory_process import running_factory, tokenworks
from upstream_server import UpstreamServer, upstream_server

POLICIES = """
[[backends]]
name = "far"
url = "{url}"
tier = "cloud"
clearance = "internal"
models = {{ helper = "their-model" }}
prices = {{ input = "1.00", output = "2.00" }}
allow_private = true
"""


def policies(folder: Path, server: UpstreamServer) -> str:
    path = folder / "policies.toml"
    path.write_text(POLICIES.format(url=server.url))
    return str(path)


def test_a_key_made_here_opens_a_running_gateway_and_its_requests_are_billed(
    tmp_path: Path,
) -> None:
    made = tokenworks("keys", "create", "--tenant", "acme", "--json", home=tmp_path, check=True)
    key = json.loads(made.stdout)
    tokenworks("budgets", "set", "tenant:acme", "--money", "5", home=tmp_path, check=True)
    with (
        upstream_server() as server,
        running_factory(
            tmp_path, "--model", "none", "--policies", policies(tmp_path, server)
        ) as address,
    ):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=key["key"], max_retries=0)
        with client:
            answer = client.chat.completions.create(
                model="helper", messages=[{"role": "user", "content": "Hi."}], max_tokens=5
            )
        assert answer.choices[0].message.content == "Hello, world!"
        tokenworks("keys", "revoke", key["id"], home=tmp_path, check=True)
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=key["key"], max_retries=0)
        with client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(
                model="helper", messages=[{"role": "user", "content": "Hi."}]
            )
    (bill,) = json.loads(tokenworks("bill", "--json", home=tmp_path, check=True).stdout)
    (line,) = bill["lines"]
    (budget,) = json.loads(tokenworks("budgets", "list", "--json", home=tmp_path).stdout)

    assert (bill["tenant"], line["requests"], line["money"]) == ("acme", 1, 15)
    assert line["group"] == {"model": "helper", "backend": "far"}
    assert (budget["spent"], budget["reserved"]) == (15, 0)
    assert bill["backends"] == {"far": 15}
    assert (line["cached_tokens"], line["reasoning_tokens"]) == (2, 0)
    assert line["first_token_ms"] > 0
    shown = tokenworks("bill", home=tmp_path).stdout
    assert "$0.000015" in shown
    assert "reasoning" in shown
    lines = tokenworks("bill", "--by", "key", "--by", "label", "--csv", home=tmp_path, check=True)
    (told,) = csv.DictReader(lines.stdout.splitlines())
    assert (told["key"], told["label"], told["money"]) == (key["id"], "internal", "15")
    assert key["key"] not in (tmp_path / "stderr.log").read_text()


def test_a_rotated_key_is_shown_once_and_listed_without_its_secret(tmp_path: Path) -> None:
    made = tokenworks("keys", "create", "--tenant", "acme", home=tmp_path, check=True)
    key_id = made.stdout.split("_")[1]
    rotated = tokenworks("keys", "rotate", key_id, home=tmp_path, check=True)
    listed = tokenworks("keys", "list", home=tmp_path, check=True).stdout

    assert rotated.stdout != made.stdout
    assert rotated.stdout.startswith(f"tw_{key_id}_")
    assert key_id in listed
    for text in (made.stdout, rotated.stdout):
        assert text.strip().split("_")[2] not in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "create", "--tenant", "acme", "--label", "hidden"), "public, internal"),
        (("keys", "create", "--tenant", "acme", "--role", "king"), "no role"),
        (("keys", "revoke", "nobody"), "no key"),
        (("budgets", "set", "tenant:acme"), "needs a limit"),
        (("budgets", "set", "acme", "--money", "5"), "names nobody"),
        (("budgets", "set", "tenant:acme", "--money", "five"), "no amount of money"),
        (("budgets", "remove", "tenant:acme"), "no budget"),
        (("bill", "--tenant", "acme", "--month", "2026-13"), "no month"),
        (("bill", "--tenant", "acme", "--by", "weather"), "tenant, user, key"),
        (("up", "--model", "none"), "nothing to serve"),
        (("up", "--model", "none", "--policies", "nowhere.toml"), "cannot be read"),
    ],
)
def test_a_mistake_is_said_with_what_to_do(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    answer = tokenworks(*arguments, home=tmp_path)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
