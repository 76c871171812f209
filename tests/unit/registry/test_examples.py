"""Every registry that is shipped or shown loads, and says what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from server.registry import DirectorySource, HubSource, PackageSource, Registry, load_registry
from server.registry.adapter_files import describe_adapter
from server.registry.schema import Context, EngineSettings, ModelEntry, Sampling

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples" / "registry").glob("*.yaml"))
GUIDE = ROOT / "docs" / "adding-a-model.md"
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_shipped_registry(templates: frozenset[str]) -> None:
    registry = load_registry(ROOT / "model_registry.yaml", known_templates=templates)
    summary = {
        m.id: (m.template, m.context.overflow, m.sampling.model_dump(exclude_none=True))
        for m in registry.models
    }
    base = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 256}
    assert list(summary.items()) == [
        ("smollm2-135m-instruct", ("auto", "error", {"temperature": 0.2, "top_p": 0.9})),
        ("smollm2-135m-raw", ("raw", "error", base)),
        ("smollm2-135m-dialogue", ("dialogue", "drop_oldest", base)),
        ("smollm2-135m-alpaca", ("alpaca", "error", {"temperature": 0.2, "top_p": 0.9})),
    ]
    chat = registry.resolve("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert chat is registry.models[0]
    assert isinstance(chat.source, PackageSource)
    assert chat.source.sha256 is not None
    assert all(m.load == "startup" and m.context.length is None for m in registry.models)
    assert len(registry.engine_groups()) == 1
    adapter = registry.models[-1]
    assert adapter.base == chat.id
    assert isinstance(adapter.adapter, DirectorySource)
    assert describe_adapter(adapter.adapter.directory, adapter.id).rank == 8
    files = [*adapter.adapter.directory.iterdir()]
    assert sum(path.stat().st_size for path in files) <= 2_000_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path, templates: frozenset[str]) -> None:
    load_registry(path, known_templates=templates)


def test_the_examples_are_all_there() -> None:
    assert [path.name for path in EXAMPLES] == [
        "adapters.yaml",
        "directory.yaml",
        "embedding.yaml",
        "gpu-herd.yaml",
        "minimal.yaml",
    ]


def test_the_herd_loads_on_demand_and_spans_the_sizes(templates: frozenset[str]) -> None:
    path = ROOT / "examples" / "registry" / "gpu-herd.yaml"
    registry: Registry = load_registry(path, known_templates=templates)
    assert all(isinstance(m.source, HubSource) for m in registry.models)
    assert {m.load for m in registry.models} == {"on_demand"}
    sizes = {m.id: m.engine.tensor_parallel_size for m in registry.models}
    assert {sizes[f"llama-{size}"] for size in ("7b", "13b")} == {1}
    assert (sizes["llama-30b"], sizes["llama-65b"], sizes["llama-2-70b-chat"]) == (2, 4, 4)
    lora = registry.resolve("alpaca-lora-7b")
    assert lora.engine_key == registry.resolve("llama-7b").engine_key
    assert lora.template == "alpaca-lora"
    used = {m.template for m in registry.models}
    assert {"raw", "dialogue", "alpaca", "vicuna-v1.1", "llama-2", "llama-3", "koala"} <= used


def test_the_guide_has_snippets() -> None:
    assert len(SNIPPETS) == 6


def test_the_guide_shows_everything_an_entry_can_say() -> None:
    (entry,) = yaml.safe_load(SNIPPETS[2])["models"]
    assert set(entry) == set(ModelEntry.model_fields) - {"base", "adapter"}
    assert set(entry["context"]) == set(Context.model_fields)
    assert set(entry["sampling"]) == set(Sampling.model_fields)
    assert set(entry["engine"]) == set(EngineSettings.model_fields)


def test_the_guide_shows_adapters_from_every_kind_of_source() -> None:
    base, *adapters = yaml.safe_load(SNIPPETS[5])["models"]
    assert [adapter["base"] for adapter in adapters] == [base["id"]] * 2
    assert [list(adapter["adapter"]) for adapter in adapters] == [
        ["directory"],
        ["package", "version", "file"],
    ]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_guides_snippets(snippet: str, tmp_path: Path, templates: frozenset[str]) -> None:
    path = tmp_path / "model_registry.yaml"
    path.write_text(snippet, encoding="utf-8")
    load_registry(path, known_templates=templates)
