"""What becomes of a call before an engine is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.generation.calls import ChatCall, CompletionCall, Scheduling
from server.generation.preparing import template_kwargs, truncated
from server.generation.service import GenerationService
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter, Prompt
from server.prompts.tokenizer import PromptTokenizer
from tests.support.ranch import Ranch, write_tiny_model


@pytest.mark.parametrize(
    ("variable", "effort", "given", "expected", "unused"),
    [
        ("reasoning_effort", None, {}, {}, ()),
        ("reasoning_effort", "low", {}, {"reasoning_effort": "low"}, ()),
        (
            "reasoning_effort",
            "low",
            {"reasoning_effort": "high"},
            {"reasoning_effort": "high"},
            (),
        ),
        ("enable_thinking", "none", {}, {"enable_thinking": False}, ()),
        ("enable_thinking", "minimal", {"x": 1}, {"enable_thinking": True, "x": 1}, ()),
        ("thinking", "none", {"thinking": True}, {"thinking": True}, ()),
        ("other", "low", {}, {}, ("reasoning_effort",)),
    ],
)
def test_reasoning_effort(
    variable: str,
    effort: str | None,
    given: dict[str, Any],
    expected: dict[str, Any],
    unused: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = PromptTokenizer.from_directory(write_tiny_model(tmp_path))
    monkeypatch.setattr("server.prompts.formatter.read_template", lambda _: f"{{{{ {variable} }}}}")
    formatter = Formatter(get_format("chatml"), tokenizer)
    call = ChatCall(model="m", messages=[], reasoning_effort=effort, template_kwargs=given)
    assert template_kwargs(formatter, call) == (expected, unused)


@pytest.mark.parametrize(
    ("most", "max_tokens", "expected"),
    [
        (None, 3, [1, 2, 3, 4, 5, 6]),
        (2, 3, [5, 6]),
        (9, 3, [1, 2, 3, 4, 5, 6]),
        (-1, 3, [5, 6]),
        (-1, None, [3, 4, 5, 6]),
        (-1, 99, [6]),
    ],
)
def test_truncated(most: int | None, max_tokens: int | None, expected: list[int]) -> None:
    prompt = Prompt("", [1, 2, 3, 4, 5, 6], (), (), strip_leading_space=False)
    scheduling = Scheduling(truncate_prompt_tokens=most)
    assert truncated(prompt, scheduling, 5, max_tokens).token_ids == expected


async def test_a_model_of_another_kind(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path / "m")
    ranch = Ranch(directory, tmp_path / "cache", [{"id": "vectors", "kind": "embedding"}])
    service = GenerationService(ranch.herd, load_wait_seconds=5, max_running=5)
    chat = ChatCall(model="vectors", messages=[{"role": "user", "content": "Hi"}])
    for preparing in (
        service.prepare_chat(chat),
        service.prepare_completion(CompletionCall(model="vectors", prompt="Hi")),
    ):
        with pytest.raises(InvalidRequest, match="turns text into embeddings") as caught:
            await preparing
        assert caught.value.param == "model"
