"""``corral models`` and ``corral doctor`` of entries that are adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.adapters import linear_shapes, write_adapter, write_linears
from tests.unit.cli.conftest import CONFIG

Corral = Callable[..., Result]
LLAMA = CONFIG | {"intermediate_size": 96}
ENTRIES = """\
  - id: lora
    base: tiny
    adapter: {directory: lora}
    template: alpaca
  - id: far
    base: tiny
    adapter: {hub: org/far}
"""


@pytest.fixture
def lora(registry: Path) -> Path:
    """The registry with two adapters more, of which the first is here; the folder of that one."""
    registry.write_text(registry.read_text() + ENTRIES)
    write_linears(registry.parent / "tiny", LLAMA)
    return write_adapter(registry.parent / "lora", linear_shapes(LLAMA), rank=4)


def test_list(lora: Path, corral: Corral) -> None:
    size = sum(path.stat().st_size for path in lora.iterdir())
    lines = corral("models", "list").stdout.splitlines()
    assert [line.split() for line in lines[3:]] == [
        ["lora", "alpaca", str(lora), "on", "tiny", "512", f"{size / 1000:.1f}", "kB", "-"],
        ["far", "auto", "org/far", "on", "tiny", "512", "not", "fetched", "-"],
    ]
    found = json.loads(corral("models", "list", "--json").stdout)[2]
    assert (found["base"], found["adapter"]) == ("tiny", {"directory": str(lora)})
    assert (found["path"], found["shares_engine_with"]) == (str(lora), "tiny")


def test_show(lora: Path, corral: Corral) -> None:
    shown = corral("models", "show", "lora").stdout.splitlines()
    for line in (
        "base          tiny",
        f"adapter       {lora}",
        "              rank 4 on q_proj, v_proj",
        "shares        the engine of tiny",
    ):
        assert line in shown
    details = json.loads(corral("models", "show", "lora", "--json").stdout)
    size = 4 * 2 * 4 * (64 + 64 + 64 + 32)
    assert details["lora"] == {
        "rank": 4,
        "alpha": 8.0,
        "targets": ["q_proj", "v_proj"],
        "weights": size,
    }
    assert json.loads(corral("models", "show", "tiny", "--json").stdout)["lora"] is None


def test_fetch_and_remove(lora: Path, corral: Corral) -> None:
    assert corral("models", "fetch", "lora").stdout == f"lora: {lora}\n"
    assert corral("models", "remove", "lora").stdout == "lora: your own folder is left alone\n"
    assert corral("models", "remove", "far").stdout == "far: nothing was fetched\n"
    assert lora.is_dir()


def test_check_when_all_is_well(lora: Path, corral: Corral) -> None:
    result = corral("models", "check")
    assert result.exit_code == 0
    assert "ok    lora\n" in result.stderr
    assert "ok    far: not fetched yet\n" in result.stderr


def test_check_finds_an_adapter_of_another_model(lora: Path, corral: Corral) -> None:
    write_adapter(lora, linear_shapes(LLAMA | {"num_hidden_layers": 3}), rank=4)
    result = corral("models", "check")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("wrong")] == [
        f"wrong lora: the model has no layer model.layers.2.self_attn.{name}_proj" for name in "qv"
    ]


def test_check_finds_a_damaged_adapter(lora: Path, corral: Corral) -> None:
    (lora / "adapter_model.safetensors").write_bytes(b"x")
    result = corral("models", "check")
    assert result.exit_code == 1
    (wrong,) = [line for line in result.stderr.splitlines() if line.startswith("wrong")]
    assert wrong.startswith(f"wrong lora: {lora}/adapter_model.safetensors is not a safetensors")
    assert "broken" in corral("models", "list").stdout.splitlines()[3]


def test_the_doctor_plans_room(lora: Path, corral: Corral) -> None:
    report = json.loads(corral("doctor", "--json").stdout)
    plans = [engine for engine in report["engines"] if "lora" in engine["models"]]
    assert len(plans) == 1
    assert plans[0]["models"] == ["tiny", "tiny-raw", "lora", "far"]
    assert "2 of rank 16" in json.dumps(plans[0])
