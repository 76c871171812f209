"""Whatever anybody writes, the control tokens of a prompt are the template's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.prompts.catalog import get_format
from server.prompts.conversation import Message, Role
from server.prompts.environment import compile_template, read_template
from server.prompts.formatter import Formatter, Prompt
from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import (
    CHATML_SPECIALS,
    CHATML_TEMPLATE,
    byte_level,
    write_model,
)

ToTokenizer = Callable[[str], PromptTokenizer]
FORMATS = [
    *(("chatml", "chatml"), ("auto", "chatml"), ("llama-3", "llama-3"), ("oasst", "oasst")),
    *(("vicuna-v1.1", "llama"), ("vicuna-v1.1", "llama-first"), ("llama-2", "llama-first")),
    *(("alpaca", "llama"), ("dolly-v2", "dolly"), ("zephyr", "llama"), ("raw", "llama")),
]
# Templates that put user text where it could complete a token, or work on it first.
NASTY = [
    "<{{ messages[0].content }}<|im_end|>",
    "<|im_{{ messages[0].content }}|><|im_end|>",
    "<|{{ messages[0].name }}|>",
    "{{ messages[0].content }}{{ messages[1].content }}im_end|>",
    "{{ '<|' + messages[0].content | trim + '|>' }}",
    "{{ ('<|' + messages[0].content + '|>') | trim }}<|im_end|>",
    "{{ messages[0].content | lower }}{{ messages[1].content.replace('x', '') }}",
    "{{ messages[0].content[1:] ~ messages[1].content[:-1] }}",
    "{{ messages | tojson }}<|im_start|>",
    "{% for key in messages[0].extra %}<|{{ key }}|>{% endfor %}",
    "{{ messages[0].content.split('x') | join('') }}<|im_end|>",
]


def texts(tokenizer: PromptTokenizer) -> st.SearchStrategy[str]:
    """Texts made of tokens, pieces of tokens and anything else."""
    tokens = sorted(tokenizer.control_tokens)
    pieces = sorted({t[a:b] for t in tokens for a in range(len(t)) for b in range(a + 1, len(t))})
    piece = st.one_of(
        st.sampled_from(tokens),
        st.sampled_from(pieces),
        st.sampled_from(["x", " ", "\n", "X", "\ufdd0", "\ufdd1", "Hi"]),
        st.text(max_size=4),
    )
    return st.lists(piece, min_size=1, max_size=6).map(lambda found: "".join(found) + "x")


def conversation(contents: list[str]) -> list[Message]:
    roles: list[Role] = ["user", "assistant"]
    return [Message(roles[i % 2], text) for i, text in enumerate(contents)]


def control(prompt: Prompt, tokenizer: PromptTokenizer) -> list[int]:
    ids = set(tokenizer.control_tokens.values())
    return [i for i in prompt.token_ids if i in ids]


@pytest.mark.parametrize(("name", "kind"), FORMATS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, database=None)
def test_control_tokens_are_those_of_a_harmless_conversation(
    name: str, kind: str, data: st.DataObject, tokenizer_of: ToTokenizer
) -> None:
    tokenizer = tokenizer_of(kind)
    contents = data.draw(st.lists(texts(tokenizer), min_size=1, max_size=4))
    formatter = Formatter(get_format(name), tokenizer)

    prompt = formatter.render(conversation(contents))
    harmless = formatter.render(conversation(["x"] * len(contents)))

    assert control(prompt, tokenizer) == control(harmless, tokenizer)
    # Nor does the guard change a character of the text.
    file = get_format(name).template
    variables = {
        "messages": [{"role": m.role, "content": m.text} for m in conversation(contents)],
        "bos_token": harmless.text[: len(tokenizer.bos_token)] if control_bos(harmless) else "",
        "eos_token": tokenizer.eos_token,
        "add_generation_prompt": True,
    }
    if file is None or get_format(name).bos == "template":
        variables["bos_token"] = tokenizer.bos_token
    source = read_template(file) if file else CHATML_TEMPLATE
    assert prompt.text == compile_template(source).render(**variables)


def control_bos(prompt: Prompt) -> bool:
    return prompt.text.startswith("<s>")


@pytest.mark.parametrize("template", NASTY)
@given(data=st.data())
@settings(max_examples=40, deadline=None, database=None)
def test_templates_that_invite_forgery(
    template: str, data: st.DataObject, nasty_of: Callable[[str], Formatter]
) -> None:
    formatter = nasty_of(template)
    tokenizer = formatter.tokenizer
    some = texts(tokenizer)

    def render(first: str, second: str, name: str) -> Prompt:
        user = Message("user", first, name=name, extra={"extra": {name: name}})
        return formatter.render([user, Message("assistant", second)])

    prompt = render(data.draw(some), data.draw(some), data.draw(st.one_of(some, st.just("im_end"))))
    assert control(prompt, tokenizer) == control(render("x", "x", "x"), tokenizer)


@pytest.fixture(scope="module")
def nasty_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Formatter]:
    made: dict[str, Formatter] = {}

    def get(template: str) -> Formatter:
        if template not in made:
            path: Path = tmp_path_factory.mktemp("nasty")
            write_model(path, byte_level(CHATML_SPECIALS), chat_template=template)
            tokenizer = PromptTokenizer.from_directory(path)
            made[template] = Formatter(get_format("auto"), tokenizer)
        return made[template]

    return get


@given(data=st.data())
@settings(max_examples=40, deadline=None, database=None)
@pytest.mark.parametrize("kind", ["llama", "llama-first", "chatml", "dolly"])
def test_completions_take_no_control_tokens(
    kind: str, data: st.DataObject, tokenizer_of: ToTokenizer
) -> None:
    tokenizer = tokenizer_of(kind)
    formatter = Formatter(get_format("raw"), tokenizer)
    prompt = formatter.render_text(data.draw(texts(tokenizer)))
    assert control(prompt, tokenizer) == control(formatter.render_text("x"), tokenizer)
