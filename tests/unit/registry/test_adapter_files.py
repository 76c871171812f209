"""What an adapter's files say, what is refused, and what does not fit its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from server.errors import SourceError
from server.registry.adapter_files import (
    describe_adapter,
    digest_of,
    find_misfits,
    require_numbers,
)
from tests.support.adapters import LINEARS, linear_shapes, write_adapter, write_linears
from tests.unit.registry.conftest import CONFIG

LLAMA = CONFIG | {"intermediate_size": 96}
SHAPES = linear_shapes(LLAMA)
FIRST = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", SHAPES, rank=4)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA))
    write_linears(directory, LLAMA)
    return directory


def reconfigure(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        describe_adapter(folder, "mine")
    return str(caught.value)


def put(folder: Path, **shapes: tuple[int, ...]) -> None:
    """Weights of these names and shapes, and no others."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def test_what_the_files_say(folder: Path) -> None:
    info = describe_adapter(folder, "mine")
    assert (info.rank, info.alpha, info.targets) == (4, 8.0, ("q_proj", "v_proj"))
    assert info.shapes == {
        f"model.layers.{layer}.self_attn.{name}": (64, outputs)
        for layer in (0, 1)
        for name, outputs in (("q_proj", 64), ("v_proj", 32))
    }
    assert info.weight_bytes == 4 * 2 * 4 * (64 + 64 + 64 + 32)


def test_the_rank_is_the_largest_of_all_layers(folder: Path) -> None:
    names = {"layers.1.self_attn.v_proj": 12, r"^model\.layers\.1\.mlp.up_proj": 3}
    reconfigure(folder, rank_pattern=names)
    assert describe_adapter(folder, "mine").rank == 12


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases (bias: all)"),
        ({"modules_to_save": ["lm_head"]}, "whole trained modules (modules_to_save)"),
        ({"lora_bias": True}, "biases of its own (lora_bias)"),
        ({"trainable_token_indices": [1]}, "trained tokens (trainable_token_indices)"),
        ({"use_dora": True, "bias": "lora_only"}, "DoRA, trained biases (bias: lora_only)"),
    ],
)
def test_kinds_that_are_not_served(folder: Path, fields: dict[str, Any], words: str) -> None:
    reconfigure(folder, **fields)
    assert refusal(folder) == (
        f"mine uses {words}, which the engine does not know. Train it without, or merge it into "
        "its base model and serve the result as a model of its own."
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"peft_type": "PREFIX_TUNING"},
            "mine is a PEFT adapter of the kind PREFIX_TUNING; only LORA is served.",
        ),
        ({"r": 0}, "mine: adapter_config.json states no rank ('r', 'rank_pattern')."),
        (
            {"rank_pattern": {"q_proj": "8"}},
            "mine: adapter_config.json states no rank ('r', 'rank_pattern').",
        ),
        (
            {"alpha_pattern": {"(a+)+b": 3}},
            "mine: alpha_pattern of adapter_config.json names layers by the expression '(a+)+b'. "
            "Write their names.",
        ),
        ({"lora_alpha": None}, "mine: adapter_config.json states no 'lora_alpha'."),
        ({"r": 5}, f"mine: {FIRST} has rank 4, which adapter_config.json lacks."),
    ],
)
def test_configurations_that_say_too_little(
    folder: Path, fields: dict[str, Any], message: str
) -> None:
    reconfigure(folder, **fields)
    assert refusal(folder) == message


def test_weights_that_are_no_lora(folder: Path) -> None:
    a, b = f"base_model.model.{FIRST}.lora_A.weight", f"base_model.model.{FIRST}.lora_B.weight"
    put(folder, **{a: (4, 64)})
    assert refusal(folder) == (
        f"mine: lora_A and lora_B of {FIRST} do not belong together ([4, 64] and missing)."
    )
    put(folder, **{a: (4, 64), b: (64, 5)})
    assert refusal(folder) == (
        f"mine: lora_A and lora_B of {FIRST} do not belong together ([4, 64] and [64, 5])."
    )
    head = "base_model.model.lm_head.lora_A.weight"
    put(folder, **{a: (4, 64), b: (64, 4), head: (4, 64)})
    assert refusal(folder) == (
        "mine changes lm_head. Adapters of embeddings and of the output layer are not served: "
        "train without it, or merge the adapter into its base model."
    )
    put(folder, **{"base_model.model.model.embed_tokens.lora_embedding_A": (4, 64)})
    assert refusal(folder).startswith(
        "mine holds the tensor base_model.model.model.embed_tokens.lora_embedding_A, which is no "
        "LoRA weight of a linear layer."
    )
    save_file({a: np.zeros((4, 64), np.int8)}, folder / "adapter_model.safetensors")
    assert refusal(folder) == f"mine holds {a} as I8, not as numbers to add."
    put(folder)
    assert refusal(folder) == "mine holds no tensors."


