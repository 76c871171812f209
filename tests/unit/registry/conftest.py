"""Things that the registry's tests share: tiny models, a recorder of progress, a store, a hub."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from server.registry import DirectorySource, ModelStore, Registry, load_registry, sources
from tests.unit.registry.support_hub import FakeHub

TEMPLATES = frozenset(
    [
        "auto",
        "raw",
        "dialogue",
        "alpaca",
        "alpaca-lora",
        "alpaca-cot-dialog",
        "chinese-alpaca",
        "chinese-alpaca-2",
        "vicuna-v0",
        "vicuna-v1.1",
        "wizardlm",
        "koala",
        "guanaco",
        "baize",
        "dolly-v2",
        "oasst",
        "llama-2",
        "llama-3",
        "zephyr",
        "chatml",
    ]
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "hidden_size": 64,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}


def safetensors_bytes(numbers: int = 1024) -> bytes:
    """A safetensors file with one bfloat16 tensor."""
    tensor = {"dtype": "BF16", "shape": [numbers], "data_offsets": [0, numbers * 2]}
    header = json.dumps({"weight": tensor, "__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(range(256)) * (numbers * 2 // 256)


def model_files(**config: Any) -> dict[str, bytes]:
    """A model that describes itself well enough to be planned, if not served."""
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "model.safetensors": safetensors_bytes(),
        "tokenizer.json": b"{}",
    }


@pytest.fixture
def templates() -> frozenset[str]:
    return TEMPLATES


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Write a tiny model into a folder; keyword arguments go into its config.json."""

    def write(directory: Path, **config: Any) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in model_files(**config).items():
            (directory / name).write_bytes(content)
        return directory

    return write


@dataclass
class Recorder:
    """Keeps what was reported: stage, total, unit, and the sum of the advances."""

    stages: list[tuple[str, int | None, str]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    open: int = 0

    def start(self, stage: str, total: int | None, unit: str) -> None:
        assert self.open == 0, "a stage began inside another"
        self.open += 1
        self.stages.append((stage, total, unit))
        self.done.append(0)

    def advance(self, amount: int) -> None:
        assert self.open == 1
        assert amount >= 0
        self.done[-1] += amount

    def finish(self) -> None:
        assert self.open == 1
        self.open -= 1

    def done_in(self, stage: str) -> int:
        """Advances of the last stage with this name."""
        return [n for (name, _, _), n in zip(self.stages, self.done, strict=True) if name == stage][
            -1
        ]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    progress = Recorder()
    yield progress
    assert progress.open == 0, "a stage was left open"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that HF_ENDPOINT points to, with the repository ``org/tiny``."""
    server = FakeHub()
    server.repos["org/tiny"] = model_files()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()


@pytest.fixture
def load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, templates: frozenset[str]
) -> Callable[[str], Registry]:
    """Load a text as ``models.yaml`` of the current folder."""
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> Registry:
        Path("models.yaml").write_text(dedent(text), encoding="utf-8")
        return load_registry(Path("models.yaml"), known_templates=templates)

    return load


@pytest.fixture
def gguf(tmp_path: Path) -> DirectorySource:
    """A folder with nothing but a GGUF file."""
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    return DirectorySource(directory=folder)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, write_model: Callable[..., Path]) -> list[Path]:
    """Replaces the converter; lists what it was asked to convert."""
    asked: list[Path] = []

    def convert(source: Path, target: Path, _scratch: Path, _progress: Any) -> None:
        asked.append(source)
        write_model(target)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    return asked


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache")
