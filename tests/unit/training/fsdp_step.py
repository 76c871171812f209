"""One process of a run that is sharded by FSDP2: ``fsdp_step.py RECIPE_FOLDER RANCH``.

accelerate shards on accelerators alone. Here it is told that its two processes, which talk over
gloo, have one each; everything behind that is what runs on GPUs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from tests.unit.training.support_model import run_tiny, tiny_recipe
from training import runner

torch.set_num_threads(1)
begin = PartialState.__init__


def pretend(self: Any, *args: Any, **kwargs: Any) -> None:
    begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def main(output: Path, ranch: Path, fields: dict[str, Any]) -> None:
    PartialState.__init__ = pretend
    trainers: list[Any] = []
    made = runner._trainer

    def remember(*args: Any) -> Any:
        trainers.append(made(*args))
        return trainers[-1]

    runner._trainer = remember
    run_tiny(tiny_recipe(output, **fields), ranch)
    (trainer, _) = trainers[0]
    modules = trainer.model_wrapped.named_modules()
    report = {
        "wrapped": [name for name, module in modules if isinstance(module, FSDPModule)],
        "local": {
            name: list(parameter.to_local().shape)
            for name, parameter in trainer.model_wrapped.named_parameters()
            if isinstance(parameter, DTensor)
        },
    }
    number = PartialState().process_index
    (output / f"sharded-{number}.json").write_text(json.dumps(report))
    runner.leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
