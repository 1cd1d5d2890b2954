"""A hub on a free port of this machine, for the real huggingface_hub client to talk to."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 4096  # from here on, a file is one of git's LFS


@dataclass
class HubModel:
    """A repository: its files, and how it misbehaves."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    revisions: tuple[str, ...] = ("main", "v1.0", "refs/pr/1")
    licence: str = "apache-2.0"
    token: str | None = None  # who has it may read a gated repository
    sizes_are_told: bool = True
    served: dict[str, bytes] = field(default_factory=dict)  # instead of what is listed
    about_status: int = 200  # of the list of files
    status: dict[str, int] = field(default_factory=dict)  # of downloads, by file
    breaks_after: dict[str, int] = field(default_factory=dict)  # bytes, once, by file


@dataclass
class Hub:
    """A running hub. `asked` is every request: method, path and range."""

    address: str
    models: dict[str, HubModel]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)  # to anything below a path

    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        for start, data in self.hub.answers.items():
            if path.startswith(start):
                return self._send(200, data)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self._about(match[1], match[2])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            return self._tree(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", path):
            return self._file(*match.groups())
        return self._send(404, code="RepoNotFound")

    def _model(self, name: str, revision: str) -> HubModel | None:
        model = self.hub.models.get(name)
        if model is None:
            # The hub does not tell strangers whether a repository is missing or private.
            self._send(401, code="RepoNotFound")
        elif revision not in (*model.revisions, model.commit):
            self._send(404, code="RevisionNotFound")
            return None
        return model

    def _about(self, name: str, revision: str) -> None:
        model = self._model(name, revision)
        if model is None:
            return
        if model.about_status != 200:
            return self._send(model.about_status)
        listed = [self._sibling(model, file) for file in sorted(model.files)]
        about = {"id": name, "sha": model.commit, "siblings": listed}
        about["tags"] = ["llama", f"license:{model.licence}"]
        self._send(200, json.dumps(about).encode())

    def _tree(self, name: str, revision: str) -> None:
        model = self._model(name, revision)
        if model is None:
            return
        listed = [
            {"type": "file", "path": file, "size": len(data), "oid": blob_id(data)}
            for file, data in sorted(model.files.items())
        ]
        self._send(200, json.dumps(listed).encode())

    def _sibling(self, model: HubModel, file: str) -> dict[str, Any]:
        data = model.files[file]
        if not model.sizes_are_told:
            return {"rfilename": file}
        about: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": blob_id(data)}
        if len(data) >= LARGE_BYTES:
            sha256 = hashlib.sha256(data).hexdigest()
            about["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 135}
        return about

    def _file(self, name: str, revision: str, file: str) -> None:
        model = self._model(name, revision)
        if model is None:
            return
        if model.token and self.headers.get("Authorization") != f"Bearer {model.token}":
            return self._send(401, code="GatedRepo")
        if file not in model.files:
            return self._send(404, code="EntryNotFound")
        if self.command == "GET" and file in model.status:
            return self._send(model.status[file])
        listed = model.files[file]
        etag = hashlib.sha256(listed).hexdigest() if len(listed) >= LARGE_BYTES else blob_id(listed)
        data = model.served.get(file, listed)
        self._send(
            *self._part(data),
            headers={"ETag": f'"{etag}"', "X-Repo-Commit": model.commit},
            breaks_after=model.breaks_after.pop(file, None) if self.command == "GET" else None,
        )

    def _part(self, data: bytes) -> tuple[int, bytes]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return 200, data
        return 206, data[int(match[1]) : int(match[2]) + 1 if match[2] else None]

    def _send(
        self,
        status: int,
        data: bytes = b"",
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        breaks_after: int | None = None,
    ) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[:breaks_after])
        if breaks_after is not None:
            self.close_connection = True


def blob_id(data: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}", {})
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
