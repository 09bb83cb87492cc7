"""PyTorch's weights, copies and pickles, DLPack and buffers, the command line, logging, devices."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import safetensors.numpy
import torch
from mpsnn import nn, ops, optim
from torch import nn as tnn

RNG = np.random.default_rng(8)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Ours(nn.Module):
    """A branch, a sum, a concatenation, normalisation and dense layers behind Flattens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.group = nn.Conv2d(4, 6, 1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.flatten, self.rows = nn.Flatten(), nn.BatchNorm1d(6 * 5 * 4)
        self.wide, self.last = nn.Linear(6 * 5 * 4 + 4 * 5 * 4, 7), nn.Linear(7, 2)

    def forward(self, x: Any) -> Any:
        a = ops.relu(self.conv(x))
        b = self.norm(self.group(a))
        rows = self.rows(self.flatten(b))
        return self.last(ops.tanh(self.wide(nn.concat([rows, self.flatten(a)]))))


class Theirs(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = tnn.Conv2d(3, 4, 3, padding=1)
        self.group = tnn.Conv2d(4, 6, 1, groups=2)
        self.norm = tnn.BatchNorm2d(6)
        self.flatten, self.rows = tnn.Flatten(), tnn.BatchNorm1d(6 * 5 * 4)
        self.wide, self.last = tnn.Linear(6 * 5 * 4 + 4 * 5 * 4, 7), tnn.Linear(7, 2)

    def forward(self, x: Any) -> Any:
        a = torch.relu(self.conv(x))
        b = self.norm(self.group(a))
        rows = self.rows(self.flatten(b))
        return self.last(torch.tanh(self.wide(torch.cat([rows, self.flatten(a)], 1))))


def shuffled() -> Theirs:
    theirs = Theirs().eval()
    with torch.no_grad():
        for tensor in [*theirs.parameters(), *theirs.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.1)
    return theirs


def same(ours: nn.Module, theirs: tnn.Module) -> None:
    x = floats(3, 5, 4, 3)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["dict", "numpy", "torch.save", "safetensors"])
def test_torch_weights_load(form: str, tmp_path: Path) -> None:
    theirs, ours = shuffled(), Ours()
    source: Any = theirs.state_dict()
    if form == "numpy":
        source = {n: t.numpy() for n, t in source.items()}
    elif form == "torch.save":
        torch.save(source, tmp_path / "w.pt")
        source = tmp_path / "w.pt"
    elif form == "safetensors":
        safetensors.numpy.save_file(
            {n: t.numpy() for n, t in source.items()}, tmp_path / "w.safetensors"
        )
        source = tmp_path / "w.safetensors"
    ours.load_torch_state_dict(source, (5, 4, 3))
    same(ours, theirs)


def test_torch_weights_go_back() -> None:
    theirs, ours = Theirs().eval(), Ours()
    for _, parameter in ours._all_arrays():
        parameter.assign(RNG.random(parameter.shape, np.float32) + 0.1)
    state = {n: torch.from_numpy(v) for n, v in ours.torch_state_dict((5, 4, 3)).items()}
    theirs.load_state_dict(state)
    same(ours, theirs)
    again = Ours()
    again.load_torch_state_dict(state, (5, 4, 3))
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)


def test_torch_weights_that_do_not_fit(tmp_path: Path) -> None:
    ours, state = Ours(), Theirs().state_dict()
    before = ours.state_dict()
    wrong = {**state, "wide.weight": torch.zeros(7, 5)}
    with pytest.raises(mpsnn.ShapeError, match=r"wide\.weight"):
        ours.load_torch_state_dict(wrong, (5, 4, 3))
    with pytest.raises(ValueError, match="missing"):
        ours.load_torch_state_dict({"conv.bias": state["conv.bias"]}, (5, 4, 3))
    with pytest.raises(mpsnn.DTypeError, match=r"conv\.bias"):
        ours.load_torch_state_dict({**state, "conv.bias": torch.zeros(4, dtype=torch.int64)},
                                   (5, 4, 3))  # fmt: skip
    (tmp_path / "junk").write_bytes(b"junk" * 20)
    with pytest.raises(mpsnn.FormatError, match="junk"):
        ours.load_torch_state_dict(tmp_path / "junk", (5, 4, 3))
    with pytest.raises(FileNotFoundError):
        ours.load_torch_state_dict(tmp_path / "absent", (5, 4, 3))
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(12, 12)
            self.flatten = nn.Flatten()

        def forward(self, x: Any) -> Any:
            return self.dense(self.dense(self.flatten(x)))

    assert "1.weight" in model.torch_state_dict((2, 2, 3))
    with pytest.raises(mpsnn.UnsupportedError, match=r"dense\.weight"):
        Twice().torch_state_dict((2, 2, 3))


