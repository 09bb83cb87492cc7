"""`from_onnx` against ONNX Runtime: every cell it takes, both directions, lengths, states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpsnn import nn

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

N, T, C, H = 4, 6, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def run_onnx(kind: str, inputs: dict[str, np.ndarray], both: bool, **attributes: Any) -> list[Any]:
    """Y (N, T, D H), Y_h and, of an LSTM, Y_c, each (D, N, H), of one node."""
    names = ["X", "W", "R", "B", "lengths", "h0", "c0", "P"]
    used = [name if name in inputs else "" for name in names]
    while not used[-1]:
        used.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = onnx.helper.make_node(
        kind, used, outputs, hidden_size=H, direction="bidirectional" if both else "forward",
        **attributes,
    )  # fmt: skip
    kinds = {"float32": onnx.TensorProto.FLOAT, "int32": onnx.TensorProto.INT32}
    values = [
        onnx.helper.make_tensor_value_info(name, kinds[str(a.dtype)], a.shape)
        for name, a in inputs.items()
    ]
    made = [onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs]
    graph = onnx.helper.make_graph([node], "one", values, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    model.ir_version = 8
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    y, *states = session.run(None, inputs)
    return [y.transpose(2, 0, 1, 3).reshape(N, T, -1), *states]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {}), ("LSTM", {"peepholes": True}), ("GRU", {"linear_before_reset": 0}),
     ("GRU", {"linear_before_reset": 1}), ("RNN", {})],
)  # fmt: skip
def test_from_onnx(kind: str, options: dict[str, Any], both: bool, lengths: bool) -> None:
    rng = np.random.default_rng(7)
    d, rows = 1 + both, GATES[kind] * H

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(0.5)

    inputs = {"X": drawn(T, N, C), "W": drawn(d, rows, C), "R": drawn(d, rows, H),
              "B": drawn(d, 2 * rows)}  # fmt: skip
    peepholes = drawn(d, 3 * H) if options.get("peepholes") else None
    attributes = {k: v for k, v in options.items() if k != "peepholes"}
    x, w, r, b = inputs.values()
    if lengths:
        inputs["lengths"] = np.array([6, 2, 4, 1], np.int32)
    inputs["h0"] = drawn(d, N, H)
    state: Any = inputs["h0"]
    if kind == "LSTM":
        inputs["c0"] = drawn(d, N, H)
        state = (inputs["h0"], inputs["c0"])
        if peepholes is not None:
            inputs["P"] = peepholes
        layer = nn.LSTM.from_onnx(w, r, b, peepholes, return_state=True)
    else:
        cls: Any = getattr(nn, kind)
        layer = cls.from_onnx(w, r, b, return_state=True, **attributes)
    expected = run_onnx(kind, inputs, both, **attributes)
    y, final = layer(x.transpose(1, 0, 2), state, inputs.get("lengths"))
    got = [y, *(final if kind == "LSTM" else [final])]
    for a, e in zip(got, expected, strict=True):
        assert a.shape == e.shape
        assert np.abs(a - e).max() <= 1e-5 * np.abs(e).max()
