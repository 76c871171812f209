"""``corral render``: the exact prompt of a conversation, made by the code that serves it.

No engine is started, and neither torch nor vLLM is imported.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TextIO

from pydantic import ValidationError
from rich.text import Text

from server.api.schemas.chat import ChatBody
from server.commands.inventory import open_registry, open_store
from server.commands.models import print_json
from server.console import FetchBars, columns, err, out
from server.engines.ledger import Ledger
from server.engines.pool import Pool
from server.errors import InvalidRequest
from server.generation.calls import ChatCall, PreparedRequest
from server.generation.herd import Herd
from server.generation.loading import NoEngines
from server.generation.service import GenerationService
from server.prompts.tokenizer import PromptTokenizer
from server.registry.schema import Registry
from server.settings import Settings


def render(
    settings: Settings, model: str | None, source: TextIO, *, ids: bool, as_json: bool
) -> None:
    """Print the prompt of what ``source`` holds.

    Args:
        model: Its id or alias; None takes the request's own, else the registry's first.
        source: JSON: a list of messages, or a chat request.
        ids: Show the token ids too.
        as_json: One JSON object instead of text.

    Raises:
        InvalidRequest: The input is wrong; the message names the field.
        ModelNotFound: There is no such model.
        SourceError: The model's files cannot be had.
    """
    registry = open_registry(settings)
    call = _read_call(source, model, registry)
    herd = Herd(registry, open_store(settings), NoEngines(), FetchBars, Pool(Ledger({})))
    service = GenerationService(herd, load_wait_seconds=1, max_running=1)
    prepared = asyncio.run(service.prepare_chat(call))
    if as_json:
        print_json(prepared.as_dict())
        return
    text = prepared.window.prompt.text
    out.file.write(text)
    out.file.write("\n" if out.is_terminal and not text.endswith("\n") else "")
    out.file.flush()
    _explain(prepared)
    if ids:
        _show_ids(prepared.request.prompt_token_ids, prepared.tokenizer)


def _read_call(source: TextIO, model: str | None, registry: Registry) -> ChatCall:
    """The call that the input asks for, checked as the server would."""
    if source.isatty():
        err.print("Reading a JSON list of messages from the terminal; end it with Ctrl-D.")
    try:
        value = json.loads(source.read())
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The input is not UTF-8 text: {error.reason}.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The input is not JSON: {error.msg} ({where}).") from None
    body = {"messages": value} if isinstance(value, list) else value
    if not isinstance(body, dict):
        raise InvalidRequest(
            "The input must be a JSON list of messages, or an object with the field 'messages'."
        )
    name = model or body.get("model") or registry.models[0].id
    try:
        request = ChatBody.model_validate(body | {"model": name, "stream_options": None})
        request.ignored_fields()
        return request.call()
    except ValidationError as error:
        raise InvalidRequest("\n".join(_field_errors(error))) from None


def _field_errors(error: ValidationError) -> list[str]:
    # Members of a union are tried in turn, and each says why not: the first stands for all.
    lines: dict[str, str] = {}
    for details in error.errors():
        field = ".".join(str(step) for step in details["loc"] if step not in ("str", "list[str]"))
        lines.setdefault(field, details["msg"][:1].lower() + details["msg"][1:])
    return [f"{field}: {text}." for field, text in lines.items()]


def _explain(prepared: PreparedRequest) -> None:
    entry, sampling = prepared.model.entry, prepared.request.sampling
    left = f"{prepared.window.max_tokens:,} left for the answer"
    rows = [
        ("model", f"{entry.id} (template {entry.template})"),
        ("tokens", f"{prepared.prompt_tokens:,} of {prepared.model.context_length:,}; {left}"),
        ("stop", ", ".join(map(json.dumps, sampling.stop)) or "none"),
        ("stop ids", ", ".join(map(str, sampling.stop_token_ids)) or "none"),
        ("dropped", f"{prepared.window.dropped_messages} messages"),
    ]
    err.print(Text("─" * 40, style="dim"))
    columns(err, rows)


def _show_ids(ids: Sequence[int], tokenizer: PromptTokenizer) -> None:
    pieces = (
        f"{number} {json.dumps(tokenizer.decode([number], skip_special_tokens=False))}"
        for number in ids
    )
    err.print(Text("ids", style="bold"))
    for piece in pieces:
        err.print(Text(f"  {piece}"), soft_wrap=True)
