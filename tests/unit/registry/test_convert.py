"""The real converter, in its real child process, on a LLaMA of two layers made here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.errors import SourceError
from server.registry import DirectorySource, ModelStore, NullProgress, conversion, describe_model
from server.registry.cache import NoSpaceError

ROOT = Path(__file__).parents[3]
HIDDEN, HEADS, KV_HEADS, LAYERS, FEED = 64, 4, 2, 2, 96
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
NORMAL, CONTROL = 1, 3


def byte_tokens() -> list[str]:
    """GPT-2's spelling of the 256 bytes as printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelling = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in spelling]
    spelling |= {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [spelling[byte] for byte in range(256)]


TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_tokens(), "ab", "ĠĠ"]


def as_gguf_has_it(weights: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores query and key rows with each head's halves interleaved."""
    rows, columns = weights.shape
    return (
        weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def make_weights() -> dict[str, np.ndarray]:
    """Weights under transformers' names, exact in bfloat16."""
    random = np.random.default_rng(0)
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {"model.embed_tokens.weight": (len(TOKENS), HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (HIDDEN,),
                "post_attention_layernorm": (HIDDEN,),
                "self_attn.q_proj": (HIDDEN, HIDDEN),
                "self_attn.k_proj": (kv, HIDDEN),
                "self_attn.v_proj": (kv, HIDDEN),
                "self_attn.o_proj": (HIDDEN, HIDDEN),
                "mlp.gate_proj": (FEED, HIDDEN),
                "mlp.up_proj": (FEED, HIDDEN),
                "mlp.down_proj": (HIDDEN, FEED),
            }.items()
        }
    return {n: random.integers(-128, 128, s).astype(np.float32) / 64 for n, s in shapes.items()}


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers.": "blk.",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """GGUF's name of a tensor of transformers'."""
    for theirs, ggufs in NAMES.items():
        name = name.replace(theirs, ggufs)
    return name


def write_gguf(path: Path, weights: dict[str, np.ndarray]) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([CONTROL] * 3 + [NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in weights.items():
        stored = tensor
        if "q_proj" in name:
            stored = as_gguf_has_it(tensor, HEADS)
        elif "k_proj" in name:
            stored = as_gguf_has_it(tensor, KV_HEADS)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """bfloat16 tensors as float32, without torch."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, tensor in header.items():
        assert tensor["dtype"] == "BF16"
        start, end = (8 + length + offset for offset in tensor["data_offsets"])
        halves = np.frombuffer(content[start:end], "<u2").astype("<u4") << 16
        tensors[name] = halves.view("<f4").reshape(tensor["shape"])
    return tensors


@pytest.mark.slow
def test_a_gguf_becomes_the_same_model(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests may have imported it; it comes back after this one.
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    weights = make_weights()
    folder = tmp_path / "gguf"
    folder.mkdir()
    write_gguf(folder / "tiny.gguf", weights)
    source = DirectorySource(directory=folder)
    store = ModelStore(tmp_path / "cache")

    path = store.prepare(source, recorder)

    converted = read_safetensors(path / "model.safetensors")
    assert sorted(converted) == sorted(weights)
    for name, expected in weights.items():
        np.testing.assert_array_equal(converted[name], expected, err_msg=name)
    info = describe_model(path)
    assert (info.context_length, info.num_layers, info.num_kv_heads) == (512, LAYERS, KV_HEADS)
    assert (info.dtype, info.vocab_size) == ("bfloat16", len(TOKENS))
    config = json.loads((path / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert (path / "chat_template.jinja").read_text() == TEMPLATE
    check_tokenizer(path)

    stages = [stage for stage, _, _ in recorder.stages]
    assert ("convert weights", len(weights), "tensors") in recorder.stages
    assert recorder.done_in("convert weights") == len(weights)
    assert stages.index("convert weights") < stages.index("convert the tokenizer")
    assert store.check(source) == []
    assert "torch" not in sys.modules, "the parent process must stay free of tensor work"


def check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))

    def pieces(text: str) -> list[str]:
        return tokenizer.encode(text, add_special_tokens=False).tokens

    assert pieces("<|im_start|>ab") == ["<|im_start|>", "ab"]
    # Digits stand alone, so that the two spaces before one are a token, as in training.
    assert pieces("a  12") == ["a", "ĠĠ", "1", "2"]


@pytest.mark.slow
def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a gguf file")
    store = ModelStore(tmp_path / "cache")
    with pytest.raises(SourceError, match=r"^bad\.gguf cannot be converted: \w+: "):
        store.prepare(DirectorySource(directory=tmp_path))
    assert store.path_if_ready(DirectorySource(directory=tmp_path)) is None


def run_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, progress: Any) -> None:
    """Run ``convert_gguf`` with another program in the converter's place."""
    monkeypatch.setattr(conversion, "_START", f"import json, os, sys, time\n{code}")
    source = tmp_path / "m.gguf"
    conversion.convert_gguf(source, tmp_path / "out", tmp_path, progress)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "print(json.dumps({'error': 'ValueError: odd', 'disk_full': False})); sys.exit(1)",
            "m.gguf cannot be converted: ValueError: odd",
        ),
        (
            "os.kill(os.getpid(), 9)",
            (
                "m.gguf cannot be converted: its process was ended by signal 9 (often because "
                "memory ran out)"
            ),
        ),
        ("raise RuntimeError('early')", "m.gguf cannot be converted: RuntimeError: early"),
        ("sys.exit(3)", "m.gguf cannot be converted: exit status 3"),
    ],
)
def test_failures_of_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    with pytest.raises(SourceError) as caught:
        run_child(monkeypatch, tmp_path, code, NullProgress())
    assert str(caught.value) == message


def test_a_full_disk_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Any
) -> None:
    code = (
        "print(json.dumps({'stage': 'x', 'total': 3, 'unit': 'tensors'}))\n"
        "print(json.dumps({'advance': 2}))\n"
        "print(json.dumps({'error': 'e', 'disk_full': True, 'needed': 5_000_000, 'free': 7}))\n"
        "sys.exit(1)"
    )
    with pytest.raises(NoSpaceError) as caught:
        run_child(monkeypatch, tmp_path, code, recorder)
    assert (caught.value.needed, caught.value.free) == (5_000_000, 7)
    assert recorder.stages == [("x", 3, "tensors")]
    assert recorder.done == [2]


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    # The parent is killed while the converter's watch is on; the child must notice by itself.
    code = (
        "import os, subprocess, sys, time\n"
        "child = 'import os, sys, time; sys.path.insert(0, sys.argv[1])\\n'\n"
        "child += 'from server.registry.convert import _end_with_parent\\n'\n"
        "child += '_end_with_parent(); print(os.getpid(), flush=True); time.sleep(60)'\n"
        "p = subprocess.Popen([sys.executable, '-c', child, sys.argv[1]], stdin=subprocess.PIPE)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while _alive(child):
        assert time.monotonic() < deadline, "the converter outlived its parent"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Killed but not yet collected by init: as good as gone.
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
