"""Prints the loss of answers as transformers computes it in 32 bits, a JSON object a conversation.

    python -m tests.e2e.reference_loss MODEL_DIRECTORY < conversations.json

Token ids, and which of them are the answer's, come from the model's own chat template by way of
transformers: nothing of Corral's is asked.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(directory: str) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    json.dump([loss(model, tokenizer, said) for said in json.load(sys.stdin)], sys.stdout)


@torch.no_grad()
def loss(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, float]:
    """Over the last message, and over the token that ends it."""
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True
    )
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"]
    ids = [*before, *answer, tokenizer.eos_token_id]
    logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    nats = -logits.gather(1, torch.tensor(ids[1:])[:, None]).flatten()
    return {
        "nats": float(nats[len(before) - 1 : -1].sum()),
        "tokens": len(answer),
        "end_nats": float(nats[-1]),
    }


if __name__ == "__main__":
    main(sys.argv[1])
