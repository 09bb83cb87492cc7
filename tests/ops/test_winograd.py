"""Convolutions by Winograd's algorithm on cpu, where they are too large for the case table."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from harness import devices, differentiable, error, make_operands, oracle, run

# Images, outputs, taps, pads. Two groups of tiles, channels that end a chunk early; one group, not
# whole blocks of tiles; the most channels; one row, one column.
SHAPES: dict[str, Any] = {
    "groups of tiles": ((5, 32, 32, 272), 272, (3, 3), (1, 1, 1, 1)),
    "few tiles": ((4, 9, 13, 256), 320, (3, 3), (0, 1, 1, 2)),
    "5x5": ((3, 11, 13, 272), 256, (5, 5), (2, 2, 2, 2)),
    "most channels": ((2, 16, 16, 1024), 96, (3, 3), (1, 1, 1, 1)),
    "row": ((2, 17, 17, 1024), 64, (1, 7), (0, 3, 0, 3)),
    "column": ((2, 17, 17, 64), 1024, (7, 1), (3, 0, 3, 0)),
    "many outputs": ((8, 8, 8, 576), 1024, (7, 1), (3, 0, 3, 0)),
}


@pytest.mark.skipif("cpu" not in devices(), reason="how the cpu device computes")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_error_stays_below_one_in_a_hundred_thousand(shape: Any) -> None:
    image, out, kernel, pads = shape
    case = cases.conv_case("large", image, out, kernel, pads=pads)
    operands = make_operands(case, "float32")
    high, wide = (image[1 + i] + pads[i] + pads[2 + i] + 1 - kernel[i] for i in range(2))
    cotangent = np.random.default_rng(0).standard_normal((image[0], high, wide, out))
    cotangent = cotangent.astype(np.float32).astype(np.float64)
    y, gradients = run(case, operands, "cpu", "float32", cotangent, gradient=True)
    expected, expected_gradients = oracle(case, operands, cotangent)
    assert error(y, expected) < 1e-5
    for i, g, e in zip(differentiable(case), gradients, expected_gradients, strict=True):
        assert error(g, e) < 1e-5, f"gradient by operand {i}"
    again, _ = run(case, operands, "cpu", "float32")
    assert error(again, y) < 1e-6
