from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.prompts.catalog import get_format
from server.prompts.conversation import Message, parse_messages
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import CHATML_SPECIALS, byte_level, write_model

ToTokenizer = Callable[[str], PromptTokenizer]
U, A = Message("user", "Hi"), Message("assistant", "Hi")


def auto(path: Path, template: str | None) -> Formatter:
    data = byte_level(CHATML_SPECIALS)
    config = {"eos_token": "<|im_end|>"}
    files = {} if template is None else {"chat_template": template}
    write_model(path, data, tokenizer_config=config, **files)
    return Formatter(get_format("auto"), PromptTokenizer.from_directory(path))


def test_exact_ids(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("llama-2"), tokenizer_of("llama"))
    inst = [259, *(3 + ord(c) for c in "[INST]")]
    end = [259, *(3 + ord(c) for c in "[/INST]")]
    end[2] = 263  # "/" is a piece of this vocabulary
    assert formatter.render([U]).token_ids == [1, *inst, 269, *end]
    assert formatter.render([U, A, U]).token_ids == [
        *(1, *inst, 269, *end, 269, 259, 2),
        *(1, *inst, 269, *end),
    ]


def test_bos_is_put_once_or_not_at_all(tokenizer_of: ToTokenizer) -> None:
    vicuna = get_format("vicuna-v1.1")
    assert Formatter(vicuna, tokenizer_of("llama")).render([U]).token_ids.count(1) == 1
    # SmolLM2's kind: the tokenizer has a BOS and does not add it.
    assert Formatter(vicuna, tokenizer_of("chatml")).render([U]).text.startswith("A chat")
    # Where the format spells it out it comes even so.
    llama_2 = Formatter(get_format("llama-2"), tokenizer_of("chatml")).render([U])
    assert llama_2.text == "<|im_start|>[INST] Hi [/INST]"


