"""What each device supports: a small graph of each op, asked of `supports()` of the core."""

from __future__ import annotations

from typing import Any

from mpsnn import _core

# An example of each op: operands ("i" marks class indices), attributes.
_IMAGE = (2, 4, 4, 2)
_EXAMPLES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "conv2d": ([_IMAGE, (3, 3, 3, 2), (3,)], {}),
    "linear": ([(2, 4), (3, 4), (3,)], {}),
    "neuron": ([_IMAGE], {"kind": "relu"}),
    "max_pool2d": ([_IMAGE], {"kernel": (2, 2), "stride": (2, 2)}),
    "avg_pool2d": (
        [_IMAGE],
        {"kernel": (2, 2), "stride": (2, 2), "count_include_pad": True},
    ),
    "batch_norm": ([_IMAGE, (2,), (2,), (2,), (2,)], {"epsilon": 1e-5, "momentum": 0.1}),
    "dropout": ([_IMAGE], {"rate": 0.5}),
    "flatten": ([_IMAGE], {}),
    "softmax": ([(2, 4)], {}),
    "concat": ([_IMAGE, _IMAGE], {}),
    "add": ([_IMAGE, _IMAGE], {}),
    "add_n": ([_IMAGE, _IMAGE, _IMAGE], {}),
    "subtract": ([_IMAGE, _IMAGE], {}),
    "multiply": ([_IMAGE, _IMAGE], {}),
    "image_mean": ([_IMAGE], {}),
    "softmax_cross_entropy": ([(2, 4), "i"], {}),
    "mse": ([(2, 4), (2, 4)], {}),
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
