"""Wrong values for every argument of the package: a typed error of its own words, never a crash.

Each callable of the tables is called with good arguments but for one, which is each of `WRONG`.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, ops, optim

WRONG: dict[str, Any] = {
    "None": None, "text": "abc", "lone surrogate": "\ud800", "zero byte": "a\0b", "bytes": b"abc",
    "negative": -1, "fraction": 2.5, "nan": float("nan"), "infinity": float("inf"),
    "huge": 10**400, "true": True, "object": object(), "type": int, "function": len, "set": {1},
    "dict": {"a": 1}, "list": [1, "a"], "empty list": [], "ragged": [[1], [1, 2]],
    "scalar": np.float32(3), "integers": np.zeros((2, 3), np.int8),
    "complex": np.zeros((2, 3), complex), "empty": np.zeros((0, 3), np.float32),
    "texts": np.array(["a", "b"]), "objects": np.array([None, 3], object),
    "dates": np.array(["2020-01-01"], "M8[D]"), "records": np.zeros(2, [("a", "f4")]),
    "long double": np.zeros(3, np.longdouble),
    "2^60 elements": np.broadcast_to(np.float32(0), (2**40, 2**20)),
    "bfloat16": mpsnn.Tensor(np.zeros((2, 3), np.float32), "bfloat16"),
}  # fmt: skip
ALLOWED = (
    ValueError,
    TypeError,
    MemoryError,
    OSError,
    BufferError,
    ArithmeticError,
    IndexError,
    AssertionError,
    mpsnn.UnsupportedError,
    mpsnn.DeviceError,
)  # assertions: gradcheck's answer

X, Y = np.zeros((4, 8, 8, 1), np.float32), np.zeros(4, np.int64)
BIAS = np.zeros(10, np.float32)
Case = tuple[Callable[..., Any], dict[str, Any]]


def defaults(function: Callable[..., Any], **given: Any) -> Case:
    """The function with these arguments and the defaults of its others."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    return function, {**named, **given}


def one(function: Callable[[Any], Any], good: Any) -> Case:
    """A function of one argument."""
    return (lambda value: function(value)), {"value": good}


def layers() -> dict[str, Case]:
    """Every layer and loss, of good arguments where it has no defaults."""
    good = {
        "in_channels": 1, "out_channels": 2, "kernel_size": 2, "in_features": 2, "out_features": 3,
        "num_features": 2, "num_groups": 1, "num_channels": 2, "normalized_shape": 4, "size": 3,
        "anchors": [(1.0, 2.0)], "scale_factor": 2, "padding": 1, "top": 1, "left": 0, "height": 2,
        "width": 3, "input_size": 2, "hidden_size": 3, "num_embeddings": 4, "embedding_dim": 3,
        "dims": (0, 2, 1), "shape": (4,),
    }  # fmt: skip
    cases = {}
    for name in nn.__all__:
        made = getattr(nn, name)
        if not isinstance(made, type) or name in ("Loss", "Module", "Parameter", "Sequential"):
            continue
        known = inspect.signature(made).parameters
        cases[name] = defaults(made, **{k: v for k, v in good.items() if k in known})
    return cases


def recipes() -> dict[str, Case]:
    cases = {
        "Sequential": one(nn.Sequential, nn.ReLU()), "ModuleList": one(nn.ModuleList, [nn.ReLU()]),
        "ModuleList.append": one(nn.ModuleList().append, nn.ReLU()),
        "ModuleDict": one(nn.ModuleDict, {"a": nn.ReLU()}),
        "Parameter": defaults(nn.Parameter, value=Y / 2.0),
        "Parameter.assign": one(nn.Parameter(Y / 2.0).assign, Y / 3.0),
        "loss()": defaults(nn.SoftmaxCrossEntropy().__call__, outputs=np.zeros((2, 3), np.float32),
                           targets=np.zeros(2, int)),
        "SGD": defaults(optim.SGD, lr=0.1), "Adam": defaults(optim.Adam),
        "AdamW": defaults(optim.AdamW), "RMSProp": defaults(optim.RMSProp),
        "StepDecay": defaults(optim.StepDecay, lr=0.1, every=3),
        "ExponentialDecay": defaults(optim.ExponentialDecay, lr=0.1, factor=0.5),
        "CosineDecay": defaults(optim.CosineDecay, lr=0.1, updates=3),
        "LinearWarmup": defaults(optim.LinearWarmup, updates=3, after=0.1),
        "manual_seed": defaults(mpsnn.manual_seed, seed=0),
        "set_num_threads": defaults(mpsnn.set_num_threads, count=2),
        "batches": defaults(mpsnn.data.batches, x=X, y=Y, batch_size=2),
        "vjp": defaults(mpsnn.vjp, fn=nn.ReLU(), inputs=[X], cotangents=X, device="reference"),
        "gradcheck": defaults(mpsnn.gradcheck, fn=ops.tanh, inputs=[np.ones((1, 2))]),
    }  # fmt: skip
    return cases


