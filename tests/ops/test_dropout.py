"""Dropout: rate, scaling, one mask forward and backward, streams by seed, step and layer."""

from __future__ import annotations

import numpy as np
import pytest
from devices import DEVICES, with_dtypes
from harness import as_float64
from mpsnn import _core


def masks(
    device: str, *, seed: int = 0, rate: float = 0.3, steps: int = 1, layer: str = "Dropout 3",
    spatial: bool = False, shape: tuple[int, ...] = (4, 5, 6, 7), dtype: str = "float32",
) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """(output, gradient) of ones at each step."""
    graph = _core.Graph(dtype)
    x = graph.input("x", shape)
    c = graph.input("c", shape)
    (y,) = graph.add("dropout", [x], {"rate": rate, "spatial": spatial}, layer)
    program = _core.Program.compile(
        graph, device=device, training=True, seed=seed, seeds=[(y, c)],
        results=[("y", y, False), ("g", x, True)],
    )  # fmt: skip
    ones, found = np.ones(shape, np.float32), []
    for _ in range(steps):
        step = program.encode((ones, 2 * ones), ())
        step.wait()
        found.append((as_float64(step.result(0)), as_float64(step.result(1))))
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_values_and_gradient_share_a_mask(device: str) -> None:
    ((y, g),) = masks(device)
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(g, 2 * y)
    assert 0.6 < kept.mean() < 0.8
    images = kept.reshape(4, -1)
    assert not (images[0] == images[1]).all()


@pytest.mark.parametrize("device", DEVICES)
def test_streams(device: str) -> None:
    first, second = masks(device, steps=2)
    assert not np.array_equal(first[0], second[0]), "each step draws anew"
    assert np.array_equal(first[0], masks(device)[0][0]), "a seed repeats"
    assert not np.array_equal(first[0], masks(device, seed=1)[0][0])
    assert not np.array_equal(first[0], masks(device, layer="Dropout 4")[0][0])


@pytest.mark.parametrize("device", DEVICES)
def test_rate_zero_and_high(device: str) -> None:
    assert (masks(device, rate=0.0)[0][0] == 1).all()
    assert (masks(device, rate=0.99)[0][0] == 0).mean() > 0.95


@pytest.mark.skipif("cpu" not in DEVICES, reason="one mask on all devices but mps: needs two")
def test_devices_draw_the_same() -> None:
    for rate in (0.1, 0.5, 0.9):
        np.testing.assert_array_equal(
            masks("cpu", rate=rate, steps=2)[1][0] != 0,
            masks("reference", rate=rate, steps=2)[1][0] != 0,
        )
        np.testing.assert_array_equal(
            masks("cpu", rate=rate, steps=2, spatial=True)[1],
            masks("reference", rate=rate, steps=2, spatial=True)[1],
        )


@pytest.mark.parametrize(("device", "dtype"), with_dtypes("float32", "float16", "bfloat16"))
@pytest.mark.parametrize("shape", [(8, 5, 6, 37), (6, 1, 1, 64), (40, 9)])
def test_spatial_drops_whole_channels(device: str, dtype: str, shape: tuple[int, ...]) -> None:
    first, second = masks(device, spatial=True, shape=shape, dtype=dtype, steps=2)
    y = first[0].reshape(shape[0], -1, shape[-1])
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-2)
    np.testing.assert_allclose(first[1], 2 * first[0], rtol=1e-2)
    assert 0.6 < (y != 0).mean() < 0.8
    assert not (y[0] == y[1]).all()
    assert not np.array_equal(first[0], second[0])


def test_spatial_needs_channels() -> None:
    with pytest.raises(_core.ShapeError, match="channel"):
        masks("reference", spatial=True, shape=(4,))
