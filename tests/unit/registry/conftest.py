"""Things that the registry's tests share: tiny models, a recorder of progress, a hub of our own."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TEMPLATES = frozenset(
    [
        "auto",
        "raw",
        "dialogue",
        "alpaca",
        "alpaca-lora",
        "alpaca-cot-dialog",
        "chinese-alpaca",
        "chinese-alpaca-2",
        "vicuna-v0",
        "vicuna-v1.1",
        "wizardlm",
        "koala",
        "guanaco",
        "baize",
        "dolly-v2",
        "oasst",
        "llama-2",
        "llama-3",
        "zephyr",
        "chatml",
    ]
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "hidden_size": 64,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}


def safetensors_bytes(numbers: int = 1024) -> bytes:
    """A safetensors file with one bfloat16 tensor."""
    tensor = {"dtype": "BF16", "shape": [numbers], "data_offsets": [0, numbers * 2]}
    header = json.dumps({"weight": tensor, "__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(range(256)) * (numbers * 2 // 256)


def model_files(**config: Any) -> dict[str, bytes]:
    """A model that describes itself well enough to be planned, if not served."""
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "model.safetensors": safetensors_bytes(),
        "tokenizer.json": b"{}",
    }


@pytest.fixture
def templates() -> frozenset[str]:
    return TEMPLATES


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Write a tiny model into a folder; keyword arguments go into its config.json."""

    def write(directory: Path, **config: Any) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in model_files(**config).items():
            (directory / name).write_bytes(content)
        return directory

    return write


@dataclass
class Recorder:
    """Keeps what was reported: stage, total, unit, and the sum of the advances."""

    stages: list[tuple[str, int | None, str]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    open: int = 0

    def start(self, stage: str, total: int | None, unit: str) -> None:
        assert self.open == 0, "a stage began inside another"
        self.open += 1
        self.stages.append((stage, total, unit))
        self.done.append(0)

    def advance(self, amount: int) -> None:
        assert self.open == 1
        assert amount >= 0
        self.done[-1] += amount

    def finish(self) -> None:
        assert self.open == 1
        self.open -= 1

    def done_in(self, stage: str) -> int:
        """Advances of the last stage with this name."""
        return [n for (name, _, _), n in zip(self.stages, self.done, strict=True) if name == stage][
            -1
        ]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    progress = Recorder()
    yield progress
    assert progress.open == 0, "a stage was left open"


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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that HF_ENDPOINT points to, with the repository ``org/tiny``."""
    server = FakeHub()
    server.repos["org/tiny"] = model_files()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()
