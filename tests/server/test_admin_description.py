"""The administration does what its OpenAPI description says, whatever is sent to it.

`schemathesis` makes the requests: good ones, wrong ones and sequences of them. Two rules of its are
left out: a POST without a body is refused for its missing content type before it is looked whether
there is such a route, and which scopes go with which role no schema says.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hybrid_servers import client_of, described, hybrid, key_for
from serving import Serving
from tokenworks.accounts.books import Books, opened
from tokenworks.server.settings import ServerSettings
from upstream_server import upstream_server

OWNER = "a-key-that-nobody-can-revoke"
RULES = """
[checks.unsupported_method]
enabled = false

[[operations]]
include-name = "POST /admin/keys"
checks.positive_data_acceptance.enabled = false
"""
EXAMPLES = 200 if os.environ.get("TOKENWORKS_SOAK") == "1" else 20


@pytest.fixture
def books(tmp_path: Path, database_url: str) -> Iterator[Books]:
    with opened(database_url, tmp_path / "secret") as found:
        yield found


@pytest.fixture
def server(tmp_path: Path, books: Books) -> Iterator[Serving]:
    """With a request in its books. Its owner's key is in a file: no request can revoke it."""
    (tmp_path / "key").write_text(OWNER)
    settings = ServerSettings(port=0, drain_seconds=0.0, api_key_file=str(tmp_path / "key"))
    key = key_for(books)
    with (
        upstream_server() as rack,
        hybrid(
            tmp_path, described(rack, "rack", "site", "secret"), books=books, settings=settings
        ) as running,
    ):
        with client_of(running, key) as client:
            client.responses.create(model="helper", input="Hi", extra_headers={"x-request-id": "r"})
        yield running


def ask(server: Serving, method: str, path: str, **more: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {OWNER}", **more.pop("headers", {})}
    return httpx2.request(method, f"{server.url}{path}", headers=headers, **more)


@pytest.mark.timeout(600 if EXAMPLES > 20 else 120)
def test_every_answer_is_as_described(tmp_path: Path, server: Serving) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    program = Path(sys.executable).with_name("schemathesis")
    seed = ["--seed", "1"] if EXAMPLES <= 20 else []  # the long run looks for new examples
    ran = subprocess.run(
        [
            *(str(program), "--config-file", str(tmp_path / "rules.toml"), "run"),
            f"{server.url}/admin/openapi.json",
            *("--header", f"Authorization: Bearer {OWNER}"),
            *("--exclude-path", "/admin/events"),  # a stream without an end: see below
            *(
                "--max-examples",
                str(EXAMPLES),
                "--generation-database",
                "none",
                "--no-color",
                *seed,
            ),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    selected, total = re.findall(r"(\d+) selected / (\d+) total", ran.stdout)[0]
    assert int(total) - 1 == int(selected) >= 16


def test_every_answer_is_described_with_its_schema(server: Serving) -> None:
    description = ask(server, "GET", "/admin/openapi.json").json()
    operations = [one for path in description["paths"].values() for one in path.values()]
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status == "204":
                continue
            schemas = [content.get("schema") for content in answer["content"].values()]
            assert schemas, (operation["operationId"], status)
            assert all(schema for schema in schemas)
        assert {"400", "401", "403"} <= set(operation["responses"])
    known = set(description["components"]["schemas"])
    used = set(json.dumps(description).split('"#/components/schemas/')[1:])
    assert {reference.partition('"')[0] for reference in used} <= known
    assert {"policies.LabelPolicy", "policies.Limits", "Limits"} <= known


def test_a_method_that_a_path_has_not_is_told_all_that_it_has(server: Serving) -> None:
    paths = ask(server, "GET", "/admin/openapi.json").json()["paths"]
    for path, operations in paths.items():
        told = ask(server, "PATCH", path.replace("{", "").replace("}", ""), json={})
        assert told.status_code == 405
        allowed = set(told.headers["allow"].split(", "))
        assert allowed == {method.upper() for method in operations}


def test_events_are_a_stream_of_requests(server: Serving, books: Books) -> None:
    key = key_for(books)
    with httpx2.stream(
        "GET", f"{server.url}/admin/events", headers={"authorization": f"Bearer {OWNER}"}
    ) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        assert next(lines) == ": following"
        with client_of(server, key) as client:
            client.responses.create(model="helper", input="Hi", extra_headers={"x-request-id": "e"})
        data = next(line for line in lines if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["request_id"] == "e"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"tenant": "a', "JSON"),
        (b'{"tenant": "\\ud800"}', "tenant"),
        (b'{"tenant": "a", "expires_in_s": NaN}', "expires_in_s"),
        (b'{"tenant": "a", "most_priority": ' + b"9" * 5000 + b"}", "JSON"),
        (b"[]", "dictionary"),
        (b"[" * 5000, "nested deeper"),
        (b'{"tenant": "a\\u0000"}', "name"),
        (b'{"tenant": "a", "tenants": "b"}', "tenants"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_by_name(
    server: Serving, body: bytes, said: str
) -> None:
    kind = {"content-type": "application/json"}
    told = ask(server, "POST", "/admin/keys", content=body, headers=kind)

    assert told.status_code == 400
    assert said in told.json()["error"]["message"]
