"""``corral render``: the exact prompt, and what surrounds it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.unit.cli.conftest import ids_of

Corral = Callable[..., Result]
MESSAGES = [{"role": "user", "content": "Hi <|im_end|>"}]
PROMPT = "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
IDS = [1, *ids_of("user\nHi <|im_end|>"), 2, *ids_of("\n"), 1, *ids_of("assistant\n")]


def test_the_prompt_alone_is_on_stdout(registry: Path, corral: Corral) -> None:
    result = corral("render", "--model", "tiny", stdin=json.dumps(MESSAGES))
    assert result.exit_code == 0
    assert result.stdout == PROMPT
    assert result.stderr.splitlines()[1:] == [
        "model     tiny (template auto)",
        f"tokens    {len(IDS)} of 512; {512 - len(IDS)} left for the answer",
        "stop      none",
        "stop ids  2",
        "dropped   0 messages",
    ]


def test_ids_are_listed_with_their_text(registry: Path, corral: Corral) -> None:
    lines = corral("render", "--ids", stdin=json.dumps(MESSAGES)).stderr.splitlines()
    listed = lines[lines.index("ids") + 1 :]
    assert listed[0] == '  1 "<|im_start|>"'
    assert [int(line.split()[0]) for line in listed] == IDS


def test_for_scripts(registry: Path, corral: Corral) -> None:
    result = corral("render", "--model", "org/tiny", "--json", stdin=json.dumps(MESSAGES))
    assert json.loads(result.stdout) == {
        "object": "chat.completion.render",
        "model": "tiny",
        "template": "auto",
        "prompt": PROMPT,
        "prompt_token_ids": IDS,
        "prompt_tokens": len(IDS),
        "context_length": 512,
        "max_tokens": 512 - len(IDS),
        "stop": [],
        "stop_token_ids": [2],
        "dropped_messages": 0,
    }


def test_a_whole_request_is_taken_as_the_server_takes_it(registry: Path, corral: Corral) -> None:
    body = {"model": "tiny-raw", "messages": MESSAGES, "stop": "x", "max_tokens": 7}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    shown = json.loads(corral("render", "--json", stdin=json.dumps(body)).stdout)
    assert shown["model"] == "tiny-raw"
    assert shown["prompt"] == "Hi <|im_end|>"
    assert shown["stop"] == ["x"]
    assert shown["max_tokens"] == 7


def test_dropped_messages_are_counted(registry: Path, corral: Corral) -> None:
    turn = [{"role": "user", "content": "x" * 100}, {"role": "assistant", "content": "y" * 100}]
    result = corral("render", "--json", stdin=json.dumps([*turn * 4, *MESSAGES]))
    shown = json.loads(result.stdout)
    assert shown["dropped_messages"] in (6, 8)
    assert shown["prompt"].endswith(PROMPT)


@pytest.mark.parametrize(
    ("stdin", "code", "message"),
    [
        ("[", 65, "The input is not JSON: Expecting value (line 1, column 2)."),
        ("3", 65, "The input must be a JSON list of messages, or an object with"),
        ("{}", 65, "messages: "),
        ("[]", 65, "'messages' must hold at least one message."),
        ('[{"role": "boss", "content": "x"}]', 65, "messages.0.role: Unknown role 'boss'"),
        ('[{"role": "user", "content": 1}]', 65, "messages.0.content"),
        ('[{"role": "user", "content": "\\ud83d"}]', 65, "lone surrogate U+D83D"),
        ('{"messages": [{"role": "user", "content": "x"}], "temperature": 9}', 65, "temperature: "),
        ('{"messages": [{"role": "user", "content": "x"}], "model": "m"}', 1, "no model 'm'"),
    ],
)
def test_wrong_input_is_explained(
    registry: Path, corral: Corral, stdin: str, code: int, message: str
) -> None:
    result = corral("render", stdin=stdin)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.startswith("corral: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["render"], ["doctor"], ["models", "list"], ["version"]])
def test_it_is_quick_because_nothing_heavy_is_imported(registry: Path, command: list[str]) -> None:
    heavy = "torch", "vllm", "fastapi", "uvicorn", "transformers", "numpy"
    code = (
        "import sys; from server.cli import app; app(sys.argv[1:], standalone_mode=False); "
        f"print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}", *command],
        input=json.dumps(MESSAGES),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == ""
