"""Convolutions on cpu that our own kernels compute, at sizes too large for the case table."""

from __future__ import annotations

from typing import Any

import cases
import mpsnn
import numpy as np
import pytest
from devices import DEVICES, DTYPES
from harness import as_tensors, differentiable, error, make_operands, oracle, run
from mpsnn import _core, nn

on_cpu = pytest.mark.skipif("cpu" not in DEVICES, reason="how the cpu device computes")

# Images, outputs, taps, pads. By Winograd's algorithm: two groups of tiles, channels that end a
# chunk early; one group, not whole blocks of tiles; the most channels; one row, one column; tiles
# so few that it is the taps that take time.
WINOGRAD: dict[str, Any] = {
    "groups of tiles": ((5, 32, 32, 272), 272, (3, 3), (1, 1, 1, 1)),
    "few tiles": ((4, 9, 13, 256), 320, (3, 3), (0, 1, 1, 2)),
    "5x5": ((3, 11, 13, 272), 256, (5, 5), (2, 2, 2, 2)),
    "most channels": ((2, 16, 16, 1024), 96, (3, 3), (1, 1, 1, 1)),
    "row": ((2, 17, 17, 1024), 64, (1, 7), (0, 3, 0, 3)),
    "column": ((2, 17, 17, 64), 1024, (7, 1), (3, 0, 3, 0)),
    "taps for few tiles": ((3, 8, 12, 112), 144, (3, 3), (1, 1, 1, 1)),
    "few outputs for few tiles": ((1, 16, 16, 240), 48, (3, 3), (1, 1, 1, 1)),
    "many outputs": ((8, 8, 8, 576), 1024, (7, 1), (3, 0, 3, 0)),
}
WINOGRAD_BFLOAT16: dict[str, Any] = {
    "groups of tiles": WINOGRAD["groups of tiles"],
    "by tiles": ((4, 19, 22, 96), 64, (3, 3), (0, 1, 1, 2)),
    "taps for few tiles": ((8, 8, 12, 112), 144, (3, 3), (1, 1, 1, 1)),
    "5x5": ((2, 20, 20, 272), 256, (5, 5), (2, 2, 2, 2)),
}
# In pairs of pixels: several blocks of rows, whole images each, rows of all images together; an odd
# width, a last vector of 16 channels and a last block of 8 outputs; strides; dilation. As products
# with all windows: more weights than the caches hold.
PAIRS: dict[str, Any] = {
    "blocks of rows": ((2, 60, 61, 80), 72, (3, 3), (1, 1, 1, 1), {}),
    "an image a block": ((3, 8, 8, 96), 64, (3, 3), (1, 1, 1, 1), {}),
    "rows of all images": ((5, 9, 8, 48), 40, (1, 5), (0, 4, 0, 2), {}),
    "strides": ((2, 33, 40, 64), 64, (3, 2), (2, 0, 1, 1), {"stride": (2, 3)}),
    "dilation": ((1, 23, 24, 16), 8, (3, 3), (2, 3, 1, 3), {"dilation": (2, 3)}),
    "many weights": ((3, 5, 6, 336), 352, (3, 3), (1, 0, 1, 1), {}),
    "many weights, strides": ((2, 9, 8, 336), 352, (3, 3), (2, 0, 1, 1), {"stride": (2, 3)}),
}


# Of 1x1 windows: few outputs of many channels, which are no whole vectors; many weights. Gradients
# by the weights with outputs or inputs across, several blocks of pixels and less than one.
POINTWISE: dict[str, Any] = {
    "few outputs": ((2, 23, 11, 272), 80),
    "odd inputs": ((3, 9, 7, 301), 48),
    "many weights": ((2, 9, 7, 768), 144),
    "outputs across": ((3, 15, 13, 24), 96),
    "inputs across": ((2, 17, 13, 32), 64),
    "a row of pixels": ((1, 1, 5, 17), 19),
}


# As products with all windows: pads on all sides and no side, windows apart or dilated.
WINDOWS: dict[str, Any] = {
    "strides": ((2, 15, 14, 48), 64, (3, 3), (1, 0, 1, 1), {"stride": (2, 2)}),
    "dilation": ((2, 13, 12, 64), 80, (3, 2), (2, 3, 4, 1), {"dilation": (2, 3)}),
    "wide pads": ((1, 5, 6, 32), 40, (3, 5), (2, 4, 2, 4), {"stride": (1, 2)}),
    "single pixels": ((3, 9, 7, 80), 96, (1, 1), (0, 0, 0, 0), {"stride": (2, 3)}),
    "36 outputs": ((2, 8, 8, 16), 36, (3, 3), (1, 1, 1, 1), {}),
}


