"""Bad input: a typed error that names the layer or file, what was expected and what came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import safetensors.numpy
from mpsnn import nn, optim


def train(model: nn.Module, shape: Any = (8, 8, 1), **options: Any) -> mpsnn.TrainingGraph:
    arguments: dict[str, Any] = {
        "loss": nn.SoftmaxCrossEntropy(),
        "optimizer": optim.SGD(0.1),
        "batch_size": 4,
        "device": "reference",
    }
    return mpsnn.TrainingGraph(model, input_shape=shape, **{**arguments, **options})


def infer(model: Any = None, **options: Any) -> mpsnn.InferenceGraph:
    arguments: dict[str, Any] = {"input_shape": (8, 8, 1), "batch_size": 4, "device": "reference"}
    return mpsnn.InferenceGraph(small() if model is None else model, **{**arguments, **options})


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


NAN, INF = float("nan"), float("inf")
X = np.zeros((4, 8, 8, 1), np.float32)
Y = np.zeros(4, np.int64)


def test_wrong_channels_name_the_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)

        def forward(self, x: Any) -> Any:
            return self.conv1(x)

    message = r"\[Conv2d conv1\] weight expects 3 input channels, image has 4"
    with pytest.raises(mpsnn.ShapeError, match=message):
        mpsnn.InferenceGraph(Net(), input_shape=(8, 8, 4), batch_size=1, device="reference")


@pytest.mark.parametrize(
    ("images", "labels", "error", "text"),
    [
        (X[:0], Y[:0], mpsnn.ShapeError, "empty"),
        (np.zeros((5, 8, 8, 1), np.float32), np.zeros(5, int), mpsnn.ShapeError, "at most 4"),
        (X[:, :7], Y, mpsnn.ShapeError, r"expected \(4, 8, 8, 1\), got \(4, 7, 8, 1\)"),
        (X[..., 0], Y, mpsnn.ShapeError, "expected"),
        (X, Y[:3], mpsnn.ShapeError, r"got \(3"),
        (X.astype(np.uint8), Y, mpsnn.DTypeError, "/255"),
        (X.astype(bool), Y, mpsnn.DTypeError, "/255"),
        (X.astype(np.int64), Y, mpsnn.DTypeError, "/255"),
        (X.astype(object), Y, mpsnn.DTypeError, "object"),
        (X, Y.astype(np.float32), mpsnn.DTypeError, "integers"),
        (X, Y + 10, ValueError, r"10 is outside 0\.\.9"),
        (X, Y - 1, ValueError, r"-1 is outside 0\.\.9"),
        (X, np.zeros((4, 3), np.float32), mpsnn.ShapeError, r"got \(4, 3\)"),
    ],
)
def test_encode_refuses(images: Any, labels: Any, error: type[Exception], text: str) -> None:
    model = small()
    graph = train(model)
    before = np.array(model.state_dict()["1.weight"])
    with pytest.raises(error, match=text):
        graph.encode(images, labels)
    np.testing.assert_array_equal(np.asarray(model.state_dict()["1.weight"]), before)
    graph.encode(X, Y).wait()  # nothing was lost: the slot is free again


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(0, 4, 3),
        lambda: nn.Conv2d(3, -1, 3),
        lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv2d(3, 4, (3, 3, 3)),
        lambda: nn.Conv2d(3, 4, 3, stride=0),
        lambda: nn.Conv2d(3, 4, 3, dilation=0),
        lambda: nn.Conv2d(3, 4, 3, padding=-1),
        lambda: nn.Conv2d(3, 4, 3, padding="full"),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(2.5, 4, 3),
        lambda: nn.Conv2d("3", 4, 3),
        lambda: nn.Linear(0, 4),
        lambda: nn.Linear(4, 0),
        lambda: nn.Linear(4.5, 1),
        lambda: nn.MaxPool2d(0),
        lambda: nn.MaxPool2d(2, stride=-1),
        lambda: nn.MaxPool2d("2"),
        lambda: nn.AvgPool2d(2, padding=-1),
        lambda: nn.BatchNorm2d(0),
        lambda: nn.BatchNorm2d(4, eps=0),
        lambda: nn.BatchNorm2d(4, momentum=2),
        lambda: nn.Dropout(1.0),
        lambda: nn.Dropout(-0.1),
        lambda: nn.Dropout("half"),
        lambda: nn.Dropout2d(1.0),
        lambda: nn.Dropout2d(-0.1),
        lambda: nn.Dropout2d(None),
        lambda: nn.ReLUN(INF),
        lambda: nn.ReLUN(b=0),
        lambda: nn.ReLUN(b="6"),
        lambda: nn.HardSigmoid("a"),
        lambda: nn.HardSigmoid(b=NAN),
        lambda: nn.Tanh(a=INF),
        lambda: nn.Tanh(b=None),
        lambda: nn.Softplus(0),
        lambda: nn.Softplus("x"),
        lambda: nn.Softplus(a=NAN),
        lambda: nn.ELU(INF),
        lambda: nn.ELU([1, 2]),
        lambda: nn.CELU(0),
        lambda: nn.CELU("x"),
        lambda: nn.GELU("erf"),
        lambda: nn.GELU(True),
        lambda: nn.LinearNeuron(a=NAN),
        lambda: nn.LinearNeuron(b="x"),
        lambda: nn.Power(a="x"),
        lambda: nn.Power(b=INF),
        lambda: nn.Power(c=None),
        lambda: nn.Exp(a="x"),
        lambda: nn.Exp(b=NAN),
        lambda: nn.Exp(c=0),
        lambda: nn.Exp(c=-2),
        lambda: nn.Log(a="x"),
        lambda: nn.Log(b=INF),
        lambda: nn.Log(c=1),
        lambda: nn.Log(c=-3),
        lambda: nn.PReLU(0),
        lambda: nn.PReLU(2.5),
        lambda: nn.PReLU(2, init=NAN),
        lambda: nn.PReLU(3)(X),
        lambda: nn.Dropout2d()(X[0]),
        lambda: mpsnn.ops.neuron(X, "swish"),
        lambda: mpsnn.ops.neuron(X, "elu", a="x"),
        lambda: mpsnn.ops.neuron(X, "logarithm", c=1),
        lambda: mpsnn.ops.neuron(X, "exponential", c=-2),
        lambda: mpsnn.ops.prelu(X, X[0, 0, :2, 0]),
        lambda: nn.GroupNorm(0, 4),
        lambda: nn.GroupNorm(3, 4),
        lambda: nn.GroupNorm(2, 0),
        lambda: nn.GroupNorm(2, 4, eps=0),
        lambda: nn.GroupNorm(2, 4, affine=1),
        lambda: nn.GroupNorm(2, 4)(X),
        lambda: nn.InstanceNorm2d(0),
        lambda: nn.InstanceNorm2d(1, eps=-1),
        lambda: nn.InstanceNorm2d(1, affine="yes"),
        lambda: nn.InstanceNorm2d(2)(X),
        lambda: nn.InstanceNorm2d(1)(X[0]),
        lambda: nn.LayerNorm(0),
        lambda: nn.LayerNorm(()),
        lambda: nn.LayerNorm("x"),
        lambda: nn.LayerNorm(1, eps=NAN),
        lambda: nn.LayerNorm(1, elementwise_affine=0),
        lambda: nn.LayerNorm(1, bias=None),
        lambda: nn.LayerNorm((8, 2))(X),
        lambda: nn.LocalResponseNorm(0),
        lambda: nn.LocalResponseNorm(2.5),
        lambda: nn.LocalResponseNorm(3, alpha=-1),
        lambda: nn.LocalResponseNorm(3, beta="x"),
        lambda: nn.LocalResponseNorm(3, k=-1),
        lambda: nn.LocalResponseNorm(3, across="time"),
        lambda: nn.LocalResponseNorm(3, across="space")(X[0]),
        lambda: nn.LocalContrastNorm(0),
        lambda: nn.LocalContrastNorm(3, alpha=-1),
        lambda: nn.LocalContrastNorm(3, beta=NAN),
        lambda: nn.LocalContrastNorm(3, delta=0),
        lambda: nn.LocalContrastNorm(3, p0="x"),
        lambda: nn.LocalContrastNorm(3, pm=INF),
        lambda: nn.LocalContrastNorm(3, ps=None),
        lambda: nn.LocalContrastNorm(3)(X[0]),
        lambda: nn.SoftmaxCrossEntropy(reduction="none?"),
        lambda: nn.SoftmaxCrossEntropy(ignore_index=1.5),
        lambda: nn.SoftmaxCrossEntropy(weight="x"),
        lambda: nn.MAE(reduction="max"),
        lambda: nn.MAE(weight=[NAN]),
        lambda: nn.MSE(weight=[[1.0]]),
        lambda: nn.Huber(reduction=None),
        lambda: nn.Huber(delta=0),
        lambda: nn.Huber(weight=[-1.0]),
        lambda: nn.KLDivergence(reduction="batchmean"),
        lambda: nn.KLDivergence(weight="x"),
        lambda: nn.SigmoidCrossEntropy(reduction=1),
        lambda: nn.SigmoidCrossEntropy(weight=[INF]),
        lambda: nn.SigmoidCrossEntropy(label_smoothing=1.5),
        lambda: nn.SigmoidCrossEntropy(ignore_index="x"),
        lambda: nn.CategoricalCrossEntropy(reduction="max"),
        lambda: nn.CategoricalCrossEntropy(weight=3.0),
        lambda: nn.CategoricalCrossEntropy(ignore_index=2**40),
        lambda: nn.Hinge(reduction="max"),
        lambda: nn.Hinge(weight=["a"]),
        lambda: nn.Hinge(ignore_index=None),
        lambda: nn.LogLoss(reduction="max"),
        lambda: nn.LogLoss(epsilon=0),
        lambda: nn.LogLoss(weight=[-0.5]),
        lambda: nn.LogLoss(ignore_index=True),
        lambda: nn.CosineDistance(reduction="max"),
        lambda: nn.YOLO("x"),
        lambda: nn.YOLO([]),
        lambda: nn.YOLO([1, 2]),
        lambda: nn.YOLO([(1, 0)]),
        lambda: nn.YOLO([(1, 2)], "max"),
        lambda: nn.YOLO([(1, 2)], rescore=1),
        lambda: nn.YOLO([(1, 2)], scale_xy=-1),
        lambda: nn.YOLO([(1, 2)], scale_wh=NAN),
        lambda: nn.YOLO([(1, 2)], scale_no_object="x"),
        lambda: nn.YOLO([(1, 2)], scale_object=-1),
        lambda: nn.YOLO([(1, 2)], scale_class=INF),
        lambda: nn.YOLO([(1, 2)], min_iou_for_object_presence=2),
        lambda: nn.YOLO([(1, 2)], max_iou_for_object_absence=-1),
        lambda: nn.YOLO([(1, 2)])(X, X),
        lambda: nn.YOLO([(1, 2)])(np.zeros((2, 3, 3, 6)), np.zeros((2, 3, 3, 7))),
        lambda: nn.YOLO([(1, 2)])(np.zeros((2, 3, 6)), np.zeros((2, 3, 6))),
        lambda: nn.CosineDistance()(X, X[:2]),
        lambda: nn.CosineDistance()(X[:, 0, 0, 0], X[:, 0, 0, 0]),
        lambda: nn.Huber()(X, X[..., 0]),
        lambda: nn.Huber()(X, X, X[:2, 0, 0, 0]),
        lambda: nn.Huber(weight=[1.0, 2.0])(X, X),
        lambda: nn.Hinge()(X[:, :, 0, 0], Y + 8),
        lambda: nn.MSE()(X[:, :, 0, 0], Y),
        lambda: nn.SoftmaxCrossEntropy(label_smoothing=2),
        lambda: nn.SoftmaxCrossEntropy(weight=[-1.0]),
        lambda: nn.MSE(reduction="max"),
        lambda: optim.SGD(-1),
        lambda: optim.SGD(0.1, momentum=-1),
        lambda: optim.SGD(0.1, nesterov=True),
        lambda: optim.SGD("fast"),
        lambda: optim.Adam(1e-3, betas=(1.0, 0.9)),
        lambda: optim.Adam(1e-3, eps=-1),
        lambda: optim.Adam(1e-3, weight_decay=-1),
        lambda: optim.RMSProp(1e-3, alpha=-1),
        lambda: optim.SGD(0.1, groups=[("x", {"speed": 1})]),
        lambda: nn.Sequential(3),
        lambda: nn.LeakyReLU("a"),
        lambda: mpsnn.data.batches(X, Y[:2], 2),
        lambda: mpsnn.data.batches(X, Y, 0),
        lambda: mpsnn.set_num_threads(0),
        lambda: mpsnn.manual_seed("x"),
        lambda: train(small(), batch_size=0),
        lambda: train(small(), accumulate=0),
        lambda: train(small(), clip_norm=-1),
        lambda: train(small(), clip_value=0),
        lambda: train(small(), shape=(8, 0, 1)),
        lambda: train(small(), outputs=["9:grad"]),
        lambda: train(small(), dtype="float8"),
        lambda: train(small(), loss="mse"),
        lambda: train(small(), optimizer="adam"),
        lambda: train(small(), loss_scale=-2),
        lambda: train("model"),
        lambda: nn.Conv2d(1, 2, 3, bias=1),
        lambda: nn.Conv2d(1, 2, 3, accumulator="double"),
        lambda: nn.Conv2d(1, 2, 3, weights=np.zeros((2, 2))),
        lambda: nn.Conv2d(1, 2, 3, weights=np.zeros((2, 3, 3, 1), int)),
        lambda: nn.Conv2d(1, 2, 3, weights="x"),
        lambda: nn.Conv2d(1, 2, 3, padding=None),
        lambda: nn.Conv2d(1, 2, None),
        lambda: nn.Conv2d(True, 2, 3),
        lambda: nn.Conv2d(1, 2, 3, padding=(1, 2, 3)),
        lambda: nn.Conv2d(1, 2, 10**12),
        lambda: nn.Linear(10**10, 10**10),
        lambda: nn.Linear(4, 4, bias="yes"),
        lambda: nn.Linear(4, 4, accumulator=16),
        lambda: nn.Linear(4, 4, weights=[[1, 2]]),
        lambda: nn.MaxPool2d(2, padding=2),
        lambda: nn.MaxPool2d(2, dilation=0),
        lambda: nn.MaxPool2d(2, padding="half"),
        lambda: nn.AvgPool2d(2, count_include_pad=1),
        lambda: nn.AvgPool2d((2, 2, 2)),
        lambda: nn.BatchNorm1d(2.5),
        lambda: nn.BatchNorm1d(4, eps=NAN),
        lambda: nn.BatchNorm1d(4, momentum=-1),
        lambda: nn.BatchNorm2d(4, momentum="x"),
        lambda: nn.LeakyReLU(NAN),
        lambda: nn.LeakyReLU(None),
        lambda: nn.Dropout(NAN),
        lambda: nn.Dropout(None),
        lambda: nn.SoftmaxCrossEntropy(weight=[[1.0]]),
        lambda: nn.SoftmaxCrossEntropy(weight=["a"]),
        lambda: nn.SoftmaxCrossEntropy(weight=[NAN]),
        lambda: nn.SoftmaxCrossEntropy(weight=[INF]),
        lambda: nn.SoftmaxCrossEntropy(weight=object()),
        lambda: nn.SoftmaxCrossEntropy(ignore_index=2**40),
        lambda: nn.SoftmaxCrossEntropy(label_smoothing="a"),
        lambda: nn.MSE(3),
        lambda: nn.ModuleList([3]),
        lambda: nn.ModuleList(3),
        lambda: nn.ModuleDict({"a.b": nn.ReLU()}),
        lambda: nn.ModuleDict({"a": 3}),
        lambda: nn.ModuleDict(3),
        lambda: nn.module.Parameter("a"),
        lambda: nn.module.Parameter(np.array(["x"])),
        lambda: optim.Adam(NAN),
        lambda: optim.Adam(INF),
        lambda: optim.Adam(1e-3, betas=0.9),
        lambda: optim.Adam(1e-3, betas=(0.9,)),
        lambda: optim.Adam(1e-3, groups=3),
        lambda: optim.Adam(1e-3, groups=[("a",)]),
        lambda: optim.AdamW(1e-3, weight_decay=NAN),
        lambda: optim.RMSProp(1e-3, centered=1),
        lambda: optim.RMSProp(1e-3, momentum="x"),
        lambda: optim.SGD(0.1, momentum=0.9, dampening=0.1, nesterov=True),
        lambda: optim.StepDecay(-1, 2),
        lambda: optim.StepDecay(0.1, 0),
        lambda: optim.ExponentialDecay(0.1, -1),
        lambda: optim.CosineDecay(0.1, 0),
        lambda: optim.CosineDecay(0.1, 5, last=-1),
        lambda: optim.LinearWarmup(0, 0.1),
        lambda: optim.LinearWarmup(5, "x"),
        lambda: mpsnn.ImageBatch(np.zeros((2, 2))),
        lambda: mpsnn.ImageBatch("x"),
        lambda: mpsnn.ImageBatch(np.zeros((1, 2, 2, 1)), dtype="f8"),
        lambda: mpsnn.Tensor(np.zeros(2), "float8"),
        lambda: mpsnn.Tensor(np.zeros(2), 3),
        lambda: mpsnn.data.batches(X, Y, 2.5),
        lambda: mpsnn.data.batches(X, Y, 2, seed=-1),
        lambda: mpsnn.data.batches(X, Y, 2, shuffle=1),
        lambda: mpsnn.data.batches(3, Y, 2),
        lambda: mpsnn.set_num_threads("x"),
        lambda: mpsnn.set_num_threads(10**9),
        lambda: mpsnn.manual_seed(-1),
        lambda: train(small(), shape=8),
        lambda: train(small(), shape=()),
        lambda: train(small(), shape="abc"),
        lambda: train(small(), shape=(8, 8.5, 1)),
        lambda: train(small(), shape=((8, 8, 1), (8, 8, 1))),
        lambda: train(small(), shape={"nope": (8, 8, 1)}),
        lambda: train(small(), shape=(8, 8, 2)),
        lambda: train(small(), shape=(10**6, 10**6, 10**6)),
        lambda: train(small(), batch_size=2.5),
        lambda: train(small(), batch_size=10**15),
        lambda: train(small(), device=3),
        lambda: train(small(), dtype=3),
        lambda: train(small(), seed=-1),
        lambda: train(small(), seed="x"),
        lambda: train(small(), seed=2**70),
        lambda: train(small(), outputs="x:grad"),
        lambda: train(small(), outputs=[3]),
        lambda: train(small(), outputs=["x:grad:grad"]),
        lambda: train(small(), accumulate=1.5),
        lambda: train(small(), accumulate=2**40),
        lambda: train(small(), clip_value=NAN),
        lambda: train(small(), clip_norm="x"),
        lambda: train(small(), loss_scale="auto"),
        lambda: train(small(), loss_scale=0),
        lambda: train(small(), loss_scale=NAN),
        lambda: train(small(), check_finite=1),
        lambda: train(small(), accumulator="float64"),
        lambda: train(small(), ema=1.5),
        lambda: train(small(), loss_weights=[1]),
        lambda: train(small(), optimizer=optim.SGD),
        lambda: train(small(), loss=nn.SoftmaxCrossEntropy),
        lambda: train(small(), loss=nn.SoftmaxCrossEntropy(weight=[1.0, 2.0])),
        lambda: infer(3),
        lambda: infer(batch_size=0),
        lambda: infer(dtype="int8"),
        lambda: infer(device="tpu"),
        lambda: mpsnn.datasets.mnist(3),
        lambda: train(small(), seed=2**63),
        lambda: mpsnn.data.batches(X, Y, 2, seed=2**63),
        lambda: mpsnn.vjp(lambda x: x + x, X, X, seed=2**64),
    ],
)
def test_constructors_refuse(make: Any) -> None:
    kinds = (ValueError, TypeError, MemoryError, mpsnn.UnsupportedError, mpsnn.DeviceError)
    with pytest.raises(kinds) as caught:
        make()
    assert str(caught.value).strip()
    assert "incompatible function arguments" not in str(caught.value)  # pybind11's own


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda g, p: g.encode(X, None), TypeError, "targets"),
        (lambda g, p: g.encode(None, Y), TypeError, "x"),
        (lambda g, p: g.encode(X, Y, weights=X[:3, 0, 0, 0]), mpsnn.ShapeError, "weights"),
        (lambda g, p: g.encode(X, Y, weights=Y), mpsnn.DTypeError, "weights"),
        (lambda g, p: g.encode(X, Y, weights="x"), mpsnn.DTypeError, "numbers"),
        (lambda g, p: g.encode("abc", Y), mpsnn.DTypeError, "numbers"),
        (lambda g, p: g.encode((X, X), Y), mpsnn.ShapeError, "expected"),
        (lambda g, p: g.encode({"y": X}, Y), ValueError, "inputs"),
        (lambda g, p: g.encode(X, Y[:, None]), mpsnn.ShapeError, "targets"),
        (lambda g, p: p("abc"), mpsnn.DTypeError, r"\[input x\] .* numbers, got dtype <U3"),
        (lambda g, p: p([[1], [1, 2]]), mpsnn.DTypeError, r"\[input x\]"),
        (lambda g, p: g.encode(X, "abc"), mpsnn.DTypeError, r"\[input targets\] .* got dtype <U3"),
        (lambda g, p: p(X[0]), mpsnn.ShapeError, "expected"),
        (lambda g, p: p(X.astype(int)), mpsnn.DTypeError, "/255"),
        (lambda g, p: p.evaluate(X, Y[:2]), (ValueError, mpsnn.ShapeError), "2"),
        (lambda g, p: p.evaluate(X, Y, loss=3), TypeError, "loss"),
        (lambda g, p: p.evaluate(X, Y, metrics="accuracy"), (TypeError, ValueError), "metrics"),
        (lambda g, p: mpsnn.vjp(nn.ReLU(), [X], X[:2]), mpsnn.ShapeError, "got"),
    ],
)
def test_calls_refuse(call: Any, error: Any, text: str) -> None:
    graph, predict = train(small()), infer()
    with pytest.raises(error, match=text):
        call(graph, predict)
    graph.encode(X, Y).wait()
    assert predict(X).shape == (4, 10)


def test_more_weights_than_memory_name_the_layer() -> None:
    with pytest.raises(mpsnn.OutOfMemoryError, match=r"\[Linear\] no memory for weights"):
        nn.Linear(10**10, 10**10)


def test_unknown_device_lists_what_there_is() -> None:
    with pytest.raises(mpsnn.DeviceError, match="reference"):
        train(small(), device="cuda:7")


def test_one_value_a_channel_in_training() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    with pytest.raises(mpsnn.ShapeError, match="BatchNorm1d 2"):
        train(model, batch_size=1)


def test_unregistered_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = {"hidden": nn.Linear(64, 10)}
            self.flat = nn.Flatten()

        def forward(self, x: Any) -> Any:
            return self.layers["hidden"](self.flat(x))

    with pytest.raises((ValueError, TypeError, RuntimeError), match="registered"):
        train(Net())


def test_loading_is_all_or_nothing(tmp_path: Path) -> None:
    model = small()
    path = tmp_path / "m.safetensors"
    model.save(path)
    before = np.array(model.state_dict()["1.weight"])
    good = dict(model.state_dict())
    for broken, error in (
        ({**good, "2.weight": good["1.weight"]}, ValueError),
        ({"1.weight": good["1.weight"] + 1}, ValueError),
        ({**good, "1.weight": good["1.weight"][:5] + 1}, mpsnn.ShapeError),
        ({"1.weight": good["1.weight"] + 1, "1.bias": np.zeros(3, np.float32)}, mpsnn.ShapeError),
    ):
        with pytest.raises(error):
            model.load_state_dict(broken)
        np.testing.assert_array_equal(np.asarray(model.state_dict()["1.weight"]), before)
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "absent.safetensors")
    with pytest.raises(IsADirectoryError):
        model.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"1234567", b"\xff" * 8, (10**9).to_bytes(8, "little") + b"{}",
     (2).to_bytes(8, "little") + b"[]", (100).to_bytes(8, "little") + b"[" * 100,
     (50000).to_bytes(8, "little") + b'{"a":' * 10000,
     (65).to_bytes(8, "little")
     + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999999999]}}'[:65],
     (63).to_bytes(8, "little") +
     b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"d":[0,0]}}'],
    ids=range(9),
)  # fmt: skip
def test_hostile_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    with pytest.raises(mpsnn.FormatError, match="hostile"):
        small().load(path)


def test_foreign_safetensors_point_to_the_torch_loader(tmp_path: Path) -> None:
    path = tmp_path / "torch.safetensors"
    safetensors.numpy.save_file({"1.weight": np.zeros((10, 64), np.float32)}, path)
    with pytest.raises(mpsnn.FormatError, match="load_torch_state_dict"):
        small().load(path)


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    small().save(path)
    whole = path.read_bytes()
    for length in (0, 4, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(mpsnn.FormatError):
            small().load(path)
