"""vLLM's own parsers behind our format: with a real tokenizer, without an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from server.engines.base import Constraint, Delta, FinishReason
from server.engines.output import Tool, ToolUse
from server.engines.vllm_parsers import VllmOutputFormat
from server.errors import EngineDied, GenerationFailed, InvalidRequest
from tests.unit.prompts.support_tokenizers import CHATML_SPECIALS, byte_level, write_model

pytest.importorskip("vllm")

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="weather", parameters=CITY)
AUTO = ToolUse(tools=(WEATHER, Tool(name="time")))
REQUIRED = ToolUse(tools=AUTO.tools, choice="required")
NAMED = ToolUse(tools=AUTO.tools, choice="required", name="weather")
ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
THINKS = ("<think>", "</think>")
LLAMA = ("<|python_tag|>",)


@pytest.fixture(scope="session")
def tokenizer_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A byte-level tokenizer with these special tokens besides."""
    from transformers import AutoTokenizer

    def make(*specials: str) -> Any:
        path = tmp_path_factory.mktemp("tokenizer")
        write_model(
            path,
            byte_level([*CHATML_SPECIALS, *specials]),
            tokenizer_config={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
            config={"model_type": "llama"},
        )
        return AutoTokenizer.from_pretrained(str(path))

    return make


@pytest.fixture(scope="session")
def taught(tokenizer_with: Callable[..., Any]) -> VllmOutputFormat:
    return VllmOutputFormat("m", tokenizer_with(), None, None)


@dataclass
class Read:
    """What a client puts together."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, tuple[str, str]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    finish: FinishReason | None = None
    reasoning_tokens: int = 0


def read(
    format_: VllmOutputFormat,
    text: str,
    tools: ToolUse | None = AUTO,
    *,
    pieces: bool = True,
    finish: FinishReason = "stop",
    **template: Any,
) -> Read:
    """Everything that is read from ``text``, token by token or at once."""
    parser = format_.begin(
        tools, None, prompt_token_ids=[1], max_tokens=200, template_kwargs=template
    )
    tokenizer = format_._tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    steps = [(tokenizer.decode([number]), [number]) for number in ids] if pieces else [(text, ids)]
    found = Read()
    for at, (piece, numbers) in enumerate(steps):
        delta = Delta(0, piece, numbers, finish if at == len(steps) - 1 else None)
        parser.parse(delta)
        found.text += delta.text
        found.reasoning += delta.reasoning
        found.finish, found.reasoning_tokens = delta.finish_reason, delta.reasoning_tokens
        for call in delta.tool_calls:
            name, arguments = found.calls.get(call.index, ("", ""))
            found.calls[call.index] = (call.name or name, arguments + call.arguments)
            found.ids += [call.id] if call.id else []
    return found


PIECES = pytest.mark.parametrize("pieces", [True, False])


@PIECES
@pytest.mark.parametrize(
    ("text", "said", "calls", "finish"),
    [
        ("Hello.", "Hello.", [], "stop"),
        ("a < b <tool", "a < b <tool", [], "stop"),
        ("Look: " + ROME, "Look: ", [("weather", '{"city": "Rome"}')], "tool_calls"),
        (ROME + "\n" + NOW, "", [("weather", '{"city": "Rome"}'), ("time", "{}")], "tool_calls"),
        (ROME + "\nThere.", "There.", [("weather", '{"city": "Rome"}')], "tool_calls"),
        ("<tool_call>nonsense", "<tool_call>nonsense", [], "stop"),
        ("<tool_call>[1]</tool_call>!", "<tool_call>[1]</tool_call>!", [], "stop"),
        ('<tool_call>{"name": "time"}</tool_call>', "", [("time", "{}")], "tool_calls"),
        # A stop string of the caller's cut it.
        (ROME[:-17], "", [("weather", '{"city": "Rom')], "stop"),
    ],
)
def test_the_taught_way(
    pieces: bool,
    text: str,
    said: str,
    calls: list[tuple[str, str]],
    finish: str,
    taught: VllmOutputFormat,
) -> None:
    found = read(taught, text, pieces=pieces)
    assert (found.text, list(found.calls.values()), found.finish) == (said, calls, finish)
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", number) for number in found.ids)
    assert len(set(found.ids)) == len(calls)


@PIECES
def test_how_calls_end(pieces: bool, taught: VllmOutputFormat) -> None:
    assert read(taught, ROME, REQUIRED, pieces=pieces).finish == "tool_calls"
    assert read(taught, ROME, NAMED, pieces=pieces).finish == "stop"
    cut = read(taught, ROME[:-17], REQUIRED, pieces=pieces, finish="length")
    assert (cut.finish, cut.calls) == ("length", {0: ("weather", '{"city": "Rom')})


def test_choices_are_read_apart(taught: VllmOutputFormat) -> None:
    parser = taught.begin(AUTO, None, prompt_token_ids=[1], max_tokens=9, template_kwargs={})
    one, other = Delta(0, ROME, [5], "stop"), Delta(1, "No.", [6], "stop")
    parser.parse(one)
    parser.parse(other)
    assert (one.finish_reason, other.finish_reason) == ("tool_calls", "stop")
    assert (one.text, other.text) == ("", "No.")


def grammar(taught: VllmOutputFormat, tools: ToolUse) -> Any:
    parser = taught.begin(tools, None, prompt_token_ids=[1], max_tokens=2000, template_kwargs={})
    constraint = parser.constraint
    assert constraint is not None
    assert (constraint.kind, constraint.param) == ("structural_tag", "tools")
    return json.loads(constraint.value)["format"]


def test_grammars(taught: VllmOutputFormat) -> None:
    auto = grammar(taught, AUTO)
    assert (auto["type"], auto["triggers"]) == ("triggered_tags", ["<tool_call>"])
    assert [tag["begin"] for tag in auto["tags"]] == [
        '<tool_call>\n{"name": "weather", "arguments": ',
        '<tool_call>\n{"name": "time", "arguments": ',
    ]
    content = auto["tags"][0]["content"]
    assert content["json_schema"]["properties"]["city"]["maxLength"] > 100
    assert content["max_whitespace_cnt"] == 1
    required = grammar(taught, REQUIRED)
    assert (required["type"], required["min"], required["max"]) == ("repeat", 1, 4)
    named = grammar(taught, NAMED)
    assert (len(named["tags"]), named["stop_after_first"]) == (1, True)


def test_a_constraint_beside_tools(taught: VllmOutputFormat) -> None:
    def begin(tools: ToolUse | None, constraint: Constraint) -> Constraint | None:
        return taught.begin(
            tools, constraint, prompt_token_ids=[1], max_tokens=99, template_kwargs={}
        ).constraint

    schema = Constraint("json", {"type": "integer"}, "response_format")
    both = begin(AUTO, schema)
    assert both is not None
    assert json.loads(both.value)["format"]["type"] == "or"
    assert begin(None, schema) == schema
    tag = Constraint("structural_tag", "{}", "structured_outputs.structural_tag")
    for tools in (AUTO, None):
        with pytest.raises(InvalidRequest, match="must have a format field") as caught:
            begin(tools, tag)
        assert caught.value.param == "structured_outputs.structural_tag"
    with pytest.raises(InvalidRequest, match="cannot be combined with 'tools'") as caught:
        begin(AUTO, Constraint("regex", "a", "structured_outputs.regex"))
    assert caught.value.param == "structured_outputs.regex"


@PIECES
def test_a_way_of_its_own(pieces: bool, tokenizer_with: Callable[..., Any]) -> None:
    llama = VllmOutputFormat("m", tokenizer_with(*LLAMA), "llama3_json", None)
    found = read(llama, '{"name": "weather", "parameters": {"city": "Rome"}}', pieces=pieces)
    assert found.calls == {0: ("weather", '{"city": "Rome"}')}
    assert (found.text, found.finish) == ("", "tool_calls")
    # The tags are another model's.
    assert read(llama, ROME, pieces=pieces).text == ROME


@PIECES
@pytest.mark.parametrize("name", ["deepseek_r1", "qwen3"])
def test_reasoning(name: str, pieces: bool, tokenizer_with: Callable[..., Any]) -> None:
    thinker = VllmOutputFormat("m", tokenizer_with(*THINKS), None, name)
    for tools in (None, AUTO):
        found = read(thinker, "<think>so so</think>Yes <b", tools, pieces=pieces)
        assert (found.reasoning, found.text) == ("so so", "Yes <b")
        assert found.reasoning_tokens == len("so so")
    cut = read(thinker, "<think>so", None, finish="length")
    assert (cut.reasoning, cut.text, cut.finish) == ("so", "", "length")
    found = read(thinker, "<think>so</think>" + ROME, pieces=pieces)
    assert (found.reasoning, found.text) == ("so", "")
    assert (found.calls, found.finish) == ({0: ("weather", '{"city": "Rome"}')}, "tool_calls")


def test_where_reasoning_has_ended(tokenizer_with: Callable[..., Any]) -> None:
    tokenizer = tokenizer_with(*THINKS)
    thinker = VllmOutputFormat("m", tokenizer, None, "deepseek_r1")
    ended = tokenizer.encode("<think></think>", add_special_tokens=False)
    begin = {"max_tokens": 9, "template_kwargs": {}}
    assert thinker.reasons
    assert thinker.begin(None, None, prompt_token_ids=[5], **begin).reasoning_ended is False
    assert thinker.begin(None, None, prompt_token_ids=ended, **begin).reasoning_ended is True


@pytest.mark.parametrize(
    ("tool_parser", "reasoning_parser", "message"),
    [
        ("nope", None, r"'m' has tool_parser: nope, which vLLM lacks; it has .*hermes, .*"),
        (None, "nope", r"'m' has reasoning_parser: nope, which vLLM lacks; it has .*qwen3.*"),
        ("llama3_json", None, r"The parsers of 'm' do not fit it: .*<\|python_tag\|>.*"),
    ],
)
def test_parsers_that_are_not_there(
    tool_parser: str | None,
    reasoning_parser: str | None,
    message: str,
    tokenizer_with: Callable[..., Any],
) -> None:
    with pytest.raises(EngineDied) as caught:
        VllmOutputFormat("m", tokenizer_with(), tool_parser, reasoning_parser)
    assert re.fullmatch(message, str(caught.value), re.DOTALL)


def test_a_parser_that_fails(taught: VllmOutputFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = taught.begin(AUTO, None, prompt_token_ids=[1], max_tokens=9, template_kwargs={})
    monkeypatch.setattr(parser, "_make", lambda: None)
    with pytest.raises(GenerationFailed, match="cannot be read as what its parsers expect"):
        parser.parse(Delta(3, "x", [5]))
