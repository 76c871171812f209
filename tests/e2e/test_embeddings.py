"""Vectors of the real engine, through the official SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import yaml
from openai import BadRequestError, OpenAI

from server.prompts.catalog import FORMATS
from server.prompts.tokenizer import PromptTokenizer
from server.registry.loader import load_registry
from server.registry.progress import NullProgress
from server.registry.sources import ModelStore, default_cache_dir
from tests.e2e.harness import ROOT, Server, a_server, clean_environment

pytestmark = pytest.mark.timeout(300)
REGISTRY = ROOT / "examples" / "registry" / "embedding.yaml"
MODEL = "smollm2-135m-vectors"
CAT = "The cat sleeps on the sofa."
KITTEN = "A kitten naps on the couch."
TAX = "Quarterly tax returns are due in April."
SIZE = 576


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    registry = yaml.safe_load(REGISTRY.read_text("utf-8"))
    # The others are for GPUs.
    registry["models"] = registry["models"][:1]
    path = tmp_path_factory.mktemp("embeddings") / "model_registry.yaml"
    path.write_text(yaml.safe_dump(registry), encoding="utf-8")
    with a_server("--registry", str(path)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0) as client:
        yield client


def embed(client: OpenAI, *texts: str) -> list[list[float]]:
    """As the SDK asks by itself: for base64, which it decodes."""
    answer = client.embeddings.create(model=MODEL, input=list(texts))
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return [item.embedding for item in answer.data]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of vectors whose length is 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_one_text(client: OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=CAT)
    (item,) = answer.data
    assert len(item.embedding) == SIZE
    assert cosine(item.embedding, item.embedding) == pytest.approx(1, abs=1e-3)
    assert (answer.object, item.object, answer.model) == ("list", "embedding", MODEL)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 5


def test_floats_are_what_base64_holds(client: OpenAI) -> None:
    (packed,) = embed(client, CAT)
    plain = client.embeddings.create(model=MODEL, input=CAT, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(packed, abs=1e-4)


def test_a_text_has_one_vector_alone_and_among_others(client: OpenAI) -> None:
    (alone,) = embed(client, CAT)
    batch = embed(client, *[f"{TAX} No. {n}" for n in range(20)], CAT, KITTEN, CAT)
    assert batch[20] == pytest.approx(alone, abs=1e-4)
    assert batch[22] == pytest.approx(alone, abs=1e-4)


def test_texts_of_one_meaning_are_nearer(client: OpenAI) -> None:
    cat, kitten, tax = embed(client, CAT, KITTEN, TAX)
    assert cosine(cat, kitten) > cosine(cat, tax)
    assert cosine(cat, tax) < 0.999


def test_vectors_are_those_of_transformers(client: OpenAI) -> None:
    directory = model_directory()
    tokenizer = PromptTokenizer.from_directory(directory)
    texts = [CAT, TAX * 30]
    ids = [tokenizer.encode_text(text) for text in texts]
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.reference_embedding", directory, json.dumps(ids)],
        cwd=ROOT,
        env=clean_environment() | {"TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    for ours, theirs in zip(embed(client, *texts), expected, strict=True):
        assert cosine(ours, theirs) > 0.9999


def test_what_does_not_fit(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=[CAT, "word " * 9000])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    cut = client.embeddings.create(
        model=MODEL, input="word " * 9000, extra_body={"truncate_prompt_tokens": -1}
    )
    assert cut.usage.prompt_tokens == 2048


def test_dimensions_are_the_models_own(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=CAT, dimensions=64)
    assert caught.value.param == "dimensions"


def test_it_does_not_chat(client: OpenAI, server: Server) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.param == "model"
    assert "/v1/embeddings" in str(caught.value)
    assert httpx.get(server.url + "/v1/models").json()["data"][0]["kind"] == "embedding"


def test_many_texts(client: OpenAI) -> None:
    vectors = embed(client, *[f"Sentence number {n}." for n in range(200)])
    assert len({tuple(vector[:8]) for vector in vectors}) == 200


def model_directory() -> Path:
    """Where the server has the model's files."""
    entry = load_registry(REGISTRY, known_templates=FORMATS).models[0]
    return ModelStore(Path(os.environ.get("CORRAL_CACHE_DIR", default_cache_dir()))).prepare(
        entry.source, NullProgress()
    )
