"""What each device supports: a small graph of each op, asked of `supports()` of the core."""

from __future__ import annotations

from typing import Any

from mpsnn import _core

# An example of each op: operands ("i" marks class indices), attributes.
_IMAGE = (2, 4, 4, 2)
_EXAMPLES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "conv2d": ([_IMAGE, (3, 3, 3, 2), (3,)], {}),
    "conv_transpose2d": ([_IMAGE, (3, 3, 3, 2), (3,)], {}),
    "linear": ([(2, 4), (3, 4), (3,)], {}),
    "neuron": ([_IMAGE], {"kind": "relu"}),
    "prelu": ([_IMAGE, (2,)], {}),
    "max_pool2d": ([_IMAGE], {"kernel": (2, 2), "stride": (2, 2)}),
    "avg_pool2d": (
        [_IMAGE],
        {"kernel": (2, 2), "stride": (2, 2), "count_include_pad": True},
    ),
    "l2_pool2d": ([_IMAGE], {"kernel": (2, 2), "stride": (2, 2)}),
    "resize2d": ([_IMAGE], {"size": (8, 8), "mode": "bilinear"}),
    "pad2d": ([_IMAGE], {"sides": (1, 1, 1, 1)}),
    "batch_norm": ([_IMAGE, (2,), (2,), (2,), (2,)], {"epsilon": 1e-5, "momentum": 0.1}),
    "group_norm": ([_IMAGE, (2,), (2,)], {"groups": 2}),
    "layer_norm": ([_IMAGE, (2,), (2,)], {"axes": 1}),
    "local_response_norm": ([_IMAGE], {"size": 3, "alpha": 1.0, "beta": 0.75, "k": 1.0}),
    "local_contrast_norm": (
        [_IMAGE],
        {"size": 3, "alpha": 1.0, "beta": 0.5, "delta": 1.0, "p0": 1.0, "pm": 0.0, "ps": 1.0},
    ),
    "dropout": ([_IMAGE], {"rate": 0.5}),
    "flatten": ([_IMAGE], {}),
    "softmax": ([(2, 4)], {}),
    "log_softmax": ([(2, 4)], {}),
    "concat": ([_IMAGE, _IMAGE], {}),
    "add": ([_IMAGE, _IMAGE], {}),
    "subtract": ([_IMAGE, _IMAGE], {}),
    "multiply": ([_IMAGE, _IMAGE], {}),
    "image_mean": ([_IMAGE], {}),
    "rnn": ([(2, 5, 4), (12, 4), (12, 3), (12,)], {"cell": "lstm"}),
    "embedding": (["i", (4, 3)], {}),
    "stack": ([(2, 4), (2, 4)], {}),
    "unstack": ([(3, 2, 4)], {}),
    "softmax_cross_entropy": ([(2, 4), "i"], {}),
    "element_loss": ([(2, 4), (2, 4)], {"kind": "mse"}),
    "cosine_distance": ([(2, 4), (2, 4)], {}),
    "yolo_loss": ([(2, 2, 2, 7), (2, 2, 2, 7)], {"anchors": [1.0, 1.0]}),
    "given_loss": ([(2,)], {}),
    "total_loss": ([(1,), (1,)], {"weights": [1.0, 1.0]}),
}


def supported(op: str, device: str, gradient: bool, dtype: str = "float32") -> tuple[bool, str]:
    """Whether a device runs an op of the table, and the reason if it does not."""
    shapes, attrs = _EXAMPLES[op]
    graph = _core.Graph(dtype)
    operands = []
    for i, shape in enumerate(shapes):
        if shape == "i":
            operands.append(graph.input(f"x{i}", (2,), "int32", batched=False, classes=4))
        else:
            operands.append(graph.input(f"x{i}", shape, batched=False))
    graph.add(op, operands, attrs, op)
    return _core.supports(graph, device, gradient)


def support_table(dtype: str = "float32") -> str:
    """A Markdown table: each op on each device, forward and gradient."""
    devices = [d["id"] for d in _core.devices()]
    lines = [
        "| op | " + " | ".join(f"`{d}`" for d in devices) + " |",
        "|---" * (len(devices) + 1) + "|",
    ]
    for row in _core.op_table():
        cells = []
        for device in devices:
            forward, why = supported(row["name"], device, False, dtype)
            backward, why_not = supported(row["name"], device, True, dtype)
            cells.append("forward, gradient" if forward and backward
                         else f"forward ({why_not})" if forward else f"no ({why})")  # fmt: skip
        lines.append(f"| `{row['name']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)
