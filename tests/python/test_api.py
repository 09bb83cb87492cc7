"""Tensors, modules, ops on arrays, vjp, data and inference."""

from __future__ import annotations

import copy
import http.server
import pickle
import threading
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, ops
from mpsnn.datasets import download

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_tensor_shares_memory_both_ways() -> None:
    t = mpsnn.Tensor(floats(3, 4))
    view = t.numpy()
    view[0, 0] = 5
    assert np.asarray(memoryview(t))[0, 0] == 5
    assert torch.from_dlpack(t)[0, 0] == 5
    assert np.from_dlpack(t)[0, 0] == 5
    source = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    shared = mpsnn.Tensor.from_dlpack(source)
    source[1, 2] = 9
    assert shared.numpy()[1, 2] == 9
    turned = mpsnn.Tensor.from_dlpack(source.T)  # strided: a copy
    np.testing.assert_array_equal(turned.numpy(), source.T.numpy())
    assert t[1].shape == (4,)
    assert t[1:3].shape == (2, 4)
    assert (t.shape, t.dtype, t.device, len(t)) == ((3, 4), "float32", "cpu", 3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_tensor_dtypes_pickle_and_copy(dtype: str) -> None:
    t = mpsnn.Tensor(np.linspace(-2, 2, 7), dtype)
    for other in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t)):
        assert other.dtype == dtype
        np.testing.assert_array_equal(other.numpy(), t.numpy())
    if dtype == "bfloat16":
        with pytest.raises(BufferError):
            memoryview(t)
        assert torch.from_dlpack(t).dtype == torch.bfloat16


@pytest.mark.parametrize("bad", [object(), "text", np.array([object()]), np.zeros(2, ">f4")])
def test_tensor_refuses(bad: Any) -> None:
    with pytest.raises(mpsnn.DTypeError):
        mpsnn.Tensor(bad)


def test_image_batch() -> None:
    batch = mpsnn.ImageBatch(floats(3, 4, 4, 2))
    batch[1].numpy()[:] = 7
    assert (batch.numpy()[1] == 7).all()
    assert len(batch[1:]) == 2
    batch.append(floats(4, 4, 2))
    assert batch.shape == (4, 4, 4, 2)
    with pytest.raises(mpsnn.ShapeError):
        batch.append(floats(4, 4, 3))
    with pytest.raises(mpsnn.ShapeError):
        mpsnn.ImageBatch(floats(3, 4))


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding="same")
        self.right = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Tanh()])
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Any) -> Any:
        a, b = self.left(x), x
        for layer in self.right:
            b = layer(b)
        joined = self.norm(nn.concat([a + b, b]))
        return self.drop(joined), joined


def test_modules_call_copy_and_pickle() -> None:
    model = Branched()
    x = floats(2, 5, 5, 3)
    dropped, joined = model(x)
    assert joined.shape == (2, 5, 5, 8)
    np.testing.assert_array_equal(dropped, joined)  # eval: no dropout
    model.train()
    dropped, joined = model(x)
    assert (dropped == 0).mean() > 0.2
    assert abs(joined.mean()) < 0.1  # normalised by the batch
    names = [n for n, _ in model.named_parameters()]
    assert names == ["left.weight", "left.bias", "right.0.weight", "right.0.bias", "norm.weight",
                     "norm.bias"]  # fmt: skip
    for other in (copy.deepcopy(model.eval()), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(x)[1], model(x)[1])
        other.left.weight.assign(np.zeros((4, 3, 3, 3), np.float32))
        assert np.asarray(model.left.weight).any()


def test_modules_take_float64_arrays() -> None:
    model, x, gy = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), RNG.random((5, 4)), np.ones((5, 3))
    y = model(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, model(x.astype(np.float32)))
    assert nn.Tanh()(x).dtype == np.float32
    outputs, (gx,) = mpsnn.vjp(model, x, gy)
    assert gx.shape == x.shape
    np.testing.assert_array_equal(outputs, y)


def test_tied_parameters_count_once() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    x = floats(3, 4)
    _, _, (gw, _) = mpsnn.vjp(model, x, np.ones((3, 4), np.float32), list(model.parameters()))
    w = torch.tensor(np.asarray(shared.weight), requires_grad=True)
    b = torch.tensor(np.asarray(shared.bias))
    y = torch.relu(torch.from_numpy(x) @ w.T + b) @ w.T + b
    y.sum().backward()
    np.testing.assert_allclose(gw, w.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_ops_on_arrays_and_their_gradients(device: str) -> None:
    x, w, b = floats(2, 6, 6, 3), floats(4, 3, 3, 3), floats(4)
    y = ops.conv2d(x, w, b, padding="same", device=device)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w).permute(0, 3, 1, 2),
        torch.from_numpy(b), padding="same",
    )  # fmt: skip
    np.testing.assert_allclose(y, expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    gy = floats(*y.shape)
    gradients = ops.conv2d_gradient(gy, x, w, b, padding="same", device=device)
    _, by_vjp = mpsnn.vjp(
        lambda x, w, b: ops.conv2d(x, w, b, padding="same"), [x, w, b], gy, device=device
    )
    for a, c in zip(gradients, by_vjp, strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)
    assert isinstance(ops.relu(mpsnn.Tensor(x)), mpsnn.Tensor)
    with pytest.raises(mpsnn.DTypeError):
        ops.relu(np.zeros(3, int))
    with pytest.raises(mpsnn.ShapeError):
        ops.add(floats(2), floats(3))


def test_gradcheck() -> None:
    def fn(x: Any, w: Any) -> Any:
        return ops.softmax(ops.tanh(ops.linear(x, w)))

    assert mpsnn.gradcheck(fn, [floats(2, 3), floats(4, 3)])
    with pytest.raises(AssertionError, match="input 0"):
        mpsnn.gradcheck(ops.relu, [np.zeros((2, 2))])  # a kink
    assert mpsnn.gradcheck(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), floats(2, 3))


