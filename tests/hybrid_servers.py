"""A real server in front of scripted backends, for tests of the whole way of a request."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from serving import Serving, serving
from tokenworks.accounts.books import Books
from tokenworks.accounts.keys import NewKey
from tokenworks.gateway.backend import Backend
from tokenworks.gateway.policies import PolicyFile
from tokenworks.server.settings import ServerSettings
from upstream_server import UpstreamServer

BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
tier = "{tier}"
clearance = "{clearance}"
models = {{ helper = "their-model" }}
allow_private = true
{more}
"""


def described(server: UpstreamServer, name: str, tier: str, clearance: str, more: str = "") -> str:
    """A backend of the policies; one of a cloud costs 1 and 2 micro-dollars a token."""
    if tier == "cloud":
        more += '\nprices = { input = "1.00", output = "2.00" }'
    return BACKEND.format(name=name, url=server.url, tier=tier, clearance=clearance, more=more)


@contextmanager
def hybrid(
    folder: Path,
    *described: str,
    policies: str = "",
    books: Books | None = None,
    own: tuple[Backend, ...] = (),
    settings: ServerSettings | None = None,
) -> Iterator[Serving]:
    path = folder / "policies.toml"
    path.write_text(policies + "".join(described))
    with serving(*own, policies=PolicyFile(path), books=books, settings=settings) as server:
        yield server


def client_of(server: Serving, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=30.0)


def key_for(books: Books, **more: Any) -> str:
    wanted = NewKey(**{"tenant": "acme", **more})
    return asyncio.run(books.keys.create(wanted, actor="test")).text


def seen(server: UpstreamServer) -> str:
    """All that a backend was ever told."""
    return "".join(one.raw.decode() for one in server.asked if one.method == "POST")
