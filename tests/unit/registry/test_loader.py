"""``load_registry``: what a correct file becomes. Mistakes are in ``test_loader_mistakes``."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.registry import DirectorySource, load_registry
from tests.unit.registry.support_loader import Load, entry


def test_the_least_registry_has_defaults(load: Load, tmp_path: Path) -> None:
    registry = load(entry())
    (model,) = registry.models
    assert model.id == "one"
    assert model.source == DirectorySource(directory=tmp_path / "here")
    assert (model.template, model.history, model.load) == ("auto", "turns", "startup")
    assert model.context.length is None
    assert model.context.overflow == "error"
    assert model.sampling.model_dump(exclude_none=True) == {}
    assert model.engine.model_dump(exclude_none=True) == {
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "replicas": 1,
        "extra": {},
    }
    assert (model.pin, model.idle_timeout, model.sleep_after, model.sleep_level) == (
        False,
        None,
        None,
        1,
    )
    herd = registry.herd
    assert (herd.memory, herd.max_wait, herd.min_residency, herd.drain) == (None, 30, 10, 30)


def test_directories_start_at_the_files_folder_and_know_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "models.yaml"
    path.write_text(
        "models:\n- {id: a, source: {directory: ../weights}}\n"
        "- {id: b, source: {directory: ~/weights}}\n- {id: c, source: {directory: /weights}}\n"
    )
    places = [tmp_path / "weights", Path("/home/someone/weights"), Path("/weights")]
    found = [model.source for model in load_registry(path).models]
    assert found == [DirectorySource(directory=place) for place in places]


def test_yaml_has_no_surprises(load: Load) -> None:
    model = load(entry("description: 2024-01-31", "sampling: {temperature: 1e-1}")).models[0]
    assert model.description == "2024-01-31"
    assert model.sampling.temperature == 0.1


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("\ufeff" + entry(), encoding="utf-8")
    assert load_registry(path).models[0].id == "one"


def test_templates_are_unchecked_unless_handed_in(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(entry("template: anything"))
    assert load_registry(path).models[0].template == "anything"
