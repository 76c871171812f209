"""All weights trained, adapters merged, and what other tools make of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.prompts.catalog import FORMATS, get_format
from server.prompts.conversation import parse_messages
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from server.registry import NullProgress
from server.registry.inspect import check_model_files
from tests.unit.training.support_model import run_tiny, tiny_recipe, write_tiny
from training.errors import TrainingError
from training.export import dress_tokenizer
from training.merging import directory_entry, find_pair, merge
from training.model import add_embeddings, choose_padding, load_tokenizer
from training.run_folder import RunFolder

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

TURNS = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "and you?"},
]


@pytest.fixture(scope="module")
def whole(ranch: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = tiny_recipe(
        tmp_path_factory.mktemp("run") / "whole",
        lora=None,
        new_tokens=["[PAD]"],
        schedule={"learning_rate": 0.003, "steps": 4},
    )
    return run_tiny(recipe, ranch)


@pytest.fixture(scope="module")
def adapted(ranch: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = tiny_recipe(tmp_path_factory.mktemp("run") / "adapted", schedule={"steps": 2})
    return run_tiny(recipe, ranch)


def test_all_weights_are_trained(whole: RunFolder, ranch: Path) -> None:
    before = load_file(ranch / "tiny" / "model.safetensors")
    after = load_file(whole.result / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[n][: len(before[n])], before[n]) for n in before)
    assert len(after["model.embed_tokens.weight"]) == len(before["model.embed_tokens.weight"]) + 1
    assert check_model_files(whole.result) == []


def test_the_padding_is_its_own_token(whole: RunFolder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(whole.result))
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", 264)
    assert tokenizer.eos_token == "<|im_end|>"


def test_new_embeddings_begin_as_the_mean(ranch: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(ranch / "tiny"))
    size = model.get_input_embeddings().weight.shape[0]
    add_embeddings(model, size + 2)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = layer.weight.data
        assert weight.shape[0] == size + 2
        mean = weight[:size].mean(dim=0)
        assert torch.equal(weight[size:], torch.stack([mean, mean]))
    add_embeddings(model, 3)  # as many as some checkpoints keep in reserve
    assert model.get_input_embeddings().weight.shape[0] == size + 2


def test_padding_is_never_what_ends_an_answer(ranch: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ranch / "tiny", [])
    assert tokenizer.pad_token == "<|endoftext|>"
    tokenizer.pad_token = tokenizer.eos_token
    assert choose_padding(tokenizer) == "<|endoftext|>"
    tokenizer.unk_token = tokenizer.eos_token
    tokenizer.bos_token = tokenizer.eos_token
    assert choose_padding(tokenizer) is None
    assert choose_padding(tokenizer, ["<extra>", "[PAD]"]) == "[PAD]"
    path = ranch / "tiny" / "tokenizer_config.json"
    bare = write_tiny(tmp_path / "bare")
    config = json.loads(path.read_text())
    eos = config["eos_token"]
    config |= {"bos_token": eos, "unk_token": eos}
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="no token to pad with"):
        load_tokenizer(bare, [])


def test_a_merged_adapter_says_the_same(adapted: RunFolder, ranch: Path, tmp_path: Path) -> None:
    registry = ranch / "model_registry.yaml"
    pair = find_pair(str(adapted.path), registry, ranch / "cache", NullProgress())
    merge(pair, tmp_path / "merged")

    ids = torch.arange(3, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(str(ranch / "tiny"))
    plain = base(ids).logits
    apart = PeftModel.from_pretrained(base, str(adapted.result))(ids).logits
    together = AutoModelForCausalLM.from_pretrained(str(tmp_path / "merged"))(ids).logits
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    assert (together - plain).abs().max() > 1e-3
    assert check_model_files(tmp_path / "merged") == []
    entry = directory_entry(pair, tmp_path / "merged")
    assert entry["source"] == {"directory": str(tmp_path / "merged")}
    with pytest.raises(TrainingError, match="is not empty"):
        merge(pair, tmp_path / "merged")


def test_what_cannot_be_merged(whole: RunFolder, ranch: Path) -> None:
    registry = ranch / "model_registry.yaml"
    for what, reason in ((str(whole.path), "is a whole model"), ("tiny", "is neither the folder")):
        with pytest.raises(TrainingError, match=reason):
            find_pair(what, registry, ranch / "cache", NullProgress())


@pytest.mark.parametrize("kind", ["chatml", "llama"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "auto"])
def test_other_tools_render_as_corral_does(
    name: str, kind: str, tmp_path: Path, tiny_kinds: dict[str, Path]
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(str(tiny_kinds[kind]))
    dress_tokenizer(tokenizer, get_format(name), tmp_path)
    formatter = Formatter(get_format(name), PromptTokenizer.from_directory(tiny_kinds[kind]))
    turns = TURNS[2:] if formatter.format.single_turn else TURNS
    served = formatter.render(parse_messages(turns))

    exported: Any = AutoTokenizer.from_pretrained(str(tmp_path))
    text = exported.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == served.text
    if kind == "chatml":  # of LLaMA's pieces transformers 5 makes a tokenizer of its own
        ids = exported.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert ids == served.token_ids


@pytest.fixture(scope="module")
def tiny_kinds(ranch: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    llama = write_tiny(tmp_path_factory.mktemp("kinds") / "llama", "llama")
    return {"chatml": ranch / "tiny", "llama": llama}
