"""The start screen and the lines that follow it."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from server import __version__
from server.commands import start_screen
from server.commands.inventory import open_registry, open_store, take_stock
from server.commands.load_watch import LoadWatch
from server.commands.start_screen import StartScreen
from server.console import FetchBars
from server.engines.ledger import Ledger
from server.engines.pool import Pool
from server.engines.replicas import Replicas
from server.engines.states import SlotState, Status
from server.generation.herd import Herd
from server.generation.loading import NoEngines
from server.settings import ApiKeys, read_settings


def screen(keys: ApiKeys | None = None, **changes: Any) -> StartScreen:
    settings = read_settings()
    registry = open_registry(settings)
    return StartScreen(
        url="http://127.0.0.1:8000",
        models=take_stock(registry, open_store(settings)),
        keys=keys or ApiKeys(()),
        registry=settings.registry_path,
        logs=Path("/logs"),
        **changes,
    )


SCREEN = """\

Corral {version}

model     template  context  state      what it is
tiny      auto      512      loading    A tiny model.
tiny-raw  raw       512      on demand

Base URL  http://127.0.0.1:8000/v1
Registry  model_registry.yaml
Logs      /logs

Try it
curl -N http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d \
'{{"model": "tiny", "stream": true, "messages": [{{"role": "user", "content": \
"What is the capital of France? Answer in one sentence."}}]}}'

"""


def test_the_screen_in_a_log(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen().show()
    assert capsys.readouterr().err == SCREEN.format(version=__version__)


def test_the_page_comes_first(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen(page=True).show()
    url = "http://127.0.0.1:8000"
    assert f"\nChat page {url}\nBase URL  {url}/v1\n" in capsys.readouterr().err


def test_the_curl_line_is_never_broken_on_a_terminal(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    narrow = Console(file=text, force_terminal=True, width=80, color_system=None, highlight=False)
    monkeypatch.setattr(start_screen, "err", narrow)
    shown = screen(ApiKeys(("k",)))
    shown.show()
    assert shown.curl() in text.getvalue().splitlines()


def test_the_curl_line_is_a_command_with_a_json_body(registry: Path) -> None:
    words = shlex.split(screen(ApiKeys(("sk-made",), "sk-made")).curl())
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8000/v1/chat/completions"]
    assert "Authorization: Bearer sk-made" in words
    assert json.loads(words[-1])["model"] == "tiny"


def test_a_key_that_was_given_is_not_shown(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen(ApiKeys(("secret", "other"))).show()
    shown = capsys.readouterr().err
    assert "secret" not in shown
    assert "API key   required (2 accepted)\n" in shown
    # In double quotes, so that the shell fills it in.
    assert '-H "Authorization: Bearer $CORRAL_API_KEY"' in shown


def test_a_made_key_is_shown(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen(ApiKeys(("sk-made",), "sk-made")).show()
    shown = capsys.readouterr().err
    assert "API key   sk-made (made for this run)\n" in shown
    assert "Admin key" not in shown


def test_admin_keys_are_shown_as_api_keys_are(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen(admin_keys=ApiKeys(("secret",))).show()
    shown = capsys.readouterr().err
    assert "Admin key required (1 accepted)\n" in shown
    assert "secret" not in shown
    assert "Authorization" not in shown, "the API itself is open"
    screen(admin_keys=ApiKeys(("sk-made",), "sk-made")).show()
    assert "Admin key sk-made (made for this run)\n" in capsys.readouterr().err


def test_an_embedding_model_is_asked_only_where_nothing_else_is(registry: Path) -> None:
    text = registry.read_text()
    registry.write_text(text.replace("id: tiny\n", "id: tiny\n    kind: embedding\n"))
    words = shlex.split(screen().curl())
    assert words[2] == "http://127.0.0.1:8000/v1/completions"
    assert json.loads(words[-1])["model"] == "tiny-raw"
    registry.write_text(text.replace("id: tiny", "kind: embedding\n    id: tiny"))
    words = shlex.split(screen().curl())
    assert words[2] == "http://127.0.0.1:8000/v1/embeddings"
    assert json.loads(words[-1]) == {
        "model": "tiny",
        "input": "What is the capital of France? Answer in one sentence.",
    }


def test_a_base_model_alone_is_asked_for_a_completion(registry: Path) -> None:
    registry.write_text(
        registry.read_text().replace("    context:", "    template: raw\n    context:")
    )
    words = shlex.split(screen().curl())
    assert words[2].endswith("/v1/completions")
    assert json.loads(words[-1])["prompt"] == "The capital of France is"


def test_what_is_not_here_is_fetched_first(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.write_text("models:\n  - id: far\n    source: {hub: org/far}\n")
    screen(notices=["CORRAL_PROT is set."]).show()
    shown = capsys.readouterr().err
    assert "far    auto      ?        fetching\n" in shown
    assert "Note      CORRAL_PROT is set.\n" in shown


# --- what follows it ------------------------------------------------------------------------------


class Watched:
    """A herd whose one engine is in whatever state a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = read_settings()
        store = open_store(settings)
        herd = Herd(open_registry(settings), store, NoEngines(), FetchBars, Pool(Ledger({})))
        self.state = SlotState("unloaded", "", 0.0, 0)
        monkeypatch.setattr(Replicas, "state", property(lambda _: self.state))
        self.watch = LoadWatch(herd, started=100.0, stopping=lambda: False)

    def look(self, now: float, status: Status, detail: str = "") -> None:
        since = self.state.since + (status != self.state.status)
        self.state = SlotState(status, detail, since, 0)
        self.watch.look(now)


def test_a_start_in_a_log(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(monkeypatch)
    watched.look(101.0, "loading", "starting")
    watched.look(101.1, "loading", "fetching the model's files")
    for tenth in range(100):
        watched.look(101.2 + tenth / 10, "loading", "loading the model")
    for _ in range(3):
        watched.look(112.5, "ready")
    assert capsys.readouterr().err == (
        "tiny: loading the model\ntiny (with tiny-raw): ready after 12.5 s\n"
    )


def test_an_engine_that_ends_and_comes_back(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(monkeypatch)
    watched.look(101.0, "ready")
    capsys.readouterr()
    watched.look(200.0, "unloaded", "the engine ended and will be loaded again on demand")
    watched.look(300.0, "loading", "loading the model")
    watched.look(305.0, "ready")
    assert capsys.readouterr().err == (
        "tiny: the engine ended and will be loaded again on demand\n"
        "tiny (with tiny-raw): ready after 5.0 s\n"
    )


def test_a_failure_gives_its_reason(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(monkeypatch)
    watched.look(101.0, "loading", "starting")
    watched.look(102.0, "failed", "no memory [left]")
    assert capsys.readouterr().err == "tiny: failed: no memory [left]\n"


def test_all_models_ready_is_said_of_several_engines(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = "  - id: two\n    source: *weights\n    engine: {threads: 1}\n"
    registry.write_text(registry.read_text() + second)
    watched = Watched(monkeypatch)
    watched.look(101.0, "loading", "starting")
    watched.look(103.0, "ready")
    assert capsys.readouterr().err.splitlines()[-1] == "All models: ready after 3.0 s"
