"""What a model directory says about its tokenizer, read from its JSON files.

Sources: the file layout of Hugging Face's transformers (``tokenizer.json``,
``tokenizer_config.json``, ``special_tokens_map.json``, ``added_tokens.json``, ``config.json``,
``generation_config.json``, ``chat_template.jinja``).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from server.errors import SourceError

SPECIAL_NAMES: Final = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is matched in the text before the model's vocabulary is tried.

    Attributes:
        content: Its characters.
        id: Its id.
        lstrip: White space to its left belongs to it.
        rstrip: White space to its right belongs to it.
        single_word: It does not match inside a word.
        special: The tokenizer calls it special; ``decode`` can leave it out.
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = False

    @property
    def is_control(self) -> bool:
        """False for mere vocabulary: words and runs of spaces that were added as tokens.

        GPT-NeoX adds runs of spaces and many a fine-tune adds words; such text means nothing but
        itself. A token that is not special but holds a symbol (``<think>``, ``<tool_call>``) is
        structure. A single character cannot be told from text and is never control.
        """
        if len(self.content) < 2:
            return False
        return self.special or not all(_is_wordlike(character) for character in self.content)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The tokenizer of a model directory, as data.

    Attributes:
        tokenizer: ``tokenizer.json``, decoded.
        special: ``bos_token``, ``eos_token``, ``unk_token``, ``pad_token``: those that are set.
        added: Added tokens by content.
        eos_ids: Ids that ``generation_config.json`` or else ``config.json`` calls end of text.
        add_bos_token: What ``tokenizer_config.json`` says, or None if it says nothing.
        add_eos_token: The same for EOS.
        chat_template: The default chat template, or None.
    """

    tokenizer: Mapping[str, Any]
    special: Mapping[str, str]
    added: Mapping[str, AddedToken]
    eos_ids: frozenset[int]
    add_bos_token: bool | None
    add_eos_token: bool | None
    chat_template: str | None


def read_model_files(path: Path) -> ModelFiles:
    """Read a model directory.

    Raises:
        SourceError: There is no tokenizer, or a file is not what it should be.
    """
    config = _read_json(path / "tokenizer_config.json")
    special = _special_tokens(config, _read_json(path / "special_tokens_map.json"))
    tokenizer = _read_json(path / "tokenizer.json") or _convert_slow_tokenizer(path)
    try:
        added = {token.content: token for token in _added_tokens(path, tokenizer, config)}
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path}: the added tokens cannot be read ({error!r}).") from error
    return ModelFiles(
        tokenizer=tokenizer,
        special=special,
        added=added,
        eos_ids=_eos_ids(path),
        add_bos_token=_add_bos_token(config),
        add_eos_token=_flag(config, "add_eos_token"),
        chat_template=_chat_template(path, config),
    )


def _is_wordlike(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] in "LMN"


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} must hold a JSON object.")
    return value


def _convert_slow_tokenizer(path: Path) -> dict[str, Any]:
    """The JSON of a tokenizer that comes as a SentencePiece model only; transformers converts it.

    Imported here: it is slow to import, and few directories need it.
    """
    if not (path / "tokenizer.model").is_file():
        raise SourceError(f"{path} has neither tokenizer.json nor tokenizer.model.")
    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(
            str(path), use_fast=True, local_files_only=True, trust_remote_code=False
        )
        converted: dict[str, Any] = json.loads(slow.backend_tokenizer.to_str())
    except Exception as error:
        raise SourceError(f"{path}/tokenizer.model cannot be converted: {error}") from error
    return converted


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; the first source that sets one wins."""
    found: dict[str, str] = {}
    for source in sources:
        for name in SPECIAL_NAMES:
            value = source.get(name)
            if isinstance(value, Mapping):
                value = value.get("content")
            if isinstance(value, str) and value:
                found.setdefault(name, value)
    return found


def _added_tokens(
    path: Path, tokenizer: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[AddedToken]:
    """Added tokens of all files, the most authoritative last."""
    for content, number in _read_json(path / "added_tokens.json").items():
        yield AddedToken(content=str(content), id=int(number))
    for number, entry in (config.get("added_tokens_decoder") or {}).items():
        yield _added_token(entry, int(number))
    for entry in tokenizer.get("added_tokens") or ():
        yield _added_token(entry, int(entry["id"]))


def _added_token(entry: Mapping[str, Any], number: int) -> AddedToken:
    return AddedToken(
        content=str(entry["content"]),
        id=number,
        lstrip=bool(entry.get("lstrip")),
        rstrip=bool(entry.get("rstrip")),
        single_word=bool(entry.get("single_word")),
        special=bool(entry.get("special")),
    )


def _eos_ids(path: Path) -> frozenset[int]:
    """Several ids are usual: Llama 3 ends a turn and a text with different tokens."""
    for name in ("generation_config.json", "config.json"):
        value = _read_json(path / name).get("eos_token_id")
        ids: Iterable[Any] = value if isinstance(value, list) else (value,)
        found = frozenset(number for number in ids if isinstance(number, int))
        if found:
            return found
    return frozenset()


def _flag(config: Mapping[str, Any], name: str) -> bool | None:
    value = config.get(name)
    return value if isinstance(value, bool) else None


def _add_bos_token(config: Mapping[str, Any]) -> bool | None:
    value = _flag(config, "add_bos_token")
    if value is not None:
        return value
    # These classes add it unless told otherwise, whatever tokenizer.json's post-processor does.
    if config.get("tokenizer_class") in ("LlamaTokenizer", "LlamaTokenizerFast"):
        return True
    return None


def _chat_template(path: Path, config: Mapping[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SourceError(f"{file} cannot be read: {error}") from error
    value = config.get("chat_template") or _read_json(path / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value}
        value = named.get("default")
    return value if isinstance(value, str) else None
