"""Entries that are adapters of others: what they have from their base, and what is a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from server.registry import DirectorySource, HubSource, Registry, registry_schema
from tests.unit.registry.support_loader import Load, complaints

BASE = {
    "id": "llama",
    "source": {"hub": "org/llama"},
    "engine": {"kv_cache": "1GiB"},
    "reasoning_parser": "qwen3",
    "system": "Base.",
    "template": "raw",
}
ADAPTER = {"id": "alpaca", "base": "llama", "adapter": {"hub": "org/alpaca-lora"}}


def registry(*models: dict[str, Any]) -> Registry:
    return Registry.model_validate({"models": list(models)})


def test_an_adapter_has_its_bases_source_engine_kind_and_reasoning_and_nothing_else() -> None:
    llama, alpaca = registry(BASE | {"kind": "embedding"}, ADAPTER).models
    assert alpaca.source is llama.source
    assert alpaca.engine is llama.engine
    assert (alpaca.kind, alpaca.reasoning_parser) == ("embedding", "qwen3")
    assert (alpaca.template, alpaca.system, alpaca.tool_parser) == ("auto", None, None)
    assert alpaca.adapter == HubSource(hub="org/alpaca-lora")


def test_an_adapter_may_stand_before_its_base_and_shares_its_engine() -> None:
    other = {"id": "raw", "source": BASE["source"], "engine": BASE["engine"]}
    found = registry(ADAPTER, other | {"reasoning_parser": "qwen3"}, BASE)
    (group,) = found.engine_groups().values()
    assert [entry.id for entry in group] == ["raw", "llama", "alpaca"]
    assert [entry.id for entry in found.models] == ["alpaca", "raw", "llama"]


def test_what_was_not_said_does_not_count_as_said() -> None:
    llama, alpaca = registry(BASE, ADAPTER).models
    written = alpaca.model_dump(mode="json", exclude_unset=True)
    assert written == ADAPTER
    # So a registry can be made of the entries of another, and a changed base changes its adapters.
    changed = llama.model_copy(update={"source": HubSource(hub="org/other")})
    assert Registry(models=[changed, alpaca]).models[1].source == HubSource(hub="org/other")


def test_directories_of_adapters_start_at_the_files_folder(load: Load, tmp_path: Path) -> None:
    found = load(
        """\
        models:
          - {id: a, source: {directory: here}}
          - {id: b, base: a, adapter: {directory: there}}
        """
    )
    base, adapter = found.models
    assert adapter.source == base.source == DirectorySource(directory=tmp_path / "here")
    assert adapter.adapter == DirectorySource(directory=tmp_path / "there")
    assert len(found.engine_groups()) == 1


def test_every_mistake_has_its_line(load: Load) -> None:
    text = """\
        models:
          - id: llama
            aliases: [org/llama]
            source: {directory: here}
          - id: a
            base: lama
            adapter: {directory: there}
          - id: b
            base: org/llama
            adapter: {directory: there}
          - id: c
            base: a
            adapter: {directory: there}
          - id: d
            base: d
            adapter: {directory: there}
          - id: e
            base: llama
          - id: f
            adapter: {directory: there}
          - id: g
            base: llama
            adapter: {directory: there}
            source: {directory: here}
            engine: {threads: 2}
            kind: generate
            reasoning_parser: qwen3
          - id: h
            base: 5
            adapter: {directory: there, hub: org/name}
          - id: i
            source: {directory: here}
            base: llama
        """
    assert complaints(load, text) == [
        "models.yaml:6: models.1.base: unknown model 'lama' (did you mean 'llama'?)",
        "models.yaml:9: models.2.base: 'org/llama' is another name of 'llama'; write that",
        "models.yaml:12: models.3.base: 'a' is an adapter itself; name an entry with a source",
        "models.yaml:15: models.4.base: 'd' is an adapter itself; name an entry with a source",
        "models.yaml:17: models.5.adapter: is required beside 'base': one of directory, hub, "
        "package",
        "models.yaml:19: models.6.base: is required beside 'adapter': the id of the entry that it "
        "was trained on",
        "models.yaml:24: models.7.source: is that of its base 'llama'; leave it out",
        "models.yaml:25: models.7.engine: is that of its base 'llama'; leave it out",
        "models.yaml:26: models.7.kind: is that of its base 'llama'; leave it out",
        "models.yaml:27: models.7.reasoning_parser: is that of its base 'llama'; leave it out",
        "models.yaml:29: models.8.base: must be text, not the number 5; put it in quotes",
        "models.yaml:30: models.8.adapter: must have only one of directory and hub",
        "models.yaml:31: models.9.adapter: is required beside 'base': one of directory, hub, "
        "package",
        "models.yaml:32: models.9.source: is that of its base 'llama'; leave it out",
    ]


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ("{}", "adapter: must have one of directory, hub, package"),
        ("org/name", "adapter: must be a mapping with one of directory, hub, package"),
        ("{hub: name}", "adapter.hub: must be a repository as organisation/name, not 'name'"),
        (
            "{package: p, version: 1.0.0, file: p/model.gguf}",
            "adapter.file: must name a file adapter_model.safetensors",
        ),
        (
            "{package: p, version: 1.0.0, file: ../adapter_model.safetensors}",
            "adapter.file: must be a path inside the wheel, such as "
            "package/adapter_model.safetensors",
        ),
        ("{hubb: name}", "adapter: unknown field 'hubb' (did you mean 'hub'?)"),
    ],
)
def test_adapters_that_are_no_source(load: Load, adapter: str, expected: str) -> None:
    text = "models:\n- {id: a, source: {directory: x}}\n- {id: b, base: a, adapter: %s}" % adapter  # noqa: UP031
    assert complaints(load, text) == [f"models.yaml:3: models.1.{expected}"]


def test_mistakes_are_found_in_code_too() -> None:
    with pytest.raises(ValidationError) as caught:
        registry(ADAPTER, {"id": "x"})
    (error,) = caught.value.errors()
    assert error["msg"] == (
        "models.0.base: unknown model 'llama'; models.1.source: is required: one of directory, "
        "hub, package; or 'base' and 'adapter' for an adapter"
    )


def test_room_for_adapters_is_a_setting_of_the_base() -> None:
    (base,) = registry(BASE | {"engine": {"max_adapters": 4, "max_adapter_rank": 64}}).models
    assert (base.engine.max_adapters, base.engine.max_adapter_rank) == (4, 64)
    for engine in ({"max_adapters": 0}, {"max_adapter_rank": 513}):
        with pytest.raises(ValidationError):
            registry(BASE | {"engine": engine})


def test_the_schema_for_editors_accepts_and_refuses_adapters_as_the_loader_does() -> None:
    validator = jsonschema.Draft202012Validator(registry_schema())
    assert validator.is_valid({"models": [BASE, ADAPTER]})
    package = {"package": "p", "version": "1", "file": "p/adapter_model.safetensors"}
    assert validator.is_valid({"models": [BASE, ADAPTER | {"adapter": package}]})
    wrongs: list[dict[str, Any]] = [
        {"id": "x"},
        {"id": "x", "base": "llama"},
        {"id": "x", "adapter": {"hub": "org/name"}},
        BASE | {"base": "x", "adapter": {"hub": "org/name"}},
        ADAPTER | {"engine": {}},
        ADAPTER | {"source": BASE["source"]},
    ]
    for wrong in wrongs:
        assert not validator.is_valid({"models": [BASE, wrong]}), wrong
