"""Prints vectors as transformers computes them, one JSON list a line.

    python -m tests.e2e.reference_embedding MODEL_DIRECTORY '[[1, 2, 3]]'

In a process of its own: torch and vLLM's patches of it stay out of the tests.
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModel


def main() -> None:
    model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    for ids in json.loads(sys.argv[2]):
        with torch.inference_mode():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        vector = torch.nn.functional.normalize(states[-1].float(), dim=0)
        print(json.dumps(vector.tolist()))  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
