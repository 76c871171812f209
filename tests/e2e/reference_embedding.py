"""Prints vectors as transformers computes them, one JSON list a line.

    python -m tests.e2e.reference_embedding MODEL_DIRECTORY mean '["A text.", "Another."]' [ADAPTER]

The second argument is how tokens are pooled: ``mean`` or ``last``; the last a folder, whose adapter
is merged into the weights. In a process of its own: torch and vLLM's patches of it stay out of the
tests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from tests.support.merged import merge


def main() -> None:
    directory, pooling, texts, *adapters = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    for adapter in adapters:
        merge(model, Path(adapter))
    for text in json.loads(texts):
        with torch.inference_mode():
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            states = model(ids).last_hidden_state[0]
        pooled = states.mean(0) if pooling == "mean" else states[-1]
        vector = torch.nn.functional.normalize(pooled, dim=0)
        print(json.dumps(vector.tolist()))  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
