"""The one screen that ``corral serve`` begins with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from server import __version__
from server.commands.inventory import Stock
from server.console import columns, err
from server.settings import ApiKeys

_NO_KEYS = ApiKeys(())
_QUESTION = "What is the capital of France? Answer in one sentence."


@dataclass(frozen=True, slots=True, kw_only=True)
class StartScreen:
    """What there is to say.

    Args:
        url: Where the server is reached, without ``/v1``.
        models: Every model, in the registry's order.
        keys: The API keys of this run.
        admin_keys: Its admin keys.
        registry: The registry file.
        logs: The folder with the engines' logs.
        page: Whether there is a chat page.
        notices: Further lines, such as slips in the environment.
    """

    url: str
    models: Sequence[Stock]
    keys: ApiKeys
    admin_keys: ApiKeys = _NO_KEYS
    registry: Path
    logs: Path
    page: bool = False
    notices: Sequence[str] = ()

    def show(self) -> None:
        """Print it to stderr."""
        err.print()
        err.print(Text(f"Corral {__version__}", style="bold"))
        err.print()
        columns(err, self._rows(), header=True)
        err.print()
        for name, value in self._facts():
            err.print(Text.assemble((f"{name:<10}", "bold"), value), soft_wrap=True)
        for notice in self.notices:
            err.print(Text.assemble(("Note      ", "bold yellow"), notice), soft_wrap=True)
        err.print()
        err.print(Text("Try it", style="bold"))
        # One line from its first column on: what a terminal wraps softly is copied whole.
        err.print(Text(self.curl()), soft_wrap=True)
        err.print()

    def curl(self) -> str:
        """A command that asks the first model something."""
        writers = [m.entry for m in self.models if m.entry.kind == "generate"]
        first = next((entry for entry in writers if entry.template != "raw"), None)
        asked: dict[str, object]
        if first is not None:
            path, model, stream = "chat/completions", first.id, {"stream": True}
            asked = {"messages": [{"role": "user", "content": _QUESTION}]}
        elif writers:
            path, model, stream = "completions", writers[0].id, {"stream": True}
            asked = {"prompt": "The capital of France is", "max_tokens": 32}
        else:
            path, model, stream = "embeddings", self.models[0].entry.id, {}
            asked = {"input": _QUESTION}
        body = json.dumps({"model": model} | stream | asked)
        key = ""
        if self.keys.accepted:
            # A key that was given is not shown again; double quotes, so that the shell fills it in.
            key = f' -H "Authorization: Bearer {self.keys.made or "$CORRAL_API_KEY"}"'
        return f"curl -N {self.url}/v1/{path} -H 'Content-Type: application/json'{key} -d '{body}'"

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("Chat page", self.url)] if self.page else []
        facts.append(("Base URL", f"{self.url}/v1"))
        for name, keys in (("API key", self.keys), ("Admin key", self.admin_keys)):
            if keys.made:
                facts.append((name, f"{keys.made} (made for this run)"))
            elif keys.accepted:
                facts.append((name, f"required ({len(keys.accepted)} accepted)"))
        return [*facts, ("Registry", str(self.registry)), ("Logs", str(self.logs))]

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("model", "template", "context", "state", "what it is")]
        for model in self.models:
            entry = model.entry
            context = "?" if model.context is None else f"{model.context:,}"
            description = entry.description.strip().split("\n")[0]
            rows.append((entry.id, entry.template, context, state(model), description))
        return rows


def state(model: Stock) -> str:
    """What will happen to a model now, in two words."""
    if model.problem:
        return "broken"
    if model.entry.load == "on_demand":
        return "on demand"
    return "loading" if model.is_here else "fetching"