def graphs(folder: Path) -> dict[str, Case]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    loss, sgd = nn.SoftmaxCrossEntropy(), optim.SGD(0.0)
    fixed: dict[str, Any] = {
        "model": model, "input_shape": (8, 8, 1), "batch_size": 4, "device": "reference",
    }  # fmt: skip
    graph = mpsnn.TrainingGraph(loss=loss, optimizer=sgd, seed=0, **fixed)
    predict = mpsnn.InferenceGraph(**fixed)
    model.save(folder / "model")
    graph.save_state(folder / "state")
    g = mpsnn.Graph()
    x, t = g.image(8, 8, 1), g.labels(10)
    y = g.node(g.node(x, model[0]), model[1])
    total = g.loss(y, t, loss)
    g.training_graph(total)
    run = g.compile([total], sgd, 4, "reference")
    return {
        "TrainingGraph": defaults(mpsnn.TrainingGraph, loss=loss, optimizer=sgd, **fixed),
        "InferenceGraph": defaults(mpsnn.InferenceGraph, **fixed),
        "encode": defaults(graph.encode, inputs=X, targets=Y),
        "encode, labels": (lambda t, w: graph.encode(X, mpsnn.LossLabels(t, w)),
                           {"t": Y, "w": None}),
        "learning_rate": one(lambda v: setattr(graph, "learning_rate", v), 0.0),
        "save_state": one(graph.save_state, folder / "other"),
        "load_state": one(graph.load_state, folder / "state"),
        "Step.wait": one(lambda v: graph.encode(X, Y).wait(v), None),
        "add_done_callback": one(lambda v: graph.encode(X, Y).add_done_callback(v),
                                 lambda step: None),
        "predict": one(predict, X), "evaluate": defaults(predict.evaluate, x=X, y=Y),
        "evaluate, a loader": one(predict.evaluate, [(X, Y)]),
        "evaluate, its item": one(lambda v: predict.evaluate([v]), (X, Y)),
        "module()": one(model, X), "dropout()": one(nn.Dropout(0.5), X),
        "identity()": one(nn.Identity(), X),
        "load_state_dict": defaults(model.load_state_dict, state=model.state_dict()),
        "load_state_dict, its item": one(
            lambda v: model.load_state_dict({"1.bias": v}, strict=False), BIAS),
        "save": one(model.save, folder / "another"),
        "load": defaults(model.load, path=folder / "model"),
        "torch_state_dict": one(model.torch_state_dict, (8, 8, 1)),
        "load_torch_state_dict": defaults(
            model.load_torch_state_dict, source=model.torch_state_dict((8, 8, 1)),
            input_shape=(8, 8, 1)),
        "load_torch_state_dict, its item": one(
            lambda v: model.load_torch_state_dict({"1.bias": v}, (8, 8, 1), strict=False), BIAS),
        "trainable": one(lambda v: setattr(nn.ReLU(), "trainable", v), True),
        "train": one(model.train, False),
        "update": defaults(sgd.update, model=model, grads=[np.zeros((10, 64)), np.zeros(10)]),
        "SafetensorsSource": (
            lambda path, name: np.asarray(
                nn.Linear(64, 10, weights=mpsnn.SafetensorsSource(path, name)).weight),
            {"path": folder / "model", "name": "1"}),
        "Graph": defaults(mpsnn.Graph), "Graph.image": one(lambda v: mpsnn.Graph().image(v), 3),
        "Graph.labels": defaults(lambda classes, ignore_index: mpsnn.Graph().labels(
            classes, ignore_index=ignore_index), classes=3, ignore_index=-100),
        "Graph.targets": one(lambda v: mpsnn.Graph().targets(v), 3),
        "Graph.node": defaults(g.node, x=x, layer=nn.ReLU()),
        "Graph.concatenation": one(g.concatenation, [x, x]),
        "Graph.addition": defaults(g.addition, a=x, b=x),
        "Graph.loss": defaults(g.loss, y=y, labels=t, loss=loss),
        "Graph.total": defaults(g.total, losses=[total, total]),
        "Graph.training_graph": one(g.training_graph, total),
        "Graph.compile": (
            lambda **given: g.compile(**given),
            {"results": [total], "optimizer": sgd, "batch_size": 4, "device": "reference",
             "seed": 0, "accumulate": 1, "clip_norm": None, "ema": None, "loss_scale": None}),
        "gradient": defaults(total.gradient),
        "CompiledGraph.encode": one(run.encode, {x: X, t: Y}),
        "CompiledGraph.encode, an image": one(lambda v: run.encode({x: v, t: Y}), X),
        "CompiledGraph.encode, labels": one(lambda v: run.encode({x: X, t: v}), Y),
    }  # fmt: skip


