"""Small tokenizers of the kinds that matter, written as model directories.

Their vocabularies are made by hand, so that tests can state ids. LLaMA's kind has LLaMA's layout:
``<unk> <s> </s>``, then 256 bytes (byte b has id 3 + b), then pieces. Its merges build ``</s>``
out of text, as the merges of real SentencePiece vocabularies can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

# Ids from 259 on, in this order.
LLAMA_PIECES = (
    *("▁", "H", "i", "<", "/", "s", ">", ":"),  # 259 .. 266
    *("Hi", "▁H", "▁Hi", "</", "s>"),  # 267 .. 271
)
# Each line makes a piece of two; "</" + "s>" makes the control token's own piece.
LLAMA_MERGES = (
    *(("H", "i"), ("▁", "Hi"), ("▁", "H"), ("▁H", "i")),
    *(("<", "/"), ("s", ">"), ("</", "s>"), ("<", "s>")),
)
BYTE_MERGES = (("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "hello"))

CHATML_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_SPECIALS = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    "<|eot_id|>",
)
DOLLY_SPECIALS = ("<|endoftext|>", "### End", "### Instruction:", "### Response:\n")
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def added(content: str, number: int, **flags: bool) -> dict[str, Any]:
    """One entry of ``added_tokens``."""
    entry: dict[str, Any] = {"id": number, "content": content, "special": True}
    for flag in ("single_word", "lstrip", "rstrip", "normalized"):
        entry[flag] = False
    return {**entry, **flags}


def bos_processor(token: str, number: int) -> dict[str, Any]:
    """A post-processor that puts ``token`` before a text."""
    start = {"SpecialToken": {"id": token, "type_id": 0}}
    single = [start, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def byte_level(
    specials: Sequence[str], *, bos: str | None = None, extra: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A GPT-2 kind of tokenizer: the specials, then the 256 bytes, then merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*specials, *alphabet, *(left + right for left, right in BYTE_MERGES)]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [*(added(s, i) for i, s in enumerate(specials)), *extra],
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": bos_processor(bos, specials.index(bos)) if bos else None,
        "decoder": step,
        "model": {
            "type": "BPE",
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [list(merge) for merge in BYTE_MERGES],
        },
    }


def llama(*, legacy: bool, extra: Sequence[str] = ()) -> dict[str, Any]:
    """LLaMA's kind; ``legacy`` puts a space before every piece of text, else the first only."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *LLAMA_PIECES]
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    metaspace = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    specials = ["<unk>", "<s>", "</s>"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            *(added(s, i) for i, s in enumerate(specials)),
            *(added(s, len(pieces) + i) for i, s in enumerate(extra)),
        ],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]} if legacy else None,
        "pre_tokenizer": None if legacy else metaspace,
        "post_processor": bos_processor("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [list(merge) for merge in LLAMA_MERGES],
        },
    }


def write_model(path: Path, tokenizer: dict[str, Any], **files: Any) -> Path:
    """Write a model directory; ``files`` are JSON files by stem, or ``chat_template`` text."""
    path.mkdir(parents=True, exist_ok=True)
    template = files.pop("chat_template", None)
    if template is not None:
        (path / "chat_template.jinja").write_text(template, encoding="utf-8")
    for stem, value in {"tokenizer": tokenizer, **files}.items():
        text = json.dumps(value, ensure_ascii=False)
        (path / f"{stem}.json").write_text(text, encoding="utf-8")
    return path


def write_kind(path: Path, kind: str) -> Path:
    """Write one of the kinds that the golden files name."""
    if kind == "chatml":
        return write_model(
            path,
            byte_level(CHATML_SPECIALS),
            tokenizer_config={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
            config={"eos_token_id": 2},
            chat_template=CHATML_TEMPLATE,
        )
    if kind == "llama-3":
        return write_model(
            path,
            byte_level(LLAMA3_SPECIALS, bos="<|begin_of_text|>"),
            tokenizer_config={"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
            generation_config={"eos_token_id": [1, 4]},
            config={"eos_token_id": 1},
        )
    if kind == "dolly":
        return write_model(
            path,
            byte_level(DOLLY_SPECIALS),
            tokenizer_config={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
            config={"eos_token_id": 0},
        )
    extra = {
        "oasst": ("<|system|>", "<|prompter|>", "<|assistant|>"),
        "llama": (),
        "llama-first": (),
    }[kind]
    return write_model(
        path,
        llama(legacy=kind != "llama-first", extra=extra),
        tokenizer_config={"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"},
        special_tokens_map={"bos_token": {"content": "<s>"}, "eos_token": {"content": "</s>"}},
        config={"eos_token_id": 2},
    )
