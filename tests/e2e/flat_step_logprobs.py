"""Run by test_flat_step.py in a process of its own: log-probabilities under one worker class.

Usage: python flat_step_logprobs.py MODEL_DIR WORKER_CLASS
Prints one JSON line: for each prompt the log-probabilities of its own tokens and of 8 greedy ones.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
os.environ["TORCH_COMPILE_DISABLE"] = "1"

# Lengths around the KV block of 128 tokens and the chunk of 256, in one batch: prefill, chunked
# prefill and decode are mixed in the same steps.
LENGTHS = (3, 127, 128, 129, 300, 17)


def main(model_dir: str, worker_cls: str) -> None:
    from vllm import LLM, SamplingParams

    from server.engines.choices import UNIPROC

    llm = LLM(
        model_dir,
        enforce_eager=True,
        kv_cache_memory_bytes=256 << 20,
        max_model_len=1024,
        max_num_batched_tokens=256,
        distributed_executor_backend=UNIPROC,
        worker_cls=worker_cls,
        additional_config={"corral_threads": 1},
    )
    prompts = [
        {"prompt_token_ids": [(7919 * (i + 1) * (j + 3)) % 40_000 + 100 for j in range(length)]}
        for i, length in enumerate(LENGTHS)
    ]
    params = SamplingParams(
        temperature=0, max_tokens=8, ignore_eos=True, logprobs=0, prompt_logprobs=0
    )
    outputs = llm.generate(prompts, params, use_tqdm=False)
    rows = []
    for prompt, output in zip(prompts, outputs, strict=True):
        own = [
            table[token].logprob
            for token, table in zip(prompt["prompt_token_ids"], output.prompt_logprobs, strict=True)
            if table is not None
        ]
        drawn = output.outputs[0]
        greedy = [t[i].logprob for i, t in zip(drawn.token_ids, drawn.logprobs, strict=True)]
        rows.append({"prompt": own, "greedy": greedy, "flat": is_flat(llm)})
    sys.stdout.write(json.dumps(rows) + "\n")


def is_flat(llm: object) -> bool:
    worker = llm.llm_engine.model_executor.driver_worker.worker  # type: ignore[attr-defined]
    return "forward" in vars(worker.model_runner.model.model)


if __name__ == "__main__":
    main(*sys.argv[1:])
