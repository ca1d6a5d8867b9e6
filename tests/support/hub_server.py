"""A hub on this machine: the few addresses of its interface by which a model repository is made and filled."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "a1B2" * 8


def blob_id(content: bytes) -> str:
    """The id that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


@dataclass
class Repository:
    """A repository of the hub."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, list[str]]] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()  # noqa: S324


@dataclass
class Hub:
    """What the hub holds, and how it is addressed."""

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    #: Names in which the token's owner may not write.
    forbidden: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub on a free port, as long as it is entered."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _answer(self, body: bytes) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            # A hub that repeats what it was sent.
            self._reply(401, {"error": f"Invalid credentials {self.headers.get('Authorization')}"})
            return
        self._reply(*_reply(hub, path, body))

    def _reply(self, status: int, content: Any, code: str | None = None) -> None:
        reply = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(reply)


def _reply(hub: Hub, path: str, body: bytes) -> tuple[Any, ...]:
    match path.strip("/").split("/"):
        case ["api", "whoami-v2"]:
            return 200, {"name": "me", "type": "user"}
        case ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        case ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            if name in hub.forbidden:
                return 403, {"error": "You don't have the rights to create a model there"}
            hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
            return 200, {"url": f"{hub.endpoint}/{name}"}
        case ["api", "models", owner, name, *rest]:
            repository = hub.repositories.get(f"{owner}/{name}")
            if repository is None:
                return 404, {"error": "Repository not found"}, "RepoNotFound"
            return _of_repository(hub, f"{owner}/{name}", repository, rest, body)
    return 404, {"error": f"no such address: {path}"}


def _of_repository(hub: Hub, name: str, repository: Repository, rest: list[str], body: bytes) -> tuple[Any, ...]:
    match rest:
        case []:
            facts = {"id": name, "private": repository.private, "sha": repository.sha, "siblings": []}
            return 200, facts | {"cardData": repository.card}
        case ["preupload", "main"]:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "regular",
                    "shouldIgnore": False,
                    "oid": blob_id(repository.files[file["path"]]) if file["path"] in repository.files else None,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        case ["commit", "main"]:
            lines = [json.loads(line) for line in body.splitlines()]
            sent = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            repository.files |= sent
            repository.commits.append((lines[0]["value"]["summary"], sorted(sent)))
            address = f"{hub.endpoint}/{name}/commit/{repository.sha}"
            return 200, {"success": True, "commitOid": repository.sha, "commitUrl": address}
        case ["revision", "main"]:
            return 200, {"id": name, "private": repository.private, "sha": repository.sha, "siblings": []}
    return 404, {"error": f"no such address: {rest}"}
