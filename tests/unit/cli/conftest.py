"""A tiny model, a registry over it, and `corral` in this process."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tokenizers import pre_tokenizers
from typer.testing import CliRunner

from server.cli import app

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Byte-level: three special tokens, then one token a byte, in the alphabet's order.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = {piece: number for number, piece in enumerate((*SPECIALS, *ALPHABET))}
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "eos_token_id": 2,
    "hidden_size": 64,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": len(VOCABULARY),
}
REGISTRY = """\
models:
  - id: tiny
    aliases: [org/tiny]
    description: A tiny model.
    source: &weights {directory: tiny}
    context: {overflow: drop_oldest}
    sampling: {temperature: 0.5}
  - id: tiny-raw
    source: *weights
    template: raw
    load: on_demand
"""


def ids_of(text: str) -> list[int]:
    """Token ids of ASCII text without special tokens."""
    spelled = text.replace(" ", "Ġ").replace("\n", "Ċ")
    return [VOCABULARY[piece] for piece in spelled]


def write_model(folder: Path) -> Path:
    """A model folder that can be described and rendered for, if not served."""
    folder.mkdir(parents=True)
    added = [
        {"id": i, "content": c, "special": True, "single_word": False}
        | {"lstrip": False, "rstrip": False, "normalized": False}
        for i, c in enumerate(SPECIALS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": VOCABULARY, "merges": []},
    }
    header = json.dumps(
        {"weight": {"dtype": "BF16", "shape": [1024], "data_offsets": [0, 2048]}}
    ).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(2048)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and none of this machine's own settings."""
    for name in os.environ:
        if name.startswith("CORRAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registry(home: Path) -> Path:
    """``model_registry.yaml`` in the working directory, over one tiny model."""
    write_model(home / "tiny")
    path = home / "model_registry.yaml"
    path.write_text(REGISTRY)
    return path


@pytest.fixture
def corral() -> Callable[..., Result]:
    """Run a command line: ``corral("models", "list")``."""

    def run(*args: str, stdin: str | None = None) -> Result:
        # Wide, so that columns are whole.
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(args), input=stdin)

    return run
