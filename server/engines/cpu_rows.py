"""Products of a single row that come out as among others.

For one row oneDNN takes, in some shapes, a kernel that sums in another order than that for several.
The difference is a rounding, but where two tokens are nearly equally likely it is another answer: a
request would be answered otherwise alone than among others. Layers in which that is so compute two
rows at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Product = Callable[..., torch.Tensor]

# So many numbers of a product are looked at. Of sums in another order one in 4,000 is rounded
# to another bfloat16.
_LOOK_AT = 40_000
_MOST_ROWS = 256


def paired(product: Product) -> Product:
    """``product``, whose first argument is rows, (T, in) -> (T, out), never given one row alone."""

    def of_two_at_least(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if x.ndim == 2 and x.shape[0] == 1:
            return product(torch.cat((x, x)), *rest)[:1]
        return product(x, *rest)

    return of_two_at_least


def pair_single_rows(modules: Iterable[Any]) -> int:
    """Have those linear layers among vLLM's modules compute two rows for which one is special.

    Returns:
        How many those are.
    """
    special: dict[tuple[int, ...], bool] = {}
    count = 0
    for module in modules:
        if "cpu_linear" not in vars(module):
            continue
        inputs = getattr(module, "input_size_per_partition", None) or module.embedding_dim
        outputs = _apply(module, torch.zeros(2, inputs, dtype=_dtype(module))).shape[1]
        shape = (inputs, outputs)
        if shape not in special:
            special[shape] = _one_row_is_special(module, inputs, outputs)
        if special[shape]:
            module.cpu_linear = paired(module.cpu_linear)
            count += 1
    return count


def _one_row_is_special(module: Any, inputs: int, outputs: int) -> bool:
    rows = min(_MOST_ROWS, max(2, _LOOK_AT // outputs))
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=numbers).to(_dtype(module))
    among_others = _apply(module, x)
    return any(
        not torch.equal(_apply(module, x[row : row + 1])[0], among_others[row])
        for row in range(rows)
    )


def _apply(module: Any, x: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = module.cpu_linear(x, getattr(module, "weight", None), None)
    return product


def _dtype(module: Any) -> torch.dtype:
    # An empty tensor remains of a weight that was packed.
    return module.weight.dtype
