"""Vectors of the real engine, through the official SDK.

Of a model that was trained for them, and of a LLaMA that was not: what holds for any vectors is
asked of both.
"""

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
from server.registry.loader import load_registry
from server.registry.progress import NullProgress
from server.registry.sources import ModelStore, default_cache_dir
from tests.e2e.harness import ROOT, Server, a_server, clean_environment
from tests.support.node import run_tests

pytestmark = pytest.mark.timeout(300)
REGISTRY = ROOT / "examples" / "registry" / "embedding.yaml"
TRAINED, LLAMA = "all-minilm-l6-v2", "smollm2-135m-vectors"
SIZES = {TRAINED: 384, LLAMA: 576}
CONTEXTS = {TRAINED: 256, LLAMA: 2048}
POOLING = {TRAINED: "mean", LLAMA: "last"}
CAT = "The cat sleeps on the sofa."
KITTEN = "A kitten naps on the couch."
TAX = "Quarterly tax returns are due in April."
both = pytest.mark.parametrize("model", [TRAINED, LLAMA])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    registry = yaml.safe_load(REGISTRY.read_text("utf-8"))
    # The others are for GPUs.
    registry["models"] = [model for model in registry["models"] if model["id"] in SIZES]
    path = tmp_path_factory.mktemp("embeddings") / "model_registry.yaml"
    path.write_text(yaml.safe_dump(registry), encoding="utf-8")
    with a_server("--registry", str(path)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0) as client:
        yield client


def embed(client: OpenAI, model: str, *texts: str) -> list[list[float]]:
    """As the SDK asks by itself: for base64, which it decodes."""
    answer = client.embeddings.create(model=model, input=list(texts))
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return [item.embedding for item in answer.data]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of vectors whose length is 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


@both
def test_one_text(client: OpenAI, model: str) -> None:
    answer = client.embeddings.create(model=model, input=CAT)
    (item,) = answer.data
    assert len(item.embedding) == SIZES[model]
    assert cosine(item.embedding, item.embedding) == pytest.approx(1, abs=1e-3)
    assert (answer.object, item.object, answer.model) == ("list", "embedding", model)
    # The trained model's are two fewer, and what its tokenizer puts around them.
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 9


@both
def test_floats_are_what_base64_holds(client: OpenAI, model: str) -> None:
    (packed,) = embed(client, model, CAT)
    plain = client.embeddings.create(model=model, input=CAT, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(packed, abs=1e-4)


@both
def test_a_text_has_one_vector_alone_and_among_others(client: OpenAI, model: str) -> None:
    (alone,) = embed(client, model, CAT)
    batch = embed(client, model, *[f"{TAX} No. {n}" for n in range(20)], CAT, KITTEN, CAT)
    assert batch[20] == pytest.approx(alone, abs=1e-4)
    assert batch[22] == pytest.approx(alone, abs=1e-4)


@both
def test_texts_of_one_meaning_are_nearer(client: OpenAI, model: str) -> None:
    cat, kitten, tax = embed(client, model, CAT, KITTEN, TAX)
    assert cosine(cat, kitten) > cosine(cat, tax)
    assert cosine(cat, tax) < 0.999


PAIRS = (
    (CAT, KITTEN),
    ("How do I reset my password?", "I forgot my login and want a new one."),
    ("The Seine flows through Paris.", "Photosynthesis turns light into sugar."),
)


@both
def test_vectors_are_those_of_transformers(client: OpenAI, model: str) -> None:
    texts = [text for pair in PAIRS for text in pair]
    # Case, accents, a word of several pieces, a long text.
    texts += ["ÉCRIS à Gödel: antidisestablishmentarianism!", TAX * 20]
    expected = reference(model, texts)
    ours = embed(client, model, *texts)
    # Both compute in 32 bits, one text at a time there and a batch here.
    assert [cosine(a, b) for a, b in zip(ours, expected, strict=True)] == pytest.approx(
        [1.0] * len(texts), abs=1e-4
    )
    similar = [cosine(ours[n], ours[n + 1]) for n in (0, 2, 4)]
    assert similar == pytest.approx(
        [cosine(expected[n], expected[n + 1]) for n in (0, 2, 4)], abs=1e-3
    )
    if model == TRAINED:
        assert similar == pytest.approx([0.738, 0.551, 0.024], abs=0.005)


def reference(model: str, texts: Sequence[str]) -> list[list[float]]:
    """The same vectors by transformers alone: its tokenizer, its model, its pooling."""
    arguments = [str(model_directory(model)), POOLING[model], json.dumps(texts)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.reference_embedding", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@both
def test_what_does_not_fit(client: OpenAI, model: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=model, input=[CAT, "word " * 9000])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    cut = client.embeddings.create(
        model=model, input="word " * 9000, extra_body={"truncate_prompt_tokens": -1}
    )
    assert cut.usage.prompt_tokens == CONTEXTS[model]


def test_token_ids_are_taken_as_they_are(client: OpenAI) -> None:
    ids = [101, 1996, 4937, 25126, 2006, 1996, 10682, 1012, 102]
    answer = client.embeddings.create(model=TRAINED, input=[ids, ids[1:-1]])
    assert answer.usage.prompt_tokens == 16
    whole, bare = (item.embedding for item in answer.data)
    assert whole == pytest.approx(embed(client, TRAINED, CAT)[0], abs=1e-4)
    assert cosine(whole, bare) < 0.99


def test_special_tokens_that_are_spelled_are_text(client: OpenAI) -> None:
    answer = client.embeddings.create(model=TRAINED, input="[SEP]")
    # [CLS], the five characters' pieces, [SEP].
    assert answer.usage.prompt_tokens > 3


@both
def test_dimensions_are_the_models_own(client: OpenAI, model: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=model, input=CAT, dimensions=64)
    assert caught.value.param == "dimensions"


def test_it_does_not_chat(client: OpenAI, server: Server) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=LLAMA, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.param == "model"
    assert "/v1/embeddings" in str(caught.value)
    kinds = {one["kind"] for one in httpx.get(server.url + "/v1/models").json()["data"]}
    assert kinds == {"embedding"}


def test_many_texts(client: OpenAI) -> None:
    vectors = embed(client, LLAMA, *[f"Sentence number {n}." for n in range(200)])
    assert len({tuple(vector[:8]) for vector in vectors}) == 200


def test_the_same_in_node(client: OpenAI, server: Server, tmp_path: Path) -> None:
    texts = [CAT, KITTEN, TAX]
    table = tmp_path / "cases.json"
    asked = [
        {"model": model, "size": size, "texts": texts, "vectors": embed(client, model, *texts)}
        for model, size in SIZES.items()
    ]
    table.write_text(json.dumps({"embeddings": asked}), encoding="utf-8")
    assert "pass 4" in run_tests("embeddings.test.mjs", server.url, CASES=table)


def test_the_client_finds_the_nearest_text(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "clients" / "python" / "embeddings.py")],
        env=clean_environment() | {"OPENAI_BASE_URL": f"{server.url}/v1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "0.738 A kitten naps on the couch."


def model_directory(model: str) -> Path:
    """Where the server has the model's files."""
    entry = load_registry(REGISTRY, known_templates=FORMATS).resolve(model)
    return ModelStore(Path(os.environ.get("CORRAL_CACHE_DIR", default_cache_dir()))).prepare(
        entry.source, NullProgress()
    )
