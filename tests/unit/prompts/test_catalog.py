from __future__ import annotations

import re

import jinja2
import pytest

from server.errors import InvalidRequest
from server.prompts.catalog import FORMATS, Format, get_format
from server.prompts.environment import compile_template, read_template

ALPACA = ("### Instruction:", "### Input:", "### Response:")
STOPS = {
    "raw": (),
    "dialogue": ("\nHuman:", "\nAI:"),
    "alpaca": ALPACA,
    "alpaca-lora": ALPACA,
    "alpaca-cot-dialog": ("### Human:",),
    "chinese-alpaca": ALPACA,
    "chinese-alpaca-2": (),
    "vicuna-v0": ("###",),
    "vicuna-v1.1": (),
    "wizardlm": (),
    "koala": (),
    "guanaco": ("### Human:",),
    "baize": ("[|Human|]", "[|AI|]"),
    "dolly-v2": ("### End",),
    "oasst": (),
    "llama-2": (),
    "llama-3": (),
    "zephyr": (),
    "chatml": (),
    "auto": (),
}
OWN = [each for each in FORMATS.values() if each.template]


def test_stop_strings() -> None:
    assert {name: each.stop for name, each in FORMATS.items()} == STOPS


def test_stop_tokens() -> None:
    assert {each.id: each.stop_tokens for each in FORMATS.values() if each.stop_tokens} == {
        "dolly-v2": ("### End",),
        "llama-3": ("<|eot_id|>", "<|end_of_text|>"),
        "chatml": ("<|im_end|>",),
    }


def test_flags() -> None:
    def having(flag: str) -> set[str]:
        return {each.id for each in FORMATS.values() if getattr(each, flag)}

    assert having("input_block") == {"alpaca", "alpaca-lora", "dolly-v2"}
    assert having("single_turn") == {"wizardlm"}
    assert having("tool_role") == {"raw", "llama-3", "chatml", "auto"}
    assert having("strip_leading_space") == {
        *("dialogue", "vicuna-v0", "vicuna-v1.1", "guanaco", "llama-2", "chinese-alpaca-2"),
    }
    assert {each.id for each in FORMATS.values() if each.bos == "template"} == {
        *("llama-2", "chinese-alpaca-2", "llama-3", "auto"),
    }
    assert {each.id for each in FORMATS.values() if each.system == "anywhere"} == {
        *("raw", "oasst", "zephyr", "llama-3", "chatml", "auto"),
    }


def test_get_format() -> None:
    assert get_format("alpaca") is FORMATS["alpaca"]
    with pytest.raises(InvalidRequest, match=r"format 'alpaka'.*: raw, .*alpaca, alpaca-lora"):
        get_format("alpaka")


@pytest.mark.parametrize("each", OWN, ids=lambda each: each.id)
def test_template_begins_with_a_header_that_names_it_and_its_source(each: Format) -> None:
    header = re.match(r"\{#-(.*?)-#\}", read_template(each.template or ""), re.DOTALL)
    assert header is not None
    assert f" {each.id}:" in header[1]
    assert re.search(r"Source:\s+\S", header[1])


@pytest.mark.parametrize("each", OWN, ids=lambda each: each.id)
def test_template_is_the_same_in_plain_jinja(each: Format) -> None:
    """Each file controls its own white space and needs nothing but the common variables."""
    source = read_template(each.template or "")
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "U2"},
    ]
    variables = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    plain = jinja2.Environment(autoescape=False).from_string(source)
    for given in (messages, messages[1:], messages[:2]):
        ours = compile_template(source).render(messages=given, **variables)
        assert plain.render(messages=given, **variables) == ours
        assert ours.startswith("<s>")
        assert ours.count("U1") == 1
