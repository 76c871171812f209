"""Every golden conversation becomes its prompt, and only the template's control tokens are ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer

from server.prompts.catalog import FORMATS, get_format
from server.prompts.conversation import parse_messages
from server.prompts.formatter import Formatter, Prompt
from server.prompts.tokenizer import PromptTokenizer

HERE = Path(__file__).parent
FILES = {path.stem: path for path in sorted(HERE.glob("*.yaml"))}


def all_cases() -> Iterator[Any]:
    for stem, path in FILES.items():
        golden = yaml.safe_load(path.read_text(encoding="utf-8"))
        for case in golden["cases"]:
            yield pytest.param(golden, case, id=f"{stem}: {case['name']}")


CASES = list(all_cases())


def content(text: str | list[str]) -> Any:
    if isinstance(text, str):
        return text
    return [{"type": "text", "text": part} for part in text]


def render(golden: dict[str, Any], case: dict[str, Any], tokenizer: PromptTokenizer) -> Prompt:
    formatter = Formatter(
        get_format(golden["format"]),
        tokenizer,
        history=case.get("history", "turns"),
        default_system=case.get("default_system"),
    )
    raw = [{"role": r, "content": content(t)} for m in case["messages"] for r, t in m.items()]
    resume = case.get("resume", False)
    return formatter.render(
        parse_messages(raw),
        add_generation_prompt=case.get("generate", not resume),
        continue_final_message=resume,
    )


@pytest.mark.parametrize(("golden", "case"), CASES)
def test_prompt_is_exact(
    golden: dict[str, Any],
    case: dict[str, Any],
    tokenizer_of: Callable[[str], PromptTokenizer],
) -> None:
    expected = case["prompt"]
    for name, text in golden.get("define", {}).items():
        expected = expected.replace(f"{{{name}}}", text)
    tokenizer = tokenizer_of(golden["tokenizer"])

    prompt = render(golden, case, tokenizer)

    assert prompt.text == expected
    control = {number: token for token, number in tokenizer.control_tokens.items()}
    assert [control[i] for i in prompt.token_ids if i in control] == case["control"]


@pytest.mark.parametrize(("golden", "case"), CASES)
def test_ids_spell_the_prompt(
    golden: dict[str, Any],
    case: dict[str, Any],
    tokenizer_of: Callable[[str], PromptTokenizer],
) -> None:
    tokenizer = tokenizer_of(golden["tokenizer"])
    prompt = render(golden, case, tokenizer)

    shown = tokenizer.decode(prompt.token_ids, skip_special_tokens=False)

    if "llama" in golden["tokenizer"] or golden["tokenizer"] == "oasst":
        # These put a space before each piece of text; it is not a part of the prompt.
        shown, expected = shown.replace(" ", ""), prompt.text.replace(" ", "")
    else:
        expected = prompt.text
    assert shown == expected


@pytest.mark.parametrize(("golden", "case"), CASES)
def test_ids_are_the_tokenizers_own_where_nobody_forges(
    golden: dict[str, Any],
    case: dict[str, Any],
    tokenizer_of: Callable[[str], PromptTokenizer],
    reference_of: Callable[[str], Tokenizer],
) -> None:
    prompt = render(golden, case, tokenizer_of(golden["tokenizer"]))
    reference = reference_of(golden["tokenizer"]).encode(prompt.text, add_special_tokens=False)
    if "typed control tokens" in case["name"]:
        assert prompt.token_ids != reference.ids
    else:
        assert prompt.token_ids == reference.ids


def test_every_format_has_a_golden_file() -> None:
    assert set(FILES) == set(FORMATS)
    for stem, path in FILES.items():
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["format"] == stem
