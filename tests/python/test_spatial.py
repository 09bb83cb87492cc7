"""Layers over space: their arguments, shapes, initial weights and PyTorch's weights, both ways."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, ops

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def first(x: np.ndarray) -> torch.Tensor:
    """Channels last to channels first."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def close(ours: Any, theirs: torch.Tensor) -> None:
    expected = np.moveaxis(theirs.detach().numpy(), 1, -1)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "theirs", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 2, 2),
         lambda: torch.nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 2, 2), (11, 9, 4)),
        (lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2),
         lambda: torch.nn.Conv1d(4, 6, 3, 2, 1, 2, 2), (17, 4)),
        (lambda: nn.Conv1d(5, 5, 3, padding="same", groups=5, bias=False),
         lambda: torch.nn.Conv1d(5, 5, 3, padding="same", groups=5, bias=False), (8, 5)),
        (lambda: nn.ConvTranspose2d(4, 6, (3, 2), 2, (1, 0), 1, 2, True, 2),
         lambda: torch.nn.ConvTranspose2d(4, 6, (3, 2), 2, (1, 0), 1, 2, True, 2), (5, 6, 4)),
        (lambda: nn.ConvTranspose2d(3, 5, 4, 2, 1, bias=False),
         lambda: torch.nn.ConvTranspose2d(3, 5, 4, 2, 1, bias=False), (4, 5, 3)),
    ],
    ids=["conv2d", "conv1d", "conv1d-same-depthwise", "transposed-groups", "transposed"],
)  # fmt: skip
def test_weights_of_torch_both_ways(device: str, make: Any, theirs: Any, shape: Any) -> None:
    ours, other = nn.Sequential(make()), torch.nn.Sequential(theirs())
    x = normal(2, *shape)
    ours.load_torch_state_dict(other.state_dict(), shape)
    predict = mpsnn.InferenceGraph(ours, shape, 2, device=device)
    close(predict(x), other(first(x)))
    for _, parameter in ours._all_arrays():
        parameter.assign(normal(*parameter.shape))
    other.load_state_dict({n: torch.from_numpy(v) for n, v in ours.torch_state_dict(shape).items()})
    close(predict(x), other(first(x)))


@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda: nn.Conv1d(48, 64, 5), lambda: torch.nn.Conv1d(48, 64, 5)),
        (lambda: nn.ConvTranspose2d(64, 24, 4, groups=4),
         lambda: torch.nn.ConvTranspose2d(64, 24, 4, groups=4)),
    ],
    ids=["conv1d", "transposed"],
)  # fmt: skip
def test_initial_weights_are_drawn_as_in_torch(make: Any, theirs: Any) -> None:
    mpsnn.manual_seed(0)
    torch.manual_seed(0)
    ours, other = make(), theirs()
    assert ours.weight.numpy().size == other.weight.numel()
    for a, b in ((ours.weight, other.weight), (ours.bias, other.bias)):
        mine, drawn = a.numpy(), b.detach().numpy()
        assert np.abs(mine).max() == pytest.approx(np.abs(drawn).max(), rel=0.2)
        assert mine.std() == pytest.approx(drawn.std(), rel=0.3)


