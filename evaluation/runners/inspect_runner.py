"""inspect-ai asks: our items as its samples, its ``openai-api`` provider against the endpoint.

Its own logs, with our scores in them, lie in ``inspect-logs`` of the folder, for its viewer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evaluation.endpoint import Answer
from evaluation.errors import EndpointError
from evaluation.items import Message, Rules, Task
from evaluation.jobs import Progress
from evaluation.options import Options
from evaluation.runners.grouping import Group, groups, keep, rules_of
from evaluation.sandbox import Sandbox
from evaluation.scoring import judge_by_rules
from evaluation.store import Store

_REASONS = {"max_tokens": "length", "model_length": "length", "stop": "stop"}


async def ask(options: Options, tasks: Sequence[Task], store: Store, progress: Progress) -> None:
    """See `runners.run_with`."""
    from inspect_ai import eval_async
    from inspect_ai.model import get_model

    os.environ.setdefault("INSPECT_DISPLAY", "none")
    for model in options.models:
        wanted = groups(options, model, tasks, store, turns=True)
        total = sum(len(group.items) for group in wanted)
        progress.begin(f"{model}: questions by inspect", total, 0)
        if not wanted:
            continue
        asked = get_model(
            f"openai-api/corral/{model}",
            base_url=options.base_url,
            api_key=options.api_key,
            memoize=False,
        )
        logs = await eval_async(
            [_as_task(group, options) for group in wanted],
            model=asked,
            log_dir=str(options.out / "inspect-logs"),
            max_connections=options.concurrency,
            max_tasks=1,
            fail_on_error=False,
        )
        for group, log in zip(wanted, logs, strict=True):
            _keep(options, model, group, log, store, progress)


def _as_task(group: Group, options: Options) -> Any:
    from inspect_ai import Task as InspectTask
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import GenerateConfig
    from inspect_ai.solver import generate

    return InspectTask(
        dataset=MemoryDataset(
            [
                Sample(
                    id=item.id,
                    input=[
                        *(_message(message) for message in item.before),
                        _message(Message(role="user", content=item.prompt)),
                    ],
                    target=item.reference or "",
                    metadata={"rules": rules_of(item), "echo": group.task.echo(item)},
                )
                for item in group.items
            ],
            name=group.name,
        ),
        solver=generate(),
        scorer=_rules_scorer(),
        name=group.name,
        config=GenerateConfig(
            temperature=options.asking.temperature,
            seed=options.asking.seeds[0],
            max_tokens=group.max_tokens,
            timeout=int(options.timeout),
        ),
    )


def _message(message: Message) -> Any:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {
        "system": ChatMessageSystem,
        "user": ChatMessageUser,
        "assistant": ChatMessageAssistant,
    }
    return kinds[message.role](content="\n".join(message.texts))


def _rules_scorer() -> Any:
    """Our rules as a scorer of inspect's, so that its logs say the same as our report."""
    from inspect_ai.scorer import Score, accuracy, scorer, stderr

    @scorer(metrics=[accuracy(), stderr()], name="corral_rules")
    def rules() -> Any:
        async def score(state: Any, _: Any) -> Any:
            text = state.metadata["rules"]
            if not text:
                return Score(value=0.0, explanation="only a judge can tell")
            verdict = await judge_by_rules(
                Rules.model_validate_json(text),
                state.output.completion,
                Sandbox(why_not="code is run when the report is made"),
                state.metadata["echo"],
            )
            return Score(value=verdict.score or 0.0, explanation="; ".join(verdict.reasons))

        return score

    return rules()


def _keep(
    options: Options, model: str, group: Group, log: Any, store: Store, progress: Progress
) -> None:
    """Keep the answers of a log.

    Raises:
        EndpointError: It broke off.
    """
    if log.status != "success" or not log.samples:
        why = log.error.message if log.error else f"it ended as '{log.status}'"
        raise EndpointError(f"inspect could not ask {model}: {why}")
    by_id = {sample.id: sample for sample in log.samples}
    for item in group.items:
        sample = by_id[item.id]
        if sample.error is not None:
            result: dict[str, Any] = {"error": sample.error.message[:300]}
        else:
            output = sample.output
            reason = _REASONS.get(output.stop_reason, output.stop_reason)
            used = output.usage.output_tokens if output.usage else None
            result = asdict(Answer(output.completion, reason, used, output.time or 0.0))
        keep(options, model, group, item, result, store)
        progress.advance()
