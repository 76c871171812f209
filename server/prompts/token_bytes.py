"""The bytes that a token stands for: whole characters, or a part of one.

Decoding one token alone turns half a character into U+FFFD, so the bytes are read from the
vocabulary's own spelling: GPT-2's alphabet of one printable character a byte
(https://github.com/openai/gpt-2, src/encoder.py), or SentencePiece's ``▁`` and ``<0x0A>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tokenizers import Tokenizer

from server.prompts.model_files import ModelFiles

_BYTE_PIECE: Final = re.compile("<0x([0-9A-F]{2})>")


class TokenBytes:
    """Maps token ids of one tokenizer to bytes.

    Args:
        files: The tokenizer's files; its decoder tells how the vocabulary is spelled.
        tokenizer: Made of them.
    """

    def __init__(self, files: ModelFiles, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token.id: token.content.encode() for token in files.added.values()}
        steps = frozenset(_step_types(files.tokenizer.get("decoder")))
        self._byte_level = "ByteLevel" in steps
        self._byte_pieces = "ByteFallback" in steps

    def __call__(self, token_id: int) -> bytes:
        """The bytes of a token; none for an id that the tokenizer does not know."""
        added = self._added.get(token_id)
        if added is not None:
            return added
        piece: str = self._tokenizer.id_to_token(token_id) or ""
        if self._byte_level and all(character in _BYTES for character in piece):
            return bytes(_BYTES[character] for character in piece)
        if self._byte_pieces and (found := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(found[1], 16)])
        return piece.replace("▁", " ").encode()


def _step_types(step: Any) -> Iterator[str]:
    """The types of a decoder and of all steps inside it."""
    if isinstance(step, Mapping):
        yield str(step.get("type"))
        for inner in step.get("decoders") or ():
            yield from _step_types(inner)


def _gpt2_alphabet() -> dict[str, int]:
    """Byte by its character: printable ones are themselves, the others follow from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)}
    printable |= {*range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_BYTES: Final = _gpt2_alphabet()
