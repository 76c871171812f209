"""Run by test_broken_adapters.py in a process of its own: what an engine does with broken adapters.

Usage: python broken_adapters.py MODEL_DIR SCRATCH_DIR

The checks before the engine are left out: this is what happens when a file breaks after them.
Prints one JSON object: for each kind of damage the error, or null, and whether base and a good
adapter answer as before afterwards, by the same process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from server.engines import vllm_process
from server.engines.base import GenerationRequest, SamplingSettings
from server.engines.hardware import probe
from server.engines.plan import plan_engine
from server.engines.spec import Adapter, EngineSpec
from server.engines.vllm_engine import VllmEngine
from server.errors import AdapterFailed
from server.registry.adapter_files import digest_of
from server.registry.inspect import describe_model
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

PROMPT = [(7 * place) % 4000 + 100 for place in range(40)]
Shapes = dict[str, tuple[int, int]]


def damages(shapes: Shapes) -> dict[str, Callable[[Path], object]]:
    """Name of a damage → writes an adapter that has it."""

    def write(**config: Any) -> Callable[[Path], object]:
        return lambda folder: write_adapter(folder, shapes, rank=8, **config)

    def then(spoil: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda folder: (write_adapter(folder, shapes, rank=8), spoil(folder))

    weights, config = "adapter_model.safetensors", "adapter_config.json"
    wide = {name: (inputs + 64, outputs + 64) for name, (inputs, outputs) in shapes.items()}
    strange = {f"model.layers.0.self_attn.{name}": (8, 8) for name in ("x_proj", "y_proj")}
    return {
        "cut off": then(lambda folder: os.truncate(folder / weights, 1000)),
        "garbage": then(lambda folder: (folder / weights).write_bytes(os.urandom(5000))),
        "no weights": then(lambda folder: (folder / weights).unlink()),
        "no folder": then(shutil.rmtree),
        "no json": then(lambda folder: (folder / config).write_text("{")),
        "too wide": lambda folder: write_adapter(folder, wide, rank=8, targets=LINEARS),
        "too wide in the last layer": lambda folder: write_adapter(
            folder,
            shapes | {name: wide[name] for name in shapes if ".29.mlp.down_proj" in name},
            rank=8,
            targets=LINEARS,
        ),
        "too large a rank": lambda folder: write_adapter(folder, shapes, rank=64),
        "other modules": lambda folder: write_adapter(
            folder, strange, targets=("x_proj", "y_proj")
        ),
        "no numbers": write(strength=float("nan")),
        "huge numbers": write(strength=1e30),
        "DoRA": write(use_dora=True),
        "modules_to_save": write(modules_to_save=["lm_head"]),
        "bias": write(bias="all"),
    }


class Lab:
    """An engine with room for two adapters, one of which is good."""

    def __init__(self, engine: VllmEngine, scratch: Path) -> None:
        self.engine = engine
        self.scratch = scratch

    def adapter(self, name: str, write: Callable[[Path], object]) -> Adapter:
        folder = self.scratch / name
        write(folder)
        digest = digest_of(folder) if len(list(folder.glob("adapter_*"))) == 2 else name.ljust(64)
        # A digest is hexadecimal; of what cannot be read any will do.
        digest = "".join(char if char in "0123456789abcdef" else "7" for char in digest)
        return Adapter(name, folder, digest, rank=8, bytes=0)

    async def answer(self, adapter: Adapter | None, **sampling: Any) -> list[int]:
        settings = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | sampling
        request = GenerationRequest(
            request_id=os.urandom(8).hex(),
            prompt_token_ids=PROMPT,
            sampling=SamplingSettings(**settings),
            adapter=adapter,
        )
        found: list[int] = []
        async with AsyncExitStack() as stack:
            if adapter is not None:
                hold = self.engine.shelf.hold(adapter, wait_seconds=60)
                await stack.enter_async_context(hold)
            async for delta in self.engine.generate(request):
                found += delta.token_ids
        return found

    async def error(self, adapter: Adapter) -> str | None:
        try:
            await self.answer(adapter)
            await self.answer(adapter, temperature=1.0, top_p=0.9, top_k=5, logprobs=2)
        except AdapterFailed as error:
            return str(error)
        return None


async def main(model_dir: Path, scratch: Path) -> dict[str, Any]:
    info = describe_model(model_dir)
    shapes = linear_shapes(json.loads((model_dir / "config.json").read_text()))
    spec = EngineSpec(
        name="m",
        model_dir=model_dir,
        max_model_len=512,
        weight_bytes=info.weight_bytes,
        kv_bytes_per_token=info.kv_bytes_per_token(),
        architecture=info.architecture,
        kv_cache_bytes=128 << 20,
        max_adapters=2,
    )
    engine = VllmEngine(spec, plan_engine(spec, probe()), log_file=scratch / "engine.log")
    await engine.start()
    lab, pids = Lab(engine, scratch), engine.pids
    good = lab.adapter("good", lambda f: write_adapter(f, shapes, targets=LINEARS, strength=2.0))
    before = [await lab.answer(None), await lab.answer(good)]
    assert before[0] != before[1]
    report: dict[str, Any] = {}
    for name, write in damages(shapes).items():
        error = await lab.error(lab.adapter(name, write))
        after = [await lab.answer(None), await lab.answer(good)]
        report[name] = {"error": error, "well": after == before and engine.pids == pids}
    await engine.stop()
    return report


if __name__ == "__main__":
    vllm_process.prepare(forkserver=True, log_file=Path(sys.argv[2]) / "server.log")
    found = asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a stopped AsyncLLM complains when the interpreter tidies up around it
