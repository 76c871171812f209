"""Entries that are put behind those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.errors import Problem, RegistryError
from server.registry.loader import extend_registry
from server.registry.schema import Registry
from server.registry.sources_schema import DirectorySource

KNOWN = ["auto", "raw"]
FOLDER = Path("/srv/models")


@pytest.fixture
def registry() -> Registry:
    one = {"id": "one", "aliases": ["uno"], "source": {"directory": "/m/one"}}
    herd = {"max_wait": "5s", "memory": "16GiB"}
    return Registry.model_validate({"models": [one], "herd": herd})


def problems(registry: Registry, *entries: dict[str, Any]) -> list[Problem]:
    with pytest.raises(RegistryError) as caught:
        extend_registry(registry, entries, FOLDER, known_templates=KNOWN)
    return list(caught.value.problems)


def test_what_is_there_stays_as_it_is(registry: Registry) -> None:
    entries = [
        {"id": "two", "source": {"directory": "two"}, "engine": {"kv_cache": "1GiB"}},
        {"id": "three", "source": {"hub": "org/three"}, "idle_timeout": "5m"},
    ]
    extended = extend_registry(registry, entries, FOLDER, known_templates=KNOWN)
    assert [model.id for model in extended.models] == ["one", "two", "three"]
    assert extended.models[0] is registry.models[0]
    assert extended.herd is registry.herd
    assert extended.models[1].source == DirectorySource(directory=Path("/srv/models/two"))
    assert extended.models[2].idle_timeout == 300.0
    assert [model.id for model in registry.models] == ["one"]
    # Once more behind those.
    more = extend_registry(extended, [{"id": "four", "source": {"hub": "a/b"}}], Path("/elsewhere"))
    assert more.models[1] is extended.models[1]


def test_names_that_are_taken(registry: Registry) -> None:
    source = {"hub": "a/b"}
    assert problems(
        registry,
        {"id": "uno", "source": source},
        {"id": "two", "aliases": ["one", "two", "three"], "source": source},
        {"id": "three", "source": source},
    ) == [
        Problem("uno", "id", "the name 'uno' is already used by the model 'one'"),
        Problem("two", "aliases.0", "the name 'one' is already used by the model 'one'"),
        Problem("two", "aliases.1", "the name 'two' is already used by this model"),
        Problem("three", "id", "the name 'three' is already used by the model 'two'"),
    ]


def test_every_mistake_of_every_entry(registry: Registry) -> None:
    assert problems(
        registry,
        {"id": "two", "source": {"hub": "a/b"}, "template": "rwa", "context": {"length": 0}},
        {"source": 5},
        {"id": 7, "source": {"hub": "a/b"}, "aliases": 8},
    ) == [
        Problem("two", "template", "unknown template 'rwa' (did you mean 'raw'?)"),
        Problem("two", "context.length", "must be at least 1, not the number 0"),
        Problem("the new model", "id", "is required"),
        Problem("the new model", "source", "must be a mapping with one of directory, hub, package"),
        Problem("7", "id", "must be text, not the number 7; put it in quotes"),
        Problem("7", "aliases", "must be a list, not the number 8"),
    ]


def test_adapters_of_what_is_there(registry: Registry) -> None:
    adapter = {"directory": "lora"}
    entries: list[dict[str, Any]] = [
        {"id": "two", "base": "one", "adapter": adapter},
        {"id": "three", "source": {"hub": "a/b"}, "engine": {"threads": 2}},
        {"id": "four", "base": "three", "adapter": adapter},
    ]
    extended = extend_registry(registry, entries, FOLDER, known_templates=KNOWN)
    _, two, three, four = extended.models
    assert (two.source, two.adapter) == (
        registry.models[0].source,
        DirectorySource(directory=Path("/srv/models/lora")),
    )
    assert (four.source, four.engine) == (three.source, three.engine)
    # Adapters of adapters that were added before, and of nothing.
    assert problems(
        extended,
        {"id": "five", "base": "two", "adapter": adapter},
        {"id": "six", "base": "nine", "adapter": adapter, "source": {"hub": "a/b"}},
        {"id": "seven", "base": "uno"},
    ) == [
        Problem("five", "base", "'two' is an adapter itself; name an entry with a source"),
        Problem("six", "source", "is that of its base 'nine'; leave it out"),
        Problem("six", "base", "unknown model 'nine' (known: one, six, three)"),
        Problem("seven", "adapter", "is required beside 'base': one of directory, hub, package"),
        Problem("seven", "base", "'uno' is another name of 'one'; write that"),
    ]


def test_templates_may_be_left_unchecked(registry: Registry) -> None:
    entry = {"id": "two", "source": {"hub": "a/b"}, "template": "anything"}
    assert extend_registry(registry, [entry], FOLDER).models[1].template == "anything"