def test_padding_on_each_side() -> None:
    x, w = normal(2, 6, 7, 3), normal(4, 3, 3, 3)
    y = ops.conv2d(x, w, padding=((0, 2), (1, 0)))
    padded = np.pad(x, ((0, 0), (0, 2), (1, 0), (0, 0)))
    np.testing.assert_allclose(y, ops.conv2d(padded, w), rtol=1e-4, atol=1e-5)
    assert ops.conv2d(x, w, padding=(2, (0, 1))).shape == (2, 8, 6, 4)
    sequence, taps = normal(2, 9, 3), normal(4, 3, 3)
    causal = ops.conv1d(sequence, taps, padding=((2, 0),))
    assert causal.shape == (2, 9, 4)
    np.testing.assert_allclose(causal[:, :1], ops.conv1d(sequence[:, :1], taps[:, 2:]), rtol=1e-4,
                               atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_transposed_undoes_the_shape(kernel: int, stride: int, dilation: int) -> None:
    """The gradient of a convolution by its input is the transposed one, "same" included."""
    size = 3 * stride
    x, w = normal(2, size, size, 3), normal(4, kernel, kernel, 3)
    y = ops.conv2d(x, w, stride=stride, padding="same", dilation=dilation)
    by_x, _ = ops.conv2d_gradient(y, x, w, stride=stride, padding="same", dilation=dilation)
    turned = np.ascontiguousarray(w.transpose(3, 1, 2, 0))
    back = ops.conv_transpose2d(y, turned, stride=stride, padding="same", dilation=dilation)
    assert back.shape == x.shape
    np.testing.assert_allclose(back, by_x, rtol=1e-3, atol=1e-4)


def test_gradient_functions_agree_with_torch() -> None:
    x, w, b = normal(2, 4, 5, 4), normal(6, 3, 2, 2), normal(6)
    gy = normal(2, 8, 10, 6)
    found = ops.conv_transpose2d_gradient(
        gy, x, w, b, stride=2, padding=(1, 0), output_padding=(1, 0), groups=2
    )
    tx = first(x).requires_grad_()
    tw = torch.from_numpy(w).requires_grad_()
    tb = torch.from_numpy(b).requires_grad_()
    grouped = tw.reshape(2, 3, 3, 2, 2).permute(0, 4, 1, 2, 3).reshape(4, 3, 3, 2)
    y = torch.nn.functional.conv_transpose2d(tx, grouped, tb, 2, (1, 0), (1, 0), 2)
    y.backward(first(gy))
    close(found[0], tx.grad)
    np.testing.assert_allclose(found[1], tw.grad.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[2], tb.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Conv1d(0, 1, 1), ValueError, "in_channels"),
        (lambda: nn.Conv1d(1, "1", 1), TypeError, "out_channels"),
        (lambda: nn.Conv1d(1, 1, 0), ValueError, "kernel_size"),
        (lambda: nn.Conv1d(1, 1, (3, 3)), ValueError, "kernel_size must be an integer"),
        (lambda: nn.Conv1d(1, 1, 1, stride=0), ValueError, "stride"),
        (lambda: nn.Conv1d(1, 1, 1, padding=-1), ValueError, "padding"),
        (lambda: nn.Conv1d(1, 1, 1, padding="reflect"), ValueError, "padding"),
        (lambda: nn.Conv1d(1, 1, 1, padding=(1, 1)), ValueError, "padding must be an integer"),
        (lambda: nn.Conv1d(1, 1, 1, dilation=0.5), TypeError, "dilation"),
        (lambda: nn.Conv1d(4, 6, 1, groups=4), ValueError, "groups 4 must divide"),
        (lambda: nn.Conv1d(1, 1, 1, bias=0), TypeError, "bias"),
        (lambda: nn.Conv1d(1, 2, 3, weights=np.zeros((2, 1, 3))), mpsnn.ShapeError, r"\(2, 3, 1\)"),
        (lambda: nn.Conv1d(1, 1, 1, accumulator="half"), ValueError, "accumulator"),
        (lambda: nn.Conv2d(1, 1, 3, padding=((1, 1), (1, -1))), ValueError, "padding"),
        (lambda: nn.Conv2d(1, 1, 3, padding=((1, 1, 1), 0)), ValueError, "padding"),
        (lambda: nn.ConvTranspose2d(-1, 1, 1), ValueError, "in_channels"),
        (lambda: nn.ConvTranspose2d(1, None, 1), TypeError, "out_channels"),
        (lambda: nn.ConvTranspose2d(1, 1, (1, 0)), ValueError, "kernel_size"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, stride=-1), ValueError, "stride"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding=(1,)), ValueError, "padding"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, output_padding=2), ValueError, "smaller"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, output_padding=-1), ValueError, "output_padding"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, "same", 1), ValueError, "decides"),
        (lambda: nn.ConvTranspose2d(4, 6, 3, groups=4), ValueError, "groups"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, bias=None), TypeError, "bias"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, dilation="1"), TypeError, "dilation"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, accumulator=16), ValueError, "accumulator"),
        (lambda: nn.ConvTranspose2d(2, 6, 1, weights=np.zeros((2, 1, 1, 6))), mpsnn.ShapeError,
         "weights"),
        (lambda: ops.conv1d(normal(1, 5, 2), normal(3, 3, 1)), mpsnn.ShapeError, "channels"),
        (lambda: ops.conv1d(normal(1, 5, 2), normal(3, 1, 3, 2)), mpsnn.ShapeError, "image"),
        (lambda: ops.conv1d(normal(1, 5, 5, 2), normal(3, 3, 2)), mpsnn.ShapeError, "sequence"),
        (lambda: ops.conv1d(normal(1, 5, 2), normal(3, 7, 2)), mpsnn.ShapeError, "larger"),
        (lambda: ops.conv_transpose2d(normal(1, 1, 1, 2), normal(3, 1, 1, 2), padding=1),
         mpsnn.ShapeError, "leaves nothing"),
        (lambda: ops.conv_transpose2d(normal(1, 1, 1, 2), normal(3, 1, 1, 2), normal(2)),
         mpsnn.ShapeError, "bias"),
        (lambda: ops.conv_transpose2d(normal(1, 2, 2, 2), normal(3, 1, 1, 2), output_padding=1),
         ValueError, "smaller than stride"),
    ],
)  # fmt: skip
def test_convolutions_refuse(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "theirs", "shape"),
    [
        (lambda: nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True),
         lambda: torch.nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), (10, 9, 3)),
        (lambda: nn.AvgPool2d(3, 2, 1, True, False),
         lambda: torch.nn.AvgPool2d(3, 2, 1, True, False), (8, 9, 3)),
        (lambda: nn.AvgPool2d(3, 2, 1, True), lambda: torch.nn.AvgPool2d(3, 2, 1, True),
         (8, 8, 3)),
        (lambda: nn.L2Pool2d(2, 1), lambda: torch.nn.LPPool2d(2, 2, 1), (5, 6, 4)),
        (lambda: nn.MaxPool1d(3, 1, 1, 2), lambda: torch.nn.MaxPool1d(3, 1, 1, 2), (11, 3)),
        (lambda: nn.AvgPool1d(3, 2, 1), lambda: torch.nn.AvgPool1d(3, 2, 1), (11, 3)),
        (lambda: nn.L2Pool1d(4), lambda: torch.nn.LPPool1d(2, 4), (12, 3)),
        (nn.GlobalAvgPool2d, lambda: torch.nn.AdaptiveAvgPool2d(1), (7, 5, 4)),
        (nn.GlobalMaxPool2d, lambda: torch.nn.AdaptiveMaxPool2d(1), (7, 5, 4)),
        (lambda: nn.Upsample(2), lambda: torch.nn.Upsample(scale_factor=2), (3, 4, 5)),
        (lambda: nn.Upsample((2, 3), "bilinear"),
         lambda: torch.nn.Upsample(scale_factor=(2, 3), mode="bilinear"), (3, 4, 5)),
        (lambda: nn.Upsample(2, "bilinear", True),
         lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
         (3, 4, 5)),
        (lambda: nn.Resize((7, 3), "bilinear"),
         lambda: torch.nn.Upsample((7, 3), mode="bilinear"), (4, 5, 2)),
        (lambda: nn.Pad(((1, 2), (0, 3))), lambda: torch.nn.ZeroPad2d((0, 3, 1, 2)), (4, 5, 2)),
        (lambda: nn.Pad(1, "constant", -2.0), lambda: torch.nn.ConstantPad2d(1, -2.0), (4, 5, 2)),
        (lambda: nn.Pad((2, 1), "reflect"), lambda: torch.nn.ReflectionPad2d((1, 1, 2, 2)),
         (4, 5, 2)),
        (lambda: nn.Pad((2, 6), "edge"), lambda: torch.nn.ReplicationPad2d((6, 6, 2, 2)),
         (4, 5, 2)),
    ],
    ids=["max", "avg", "avg-counting", "l2", "max1d", "avg1d", "l21d", "global-avg", "global-max",
         "nearest", "bilinear", "corners", "resize", "zero", "constant", "reflect", "edge"],
)  # fmt: skip
def test_layers_agree_with_torch(device: str, make: Any, theirs: Any, shape: Any) -> None:
    """Forward, and the gradient of a cotangent, by `vjp`."""
    x, layer = normal(2, *shape), make()
    tx = first(x).requires_grad_()
    ty = theirs()(tx)
    cotangent = RNG.standard_normal(np.moveaxis(np.empty(ty.shape), 1, -1).shape).astype("float32")
    y, (by_x,) = mpsnn.vjp(layer, x, cotangent, device=device)
    close(y, ty)
    ty.backward(first(cotangent))
    close(by_x, tx.grad)


