"""Prints log-likelihoods as transformers computes them in 32 bits, as one JSON list.

    python tests/clients/lm_eval/reference.py MODEL_DIRECTORY < requests.json

A request is ``[context, continuation]``, both lists of token ids. Run by the server's own Python,
which has torch.
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    # Threads that wait for each other on a busy machine take longer than one.
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    scores = []
    for context, continuation in json.load(sys.stdin):
        with torch.inference_mode():
            logits = model(torch.tensor([[*context, *continuation]])).logits[0, :-1]
        chosen = logits[len(context) - 1 :].log_softmax(-1)
        scores.append(float(chosen.gather(1, torch.tensor([continuation]).T).sum()))
    json.dump(scores, sys.stdout)


if __name__ == "__main__":
    main()
