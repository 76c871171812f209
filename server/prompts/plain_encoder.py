"""Copies of a tokenizer that know no control tokens.

Leaving the added tokens out is not enough: a SentencePiece vocabulary holds ``</s>`` as a piece,
and merges may build it from ``</`` and ``s>``. So the pieces themselves, and every merge that makes
or uses one, are taken out of the copy.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tokenizers import Tokenizer

from server.prompts.environment import NONCHARACTERS
from server.prompts.model_files import ModelFiles

# Whatever the file says about these concerns whole prompts, not the pieces of text encoded here.
_DROPPED: Final[Mapping[str, Any]] = {
    "post_processor": None,
    "truncation": None,
    "padding": None,
    "decoder": None,
}


def build_plain_encoders(
    files: ModelFiles, hidden: Collection[str], unknown: str | None
) -> tuple[Tokenizer, Tokenizer]:
    """Copy a tokenizer without its control tokens.

    Args:
        files: The tokenizer.
        hidden: Strings whose pieces must never come out.
        unknown: The string whose id stands for characters outside the vocabulary, or None if
            such characters are to be dropped. It may come out for those, not for its spelling.

    Returns:
        A copy for text at the start of a sequence, and one for text after a control token. They
        differ only for SentencePiece tokenizers that put a space before the first word of a
        sequence and of no other piece (``prepend_scheme: first``).
    """
    data: dict[str, Any] = {**files.tokenizer, **_DROPPED}
    # Added words and runs of spaces are vocabulary like any other.
    data["added_tokens"] = [
        entry
        for entry in data.get("added_tokens") or ()
        if entry["content"] not in hidden and not entry.get("special")
    ]
    data["model"] = _without_pieces(data["model"], frozenset(hidden), unknown)
    _place(data["added_tokens"], data["model"])
    first = Tokenizer.from_str(json.dumps(data))
    inner = _without_first_space(data.get("pre_tokenizer"))
    if inner == data.get("pre_tokenizer"):
        return first, first
    return first, Tokenizer.from_str(json.dumps({**data, "pre_tokenizer": inner}))


def _without_pieces(
    model: Mapping[str, Any], hidden: frozenset[str], unknown: str | None
) -> dict[str, Any]:
    copy = dict(model)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):
        # Unigram: an id is a position, so the piece stays, under a name that no text matches.
        copy["vocab"] = [
            [f"{NONCHARACTERS[-1]}{i}" if piece in hidden else piece, score]
            for i, (piece, score) in enumerate(vocabulary)
        ]
    elif isinstance(vocabulary, Mapping):
        gone = hidden - {unknown}
        copy["vocab"] = {p: number for p, number in vocabulary.items() if p not in gone}
    if "merges" in model:
        copy["merges"] = [merge for merge in model["merges"] if not _touches(merge, hidden)]
    if "unk_token" in model:
        copy["unk_token"] = unknown
    return copy


def _place(added: Iterable[Mapping[str, Any]], model: Mapping[str, Any]) -> None:
    """Give added words their ids in the copy.

    The library numbers them anew, after the model's vocabulary and one another, unless the model
    itself knows them; and some that came before them are gone.
    """
    vocabulary = model.get("vocab")
    for entry in added:
        if isinstance(vocabulary, list):
            for number in range(len(vocabulary), entry["id"] + 1):
                vocabulary.append([f"{NONCHARACTERS[-1]}{number}", 0.0])
            vocabulary[entry["id"]] = [entry["content"], 0.0]
        elif isinstance(vocabulary, dict):
            vocabulary[entry["content"]] = entry["id"]


def _touches(merge: str | list[str], hidden: frozenset[str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left in hidden or right in hidden or left + right in hidden


def _without_first_space(step: Any) -> Any:
    """The pre-tokenizer ``step`` for text that does not start the sequence."""
    if not isinstance(step, Mapping):
        return step
    if step.get("type") == "Sequence":
        return {**step, "pretokenizers": [_without_first_space(s) for s in step["pretokenizers"]]}
    if step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first":
        return {**step, "prepend_scheme": "never"}
    return step
