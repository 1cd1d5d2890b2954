"""What tests of attacks share: a gateway with books and tenants, and clients that keep no rule."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import serving
from tokenworks.accounts.books import Books, opened
from tokenworks.accounts.budget_rows import Budget
from tokenworks.accounts.keys import NewKey
from tokenworks.gateway.policies import PolicyFile
from tokenworks.server.settings import ServerSettings
from upstream_server import UpstreamServer

MODEL = "helper"
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
"""Where text is taken and answered."""

EVERY_ROUTE = (*ROUTES, "/v1/embeddings")
"""Where text is taken."""


def asking(route: str, text: str = "Say hello.", **more: Any) -> dict[str, Any]:
    """A good body for this route."""
    body: dict[str, Any] = {"model": MODEL}
    if route == "/v1/completions":
        body["prompt"] = text
    elif route in ("/v1/responses", "/v1/embeddings"):
        body["input"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if route == "/v1/messages":
        body["max_tokens"] = 16
    return body | more


def placed(server: UpstreamServer, name: str = "rack", **settings: Any) -> str:
    """A backend's table in a file of policies."""
    given = {
        "name": name,
        "url": server.url,
        "tier": "site",
        "clearance": "secret",
        "models": {MODEL: "their-model"},
        "allow_private": True,
        "abilities": ["tools", "schema", "vision", "extended", "embeddings"],
        **settings,
    }
    return "[[backends]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in given.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


Field = tuple[str, str]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Attacked:
    """A gateway in a thread of this process."""

    url: str
    books: Books

    def key(self, tenant: str = "acme", **fields: Any) -> str:
        new = NewKey(tenant=tenant, **fields)
        return asyncio.run(self.books.keys.create(new, actor="t")).text

    def budget(self, holder: str, **limits: Any) -> None:
        wanted = Budget(holder=holder, period="total", **limits)
        self.wait(self.books.budgets.set(wanted, actor="t"))

    def ledger(self) -> list[dict[str, Any]]:
        return rows_of(self.books, "requests")

    def wait(self, work: Any) -> Any:
        return asyncio.run(work)

    def post(self, path: str, body: Any, *fields: Field, key: str = "", **how: Any) -> "Reply":
        """`body` is sent as JSON, or as it is if it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = ("content-type", "application/json")
        return self.ask("POST", path, data, kind, *fields, key=key, **how)

    def ask(
        self,
        method: str,
        path: str,
        data: bytes = b"",
        *fields: Field,
        key: str = "",
        timeout_s: float = 30.0,
    ) -> "Reply":
        """Headers are sent as they are given, in this order, twice if they are there twice."""
        own = (("authorization", f"Bearer {key}"),) if key else ()
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=timeout_s)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (*own, *fields):
                connection.putheader(name, value.encode("latin-1"))
            if data:
                connection.putheader("content-length", str(len(data)))
            connection.endheaders(data)
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, headers, reply.read().decode())
        finally:
            connection.close()


@contextmanager
def attacked(
    folder: Path, *backends: str, policies: str = "", settings: ServerSettings | None = None
) -> Iterator[Attacked]:
    path = folder / "policies.toml"
    path.write_text(policies + "".join(backends))
    with (
        opened(f"sqlite:///{folder / 'books.db'}", folder / "secret") as books,
        serving(policies=PolicyFile(path), books=books, settings=settings) as server,
    ):
        yield Attacked(server.url, books)


def rows_of(books: Books, table: str) -> list[dict[str, Any]]:
    """Every column of every row."""

    def query(transaction: Any) -> list[dict[str, Any]]:
        names = [row[1] for row in transaction.rows(f"PRAGMA table_info({table})")]
        found = transaction.rows(f"SELECT * FROM {table}")
        return [dict(zip(names, row, strict=True)) for row in found]

    return books.database.read_now(query)


def connected(url: str, timeout_s: float = 10.0) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def exchanged(url: str, data: bytes, *, within_s: float = 3.0) -> tuple[bytes, bool]:
    """What the server says to these bytes, and whether it closed the connection."""
    with connected(url, within_s) as connection:
        said = b""
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                said += piece
        except TimeoutError:
            return said, False
        except ConnectionError:
            pass
        return said, True


def until(condition: Callable[[], Any], within_s: float = 10.0) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.01)


@dataclass
class Speaker:
    """A backend that says what it is told to, byte by byte. `sent` counts what was taken of it."""

    url: str
    asked: int = 0
    sent: int = 0


@contextmanager
def speaking(say: Callable[[], Iterator[bytes]]) -> Iterator[Speaker]:
    """On a free port; each request gets `say()`, piece by piece, until its client leaves."""
    listener = socket.create_server(("127.0.0.1", 0))
    speaker = Speaker(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            while not connection.recv(1 << 20).endswith(b"}"):
                pass
            speaker.asked += 1
            for piece in say():
                if ended.is_set():
                    return
                connection.sendall(piece)
                speaker.sent += len(piece)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield speaker
    finally:
        ended.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"


def event(text: str = "", **choice: Any) -> bytes:
    said = {"index": 0, "delta": {"content": text}, **choice}
    return b"data: " + json.dumps({"choices": [said]}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