def test_optimizers_copy_and_pickle_and_graphs_do_not() -> None:
    recipe = optim.AdamW(optim.CosineDecay(0.1, 10), groups=[("*.bias", {"weight_decay": 0.0})])
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for other in (copy.copy(recipe), copy.deepcopy(recipe), pickle.loads(pickle.dumps(recipe))):
        assert repr(other).split("<")[0] == repr(recipe).split("<")[0]
        assert (other.hyper, len(other.groups)) == (recipe.hyper, 1)
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), recipe, (4,), 2, "reference")
    predict = mpsnn.InferenceGraph(model, (4,), 2, "reference")
    for made in (graph, predict):
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="graphs do not"):
                attempt(made)


@pytest.mark.parametrize(
    "kind", ["torch", "strided torch", "float64", "tensor", "dlpack", "matrix"]
)
def test_inputs_of_every_kind(device: str, kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    predict = mpsnn.InferenceGraph(model, (4,), 8, device)
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), None, (4,), 8, device)
    x, y = floats(8, 4), np.arange(8) % 3
    expected, loss = predict(x), graph.encode(x, y).loss

    class Only:
        """Nothing but DLPack."""

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape = array, array.shape

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__()

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    given: Any = {
        "torch": lambda: torch.from_numpy(x),
        "strided torch": lambda: torch.from_numpy(np.ascontiguousarray(x.T)).T,
        "float64": lambda: x.astype(np.float64),
        "tensor": lambda: mpsnn.Tensor(x),
        "dlpack": lambda: Only(x),
        "matrix": lambda: mpsnn.Matrix(x),
    }[kind]()
    assert graph.encode(given, torch.from_numpy(y)).loss == loss
    found = predict(given)
    fresh = kind == "float64"
    assert isinstance(found, np.ndarray if fresh else mpsnn.Tensor)
    assert fresh or found.device == device
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int32", "uint8"])
def test_dlpack_and_buffers_with_numpy_and_torch(dtype: str) -> None:
    array = (RNG.random((3, 5)) * 50).astype(dtype)
    t = mpsnn.Tensor(array)
    for out in (np.from_dlpack(t), torch.from_dlpack(t).numpy(), np.asarray(memoryview(t)),
                np.asarray(t), np.frombuffer(t, dtype).reshape(3, 5)):  # fmt: skip
        np.testing.assert_array_equal(out, array)
    torch.from_dlpack(t)[1, 2] = 7  # one memory
    assert t.numpy()[1, 2] == 7
    for source in (array, torch.from_numpy(array)):
        back = mpsnn.Tensor.from_dlpack(source)
        assert back.dtype == dtype
        source[0, 0] = 3
        assert back.numpy()[0, 0] == 3
    del t, source
    np.testing.assert_array_equal(back.numpy().shape, (3, 5))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code.split(" ", 1)], capture_output=True, text=True,
                          timeout=120, check=False, env={**os.environ, **environment})  # fmt: skip


def test_the_command_line_tells_what_a_bug_report_needs() -> None:
    done = run("-m mpsnn")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"mpsnn {mpsnn.__version__}, Python ")
    for device in mpsnn.devices():
        assert f"\n{device.id}: " in done.stdout
    assert "self-test: passed" in done.stdout
    assert "| `conv2d` |" in done.stdout


COMPILE = (
    "-c import mpsnn; from mpsnn import nn; "
    "print(mpsnn.InferenceGraph(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), (3,), 2).device)"
)


def test_messages_go_to_logging_never_to_stdout() -> None:
    quiet, loud = run(COMPILE), run(COMPILE, MPSNN_LOG="debug")
    device = quiet.stdout.strip()
    assert device in [d.id for d in mpsnn.devices()]
    assert (loud.stdout, quiet.stderr) == (quiet.stdout, "")
    assert "mpsnn: compiled" in loud.stderr
    assert "fused [ReLU 1] into [Linear 0]" in loud.stderr
    assert f"device {device} is taken" in loud.stderr


def test_the_environment_names_a_device() -> None:
    assert run(COMPILE, MPSNN_DEVICE="reference").stdout == "reference\n"
    wrong = run(COMPILE, MPSNN_DEVICE="abacus")
    assert "DeviceError" in wrong.stderr
    assert "abacus" in wrong.stderr