def arrays() -> dict[str, Case]:
    tensor, images = mpsnn.Tensor(X), mpsnn.ImageBatch(X)
    return {
        "Tensor": (mpsnn.Tensor, {"array": X, "dtype": None, "device": "reference"}),
        "Tensor.from_dlpack": one(mpsnn.Tensor.from_dlpack, X),
        "Tensor[]": one(tensor.__getitem__, 0),
        "__dlpack__": (tensor.__dlpack__,
                       {"stream": None, "max_version": None, "dl_device": None, "copy": None}),
        "ImageBatch": defaults(mpsnn.ImageBatch, items=X),
        "ImageBatch[]": one(images.__getitem__, 0),
        "ImageBatch.append": one(mpsnn.ImageBatch(X).append, X[0]),
        "Matrix": defaults(mpsnn.Matrix, items=X[0, :, :, 0]),
        "Matrix.append": one(mpsnn.Matrix(X[0, :, :, 0]).append, X[0, 0, :, 0]),
    }  # fmt: skip


def functions() -> dict[str, Case]:
    x, two = np.ones((2, 4, 4, 2), np.float32), np.ones(2, np.float32)
    good: dict[str, Any] = {
        "x": x, "w": np.ones((3, 3, 3, 2), np.float32), "a": x, "parts": [x, x], "kernel_size": 2,
        "kind": "relu", "weight": two, "bias": two, "running_mean": two, "running_var": two,
        "device": "reference", "padding": 1, "groups": 1, "size": 3, "slopes": two, "top": 1,
        "left": 0, "height": 2, "width": 3, "scale_factor": 2,
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "group_norm": {"groups": 2}, "reshape": {"shape": (4, -1)},
        "permute": {"dims": (0, 3, 1, 2)}, "slice": {"starts": (1,), "stops": (3,)},
        "embedding": {"indices": np.array([0, 1]), "weight": np.ones((4, 3), np.float32)},
        "unstack": {"x": x}, "stack": {"parts": [x, x]},
        "matrix_to_image": {"x": x.reshape(2, 32), "height": 4, "width": 4, "channels": 2},
    }  # fmt: skip
    for name, gates in {"lstm": 4, "gru": 3, "minimal_gated": 2, "rnn": 1}.items():
        shapes = {"x": (2, 4, 2), "weight_ih": (gates * 3, 2), "weight_hh": (gates * 3, 3)}
        own[name] = {k: np.ones(shape, np.float32) for k, shape in shapes.items()}
        own[name]["bias"] = None
    cases = {}
    for name in ops.__all__:
        function, given = defaults(getattr(ops, name))
        given.update({k: v for k, v in good.items() if k in given})
        kind = name.removesuffix("_gradient")
        if kind.endswith("1d"):
            given["x"] = x[:, 0]
            if "w" in given:
                given["w"] = np.ones((3, 3, 2), np.float32)
        if kind == "linear":
            given["w"] = np.ones((3, 2), np.float32)
        if kind == "neuron":
            given["a"] = 0.0
        if kind in ("add", "subtract", "multiply", "divide"):
            given["b"] = x
        given.update(own.get(kind, {}))
        if "gy" in given:
            forward = {k: v for k, v in given.items() if k != "gy"}
            known = inspect.signature(getattr(ops, kind)).parameters
            y = getattr(ops, kind)(**{k: v for k, v in forward.items() if k in known})
            given["gy"] = np.ones_like(y[0] if isinstance(y, tuple) else y)
        cases[f"ops.{name}"] = (function, given)
    return cases


def poor(error: BaseException) -> str | None:
    """What is wrong with an error that a caller sees."""
    message = str(error)
    if not isinstance(error, ALLOWED):
        return "of an unexpected type"
    if not message.strip():
        return "without words"
    if "incompatible" in message and "arguments" in message:
        return "in pybind11's words"
    # Raised by the package, in Python or by a call of its core, not by what it happened to call.
    last = traceback.extract_tb(error.__traceback__)[-1]
    if "mpsnn" not in last.filename and last.filename != __file__:
        return f"from {last.filename}"
    return None


# Some wrong callbacks can be called, and fail on the thread that calls them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("table", [layers, recipes, graphs, arrays, functions],
                         ids=lambda table: table.__name__)  # fmt: skip
def test_a_wrong_value_is_named_or_taken(table: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)  # some wrong values are good paths
    cases = table(tmp_path) if table is graphs else table()
    found, tried = [], 0
    threads = mpsnn._core.num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (function, good) in cases.items():
            function(**good)
            for argument in good:
                for kind, wrong in WRONG.items():
                    tried += 1
                    try:
                        made = function(**{**good, argument: wrong})
                        if isinstance(made, mpsnn.Step):
                            made.wait()
                    except BaseException as error:
                        if why := poor(error):
                            found.append(f"{name}({argument}={kind}): {why}: {error!r}")
    mpsnn.set_num_threads(threads)
    assert tried > 200
    assert not found, "\n".join(found)
