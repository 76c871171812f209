"""The commands that operate a running server, against one in a thread of this process."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import Result

from server.engines.ledger import Need
from server.engines.log_files import engine_log, previous_log
from server.errors import EngineDied
from tests.support.admin import Farm
from tests.support.ranch import Ranch, listening, until, write_tiny_model

Corral = Callable[..., Result]
TINY = {"id": "tiny", "aliases": ["org/tiny"], "template": "chatml"}
RAW = {"id": "raw", "template": "raw"}
LATER = {"id": "later", "template": "chatml", "load": "on_demand", "engine": {"threads": 1}}


class Host:
    """A server in a thread.

    Args:
        farm: Where it is started.
        models: Its registry.
        options: Of `AdminOptions`.
    """

    def __init__(self, farm: Farm, *models: dict[str, Any], **options: Any) -> None:
        self.farm = farm
        self._models = models
        self._options = options
        self._stop = threading.Event()
        self._ready = threading.Event()
        self.url = ""
        self.ranch: Ranch
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Host:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    async def _serve(self) -> None:
        stopping = self._stop.is_set
        self.ranch = self.farm.ranch(*self._models, stopping=stopping, **self._options)
        self.ranch.need_of_all = Need(weights=1_500_000, kv_cache=500_000)
        async with listening(self.ranch) as self.url:
            await until(lambda: self.ranch.engines and self.ranch.engines[0].alive)
            self._ready.set()
            await asyncio.to_thread(self._stop.wait)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path, write_tiny_model(tmp_path / "tiny"))


@pytest.fixture
def host(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with Host(farm, TINY, RAW, LATER) as host:
        monkeypatch.setenv("CORRAL_URL", host.url)
        yield host


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    # The server's own log comes to the same place here.
    return [line for line in result.stdout.splitlines() if not re.match(r"\d{4}-\d\d-", line)]


def test_ps(host: Host, corral: Corral) -> None:
    found = lines(corral("ps"))
    assert [line.split("  ")[0] for line in found] == ["model", "tiny", "raw", "later"]
    assert found[0].split() == [
        "model",
        "state",
        "memory",
        "device",
        "requests",
        "tokens/s",
        "what",
    ]
    assert found[1].split() == [
        "tiny",
        "ready",
        *("2.0", "MB"),
        "ram",
        "0",
        "-",
        *("idle", "for", "0", "s"),
    ]
    assert found[2].split() == [
        "raw",
        "ready",
        "-",
        "-",
        "-",
        "-",
        *("shares", "the", "engine", "of", "tiny"),
    ]
    assert found[3].split() == ["later", "unloaded", "-", "-", "0", "-", "-"]
    shown = json.loads(corral("ps", "--json").stdout)
    assert [engine["id"] for engine in shown["data"]] == ["tiny", "later"]


def test_load_unload_restart_and_pin(host: Host, corral: Corral) -> None:
    for name in ("later", "org/tiny"):
        (said,) = lines(corral("load", name))
        assert re.fullmatch(rf"{name}: ready after \d s", said)
    assert lines(corral("unload", "later")) == ["later: unloaded"]
    assert lines(corral("restart", "tiny")) == ["tiny: ready"]
    assert [engine.alive for engine in host.ranch.engines] == [False, False, True]
    assert lines(corral("models", "pin", "tiny")) == ["tiny: pinned"]
    assert "pinned" in lines(corral("ps"))[1]
    assert lines(corral("models", "unpin", "tiny")) == ["tiny: no longer pinned"]
    shown = json.loads(corral("unload", "tiny", "--json").stdout)
    assert (shown["id"], shown["status"]) == ("tiny", "unloaded")


def test_loading_says_what_is_done(host: Host, corral: Corral) -> None:
    host.ranch.gate.clear()
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(corral("load", "later")))
    thread.start()
    time.sleep(1.6)
    host.ranch.gate.set()
    thread.join(10)
    assert "later: loading the model\n" in results[0].stderr
    assert lines(results[0])[0].startswith("later: ready after ")


def test_a_load_that_fails(host: Host, corral: Corral) -> None:
    host.ranch.load_error = EngineDied("no memory left")
    result = corral("load", "later")
    assert (result.exit_code, result.stderr) == (1, "corral: later: no memory left\n")
    assert lines(corral("ps"))[3].split()[:2] == ["later", "failed"]
    assert lines(corral("ps"))[3].endswith(": no memory left")


def test_a_load_that_somebody_ends(host: Host, corral: Corral) -> None:
    host.ranch.gate.clear()
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(corral("load", "later")))
    thread.start()
    time.sleep(0.7)
    assert corral("unload", "later").exit_code == 0
    thread.join(10)
    assert (results[0].exit_code, results[0].stderr.splitlines()[-1]) == (
        1,
        "corral: later: it was unloaded meanwhile",
    )


def test_a_model_that_is_not_there(host: Host, corral: Corral) -> None:
    for command in (["load"], ["unload"], ["logs"], ["models", "pin"], ["models", "forget"]):
        result = corral(*command, "none")
        assert (result.exit_code, result.stderr) == (
            1,
            "corral: The model 'none' does not exist or you do not have access to it. GET "
            "/v1/models lists the models of this server.\n",
        )


def test_logs(host: Host, corral: Corral) -> None:
    path = engine_log(host.farm.log_dir, "tiny")
    path.write_text("".join(f"line {n}\n" for n in range(300)))
    previous_log(path).write_text("before\n")
    assert lines(corral("logs", "raw")) == [f"line {n}" for n in range(200, 300)]
    assert lines(corral("logs", "raw", "-n", "2")) == ["line 298", "line 299"]
    assert lines(corral("logs", "tiny", "--previous")) == ["before"]
    result = corral("logs", "later")
    assert (result.exit_code, result.stderr) == (1, "corral: Log with id 'later' not found.\n")


def test_a_log_is_followed_until_the_server_ends(farm: Farm, corral: Corral) -> None:
    path = engine_log(farm.log_dir, "tiny")
    path.write_text("one\n")
    results: list[Result] = []
    with Host(farm, TINY) as host:
        command = ["logs", "tiny", "-f", "--url", host.url]
        thread = threading.Thread(target=lambda: results.append(corral(*command)))
        thread.start()
        time.sleep(0.8)
        with path.open("a") as log:
            log.write("two\n")
        time.sleep(1.2)
    thread.join(10)
    assert lines(results[0]) == ["one", "two"]


def test_the_registry_is_read_again(host: Host, corral: Corral) -> None:
    assert lines(corral("models", "reload")) == ["nothing has changed"]
    host.farm.write(TINY | {"description": "New."}, LATER | {"id": "latest"})
    assert lines(corral("models", "reload")) == [
        "added: latest",
        "removed: raw, later",
        "changed: tiny",
    ]
    host.farm.registry.write_text("models: 5")
    result = corral("models", "reload")
    assert (result.exit_code, result.stderr) == (
        65,
        f"corral: {host.farm.registry}:1: models: must be a list, not the number 5\n",
    )


def test_models_are_added_and_forgotten(host: Host, corral: Corral, home: Path) -> None:
    entry = home / "entries" / "new.yaml"
    entry.parent.mkdir()
    (entry.parent / "weights").symlink_to(host.farm.model)
    entry.write_text("id: new\nsource: {directory: weights}\ntemplate: chatml\n")
    assert lines(corral("models", "add", str(entry))) == ["new: added"]
    several = {"models": [host.farm.entry({"id": "a"}), host.farm.entry({"id": "org/b"})]}
    assert lines(corral("models", "add", "-", stdin=json.dumps(several))) == [
        "a: added",
        "org/b: added",
    ]
    again = corral("models", "add", str(entry))
    assert (again.exit_code, again.stderr) == (
        65,
        "corral: There is a model 'new' already: it was added before.\n",
    )
    assert lines(corral("models", "add", "--replace", str(entry))) == ["new: added"]
    assert [model.entry.id for model in host.ranch.herd.models()] == [
        *("tiny", "raw", "later"),
        *("new", "a", "org/b"),
    ]
    source = host.ranch.herd.resolve("new").entry.source
    assert source.model_dump() == {"directory": host.farm.model}
    assert lines(corral("models", "forget", "new", "org/b")) == [
        "new: forgotten",
        "org/b: forgotten",
    ]
    assert len(host.ranch.herd.models()) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must be a mapping with 'id' and what else stands for a model there, or 'models' "
             "with several."),
        ("models: []", "it must be a mapping with"),
        ("[1]", "it must be a mapping with"),
        ("id: [", "while parsing a flow node"),
        ("id: 2026-01-01", "Object of type date is not JSON serializable"),
        ("id: .nan", "Out of range float values are not JSON compliant"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
    ],
)  # fmt: skip
def test_what_is_no_entry(text: str, said: str, corral: Corral) -> None:
    result = corral("models", "add", "-", "--url", "http://127.0.0.1:1", stdin=text)
    assert result.exit_code == 65
    assert result.stderr.startswith(f"corral: That is no entry of a registry: {said}")


def test_a_file_that_is_not_there(corral: Corral) -> None:
    result = corral("models", "add", "none.yaml")
    assert (result.exit_code, result.stderr) == (
        65,
        "corral: none.yaml cannot be read: [Errno 2] No such file or directory: 'none.yaml'\n",
    )


# --- keys -------------------------------------------------------------------------------------


def test_keys(farm: Farm, corral: Corral, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(farm, TINY, keys=["secret"]) as host:
        monkeypatch.setenv("CORRAL_URL", host.url)
        result = corral("ps")
        assert (result.exit_code, result.stderr) == (
            77,
            "corral: You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY' "
            "(the api_key of an OpenAI client). This command takes the key from --admin-key or "
            "CORRAL_ADMIN_KEY.\n",
        )
        monkeypatch.setenv("CORRAL_ADMIN_KEY", "auto")  # what it made, only the server knows
        assert corral("ps").exit_code == 77
        assert corral("ps", "--admin-key", "secret").exit_code == 0
        monkeypatch.setenv("CORRAL_ADMIN_KEY", " secret , another")
        assert corral("ps").exit_code == 0


# --- no server --------------------------------------------------------------------------------


def test_nobody_is_there(corral: Corral, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_PORT", "1")
    result = corral("ps")
    assert (result.exit_code, result.stderr) == (
        69,
        "corral: No server answers at http://127.0.0.1:1 (connection refused). Is 'corral serve' "
        "running? --url or CORRAL_URL names another one.\n",
    )
    result = corral("ps", "--url", "http://no-such-host.invalid")
    assert result.exit_code == 69


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "x"])
def test_what_is_no_url(url: str, corral: Corral) -> None:
    result = corral("ps", "--url", url)
    assert (result.exit_code, result.stderr) == (
        2,
        f"corral: '{url}' is no address of a server: it begins with http:// or https:// and a "
        "host, as in http://127.0.0.1:8000.\n",
    )


def test_the_base_url_of_a_client_will_do(host: Host, corral: Corral) -> None:
    assert corral("ps", "--url", f"{host.url}/v1").exit_code == 0
    assert corral("ps", "--url", f"{host.url}/").exit_code == 0


class _Stranger(BaseHTTPRequestHandler):
    """Some other web server, that remembers what it was sent."""

    seen: ClassVar[list[tuple[str, str | None]]] = []
    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["authorization"]))
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(b"<html>Hello!</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_somebody_else_is_there(status: int, corral: Corral) -> None:
    """Nothing else is told of the key, and it goes nowhere else."""
    _Stranger.seen.clear()
    _Stranger.status = status
    with HTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = corral("ps", "--url", url, "--admin-key", "secret")
        thread.join()
    assert (result.exit_code, result.stderr) == (
        69,
        f"corral: What answers at {url} is no Corral that can be operated. --url or CORRAL_URL "
        "names another one.\n",
    )
    assert _Stranger.seen == [("/admin/models", "Bearer secret")]


def test_no_proxy_sees_a_key(host: Host, corral: Corral, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert corral("ps").exit_code == 0
