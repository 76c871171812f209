"""``corral models check``: everything that can be found wrong without starting an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.text import Text

from server.commands.inventory import Stock, open_registry, open_store, take_stock
from server.console import FetchBars, err, out
from server.errors import CorralError, RegistryError
from server.prompts.catalog import Format, get_format
from server.prompts.conversation import Message
from server.prompts.environment import read_template
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from server.registry.adapter_files import find_misfits
from server.registry.sources import ModelStore
from server.registry.sources_schema import DirectorySource
from server.settings import Settings

# How formats spell control tokens; [INST] and ### Response: are text to every model.
_CONTROL = re.compile(r"<\|[A-Za-z0-9_]+\|>")


def check_models(settings: Settings) -> int:
    """Print every problem; returns 1 if there is one, else 0."""
    try:
        registry = open_registry(settings)
    except RegistryError as error:
        for mistake in error.problems:
            _say("wrong", str(mistake))
        return 1
    store = open_store(settings)
    stocks = take_stock(registry, store)
    wrong = 0
    damaged: dict[str, list[str]] = {}
    for stock in stocks:
        key = stock.entry.source.key
        if key not in damaged:  # shared weights are read once
            damaged[key] = _damage(stock, store)
        problems = [*damaged[key], *_adapter_damage(stock, store)]
        problems = problems or _misfits(stock)
        for problem in problems:
            _say("wrong", f"{stock.entry.id}: {problem}")
        wrong += len(problems)
        if not problems:
            _say("ok", f"{stock.entry.id}" + ("" if stock.is_here else ": not fetched yet"))
    out.print(
        f"{settings.registry_path}: {len(stocks)} models, "
        + ("nothing is wrong" if not wrong else f"{wrong} problem{'s' if wrong > 1 else ''}"),
        markup=False,
    )
    return 1 if wrong else 0


def _damage(stock: Stock, store: ModelStore) -> list[str]:
    """What is wrong with files that are here; those that were never fetched are no problem."""
    source = stock.entry.source
    fetched_to = store.cache_dir / "models" / source.key
    if isinstance(source, DirectorySource) or fetched_to.exists():
        return store.check(source, FetchBars(stock.entry.id))
    return []


def _adapter_damage(stock: Stock, store: ModelStore) -> list[str]:
    source = stock.entry.adapter
    if source is None:
        return []
    if isinstance(source, DirectorySource) or store.adapters.fetched_to(source).exists():
        return store.adapters.check(source, FetchBars(stock.entry.id))
    return []


def _misfits(stock: Stock) -> list[str]:
    """Where the entry and the model's files contradict each other."""
    if stock.path is None:
        return []
    problems = [stock.problem] if stock.problem else []
    if stock.adapter is not None:
        problems += find_misfits(stock.adapter, stock.path)
    prompt_format = get_format(stock.entry.template)
    try:
        tokenizer = PromptTokenizer.from_directory(stock.path)
        if stock.entry.kind == "embedding":
            return problems
        problems += _missing_tokens(prompt_format, tokenizer)
        formatter = Formatter(
            prompt_format,
            tokenizer,
            history=stock.entry.history,
            default_system=stock.entry.system,
        )
        tokens = len(formatter.render([Message("user", "Hello")]).token_ids)
    except CorralError as error:
        return [*problems, str(error)]
    if stock.context is not None and tokens >= stock.context:
        problems.append(
            f"a greeting takes {tokens} tokens in the format '{prompt_format.id}', and the context "
            f"holds {stock.context}. Raise context.length."
        )
    return problems


def _missing_tokens(prompt_format: Format, tokenizer: PromptTokenizer) -> Iterator[str]:
    if prompt_format.template is None:
        return
    spelled = set(_CONTROL.findall(read_template(prompt_format.template)))
    # One that is a stop string as well does without a token of its own.
    spelled |= set(prompt_format.stop_tokens) - set(prompt_format.stop)
    for token in sorted(spelled - set(tokenizer.control_tokens)):
        yield (
            f"the format '{prompt_format.id}' writes {token}, which is no token of this model: it "
            "was trained on another format. Choose another template, or 'auto'."
        )
    if prompt_format.bos == "template" and not tokenizer.bos_token:
        yield f"the format '{prompt_format.id}' begins with BOS, and this tokenizer has none."


def _say(what: str, text: str) -> None:
    style = "red" if what == "wrong" else "green"
    err.print(Text.assemble((f"{what:<6}", style), text), soft_wrap=True)