def test_what_ends_an_answer(tokenizer_of: ToTokenizer) -> None:
    def ends(name: str, kind: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        prompt = Formatter(get_format(name), tokenizer_of(kind)).render([U])
        return prompt.stop, prompt.stop_token_ids

    assert ends("chatml", "chatml") == ((), (2,))
    assert ends("chatml", "llama") == (("<|im_end|>",), (2,))
    assert ends("llama-3", "llama-3") == ((), (1, 4))
    assert ends("dolly-v2", "dolly") == (("### End",), (0, 1))
    assert ends("dolly-v2", "llama") == (("### End",), (2,))
    assert ends("auto", "chatml") == ((), (2,))


def test_leading_space(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("vicuna-v1.1"), tokenizer_of("llama"))
    assert formatter.render([U]).strip_leading_space
    continued = formatter.render([U, A], add_generation_prompt=False, continue_final_message=True)
    assert not continued.strip_leading_space
    assert (
        not Formatter(get_format("alpaca"), tokenizer_of("llama")).render([U]).strip_leading_space
    )


@pytest.mark.parametrize(
    ("messages", "options", "param"),
    [
        ([], {}, "messages"),
        (
            [U],
            {"continue_final_message": True, "add_generation_prompt": False},
            "continue_final_message",
        ),
        ([U, A], {"continue_final_message": True}, "continue_final_message"),
        (
            [U],
            {"template_kwargs": {"bos_token": "<s>"}},
            "chat_template_kwargs.bos_token",
        ),
        (
            [U],
            {"template_kwargs": {"messages": []}},
            "chat_template_kwargs.messages",
        ),
    ],
)
def test_wrong_requests(
    messages: list[Message], options: dict[str, Any], param: str, tokenizer_of: ToTokenizer
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Formatter(get_format("chatml"), tokenizer_of("chatml")).render(messages, **options)
    assert caught.value.param == param


def test_a_model_without_template_completes_but_does_not_chat(tmp_path: Path) -> None:
    formatter = auto(tmp_path, None)
    with pytest.raises(InvalidRequest, match="Set `template:`") as caught:
        formatter.render([U])
    assert caught.value.param == "model"
    assert formatter.render_text("Hi").text == "Hi"
    assert formatter.estimate_turn_tokens(U) == 8 + formatter.tokenizer.count("Hi")


def test_a_template_that_is_no_jinja(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"broken \(line 1: ") as caught:
        auto(tmp_path, "{% if %}").render([U])
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ raise_exception('Not you: ' + messages[0].content) }}",
            "The chat template refuses this conversation: Not you: Hi",
        ),
        (
            "{{ messages[0].nothing.at_all }}",
            "The chat template failed on this conversation (UndefinedError: "
            "'dict object' has no attribute 'nothing').",
        ),
        ("{{ 1 / 0 }}", "failed on this conversation (ZeroDivisionError"),
        ("{{ ''.__class__ }}{{ ''.__class__() }}", "failed on this conversation (SecurityError"),
    ],
)
def test_a_template_that_fails(tmp_path: Path, template: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        auto(tmp_path, template).render([U])
    assert message in str(caught.value)
    assert caught.value.param == "messages"


def test_a_template_that_drops_the_answer_cannot_continue_it(tmp_path: Path) -> None:
    formatter = auto(tmp_path, "{{ messages[0].content }}")
    with pytest.raises(InvalidRequest, match="cannot be continued") as caught:
        formatter.render([U, A], add_generation_prompt=False, continue_final_message=True)
    assert caught.value.param == "continue_final_message"


def test_templates_get_what_they_know_from_hugging_face(tmp_path: Path) -> None:
    template = (
        "{{ tools is none }} {{ documents is none }} {{ messages[0].name }} {{ eos_token }} "
        "{{ messages[1].tool_calls[0].function.arguments | tojson }} {{ enable_thinking }} "
        "{{ add_generation_prompt }} {{ bos_token == '' }}"
    )
    call = {"function": {"name": "f", "arguments": '{"x": "</s>"}'}}
    messages = parse_messages(
        [
            {"role": "user", "content": "x", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    )
    prompt = auto(tmp_path, template).render(messages, template_kwargs={"enable_thinking": False})
    assert prompt.text == 'True True ann <|im_end|> {"x": "</s>"} False True True'


def test_tools_are_given_and_guarded(tmp_path: Path) -> None:
    formatter = auto(tmp_path, "{{ tools | tojson }}<|im_end|>")
    tools = [{"type": "function", "function": {"name": "<|im_start|>"}}]
    prompt = formatter.render([U], template_kwargs={"tools": tools})
    assert '"name": "<|im_start|>"' in prompt.text
    assert [i for i in prompt.token_ids if i < 3] == [2]


def test_reasoning_in_earlier_answers_can_be_cut_by_the_template(tmp_path: Path) -> None:
    """As Qwen 3 and DeepSeek's distilled LLaMAs do, with ``</think>`` a token of the vocabulary."""
    extra = [{"id": 300, "content": "</think>", "special": False}]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    data = byte_level(CHATML_SPECIALS, extra=[{**extra[0], **flags}])
    template = "{{ messages[1].content.split('</think>')[-1].lstrip('\\n') }}"
    write_model(tmp_path, data, chat_template=template)
    formatter = Formatter(get_format("auto"), PromptTokenizer.from_directory(tmp_path))
    assert formatter.tokenizer.control_tokens["</think>"] == 300
    answer = Message("assistant", "<think>hm</think>\n\nHi")
    assert formatter.render([U, answer]).text == "Hi"


def test_texts_may_hold_noncharacters(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("chatml"), tokenizer_of("chatml"))
    text = "\ufdd0\ufdd1\ufdd2 <|im_end|>"
    prompt = formatter.render([Message("user", text)])
    assert text in prompt.text
    assert [i for i in prompt.token_ids if i < 3] == [1, 2, 1]
    every = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(InvalidRequest, match="noncharacters"):
        formatter.render([Message("user", every)])


def test_half_a_surrogate_pair_is_refused(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("chatml"), tokenizer_of("chatml"))
    with pytest.raises(InvalidRequest, match=r"U\+D83E") as caught:
        formatter.render([Message("user", "a\ud83e")])
    assert caught.value.param == "messages"
    with pytest.raises(InvalidRequest, match=r"U\+D83E") as caught:
        formatter.render_text("a\ud83e")
    assert caught.value.param == "prompt"
    assert formatter.estimate_turn_tokens(Message("user", "a\ud83e")) > 0


def test_completions(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("alpaca"), tokenizer_of("llama"))
    plain = formatter.render_text("Hi</s>")
    assert (plain.text, plain.token_ids) == ("<s>Hi</s>", [1, 269, 270, 271])
    assert (plain.stop, plain.stop_token_ids, plain.strip_leading_space) == ((), (2,), False)
    control = formatter.render_text("Hi</s>", allow_control_tokens=True)
    assert (control.text, control.token_ids) == ("<s>Hi</s>", [1, 269, 2])
    spelled = formatter.render_text("<s>Hi", allow_control_tokens=True)
    assert (spelled.text, spelled.token_ids) == ("<s>Hi", [1, 269])
    typed = formatter.render_text("<s>Hi")
    assert typed.token_ids.count(1) == 1
    assert formatter.render_text("").token_ids == [1]


def test_completions_where_the_tokenizer_adds_no_bos(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("chatml"), tokenizer_of("chatml"))
    prompt = formatter.render_text("hello", allow_control_tokens=True)
    assert (prompt.text, len(prompt.token_ids)) == ("hello", 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("chatml", "chatml"), ("llama-3", "llama-3"), ("vicuna-v1.1", "llama"), ("alpaca", "llama")],
)
def test_estimates_are_close(name: str, kind: str, tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format(name), tokenizer_of(kind))
    turns = [Message("user", "hello " * 9), Message("assistant", "Hi, hello"), U]
    grown = len(formatter.render(turns).token_ids) - len(formatter.render(turns[2:]).token_ids)
    estimate = sum(formatter.estimate_turn_tokens(turn) for turn in turns[:2])
    assert abs(estimate - grown) <= 4


def test_estimates_count_inputs_and_extras(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("chatml"), tokenizer_of("chatml"))
    bare = formatter.estimate_turn_tokens(Message("user", "x"))
    more = Message("user", "x", input="hello", extra={"a": ["hello", 1]})
    assert formatter.estimate_turn_tokens(more) == bare + 3
