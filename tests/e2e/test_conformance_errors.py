"""What is refused becomes the exception that users of the official SDK catch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import yaml
from openai import OpenAI

from tests.e2e.harness import CAPITAL, INSTRUCT, PARIS, ROOT, Server, a_server
from tests.support.feature import said
from tests.support.node import run_tests
from tests.support.refusals import REFUSALS, Refusal

pytestmark = pytest.mark.timeout(180)
KEY = "sk-of-this-test"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_a_refusal(client: OpenAI, refusal: Refusal, stream: bool) -> None:
    endpoints = {
        "chat": client.chat.completions,
        "completions": client.completions,
        "responses": client.responses,
        "embeddings": client.embeddings,
    }
    streamed = {"extra_body": {"stream": True}} if stream else {}
    with pytest.raises(openai.APIStatusError) as caught:
        endpoints[refusal.api].create(**refusal.request, **streamed)  # type: ignore[attr-defined]
    error = caught.value
    assert type(error).__name__ == refusal.error
    assert (error.code, error.param) == (refusal.code, refusal.param)
    assert error.type == "invalid_request_error"


def test_refusals_have_names_of_their_own() -> None:
    assert len({refusal.id for refusal in REFUSALS}) == len(REFUSALS)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, one request at a time, and a model that cannot be loaded."""
    folder = tmp_path_factory.mktemp("guarded")
    registry = yaml.safe_load((ROOT / "model_registry.yaml").read_text("utf-8"))
    model = registry["models"][0] | {"load": "on_demand"}
    broken = {"id": "broken", "source": {"directory": str(folder / "broken")}, "load": "on_demand"}
    (folder / "broken").mkdir()
    path = folder / "model_registry.yaml"
    path.write_text(yaml.safe_dump({"models": [model, broken]}), encoding="utf-8")
    with a_server("--registry", str(path), CORRAL_API_KEY=KEY, CORRAL_MAX_RUNNING="1") as server:
        yield server


def open_with(server: Server, key: str) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key=key, timeout=120, max_retries=0)


def test_a_wrong_key(guarded: Server) -> None:
    with open_with(guarded, "sk-wrong-key-00") as client:
        for call in (
            client.models.list,
            lambda: client.responses.retrieve("resp_0"),
            lambda: client.chat.completions.create(model=INSTRUCT, messages=[]),
        ):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert caught.value.code == "invalid_api_key"
            assert "sk-wrong-key-00" not in str(caught.value)


def test_a_model_that_cannot_be_loaded(guarded: Server) -> None:
    with (
        open_with(guarded, KEY) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.completions.create(model="broken", prompt="Hi")
    assert (caught.value.status_code, caught.value.code) == (503, "model_failed")


def test_too_many_requests(guarded: Server) -> None:
    asked = {"model": INSTRUCT, "messages": [said(CAPITAL)], "temperature": 0}
    with open_with(guarded, KEY) as client:
        stream = client.chat.completions.create(
            **asked, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**asked)
        assert caught.value.code == "server_overloaded"
        assert float(caught.value.response.headers["retry-after"]) > 0
        stream.close()
        # The SDK's own retries wait as long as the header says.
        answer = client.with_options(max_retries=3).chat.completions.create(**asked)
        assert answer.choices[0].message.content == PARIS


def test_the_same_in_node(guarded: Server, tmp_path: Path) -> None:
    table = tmp_path / "cases.json"
    table.write_text(json.dumps({"model": INSTRUCT, "question": CAPITAL, "paris": PARIS}))
    run_tests("guarded.test.mjs", guarded.url, KEY, CASES=table)