# Channels by themselves: rows of several blocks and of none; taps outside on all sides, or all of
# an output's; dilation. Gradients by the taps: of 1 to 5 columns and 1 to 3 rows of them together,
# at strides that outputs share sources at and others.
DEPTHWISE: dict[str, Any] = {
    "same": ((2, 40, 41, 96), (3, 3), (1, 1, 1, 1), {}),
    "uneven": ((2, 64, 33, 80), (3, 2), (0, 2, 1, 0), {}),
    "narrow": ((1, 2100, 2, 32), (2, 3), (1, 1, 0, 2), {}),
    "dilation": ((2, 38, 40, 96), (3, 3), (2, 3, 4, 3), {"dilation": (2, 3)}),
    "row": ((1, 30, 70, 64), (1, 9), (0, 8, 0, 8), {}),
    "wide pads": ((1, 65, 66, 32), (3, 3), (4, 5, 6, 3), {}),
    "5x5": ((3, 11, 13, 32), (5, 5), (2, 2, 2, 2), {}),
    "7x7 /2": ((2, 14, 15, 48), (7, 7), (3, 2, 3, 3), {"stride": (2, 2)}),
    "4x6 /3": ((2, 19, 23, 16), (4, 6), (1, 0, 2, 5), {"stride": (3, 3)}),
    "1x11 /2": ((2, 6, 30, 16), (1, 11), (0, 5, 0, 5), {"stride": (1, 2)}),
    "small dilation": ((2, 9, 10, 32), (3, 3), (2, 3, 2, 3), {"dilation": (2, 3)}),
    "more taps than pixels": ((2, 3, 2, 16), (5, 7), (2, 3, 2, 3), {}),
    "24 channels": ((2, 9, 11, 24), (5, 5), (2, 2, 2, 2), {}),
    "17 channels": ((2, 10, 9, 17), (3, 3), (2, 2, 2, 2), {"dilation": (2, 2)}),
    "many channels, not of 16": ((1, 40, 39, 90), (3, 3), (1, 1, 1, 1), {}),
    "large /2": ((2, 58, 57, 64), (3, 3), (1, 0, 1, 1), {"stride": (2, 2)}),
}


def whole_numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def output_shape(case: cases.Case, operands: list[Any]) -> tuple[int, ...]:
    return tuple(case.torch(*as_tensors(operands)).shape)


@on_cpu
@pytest.mark.parametrize("shape", POINTWISE.values(), ids=POINTWISE.keys())
def test_pixels_are_within_one_in_a_hundred_thousand(shape: Any) -> None:
    check_by_torch(cases.conv_case("pixels", *shape, (1, 1)))


@on_cpu
@pytest.mark.parametrize("shape", WINOGRAD.values(), ids=WINOGRAD.keys())
def test_winograd_is_within_one_in_a_hundred_thousand(shape: Any) -> None:
    image, out, kernel, pads = shape
    case = cases.conv_case("large", image, out, kernel, pads=pads)
    check_by_torch(case)
    assert "Winograd" in kernel_of(case, "float32")


@on_cpu
@pytest.mark.skipif("bfloat16" not in DTYPES.get("cpu", ()), reason="no products of bfloat16")
@pytest.mark.parametrize("shape", WINOGRAD_BFLOAT16.values(), ids=WINOGRAD_BFLOAT16.keys())
def test_winograd_of_bfloat16_images_computes_in_float32(shape: Any) -> None:
    """Of whole numbers that bfloat16 holds: only results that are images are rounded to it."""
    image, out, kernel, pads = shape
    case = cases.conv_case("large", image, out, kernel, pads=pads)
    assert "Winograd" in kernel_of(case, "bfloat16")
    operands = [whole_numbers(shape, i) for i, (_, shape) in enumerate(case.operands)]
    cotangent = whole_numbers(output_shape(case, operands), 3)
    y, gradients = run(case, operands, "cpu", "bfloat16", cotangent, gradient=True)
    expected, expected_gradients = oracle(case, operands, cotangent)
    assert error(y, expected) < 2**-8
    assert error(gradients[0], expected_gradients[0]) < 2**-8
    assert error(gradients[1], expected_gradients[1]) < 1e-5
    assert error(gradients[2], expected_gradients[2]) < 1e-5


def kernel_of(case: cases.Case, dtype: str) -> str:
    """How cpu computes the op forward."""
    graph = _core.Graph(dtype)
    x, *weights = make_operands(case, "float32")
    ids = [graph.input("x", x.shape, dtype)]
    ids += [graph.parameter(f"p{i}", _core.Parameter(w)) for i, w in enumerate(weights)]
    y = graph.add(case.op, ids, dict(case.attrs), "op")[0]
    program = _core.Program.compile(graph, device="cpu", results=[("y", y, False)])
    return next(node["detail"] for node in program.summary() if node["layer"] == "op")


