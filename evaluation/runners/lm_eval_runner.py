"""lm-eval asks: our tasks as its YAML, its ``local-chat-completions`` against the endpoint.

It asks single turns alone and does not tell why an answer ended. Tasks are written into a folder
of their own, with a rule that scores as we do, so that its own table says the same as our report.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from evaluation.endpoint import Answer
from evaluation.items import Rules, Task
from evaluation.jobs import Progress
from evaluation.options import Options
from evaluation.runners.grouping import Group, groups, keep, rules_of
from evaluation.sandbox import Sandbox
from evaluation.scoring import judge_by_rules
from evaluation.store import Store


async def ask(options: Options, tasks: Sequence[Task], store: Store, progress: Progress) -> None:
    """See `runners.run_with`."""
    for model in options.models:
        wanted = groups(options, model, tasks, store, turns=False)
        total = sum(len(group.items) for group in wanted)
        progress.begin(f"{model}: questions by lm-eval", total, 0)
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="corral-lm-eval-") as folder:
            for group in wanted:
                write_group(group, Path(folder), options.asking.temperature)
            found = await asyncio.to_thread(_evaluate, options, model, wanted, folder)
        for group in wanted:
            _keep(options, model, group, found["samples"][group.name], store, progress)


def write_group(group: Group, folder: Path, temperature: float) -> None:
    """A task file of lm-eval's, its rows, and the rule beside them."""
    rows = folder / f"{group.name}.jsonl"
    lines = [
        json.dumps(
            {
                "id": item.id,
                "prompt": item.prompt,
                "rules": rules_of(item),
                "echo": group.task.echo(item),
            },
            ensure_ascii=False,
        )
        for item in group.items
    ]
    rows.write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "rules.py").write_text(
        "from evaluation.runners.lm_eval_runner import process_results\n"
        "__all__ = ['process_results']\n",
        "utf-8",
    )
    tree = {
        "task": group.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "",
        "generation_kwargs": {
            "until": [],
            "max_gen_toks": group.max_tokens,
            "do_sample": temperature > 0,
            "temperature": temperature,
        },
        "metric_list": [{"metric": "right", "aggregation": "mean", "higher_is_better": True}],
    }
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
    # Only lm-eval's own loader knows this tag.
    text += "process_results: !function rules.process_results\n"
    (folder / f"{group.name}.yaml").write_text(text, "utf-8")


def process_results(row: Mapping[str, str], answers: Sequence[str]) -> dict[str, float]:
    """lm-eval's rule for one row: 1 if ours all hold; 0 also where there are none."""
    if not row["rules"]:
        return {"right": 0.0}
    rules = Rules.model_validate_json(row["rules"])
    closed = Sandbox(why_not="code is run when the report is made")
    verdict = asyncio.run(judge_by_rules(rules, answers[0], closed, row["echo"]))
    return {"right": verdict.score or 0.0}


def _evaluate(options: Options, model: str, wanted: list[Group], folder: str) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found: dict[str, Any] = simple_evaluate(
        model="local-chat-completions",
        model_args={
            "model": model,
            "base_url": f"{options.base_url.rstrip('/')}/chat/completions",
            "num_concurrent": options.concurrency,
            "seed": options.asking.seeds[0],
            "timeout": int(options.timeout),
            "tokenized_requests": False,
            "auth_token": options.api_key,
        },
        tasks=[group.name for group in wanted],
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    return found


def _keep(
    options: Options,
    model: str,
    group: Group,
    samples: Sequence[dict[str, Any]],
    store: Store,
    progress: Progress,
) -> None:
    texts = {sample["doc"]["id"]: sample["resps"][0][0] for sample in samples}
    for item in group.items:
        answer = asdict(Answer(str(texts[item.id]), None, None, 0.0))
        keep(options, model, group, item, answer, store)
        progress.advance()