def test_inference_takes_any_n(device: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5))
    predict = mpsnn.InferenceGraph(model, (8, 8, 1), 4, device)
    x = floats(11, 8, 8, 1)
    whole = predict(x)
    assert whole.shape == (11, 5)
    for n in (0, 1, 3, 4, 5, 8):
        np.testing.assert_allclose(predict(x[:n]), whole[:n], rtol=1e-5, atol=1e-6)
    assert isinstance(predict(mpsnn.Tensor(x)), mpsnn.Tensor)
    y = whole.argmax(-1)
    found = predict.evaluate(x, y, loss=nn.SoftmaxCrossEntropy(),
                             metrics=("accuracy", "top5", "confusion"))  # fmt: skip
    assert found["accuracy"] == found["top5"] == 1
    assert found["confusion"].trace() == 11
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(whole), torch.from_numpy(y))
    assert found["loss"] == pytest.approx(expected.item(), rel=1e-5)
    loader = mpsnn.data.batches(x, y, 3)
    assert predict.evaluate(loader)["accuracy"] == 1
    with pytest.raises(ValueError, match="recall"):
        predict.evaluate(x, y, metrics=("recall",))
    with pytest.raises(ValueError, match="nothing"):
        predict.evaluate(x[:0], y[:0])


def test_soft_labels_share_the_training_state(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    recipe = mpsnn.optim.Adam(1e-2)
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), recipe, (8, 8, 1), 4, device)
    x, y = floats(4, 8, 8, 1), np.arange(4)
    losses = []
    for _ in range(4):
        losses.append(graph.encode(x, y).loss)
        losses.append(graph.encode(x, np.eye(10, dtype=np.float32)[y]).loss)
    assert losses == sorted(losses, reverse=True)
    assert graph.encoded == 8


def test_learning_rate_holds_from_the_next_encode(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), mpsnn.optim.SGD(0.1), (8, 8, 1), 4,
                                device)  # fmt: skip
    graph.learning_rate = 0.0
    before = np.asarray(model[1].weight)
    graph.encode(floats(4, 8, 8, 1), np.arange(4)).wait()
    np.testing.assert_array_equal(np.asarray(model[1].weight), before)
    assert graph.learning_rate == 0


def test_batches_order_by_seed_and_pass() -> None:
    x, y = np.arange(10), np.arange(10)
    first = mpsnn.data.batches(x, y, 3, shuffle=True, seed=4)
    passes = [np.concatenate([b[0] for b in first]) for _ in range(3)]
    assert all(sorted(p) == list(range(10)) for p in passes)
    assert not np.array_equal(passes[0], passes[1])
    second = mpsnn.data.batches(x, y, 3, shuffle=True, seed=4)
    second.epoch = 2
    np.testing.assert_array_equal(np.concatenate([b[0] for b in second]), passes[2])
    assert (len(first), first.epoch) == (4, 3)
    assert [len(b[0]) for b in mpsnn.data.batches(x, y, 3, drop_last=True)] == [3, 3, 3]


def test_digits() -> None:
    (x, y), (xt, yt) = mpsnn.datasets.digits()
    assert (x.shape, xt.shape, x.dtype, y.dtype) == (
        (1437, 8, 8, 1), (360, 8, 8, 1), np.float32, np.int64)  # fmt: skip
    assert (x.min(), x.max()) == (0, 1)
    assert set(yt) == set(range(10))


def make_mnist(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {"x_train": rng.integers(0, 256, (20, 28, 28)).astype(np.uint8),
              "y_train": rng.integers(0, 10, 20).astype(np.uint8),
              "x_test": rng.integers(0, 256, (5, 28, 28)).astype(np.uint8),
              "y_test": rng.integers(0, 10, 5).astype(np.uint8)}  # fmt: skip
    np.savez(path, **arrays)
    return arrays


def test_mnist_reads_files_and_refuses_others(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    arrays = make_mnist(path)
    (x, y), _ = mpsnn.datasets.mnist(path)
    np.testing.assert_allclose(x[..., 0] * 255, arrays["x_train"], atol=1e-4)
    assert y.dtype == np.int64
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(mpsnn.FormatError, match=r"mnist\.npz"):
        mpsnn.datasets.mnist(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(mpsnn.FormatError, match="x_train"):
        mpsnn.datasets.mnist(path)


def test_download_resumes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a local server that knows ranges."""
    source = tmp_path / "source.npz"
    make_mnist(source)
    content, asked = source.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = 0
            asked.append(self.headers.get("Range"))
            if asked[-1]:
                start = int(asked[-1].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/mnist.npz"
        cache = tmp_path / "cache"
        cache.mkdir()
        part = cache / "mnist.npz.part"
        part.write_bytes(content[:1000])
        with pytest.raises(mpsnn.FormatError, match="damaged"):  # not the real MNIST
            download.mnist_file(url, cache)
        assert asked == ["bytes=1000-"]
        assert not list(cache.iterdir())
        monkeypatch.setattr(download, "verify", lambda path: None)
        assert download.mnist_file(url, cache).read_bytes() == content
        download.mnist_file(url, cache)
        assert len(asked) == 2  # the third call found the file
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
