"""lm-eval: likelihoods by its ``local-completions``, answers by its ``local-chat-completions``.

Every likelihood is compared with what transformers makes of the same token ids and weights. Reads
OPENAI_BASE_URL, MODEL, and SERVER_PYTHON, a Python that has torch and Corral.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

# Token ids of what is given and of what is scored.
Request = tuple[list[int], list[int]]
HERE = Path(__file__).parent
URL, MODEL, PYTHON = (os.environ[name] for name in ("OPENAI_BASE_URL", "MODEL", "SERVER_PYTHON"))
# Nats by which a token's likelihood may differ from transformers' in 32 bits: at most, on average.
# A logit of 16 to 32 in bfloat16 is a multiple of 1/8, and a choice of one token is not averaged.
TOLERANCES = {"float32": (0.001, 0.0002), "bfloat16": (0.25, 0.06)}


def main() -> None:
    directory, dtype = model_files()
    theirs: list[float] = []
    for batch in (1, 4):
        scored = evaluate(
            "local-completions",
            ["corral_choices", "corral_texts"],
            base_url=f"{URL}/completions",
            tokenizer=directory,
            tokenizer_backend="huggingface",
            batch_size=batch,
        )
        requests, ours = likelihoods(scored, directory)
        theirs = theirs or reference(requests, directory)
        lengths = [len(continuation) for _, continuation in requests]
        print(f"batches of {batch}: {agreement(ours, theirs, lengths, dtype)}")
        assert scored["results"]["corral_choices"]["acc,none"] >= 0.75
    answered = evaluate(
        "local-chat-completions",
        ["corral_questions"],
        base_url=f"{URL}/chat/completions",
        apply_chat_template=True,
    )
    assert answered["results"]["corral_questions"]["holds,none"] >= 0.5


def evaluate(
    kind: str, tasks: list[str], *, apply_chat_template: bool = False, **arguments: Any
) -> dict[str, Any]:
    """lm-eval's results, its samples included; prints the scores."""
    results: dict[str, Any] = simple_evaluate(
        model=kind,
        model_args={"model": MODEL, **arguments},
        tasks=tasks,
        task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
        apply_chat_template=apply_chat_template,
        bootstrap_iters=0,
    )
    for task in tasks:
        scores = {
            name.removesuffix(",none"): round(value, 4)
            for name, value in results["results"][task].items()
            if isinstance(value, float)
        }
        print(f"{task}: {scores}")
    return results


def likelihoods(scored: dict[str, Any], directory: str) -> tuple[list[Request], list[float]]:
    """What was scored, and lm-eval's log-likelihood of each."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    requests, scores = [], []
    for sample in scored["samples"]["corral_choices"]:
        for (context, continuation), (score,) in zip(
            sample["arguments"], sample["resps"], strict=True
        ):
            whole = tokenizer(context + continuation)["input_ids"]
            start = len(tokenizer(context)["input_ids"])
            requests.append((whole[:start], whole[start:]))
            scores.append(float(score[0]))
    for sample in scored["samples"]["corral_texts"]:
        requests.append(([eos if bos is None else bos], tokenizer(sample["target"])["input_ids"]))
        scores.append(float(sample["resps"][0][0]))
    return requests, scores


def reference(requests: list[Request], directory: str) -> list[float]:
    """The same by transformers alone."""
    done = subprocess.run(
        [PYTHON, str(HERE / "reference.py"), directory],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
    )
    scores: list[float] = json.loads(done.stdout)
    return scores


def agreement(ours: list[float], theirs: list[float], lengths: list[int], dtype: str) -> str:
    """How far likelihoods are from transformers'.

    Raises:
        AssertionError: Further than the number format explains.
    """
    off = [
        abs(one - other) / length for one, other, length in zip(ours, theirs, lengths, strict=True)
    ]
    most, average = max(off), sum(off) / len(off)
    limits = TOLERANCES[dtype]
    assert most < limits[0], list(zip(ours, theirs, strict=True))
    assert average < limits[1], list(zip(ours, theirs, strict=True))
    return (
        f"{len(off)} likelihoods in {dtype}, {average:.5f} nats a token from transformers' "
        f"in float32, {most:.5f} at most"
    )


def model_files() -> tuple[str, str]:
    """Where the server has the model's files, and the number format that it computes in."""
    shown = subprocess.run(
        [PYTHON, "-m", "server.cli", "models", "show", MODEL, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    model = json.loads(shown.stdout)
    return str(model["path"]), str(model["engine"].get("dtype") or model["memory"]["dtype"])


if __name__ == "__main__":
    main()
