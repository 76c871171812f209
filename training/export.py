"""A whole model's folder for Corral and for other tools: weights, tokenizer, chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from server.prompts.catalog import Format
from server.prompts.environment import read_template
from server.prompts.tokenizer import PromptTokenizer


def dress_tokenizer(tokenizer: Any, prompt_format: Format, target: Path) -> None:
    """Save a tokenizer with the chat template of a format, so that others render as Corral does.

    Args:
        tokenizer: transformers' own; its chat template is replaced.
        prompt_format: ``auto`` leaves the model's own template.
        target: The model's folder. The template stands in ``tokenizer_config.json``, where every
            tool looks.
    """
    tokenizer.save_pretrained(str(target))
    path = target / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    own = target / "chat_template.jinja"
    template = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
    if prompt_format.template is not None:
        template = portable_template(prompt_format, target)
    own.unlink(missing_ok=True)
    if template is not None:
        config["chat_template"] = template
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def portable_template(prompt_format: Format, directory: Path) -> str:
    """A format's template as other tools have to run it for a model.

    They hand every template the tokenizer's BOS. Where Corral leaves it out, because this
    tokenizer does not put one before a text, the template has to.
    """
    assert prompt_format.template is not None
    text = read_template(prompt_format.template)
    tokenizer = PromptTokenizer.from_directory(directory)
    if prompt_format.bos == "template" or tokenizer.adds_bos or not tokenizer.bos_token:
        return text
    return "{%- set bos_token = '' -%}\n" + text
