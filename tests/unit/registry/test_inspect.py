"""What is read from a model's own files, and what a wrong file is answered with."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import ModelEntry, ModelInfo, describe_model, resolve_context_length
from server.registry.inspect import check_model_files

Write = Callable[..., Path]


def test_a_model_is_described(tmp_path: Path, write_model: Write) -> None:
    info = describe_model(write_model(tmp_path))
    assert info == ModelInfo(
        context_length=2048,
        num_layers=2,
        num_kv_heads=2,
        head_dim=16,
        weight_bytes=2048,
        dtype="bfloat16",
        architecture="LlamaForCausalLM",
        vocab_size=32,
        hidden_size=64,
        inner_size=256,
        num_heads=4,
        parameters=1024,
    )
    assert (info.loaded_bytes(), info.loaded_bytes(4)) == (2048, 4096)
    assert info.kv_bytes_per_token() == 2 * 2 * 2 * 16 * 2
    assert info.kv_bytes_per_token(dtype_bytes=1) == 128


def test_old_and_bare_configs(tmp_path: Path, write_model: Write) -> None:
    path = write_model(
        tmp_path, dtype=None, torch_dtype="float16", head_dim=32, num_key_value_heads=None
    )
    info = describe_model(path)
    assert (info.dtype, info.head_dim, info.num_kv_heads) == ("float16", 32, 4)
    path = write_model(tmp_path, dtype=None, architectures=None)
    info = describe_model(path)
    assert (info.dtype, info.architecture) == ("bfloat16", "unknown")


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 2048),
        ({"rope_scaling": None}, 2048),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 8192),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 4096),
        ({"rope_scaling": {"rope_type": "linear", "factor": None}}, 2048),
        # Already scaled: the stated length is the one that holds.
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 2048),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 2048),
        (
            {
                "rope_scaling": {"type": "longrope", "factor": 32},
                "original_max_position_embeddings": 512,
            },
            512,
        ),
        ({"max_position_embeddings": None, "n_positions": 1024}, 1024),
    ],
)
def test_context_length(
    tmp_path: Path, write_model: Write, config: dict[str, Any], length: int
) -> None:
    assert describe_model(write_model(tmp_path, **config)).context_length == length


def test_the_tokenizers_limit_counts(tmp_path: Path, write_model: Write) -> None:
    write_model(tmp_path)
    limits = tmp_path / "tokenizer_config.json"
    limits.write_text(json.dumps({"model_max_length": 512}))
    assert describe_model(tmp_path).context_length == 512
    limits.write_text(json.dumps({"model_max_length": 1000000000000000019884624838656}))
    assert describe_model(tmp_path).context_length == 2048


@pytest.mark.parametrize(
    ("name", "limit", "length"),
    [
        ("sentence_bert_config", 256, 256),
        ("sentence_xlm-roberta_config", 512, 512),
        ("sentence_bert_config", 4096, 2048),
        ("sentence_bert_config", None, 2048),
    ],
)
def test_the_limit_of_sentence_transformers_counts(
    tmp_path: Path, write_model: Write, name: str, limit: int | None, length: int
) -> None:
    write_model(tmp_path)
    (tmp_path / f"{name}.json").write_text(json.dumps({"max_seq_length": limit}))
    assert describe_model(tmp_path).context_length == length


def test_pickled_weights_count_by_their_size(tmp_path: Path, write_model: Write) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 500)
    (tmp_path / "pytorch_model-2.bin").write_bytes(b"x" * 300)
    info = describe_model(tmp_path)
    assert (info.weight_bytes, info.read_bytes, info.loaded_bytes()) == (800, 500, 800)


@pytest.mark.parametrize(
    ("tensors", "config", "loaded"),
    [
        # 100 numbers each, whatever their format: in memory they have the engine's.
        ({"BF16": 200}, {}, 200),
        ({"F32": 400, "F16": 200}, {}, 400),
        ({"F64": 800}, {}, 200),
        # Quantised ones stay as they are, the scales beside them too.
        ({"F8_E4M3": 100, "F32": 40}, {}, 140),
        ({"I32": 400, "F16": 200}, {"quantization_config": {"quant_method": "gptq"}}, 600),
        ({"F16": 200}, {"quantization_config": {"quant_method": "awq"}}, 200),
    ],
)
def test_bytes_in_memory(
    tmp_path: Path,
    write_model: Write,
    tensors: dict[str, int],
    config: dict[str, Any],
    loaded: int,
) -> None:
    write_model(tmp_path, **config)
    header, end = {}, 0
    for dtype, size in tensors.items():
        header[dtype] = {"dtype": dtype, "shape": [1], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(end)
    (tmp_path / "model.safetensors").write_bytes(content)
    info = describe_model(tmp_path)
    assert (info.weight_bytes, info.loaded_bytes(2)) == (end, loaded)


@pytest.mark.parametrize(
    ("config", "slides"),
    [
        ({}, False),
        ({"sliding_window": None}, False),
        ({"sliding_window": 4096}, True),
        ({"sliding_window": 4096, "use_sliding_window": False}, False),
        ({"sliding_window": 4096, "use_sliding_window": True}, True),
    ],
)
def test_sliding_windows(
    tmp_path: Path, write_model: Write, config: dict[str, Any], slides: bool
) -> None:
    assert describe_model(write_model(tmp_path, **config)).sliding_window is slides


def test_the_width_inside(tmp_path: Path, write_model: Write) -> None:
    assert describe_model(write_model(tmp_path, intermediate_size=172)).inner_size == 172


def test_an_entry_may_ask_for_less_but_not_for_more(tmp_path: Path, write_model: Write) -> None:
    info = describe_model(write_model(tmp_path))

    def entry(length: int | None) -> ModelEntry:
        source = {"directory": "x"}
        return ModelEntry.model_validate(
            {"id": "m", "source": source, "context": {"length": length}}
        )

    assert resolve_context_length(entry(None), info) == 2048
    assert resolve_context_length(entry(100), info) == 100
    with pytest.raises(SourceError) as caught:
        resolve_context_length(entry(4096), info)
    assert str(caught.value) == (
        "m: context.length is 4096 tokens, but the model's own maximum is 2048. "
        "Lower it, or leave it out to use the maximum."
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"[]", "must hold a JSON object"),
        ("config.json", b"{}", "states no num_attention_heads"),
        ("config.json", None, "does not exist"),
        ("model.safetensors", b"", "is not a safetensors file, or only a part of one"),
        ("model.safetensors", b"\xff" * 20, "is not a safetensors file, or only a part of one"),
        ("model.safetensors", b"\x02" + bytes(7) + b"[]", "has a damaged safetensors header"),
        ("model.safetensors", b"\x02" + bytes(7) + b"{}x", "has 11 bytes; its header promises 10"),
        ("model.safetensors", None, "holds no weights"),
        ("tokenizer.json", None, "holds no tokenizer"),
    ],
)
def test_damaged_files_are_found(
    tmp_path: Path, write_model: Write, name: str, content: bytes | None, message: str
) -> None:
    write_model(tmp_path)
    assert check_model_files(tmp_path) == []
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (problem,) = check_model_files(tmp_path)
    assert message in problem


def test_a_truncated_shard_and_a_missing_one_are_found(tmp_path: Path, write_model: Write) -> None:
    write_model(tmp_path)
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    first, second = check_model_files(tmp_path)
    assert "its header promises" in first
    assert second == "model-2.safetensors is listed in model.safetensors.index.json but missing"
