"""A Hugging Face hub of our own, on a port of this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """The part of a Hugging Face hub that a download needs, on a port of this machine."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.lfs: set[str] = {"model.safetensors"}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.files_are_gated = False
        self.broken_sums: set[str] = set()
        self.stall_at: dict[str, int] = {}
        self.stalled = threading.Event()
        self.release = threading.Event()
        self.downloads: list[tuple[str, str | None]] = []
        self.tokens: list[str | None] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that are killed break their connections

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.tokens.append(request.headers.get("Authorization"))
        path = request.path.split("?")[0].strip("/")
        # Data sets stand beside models, under names that the two share here.
        path = path.replace("api/datasets/", "api/models/").removeprefix("datasets/")
        repo = "/".join((path.removeprefix("api/models/")).split("/")[:2])
        if repo in self.refusals or repo not in self.repos:
            status, code = self.refusals.get(repo, (401, "RepoNotFound"))
            return self._send(request, status, b"{}", {"X-Error-Code": code}, body)
        if path.startswith("api/models/"):
            return self._send_listing(request, path, repo, body)
        if self.files_are_gated:
            return self._send(request, 403, b"", {"X-Error-Code": "GatedRepo"}, body)
        name = path.removeprefix(f"{repo}/resolve/").split("/", 1)[1]
        if name not in self.repos[repo]:
            return self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        return self._send_file(request, name, self.repos[repo][name], body)

    def _send_listing(
        self, request: BaseHTTPRequestHandler, path: str, repo: str, body: bool
    ) -> None:
        files = self.repos[repo]
        if f"{repo}/tree/" in path:
            listing: Any = [
                {"type": "file", "path": n, "size": len(c), "oid": _git(c)} | self._lfs(n, c, "oid")
                for n, c in files.items()
            ]
        else:
            siblings = [
                {"rfilename": n, "size": len(c), "blobId": _git(c)} | self._lfs(n, c, "sha256")
                for n, c in files.items()
            ]
            listing = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
        self._send(request, 200, json.dumps(listing).encode(), {}, body)

    def _lfs(self, name: str, content: bytes, key: str) -> dict[str, Any]:
        if name not in self.lfs:
            return {}
        digest = "0" * 64 if name in self.broken_sums else hashlib.sha256(content).hexdigest()
        return {"lfs": {key: digest, "size": len(content), "pointerSize": 100}}

    def _send_file(
        self, request: BaseHTTPRequestHandler, name: str, content: bytes, body: bool
    ) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_git(content)}"', "Accept-Ranges": "bytes"}
        asked = request.headers.get("Range")
        status, start = 200, 0
        if body:
            self.downloads.append((name, asked))
        if asked:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = 206
        stall = self.stall_at.get(name)
        if body and stall is not None and not self.release.is_set():
            request.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content) - start)}).items():
                request.send_header(key, value)
            request.end_headers()
            request.wfile.write(content[start:stall])
            request.wfile.flush()
            self.stalled.set()
            self.release.wait(60)
            request.close_connection = True
            return None
        return self._send(request, status, content[start:], headers, body)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str],
        body: bool,
    ) -> None:
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(content)


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
