"""One application, run under the official client's present version and under the one before it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_servers import described, hybrid, key_for
from tokenworks.accounts.books import opened
from upstream_replies import Script
from upstream_server import upstream_server

SCRIPT = Path(__file__).resolve().parents[1] / "openai_script.py"
BEFORE = Path(sys.prefix) / "openai-2"
HELLO = "Hello, world!"


def path_of(major: int) -> str:
    """Where Python looks first. The older version lies in a folder that make fills."""
    if major == 3:
        return ""
    if not (BEFORE / "openai").is_dir():
        reason = "openai 2.x is not installed: make test installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(BEFORE)


@pytest.mark.parametrize("major", [2, 3])
def test_an_application_finds_all_it_needs(tmp_path: Path, major: int) -> None:
    path = path_of(major)
    abilities = 'abilities = ["tools", "embeddings"]'
    calls = Script(
        pieces=(), finish="tool_calls", tool_calls=(("c1", "weather", '{"town": "Bern"}'),)
    )
    with (
        upstream_server() as rack,
        upstream_server(script=calls) as caller,
        opened(f"sqlite:///{tmp_path / 'books.db'}", tmp_path / "secret") as books,
    ):
        near = described(rack, "rack", "site", "private", abilities)
        other = described(caller, "caller", "site", "private", abilities)
        key = key_for(books)
        with hybrid(tmp_path, near, other.replace("helper", "caller"), books=books) as server:
            ran = subprocess.run(
                [sys.executable, "-W", "error", str(SCRIPT), f"{server.url}/v1", key],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=100,
            )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout)

    assert told.pop("version").startswith(f"{major}.")
    assert told == {
        "chat": HELLO,
        "stream": HELLO,
        "usage": 4,
        "call": ["weather", '{"town": "Bern"}'],
        "completion": HELLO,
        "at_once": [HELLO] * 8,
        "response": HELLO,
        "events": ["response.created", "response.completed"],
        "items": ["message"],
        "deleted": ["NotFoundError", 404, "response_not_found"],
        "vectors": [4, 4],
        "floats": True,
        "models": ["caller", "helper"],
        "unknown": ["NotFoundError", 404, "model_not_found"],
        "wrong": ["BadRequestError", 400, "invalid_value"],
        "label": ["PermissionDeniedError", 403, "label_not_allowed"],
        "key": ["AuthenticationError", 401, "invalid_api_key"],
    }