@on_cpu
@pytest.mark.parametrize("shape", WINDOWS.values(), ids=WINDOWS.keys())
def test_products_with_windows_are_within_one_in_a_hundred_thousand(shape: Any) -> None:
    image, out, kernel, pads, attrs = shape
    check_by_torch(cases.conv_case("windows", image, out, kernel, pads=pads, **attrs))


@on_cpu
@pytest.mark.parametrize("shape", DEPTHWISE.values(), ids=DEPTHWISE.keys())
def test_channels_by_themselves_are_within_one_in_a_hundred_thousand(shape: Any) -> None:
    image, kernel, pads, attrs = shape
    c = image[-1]
    check_by_torch(cases.conv_case("alone", image, c, kernel, pads=pads, groups=c, **attrs))


def check_by_torch(case: cases.Case) -> None:
    operands = make_operands(case, "float32")
    cotangent = np.random.default_rng(0).standard_normal(output_shape(case, operands))
    cotangent = cotangent.astype(np.float32).astype(np.float64)
    y, gradients = run(case, operands, "cpu", "float32", cotangent, gradient=True)
    expected, expected_gradients = oracle(case, operands, cotangent)
    assert error(y, expected) < 1e-5
    for i, g, e in zip(differentiable(case), gradients, expected_gradients, strict=True):
        assert error(g, e) < 1e-5, f"gradient by operand {i}"
    again, _ = run(case, operands, "cpu", "float32")
    assert error(again, y) < 1e-6


@on_cpu
@pytest.mark.parametrize("shape", PAIRS.values(), ids=PAIRS.keys())
def test_gradients_by_weights_in_bfloat16_are_exact_sums(shape: Any) -> None:
    image, out, kernel, pads, attrs = shape
    check_sums(cases.conv_case("large", image, out, kernel, pads=pads, bias=False, **attrs))


@on_cpu
@pytest.mark.parametrize("shape", DEPTHWISE.values(), ids=DEPTHWISE.keys())
def test_gradients_by_taps_in_bfloat16_are_exact_sums(shape: Any) -> None:
    image, kernel, pads, attrs = shape
    c = image[-1]
    check_sums(cases.conv_case("alone", image, c, kernel, pads=pads, groups=c, bias=False, **attrs))


def check_sums(case: cases.Case) -> None:
    """Of small whole numbers, which bfloat16 holds, and float32 their sums."""
    if "bfloat16" not in DTYPES["cpu"]:
        pytest.skip("this processor has no products of bfloat16")
    operands = [whole_numbers(shape, i) for i, (_, shape) in enumerate(case.operands)]
    cotangent = whole_numbers(output_shape(case, operands), 2)
    _, gradients = run(case, operands, "cpu", "bfloat16", cotangent, gradient=True)
    _, expected = oracle(case, operands, cotangent)
    np.testing.assert_array_equal(gradients[1], expected[1])


@on_cpu
def test_a_folded_convolution_with_many_taps_predicts_again() -> None:
    """Its taps are read in each run, and nodes behind it use the memory they were folded in."""
    mpsnn.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(256, 272, 3, padding="same", bias=False), nn.BatchNorm2d(272),
        nn.Conv2d(272, 256, 3, padding="same"), nn.ReLU(),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 256)).astype(np.float32)
    expected = np.asarray(mpsnn.InferenceGraph(model, (16, 16, 256), 2, device="reference")(x))
    graph = mpsnn.InferenceGraph(model, (16, 16, 256), 2, device="cpu")
    assert sum("Winograd" in row["detail"] for row in graph.summary().rows) == 2
    for _ in range(3):
        assert error(np.asarray(graph(x)), expected.astype(np.float64)) < 1e-5


@on_cpu
@pytest.mark.skipif("bfloat16" not in DTYPES.get("cpu", ()), reason="no products of bfloat16")
@pytest.mark.parametrize("channels", [(64, 128), (256, 272)], ids=["kept taps", "many taps"])
def test_a_folded_convolution_of_bfloat16_predicts_as_of_float32(channels: Any) -> None:
    c, k = channels
    mpsnn.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(c, k, 3, padding="same", bias=False), nn.BatchNorm2d(k),
        nn.Conv2d(k, c, 3, padding="same"), nn.ReLU(),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((8, 16, 16, c)).astype(np.float32)
    expected = np.asarray(mpsnn.InferenceGraph(model, (16, 16, c), 8, device="cpu")(x))
    graph = mpsnn.InferenceGraph(model, (16, 16, c), 8, device="cpu", dtype="bfloat16")
    assert sum("Winograd" in row["detail"] for row in graph.summary().rows) == 2
    for _ in range(3):
        assert error(np.asarray(graph(x), np.float64), expected.astype(np.float64)) < 2**-6
