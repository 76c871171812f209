"""``load_registry``: whatever is in the file, it is a registry or a ``RegistryError``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.errors import Problem, RegistryError
from server.registry import load_registry

_words = st.sampled_from(
    [
        "version",
        "models",
        "id",
        "aliases",
        "source",
        "directory",
        "hub",
        "package",
        "file",
        "context",
        "length",
        "sampling",
        "temperature",
        "stop",
        "engine",
        "extra",
        "kv_cache",
        "template",
        "load",
        "startup",
        "one",
        "org/name",
        "<<",
    ]
)
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _words
    | st.dates()
)  # fmt: skip
_trees = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_words | st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=_trees, below=st.sampled_from(["", "models", "entry", "source", "engine"]))
@example(data={"models": [{"id": {}, "aliases": [[]]}]}, below="")
@example(data={"extra": {"a": float("inf")}}, below="engine")
def test_any_data_is_a_registry_or_a_registry_error(
    tmp_path: Path, data: Any, below: str, templates: frozenset[str]
) -> None:
    source = {"directory": "x"}
    whole = {
        "": data,
        "models": {"models": data},
        "entry": {"models": [data]},
        "source": {"models": [{"id": "a", "source": data}]},
        "engine": {"models": [{"id": "a", "source": source, "engine": data}]},
    }[below]
    check_robust(tmp_path, yaml.safe_dump(whole, allow_unicode=True), templates)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=60) | st.text(alphabet="{}[]:,-&*!|>'\"<#?%@ \n\tab1=.~", max_size=40))
@example(text="!!float x")
@example(text="? [a]\n: b")
@example(text="!!timestamp 2001-99-99")
@example(text="=: 1")
@example(text="a: !!set {b, c}\nd: !!omap [e: 1]\nf: !!pairs [g: 1]\nh: !!binary =")
@example(text="models: &m\n- *m")
@example(text="<<: {a: 1}\nb: 2")
@example(text="<<: 3")
def test_any_text_is_a_registry_or_a_registry_error(
    tmp_path: Path, text: str, templates: frozenset[str]
) -> None:
    check_robust(tmp_path, text, templates)


def check_robust(tmp_path: Path, text: str, templates: frozenset[str]) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 2
    problems: tuple[Problem, ...] = ()
    try:
        load_registry(path, known_templates=templates)
    except RegistryError as error:
        problems = error.problems or (Problem("nowhere", "", ""),)
    for problem in problems:
        where, _, line = problem.where.rpartition(":")
        assert where == str(path)
        assert 1 <= int(line) <= lines + text.count("\u2029")
        assert "source:" not in problem.field
        assert "Input should" not in problem.message
