"""Bad input: a typed error that names the layer or file, what was expected and what came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim


def train(model: nn.Module, shape: Any = (8, 8, 1), **options: Any) -> mpsnn.TrainingGraph:
    arguments: dict[str, Any] = {
        "loss": nn.SoftmaxCrossEntropy(),
        "optimizer": optim.SGD(0.1),
        "batch_size": 4,
        "device": "reference",
    }
    return mpsnn.TrainingGraph(model, input_shape=shape, **{**arguments, **options})


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


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
        lambda: nn.Conv2d(0, 4, 3), lambda: nn.Conv2d(3, -1, 3), lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv2d(3, 4, (3, 3, 3)), lambda: nn.Conv2d(3, 4, 3, stride=0),
        lambda: nn.Conv2d(3, 4, 3, dilation=0), lambda: nn.Conv2d(3, 4, 3, padding=-1),
        lambda: nn.Conv2d(3, 4, 3, padding="full"), lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(2.5, 4, 3), lambda: nn.Conv2d("3", 4, 3),
        lambda: nn.Linear(0, 4), lambda: nn.Linear(4, 0), lambda: nn.Linear(4.5, 1),
        lambda: nn.MaxPool2d(0), lambda: nn.MaxPool2d(2, stride=-1), lambda: nn.MaxPool2d("2"),
        lambda: nn.AvgPool2d(2, padding=-1), lambda: nn.BatchNorm2d(0),
        lambda: nn.BatchNorm2d(4, eps=0), lambda: nn.BatchNorm2d(4, momentum=2),
        lambda: nn.Dropout(1.0), lambda: nn.Dropout(-0.1), lambda: nn.Dropout("half"),
        lambda: nn.SoftmaxCrossEntropy(reduction="none?"),
        lambda: nn.SoftmaxCrossEntropy(label_smoothing=2),
        lambda: nn.SoftmaxCrossEntropy(weight=[-1.0]), lambda: nn.MSE(reduction="max"),
        lambda: optim.SGD(-1), lambda: optim.SGD(0.1, momentum=-1),
        lambda: optim.SGD(0.1, nesterov=True), lambda: optim.SGD("fast"),
        lambda: optim.Adam(1e-3, betas=(1.0, 0.9)), lambda: optim.Adam(1e-3, eps=-1),
        lambda: optim.Adam(1e-3, weight_decay=-1), lambda: optim.RMSProp(1e-3, alpha=-1),
        lambda: optim.SGD(0.1, groups=[("x", {"speed": 1})]),
        lambda: nn.Sequential(3), lambda: nn.LeakyReLU("a"),
        lambda: mpsnn.data.batches(X, Y[:2], 2), lambda: mpsnn.data.batches(X, Y, 0),
        lambda: mpsnn.set_num_threads(0), lambda: mpsnn.manual_seed("x"),
        lambda: train(small(), batch_size=0), lambda: train(small(), accumulate=0),
        lambda: train(small(), clip_norm=-1), lambda: train(small(), clip_value=0),
        lambda: train(small(), shape=(8, 0, 1)), lambda: train(small(), outputs=["9:grad"]),
        lambda: train(small(), dtype="float8"), lambda: train(small(), loss="mse"),
        lambda: train(small(), optimizer="adam"), lambda: train(small(), loss_scale=-2),
        lambda: train("model"), lambda: train(small(), seed=-1),
        lambda: train(small(), seed=2**63), lambda: mpsnn.data.batches(X, Y, 2, seed=2**63),
        lambda: mpsnn.vjp(lambda x: x + x, X, X, seed=2**64),
    ],
)  # fmt: skip
def test_constructors_refuse(make: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert str(caught.value).strip()
    assert "incompatible function arguments" not in str(caught.value)  # pybind11's own


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
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "torch.safetensors"
    numpy.save_file({"1.weight": np.zeros((10, 64), np.float32)}, path)
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