def test_damaged_files(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "its header promises" in refusal(folder)
    weights.write_bytes(b"garbage")
    assert "is not a safetensors file, or only a part of one" in refusal(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(folder)


@pytest.mark.parametrize("pickle", ["adapter_model.bin", "adapter_model.pt"])
def test_pickles_are_refused_with_the_remedy(folder: Path, pickle: str) -> None:
    (folder / "adapter_model.safetensors").rename(folder / pickle)
    assert refusal(folder) == (
        f"mine holds its weights as a pickle ({pickle}), which can run code when it is read. Have "
        "them saved as adapter_model.safetensors: PEFT's save_pretrained writes it, and so does "
        f'\'safetensors.torch.save_file(torch.load("{pickle}", weights_only=True), '
        '"adapter_model.safetensors")\'.'
    )


def test_folders_that_hold_no_adapter(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    assert refusal(folder) == "mine holds no adapter_model.safetensors."
    (folder / "adapter_config.json").rename(folder / "config.json")
    assert refusal(folder) == (
        "mine holds no adapter_config.json, so it is no LoRA adapter. It is a whole model; give it "
        "an entry with 'source'."
    )
    assert refusal(tmp_path / "no") == f"The adapter folder {tmp_path / 'no'} does not exist."
    file = folder / "config.json"
    assert refusal(file) == f"The adapter folder {file} is not a folder."


def test_an_adapter_of_all_linear_layers_fits_its_base(tmp_path: Path, base: Path) -> None:
    folder = write_adapter(tmp_path / "all", SHAPES, rank=2, targets=LINEARS)
    info = describe_adapter(folder, "mine")
    assert len(info.shapes) == 14
    assert find_misfits(info, base) == []


def test_layers_that_the_base_lacks_or_has_in_another_size(tmp_path: Path, base: Path) -> None:
    deeper = linear_shapes(LLAMA | {"num_hidden_layers": 3})
    info = describe_adapter(write_adapter(tmp_path / "deeper", deeper), "mine")
    assert find_misfits(info, base) == [
        "the model has no layer model.layers.2.self_attn.q_proj",
        "the model has no layer model.layers.2.self_attn.v_proj",
    ]
    wider = linear_shapes(LLAMA | {"hidden_size": 128})
    info = describe_adapter(write_adapter(tmp_path / "wider", wider), "mine")
    assert find_misfits(info, base) == [
        f"{FIRST} takes 128 numbers and gives 128, in the model 64 and 64",
        "model.layers.0.self_attn.v_proj takes 128 numbers and gives 64, in the model 64 and 32",
        "model.layers.1.self_attn.q_proj takes 128 numbers and gives 128, in the model 64 and 64",
    ]


def test_of_a_base_with_pickled_weights_the_layers_are_counted(tmp_path: Path, base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    deeper = linear_shapes(LLAMA | {"num_hidden_layers": 3})
    info = describe_adapter(write_adapter(tmp_path / "deeper", deeper), "mine")
    assert find_misfits(info, base)[0] == "the model has no layer model.layers.2.self_attn.q_proj"
    assert find_misfits(describe_adapter(write_adapter(tmp_path / "a", SHAPES), "x"), base) == []


def test_quantised_bases_and_other_prefixes_are_known(tmp_path: Path, folder: Path) -> None:
    base = tmp_path / "packed"
    base.mkdir()
    names = [name.removeprefix("model.") for name in describe_adapter(folder, "x").shapes]
    packed = {f"{name}.qweight": np.zeros((8, 8), np.int32) for name in names}
    save_file(packed, base / "model.safetensors")
    assert find_misfits(describe_adapter(folder, "x"), base) == []


def test_the_digest_is_that_of_both_files(folder: Path) -> None:
    before = digest_of(folder)
    assert digest_of(folder) == before
    assert len(before) == 64
    reconfigure(folder, lora_alpha=9)
    other = digest_of(folder)
    assert other != before
    write_adapter(folder, SHAPES, rank=4, seed=1, lora_alpha=9)
    assert digest_of(folder) not in (before, other)


def halves(*numbers: float) -> np.ndarray[Any, Any]:
    """bfloat16 numbers, as numpy can hold them: the upper halves of float32."""
    return (np.array(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(
    ("numbers", "finite"),
    [
        ((0.0, -1.5, 2e-5, 65504.0, -65504.0), True),
        ((0.0, 1.0, float("nan"), 2.0), False),
        ((0.0, 1.0, float("inf")), False),
        ((float("-inf"), 0.0), False),
        ((), True),
    ],
)
def test_what_is_no_number_is_found(
    tmp_path: Path, dtype: str, numbers: tuple[float, ...], finite: bool
) -> None:
    values = {
        "F32": lambda: np.array(numbers, np.float32).tobytes(),
        "F16": lambda: np.array(numbers, np.float16).tobytes(),
        "BF16": lambda: halves(*numbers).tobytes(),
    }[dtype]()
    tensor = {"dtype": dtype, "shape": [len(numbers)], "data_offsets": [0, len(values)]}
    header = json.dumps({"w": tensor}).encode()
    content = len(header).to_bytes(8, "little") + header + values
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    if finite:
        require_numbers(tmp_path, "mine")
    else:
        with pytest.raises(SourceError) as caught:
            require_numbers(tmp_path, "mine")
        assert str(caught.value) == "mine holds what is no number (NaN, infinity) in w."


def test_the_largest_numbers_are_numbers(tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    numbers = np.array([largest, -largest, 1.7e38], np.float32)
    save_file({"x": numbers}, tmp_path / "adapter_model.safetensors")
    require_numbers(tmp_path, "mine")
