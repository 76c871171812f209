from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.errors import ModelNotFound
from tests.support.ranch import CONTEXT, VOCABULARY, Ranch, write_tiny_model


@pytest.fixture
def ranch(tmp_path: Path) -> Ranch:
    one = {"id": "one", "aliases": ["uno"], "context": {"length": 100}}
    two = {"id": "two", "context": {"length": 200}, "load": "on_demand"}
    engine = {"threads": 1, "binding": "0", "dtype": "float32"}
    other = {"id": "other", "load": "on_demand", "engine": engine}
    directory = write_tiny_model(tmp_path / "model")
    return Ranch(directory, tmp_path / "cache", [one, two, other])


async def test_entries_over_the_same_weights_share_an_engine(ranch: Ranch) -> None:
    one, two, other = ranch.herd.models()
    assert ranch.herd.resolve("uno") is one
    assert one.slot is two.slot
    assert one.slot is not other.slot
    await asyncio.gather(*ranch.herd.load_at_startup())
    assert [spec.name for spec in ranch.specs] == ["one"]
    assert ranch.specs[0].max_model_len == 200, "the longest context of those who share it"
    await ranch.herd.close()
    assert not ranch.engines[0].alive


async def test_what_an_engine_is_told(ranch: Ranch, tmp_path: Path) -> None:
    await ranch.herd.resolve("one").slot.begin_loading()
    await ranch.herd.resolve("other").slot.begin_loading()
    shared, other = ranch.specs
    assert shared.model_dir == tmp_path / "model"
    assert (shared.weight_bytes, shared.architecture) == (2048, "LlamaForCausalLM")
    # 2 layers, keys and values, 2 heads of 16 numbers, 2 bytes each.
    assert (shared.kv_bytes_per_token, other.kv_bytes_per_token) == (256, 512)
    assert (other.max_model_len, other.dtype) == (CONTEXT, "float32")
    assert (other.threads, other.binding) == (1, "0")
    await ranch.herd.close()


async def test_the_formatter_brings_what_is_known_of_the_model(ranch: Ranch) -> None:
    model = ranch.herd.resolve("two")
    assert (model.context_length, model.vocab_size) == (0, 0)
    formatter = await model.formatter()
    assert (model.context_length, model.vocab_size) == (200, VOCABULARY)
    assert await model.formatter() is formatter
    assert ranch.engines == [], "rendering needs no engine"


async def test_no_such_model(ranch: Ranch) -> None:
    with pytest.raises(ModelNotFound):
        ranch.herd.resolve("ONE")
