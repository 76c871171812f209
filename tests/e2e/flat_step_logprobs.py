"""Run by tests of the flat step in a process of its own: log-probabilities under one worker class.

Usage: python flat_step_logprobs.py MODEL_DIR WORKER_CLASS [OPTIONS]

OPTIONS is JSON: ``lengths`` of the prompts, ``dtype``, ``adapters`` (folders), and for each prompt
in ``used`` the number of its adapter or null. Prints one JSON line: for each prompt the
log-probabilities of its own tokens and of 8 greedy ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
os.environ["TORCH_COMPILE_DISABLE"] = "1"

# Lengths around the KV block of 128 tokens and the chunk of 256, in one batch: prefill, chunked
# prefill and decode are mixed in the same steps.
LENGTHS = (3, 127, 128, 129, 300, 17)


def prompt(number: int, length: int) -> list[int]:
    """The token ids of the n-th prompt."""
    return [(7919 * (number + 1) * (place + 3)) % 40_000 + 100 for place in range(length)]


def engine(model_dir: str, worker_cls: str, options: dict[str, Any]) -> Any:
    from vllm import LLM

    from server.engines.choices import UNIPROC
    from server.engines.lora_args import lora_args
    from server.engines.spec import EngineSpec

    spec = EngineSpec(
        name="m",
        model_dir=Path(model_dir),
        max_model_len=1024,
        weight_bytes=0,
        kv_bytes_per_token=0,
        architecture="LlamaForCausalLM",
        max_adapters=len(options.get("adapters", ())),
    )
    return LLM(
        model_dir,
        enforce_eager=True,
        kv_cache_memory_bytes=256 << 20,
        max_model_len=1024,
        max_num_batched_tokens=256,
        distributed_executor_backend=UNIPROC,
        worker_cls=worker_cls,
        dtype=options.get("dtype", "auto"),
        additional_config={"corral_threads": 1},
        **lora_args(spec, spare_slot=True),
    )


def main(model_dir: str, worker_cls: str, options_json: str = "{}") -> None:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    options = json.loads(options_json)
    llm = engine(model_dir, worker_cls, options)
    prompts = [prompt(i, length) for i, length in enumerate(options.get("lengths", LENGTHS))]
    loras = [
        LoRARequest(folder, 1000 + number, folder)
        for number, folder in enumerate(options.get("adapters", ()))
    ]
    used = options.get("used", [None] * len(prompts))
    params = SamplingParams(
        temperature=0, max_tokens=8, ignore_eos=True, logprobs=0, prompt_logprobs=0
    )
    outputs = llm.generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        params,
        use_tqdm=False,
        lora_request=[None if number is None else loras[number] for number in used],
    )
    rows = []
    for ids, output in zip(prompts, outputs, strict=True):
        own = [
            table[token].logprob
            for token, table in zip(ids, output.prompt_logprobs, strict=True)
            if table is not None
        ]
        drawn = output.outputs[0]
        greedy = [t[i].logprob for i, t in zip(drawn.token_ids, drawn.logprobs, strict=True)]
        rows.append({"prompt": own, "greedy": greedy, "flat": is_flat(llm)})
    sys.stdout.write(json.dumps(rows) + "\n")


def is_flat(llm: Any) -> bool:
    worker = llm.llm_engine.model_executor.driver_worker.worker
    return "forward" in vars(worker.model_runner.model.model)


if __name__ == "__main__":
    main(*sys.argv[1:])
