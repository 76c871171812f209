"""A model's tokenizer that keeps control tokens and text apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tokenizers import Tokenizer

from server.errors import SourceError
from server.prompts.guard import ControlPattern
from server.prompts.model_files import AddedToken, ModelFiles, read_model_files
from server.prompts.plain_encoder import build_plain_encoders
from server.prompts.token_bytes import TokenBytes

# Unicode's White_Space, which is what tokenizers strips; str.strip() takes more.
_SPACE: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Runs that the template wrote by itself ("assistant\n") recur in every prompt.
_CACHED_RUNS: Final = 1024
_CACHED_RUN_LENGTH: Final = 256


class PromptTokenizer:
    """A model directory's tokenizer, as the formatter needs it.

    Attributes:
        bos_token: The token that begins a sequence, or "".
        eos_token: The token that ends one, or "".
        special: ``bos_token``, ``eos_token``, ``unk_token``, ``pad_token``: those that are set.
        eos_token_ids: All ids after which generation stops.
        chat_template: The model's own chat template, or None.
        control_tokens: Id of every added token, special or not, but for those that are mere
            vocabulary (see ``AddedToken.is_control``).
        token_bytes: The bytes of a token id.
        adds_bos: Whether the tokenizer itself puts BOS before a text.
        beginning: Ids that it puts before a text.
        ending: Ids that it puts after one: a separator, or EOS where its config says so.
    """

    def __init__(self, files: ModelFiles) -> None:
        try:
            # Padding and truncation concern batches; what stands around a text is read from one.
            text = json.dumps({**files.tokenizer, "padding": None, "truncation": None})
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises bare Exception
            raise SourceError(f"tokenizer.json cannot be used: {error}") from error
        self.chat_template = files.chat_template
        self.special = MappingProxyType(dict(files.special))
        self.eos_token = self.special.get("eos_token", "")
        self._added = _control_tokens(files, self._tokenizer)
        self.control_tokens: Mapping[str, int] = MappingProxyType(
            {token.content: token.id for token in self._added.values()}
        )
        self.bos_token, self.adds_bos = self._find_bos(files)
        self.beginning = (self.control_tokens[self.bos_token],) if self.adds_bos else ()
        self.ending = self._find_ending(files)
        self.eos_token_ids = files.eos_ids | self._id_set(self.eos_token)
        self.control_pattern = ControlPattern(tuple(self._added))
        self._pattern = _split_pattern(self._added)
        self.token_bytes = TokenBytes(files, self._tokenizer)
        self._build_encoders(files)

    @classmethod
    def from_directory(cls, path: Path) -> PromptTokenizer:
        """Read the tokenizer of a model directory.

        Raises:
            SourceError: There is none, or its files are broken.
        """
        return cls(read_model_files(path))

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def require_eos(self) -> int:
        """Id of EOS.

        Raises:
            SourceError: The tokenizer has none.
        """
        if self.eos_token not in self.control_tokens:
            raise SourceError("This model's tokenizer has no end-of-sequence token (eos_token).")
        return self.control_tokens[self.eos_token]

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text at the start of a sequence; never a control token, never BOS."""
        return self._encode_run(text, True) if text else []

    def count(self, text: str) -> int:
        """Length of a text, in tokens."""
        try:
            return len(self.encode_text(text))
        except TypeError:
            # Half a surrogate pair; the formatter refuses it with a proper message.
            return len(text)

    def encode_rendered(self, text: str, mark: str = "", *, after: str = "") -> list[int]:
        """Ids of a rendered prompt: control tokens where they are spelled out, text elsewhere.

        Args:
            text: The prompt.
            mark: The guard's mark, which is taken out of the text; "" if there is none, and
                then whatever spells a control token is one.
            after: What has been encoded already and the text goes on from, marks included.
        """
        ids: list[int] = []
        position = 0
        first, strip_left = self._state_after(after)
        for match in self._pattern.finditer(text):
            token = self._added[match[0]]
            run = text[position : match.start()]
            self._append_run(ids, run, mark, first, (strip_left, token.lstrip))
            ids.append(token.id)
            # A tokenizer that adds BOS by itself was trained with text straight after it, at the
            # start of the sequence as far as the word-initial space is concerned.
            first = self.adds_bos and token.content == self.bos_token
            strip_left = token.rstrip
            position = match.end()
        self._append_run(ids, text[position:], mark, first, (strip_left, False))
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of the ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it (``▁the``, ``Ġthe``); "" for unknown ids."""
        return [self._tokenizer.id_to_token(number) or "" for number in ids]

    def _state_after(self, before: str) -> tuple[bool, bool]:
        """Whether a text behind ``before`` starts a sequence, and loses white space on its left."""
        if not before:
            return True, False
        matches = [match for match in self._pattern.finditer(before) if match.end() == len(before)]
        if not matches:
            return False, False
        token = self._added[matches[-1][0]]
        return self.adds_bos and token.content == self.bos_token, token.rstrip

    def _append_run(
        self, ids: list[int], run: str, mark: str, first: bool, strip: tuple[bool, bool]
    ) -> None:
        if strip[0]:
            run = run.lstrip(_SPACE)
        if strip[1]:
            run = run.rstrip(_SPACE)
        if not run:
            return
        if mark and mark in run:
            plain = run.replace(mark, "")
            ids += self._encode_run(plain, first) if plain else ()
        elif len(run) <= _CACHED_RUN_LENGTH:
            ids += self._encode_template_run(run, first)
        else:
            ids += self._encode_run(run, first)

    def _encode_run(self, run: str, first: bool) -> list[int]:
        encoder = self._first if first else self._inner
        ids: list[int] = encoder.encode(run, add_special_tokens=False).ids
        if self._forbidden.isdisjoint(ids):
            return ids
        # Cannot happen while plain_encoder does its work; a forged token is worth a second lock.
        # Pieces are longer than a character, so none can match here.
        single = (self._inner.encode(char, add_special_tokens=False).ids for char in run)
        return [number for piece in single for number in piece if number not in self._forbidden]

    def _find_bos(self, files: ModelFiles) -> tuple[str, bool]:
        """BOS, and whether the tokenizer puts it: its config says so, or its post-processor."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        bos = self.special.get("bos_token", "")
        start = whole[0] if len(whole) > len(plain) and whole[:1] != plain[:1] else None
        if not bos and start is not None:
            bos = self._tokenizer.id_to_token(start) or ""
        if not bos or bos not in self.control_tokens:
            return bos, False
        if files.add_bos_token is not None:
            return bos, files.add_bos_token
        return bos, start == self.control_tokens[bos]

    def _find_ending(self, files: ModelFiles) -> tuple[int, ...]:
        """The post-processor's, and EOS where tokenizer_config.json wants it and it is not there.

        Some tokenizers of embedding models are saved without a post-processor that knows of it.
        """
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        starts = range(len(whole) - len(plain) + 1)
        place = next((n for n in starts if whole[n : n + len(plain)] == plain), len(whole))
        ending = tuple(whole[place + len(plain) :])
        eos = self.control_tokens.get(self.eos_token)
        if files.add_eos_token is None or eos is None:
            return ending
        if files.add_eos_token:
            return ending if ending[-1:] == (eos,) else (*ending, eos)
        return tuple(number for number in ending if number != eos)

    def _id_set(self, token: str) -> frozenset[int]:
        return frozenset({self.control_tokens[token]} if token in self.control_tokens else ())

    def _build_encoders(self, files: ModelFiles) -> None:
        control = frozenset(self.control_tokens.values())
        unknown = files.tokenizer["model"].get("unk_token")
        unknown_id = self._tokenizer.token_to_id(unknown) if unknown else None
        if unknown_id in self.eos_token_ids | self._id_set(self.bos_token):
            unknown, unknown_id = None, None
        self._forbidden = control - {unknown_id}
        hidden = {*self.control_tokens, *(t.content for t in files.added.values() if t.special)}
        self._first, self._inner = build_plain_encoders(files, hidden, unknown)
        self._encode_template_run = lru_cache(_CACHED_RUNS)(self._encode_run)


def _control_tokens(files: ModelFiles, tokenizer: Tokenizer) -> dict[str, AddedToken]:
    """Control tokens by content; the four named ones count even if no file lists them as added."""
    found = {token.content: token for token in files.added.values() if token.is_control}
    for content in files.special.values():
        number = tokenizer.token_to_id(content)
        if content not in files.added and number is not None and len(content) > 1:
            found[content] = AddedToken(content=content, id=number, special=True)
    return found


def _split_pattern(tokens: Mapping[str, AddedToken]) -> re.Pattern[str]:
    """Matches control tokens, the longest at each place."""
    alternatives = []
    for content in sorted(tokens, key=len, reverse=True):
        escaped = re.escape(content)
        word = tokens[content].single_word
        alternatives.append(rf"(?<!\w){escaped}(?!\w)" if word else escaped)
    return re.compile("|".join(alternatives) or r"(?!)")
