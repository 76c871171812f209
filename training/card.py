"""The model card of a result: what it is, what of, how it went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from training.base_model import BaseModel
from training.curves import Points
from training.data.sources import described
from training.recipe import Recipe
from training.run_folder import RunFolder

_CARD = """\
---
{head}---
# {name}

{description}

| | |
|---|---|
{facts}

## Data

| set | source | licence | rows | skipped | duplicates | held out | rows an epoch |
|---|---|---|---|---|---|---|---|
{data}

{lengths}

## Loss

{losses}

![loss](loss.png)

## Recipe

```yaml
{recipe}```

Made with {versions}; Corral {commit}.
"""


def write_card(
    result: Path,
    recipe: Recipe,
    base: BaseModel,
    folder: RunFolder,
    trained: Points,
    held_out: Points,
) -> None:
    """Write ``README.md`` beside the result, with the picture that it shows."""
    state = folder.state()
    report = _report(folder)
    text = _CARD.format(
        head=yaml.safe_dump(_head(recipe, base), sort_keys=False, allow_unicode=True),
        name=recipe.name,
        description=recipe.description or f"{base.label}, trained further.",
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(recipe, base, state)),
        data="\n".join(_data_rows(recipe, report)),
        lengths=_lengths(report),
        losses=_losses(trained, held_out, report, state["parts"]),
        recipe=yaml.safe_dump(_said(recipe), sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{name} {version}" for name, version in state["versions"].items()),
        commit=state["commit"],
    )
    (result / "README.md").write_text(text, encoding="utf-8")
    (result / "loss.png").write_bytes((folder.path / "loss.png").read_bytes())


def _head(recipe: Recipe, base: BaseModel) -> dict[str, Any]:
    head: dict[str, Any] = {"license": recipe.licence.lower()} if recipe.licence else {}
    hub = getattr(base.source, "hub", None)
    if hub:
        head["base_model"] = hub
    return head | {"library_name": "peft" if recipe.lora else "transformers", "tags": ["corral"]}


def _facts(
    recipe: Recipe, base: BaseModel, state: Mapping[str, Any]
) -> Sequence[tuple[str, object]]:
    plan = recipe.schedule
    what = "all weights"
    if recipe.lora is not None:
        what = (
            f"LoRA of rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, dropout "
            f"{recipe.lora.dropout:g} on {', '.join(recipe.lora.targets)}"
        )
    length = f"{plan.steps} steps" if plan.epochs is None else f"epochs: {plan.epochs:g}"
    processes = {part["processes"] for part in state["parts"]}
    return [
        ("base", f"{base.label} ({base.source})"),
        ("trained", what),
        ("prompt format", recipe.template),
        ("length", f"{length}, batches of {plan.batch} rows of at most {recipe.max_length} tokens"),
        ("learning rate", f"{plan.learning_rate:g}, {plan.decay}, warm-up {plan.warmup:g}"),
        ("precision", plan.precision),
        ("seed", plan.seed),
        ("processes", " and ".join(map(str, sorted(processes)))),
        ("licence", recipe.licence or "not said"),
    ]


def _data_rows(recipe: Recipe, report: Mapping[str, Any]) -> Sequence[str]:
    rows = []
    for data in recipe.data:
        counts = report.get("sets", {}).get(data.name, {})
        cells = [
            counts.get(key, "") for key in ("rows", "skipped", "duplicates", "held_out", "trained")
        ]
        source = described(data.source)
        said = " | ".join(map(str, (data.name, source, data.licence or "not said", *cells)))
        rows.append(f"| {said} |")
    return rows


def _lengths(report: Mapping[str, Any]) -> str:
    found = report.get("trained")
    if not found:
        return "The rows were read while training."
    cut = found["truncated"] - found["dropped"]
    return (
        f"Rows have {found['mean']} tokens on average, half of them at most {found['half']}, nine "
        f"of ten at most {found['most']}, the longest {found['longest']}. Longer than "
        f"{found['limit']} were {found['truncated']}: {cut} were cut, {found['dropped']} left "
        f"out. Of {found['tokens']} tokens an epoch, {found['trained_tokens']} are trained."
    )


def _losses(
    trained: Points,
    held_out: Points,
    report: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
) -> str:
    minutes = sum(float(part["seconds"]) for part in parts) / 60
    said = f"{trained[-1][0] if trained else 0} steps in {minutes:.1f} minutes"
    if len(parts) > 1:
        said += f", in {len(parts)} parts"
    lines = [f"{said}."]
    if trained:
        last = [loss for _, loss in trained[-10:]]
        lines.append(f"Training loss over the last steps: {sum(last) / len(last):.4f}.")
    if held_out:
        (_, first), (step, final) = held_out[0], held_out[-1]
        rows = report.get("held_out", {}).get("rows", "the")
        lines.append(
            f"Loss on {rows} held-out rows: {first:.4f} before, {final:.4f} at step {step}."
        )
    return " ".join(lines)


def _report(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / "lengths.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return report


def _said(recipe: Recipe) -> dict[str, Any]:
    said = recipe.model_dump(mode="json", exclude_unset=True, exclude={"output"})
    for data in said["data"]:
        # A folder of this machine is nobody's business.
        if "directory" in data["source"]:
            data["source"]["directory"] = data["source"]["directory"].rpartition("/")[2]
    if isinstance(said["model"], dict) and "directory" in said["model"]:
        said["model"]["directory"] = said["model"]["directory"].rpartition("/")[2]
    return said
