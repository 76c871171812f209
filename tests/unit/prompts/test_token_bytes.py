"""Bytes of tokens, for tokenizers of both kinds: parts of characters, spaces, control tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import write_kind

TEXT = "hello Hi 😀é\n字"


@pytest.mark.parametrize("kind", ["chatml", "llama-first"])
def test_they_join_to_the_text(kind: str, tmp_path: Path) -> None:
    tokenizer = PromptTokenizer.from_directory(write_kind(tmp_path, kind))
    ids = tokenizer.encode_text(TEXT)
    joined = b"".join(map(tokenizer.token_bytes, ids))
    # SentencePiece puts a space before the first word of a sequence.
    assert joined.decode().removeprefix(" ") == TEXT


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        ("chatml", 1, b"<|im_start|>"),
        ("chatml", 263, b" hello"),
        ("chatml", 9999, b""),
        ("llama-first", 2, b"</s>"),
        ("llama-first", 3 + 0xF0, b"\xf0"),
        ("llama-first", 269, b" Hi"),
    ],
)
def test_single_ones(kind: str, number: int, expected: bytes, tmp_path: Path) -> None:
    tokenizer = PromptTokenizer.from_directory(write_kind(tmp_path, kind))
    assert tokenizer.token_bytes(number) == expected


def test_every_byte_has_its_own_token(tmp_path: Path) -> None:
    tokenizer = PromptTokenizer.from_directory(write_kind(tmp_path, "chatml"))
    assert sorted(map(tokenizer.token_bytes, range(3, 259))) == [bytes([b]) for b in range(256)]
