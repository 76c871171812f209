"""Run by test_adapter_step.py in a process of its own: what adapters should compute.

Usage: python merged_logprobs.py MODEL_DIR OPTIONS

With transformers, in float32, each adapter merged into the weights: W + alpha / rank * B A. OPTIONS
and what is printed are those of flat_step_logprobs.py, but for the greedy tokens.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.support.merged import merge


def main(model_dir: str, options_json: str) -> None:
    from transformers import AutoModelForCausalLM

    options = json.loads(options_json)
    rows: dict[int, Any] = {}
    for number in sorted({*options["used"]}, key=str):
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
        if number is not None:
            merge(model, Path(options["adapters"][number]))
        for place, length in enumerate(options["lengths"]):
            if options["used"][place] == number:
                rows[place] = {"prompt": logprobs(model, prompt(place, length))}
    sys.stdout.write(json.dumps([rows[place] for place in sorted(rows)]) + "\n")


@torch.no_grad()
def logprobs(model: Any, ids: list[int]) -> list[float]:
    logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    found: list[float] = logits.gather(1, torch.tensor(ids[1:])[:, None]).flatten().tolist()
    return found


def prompt(number: int, length: int) -> list[int]:
    path = Path(__file__).with_name("flat_step_logprobs.py")
    spec = importlib.util.spec_from_file_location("flat_step_logprobs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ids: list[int] = module.prompt(number, length)
    return ids


if __name__ == "__main__":
    main(*sys.argv[1:])
