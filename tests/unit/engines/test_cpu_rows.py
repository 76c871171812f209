"""Products for which a single row is special compute two rows at least, and no others do."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from server.engines.cpu_rows import pair_single_rows, paired  # noqa: E402 - needs torch


class Linear:
    """A linear layer as vLLM leaves it on a CPU: its weight packed away.

    Args:
        special: One row alone is summed in another order.
    """

    def __init__(self, weight: Any, *, special: bool = False, output_layer: bool = False) -> None:
        self.rows: list[int] = []
        self.weight = torch.empty(0, dtype=weight.dtype)
        inputs = "embedding_dim" if output_layer else "input_size_per_partition"
        setattr(self, inputs, weight.shape[1])

        def product(x: Any, _: Any, bias: Any) -> Any:
            self.rows.append(x.shape[0])
            terms = x[:, None, :] * weight
            if special and x.shape[0] == 1:
                half = weight.shape[1] // 2
                sums = terms[..., half:].sum(-1) + terms[..., :half].sum(-1)
            else:
                sums = torch.stack([row.sum(-1) for row in terms])
            return sums if bias is None else sums + bias

        self.cpu_linear = product


def weight(outputs: int, inputs: int, dtype: Any = None) -> Any:
    numbers = torch.Generator().manual_seed(1)
    return torch.randn(outputs, inputs, generator=numbers).to(dtype or torch.float32)


@pytest.mark.parametrize("output_layer", [False, True])
def test_a_layer_whose_single_row_differs_computes_two(output_layer: bool) -> None:
    layer = Linear(weight(24, 64), special=True, output_layer=output_layer)
    x = torch.randn(5, 64)
    five = layer.cpu_linear(x, None, None)
    assert not torch.equal(layer.cpu_linear(x[:1], None, None)[0], five[0])
    assert pair_single_rows([layer]) == 1
    layer.rows.clear()
    alone = layer.cpu_linear(x[:1], None, None)
    assert alone.shape == (1, 24)
    assert torch.equal(alone[0], five[0])
    assert layer.rows == [2]


def test_a_layer_whose_single_row_does_not_differ_is_left_alone() -> None:
    layer = Linear(weight(24, 64))
    product = layer.cpu_linear
    assert pair_single_rows([layer]) == 0
    assert layer.cpu_linear is product


def test_a_shape_is_looked_at_once_and_other_modules_are_passed_over() -> None:
    layers = [Linear(weight(24, 64), special=True) for _ in range(3)]
    assert pair_single_rows([layers[0], object.__new__(Linear), *layers[1:]]) == 3
    assert len(layers[1].rows) == len(layers[2].rows) == 1
    assert len(layers[0].rows) > 1


def test_a_pair_hands_on_what_else_it_is_given() -> None:
    layer = Linear(weight(3, 4))
    bias = torch.ones(3)
    x = torch.randn(1, 4)
    expected = layer.cpu_linear(x, None, bias)
    assert torch.allclose(paired(layer.cpu_linear)(x, None, bias), expected)
    assert layer.rows == [1, 2]