def test_crop() -> None:
    x = normal(2, 5, 6, 3)
    np.testing.assert_array_equal(nn.Crop(1, 2, 3, 4)(x), x[:, 1:4, 2:6])
    np.testing.assert_array_equal(ops.crop(x, 0, 0, 5, 6), x)
    (by_x,) = ops.crop_gradient(x[:, 1:4, 2:6], x, 1, 2, 3, 4)
    expected = np.zeros_like(x)
    expected[:, 1:4, 2:6] = x[:, 1:4, 2:6]
    np.testing.assert_array_equal(by_x, expected)


def test_l2_pooling_of_zeros_has_gradient_zero() -> None:
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0, 0, 3] = 2
    for where in ("cpu", "reference"):
        if where in [d.id for d in mpsnn.devices()]:
            (g,) = ops.l2_pool2d_gradient(np.ones((1, 1, 2, 1)), x, 2, device=where)
            np.testing.assert_array_equal(g.ravel(), [0, 0, 0, 1, 0, 0, 0, 0])


def test_infinity_beside_a_sampled_pixel_stays_there() -> None:
    x = np.array([1.0, np.inf, 3.0], np.float32).reshape(1, 1, 3, 1)
    for where in [d.id for d in mpsnn.devices() if d.kind in ("cpu", "reference")]:
        y = ops.resize(x, (1, 5), "bilinear", True, device=where)
        np.testing.assert_array_equal(y.ravel(), [1, np.inf, np.inf, np.inf, 3])


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.MaxPool2d(2, ceil_mode=1), TypeError, "ceil_mode"),
        (lambda: nn.MaxPool2d(2, padding=((0, 2), (0, 0))), ValueError, "half of the kernel"),
        (lambda: nn.MaxPool1d((2, 2)), ValueError, "kernel_size must be an integer"),
        (lambda: nn.MaxPool1d(2, -1), ValueError, "stride"),
        (lambda: nn.MaxPool1d(2, padding=2), ValueError, "half of the kernel"),
        (lambda: nn.MaxPool1d(2, dilation=0), ValueError, "dilation"),
        (lambda: nn.MaxPool1d(2, ceil_mode=None), TypeError, "ceil_mode"),
        (lambda: nn.AvgPool1d(0), ValueError, "kernel_size"),
        (lambda: nn.AvgPool1d(2, "2"), TypeError, "stride"),
        (lambda: nn.AvgPool1d(2, padding="half"), ValueError, "padding"),
        (lambda: nn.AvgPool1d(2, ceil_mode="x"), TypeError, "ceil_mode"),
        (lambda: nn.AvgPool1d(2, count_include_pad=2), TypeError, "count_include_pad"),
        (lambda: nn.L2Pool2d(2.5), TypeError, "kernel_size"),
        (lambda: nn.L2Pool2d(2, 0), ValueError, "stride"),
        (lambda: nn.L2Pool2d(2, padding=-1), ValueError, "padding"),
        (lambda: nn.L2Pool2d(2, ceil_mode=0), TypeError, "ceil_mode"),
        (lambda: nn.L2Pool1d(()), ValueError, "kernel_size"),
        (lambda: nn.L2Pool1d(2, None, 3), ValueError, "half of the kernel"),
        (lambda: nn.Upsample(0), ValueError, "scale_factor"),
        (lambda: nn.Upsample(1.5), TypeError, "scale_factor"),
        (lambda: nn.Upsample(2, "cubic"), ValueError, "mode"),
        (lambda: nn.Upsample(2, "bilinear", 1), TypeError, "align_corners"),
        (lambda: nn.Upsample(2, "nearest", True), ValueError, "align_corners"),
        (lambda: nn.Resize((0, 1)), ValueError, "size"),
        (lambda: nn.Resize("8"), TypeError, "size"),
        (lambda: nn.Resize(8, None), ValueError, "mode"),
        (lambda: nn.Resize(8, align_corners=True), ValueError, "align_corners"),
        (lambda: nn.Pad("same"), TypeError, "padding"),
        (lambda: nn.Pad((1, 2, 3)), ValueError, "padding"),
        (lambda: nn.Pad(2**40), ValueError, "padding"),
        (lambda: nn.Pad(-(2**40)), ValueError, "padding"),
        (lambda: nn.Pad(1, "wrap"), ValueError, "mode"),
        (lambda: nn.Pad(1, "constant", float("nan")), ValueError, "value"),
        (lambda: nn.Pad(1, "constant", "x"), TypeError, "value"),
        (lambda: nn.Pad(1, "edge", 1.0), ValueError, "value"),
        (lambda: nn.Crop(-1, 0, 1, 1), ValueError, "top"),
        (lambda: nn.Crop(0, 0.5, 1, 1), TypeError, "left"),
        (lambda: nn.Crop(0, 0, 0, 1), ValueError, "height"),
        (lambda: nn.Crop(0, 0, 1, None), TypeError, "width"),
        (lambda: nn.MaxPool2d(2)(normal(1, 4, 3)), mpsnn.ShapeError, "kernel height 2"),
        (lambda: nn.MaxPool1d(2)(normal(1, 4, 4, 3)), mpsnn.ShapeError, "sequence"),
        (lambda: nn.AvgPool1d(5)(normal(1, 4, 3)), mpsnn.ShapeError, "larger"),
        (lambda: nn.GlobalAvgPool2d()(normal(2, 4, 3)), mpsnn.ShapeError, "expected"),
        (lambda: nn.GlobalMaxPool2d()(normal(2, 4)), mpsnn.ShapeError, "expected"),
        (lambda: nn.Resize(4)(normal(2, 4)), mpsnn.ShapeError, "axes"),
        (lambda: nn.Upsample(2)(normal(2, 4, 4)), mpsnn.ShapeError, "expected"),
        (lambda: nn.Pad(3, "reflect")(normal(1, 3, 5, 1)), mpsnn.ShapeError, "smaller"),
        (lambda: nn.Pad(-2)(normal(1, 4, 5, 1)), mpsnn.ShapeError, "leaves nothing"),
        (lambda: nn.Pad(1)(normal(1, 4, 5)), ValueError, "sequence"),
        (lambda: nn.Crop(2, 0, 3, 1)(normal(1, 4, 4, 1)), mpsnn.ShapeError, "beyond"),
        (lambda: ops.pad(np.zeros((1, 2, 2, 1), int), 1), mpsnn.DTypeError, "floating"),
    ],
)  # fmt: skip
def test_pooling_and_resampling_refuse(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
