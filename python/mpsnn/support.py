"""What each device supports: a small graph of each op, asked of `supports()` of the core.

`tools/make_support.py` writes these tables into the README and docs/support.md.
"""

from __future__ import annotations

from typing import Any

from mpsnn import _core

DTYPES = ("float32", "float16", "bfloat16", "float64")

# An example of each op: operands ("i" marks class indices, _LOSS what is of the weights' dtype),
# attributes.
_LOSS = "loss"
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
    "reshape": ([_IMAGE], {"shape": (-1,)}),
    "permute": ([_IMAGE], {"dims": (0, 3, 1, 2)}),
    "slice": ([_IMAGE], {"starts": (1,), "stops": (3,), "dims": (1,)}),
    "concat": ([_IMAGE, _IMAGE], {}),
    "add": ([_IMAGE, _IMAGE], {}),
    "add_n": ([_IMAGE, _IMAGE, _IMAGE], {}),
    "subtract": ([_IMAGE, _IMAGE], {}),
    "multiply": ([_IMAGE, _IMAGE], {}),
    "divide": ([_IMAGE, _IMAGE], {}),
    "reduce_sum": ([_IMAGE], {"dims": (1, 2)}),
    "reduce_mean": ([_IMAGE], {"dims": (1, 2)}),
    "reduce_max": ([_IMAGE], {"dims": (1, 2)}),
    "reduce_min": ([_IMAGE], {"dims": (1, 2)}),
    "rnn": ([(2, 5, 4), (12, 4), (12, 3), (12,)], {"cell": "lstm"}),
    "embedding": (["i", (4, 3)], {}),
    "stack": ([(2, 4), (2, 4)], {}),
    "unstack": ([(3, 2, 4)], {}),
    "softmax_cross_entropy": ([(2, 4), "i"], {}),
    "element_loss": ([(2, 4), (2, 4)], {"kind": "mse"}),
    "cosine_distance": ([(2, 4), (2, 4)], {}),
    "yolo_loss": ([(2, 2, 2, 7), (2, 2, 2, 7)], {"anchors": [1.0, 1.0]}),
    "given_loss": ([(2,)], {}),
    "total_loss": ([_LOSS, _LOSS], {"weights": [1.0, 1.0]}),
}


def supported(op: str, device: str, gradient: bool, dtype: str = "float32") -> tuple[bool, str]:
    """Whether a device runs an op of the table, and the reason if it does not."""
    shapes, attrs = _EXAMPLES[op]
    graph = _core.Graph(dtype)
    operands = []
    for i, shape in enumerate(shapes):
        if shape == "i":
            operands.append(graph.input(f"x{i}", (2,), "int32", batched=False, classes=4))
        elif shape == _LOSS:
            master = "float64" if dtype == "float64" else "float32"
            operands.append(graph.input(f"x{i}", (1,), master, batched=False))
        else:
            operands.append(graph.input(f"x{i}", shape, batched=False))
    graph.add(op, operands, attrs, op)
    return _core.supports(graph, device, gradient)


def support_table(devices: list[str] | None = None, dtype: str = "float32") -> str:
    """A Markdown table: each op on each device (by default all), forward and gradient."""
    devices = [d["id"] for d in _core.devices()] if devices is None else devices
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


def device_table(device: str) -> str:
    """What a device supports in each of its dtypes, and why it does not support the rest."""
    row = next(d for d in _core.devices() if d["id"] == device)
    dtypes = [t for t in DTYPES if t in row["dtypes"]]
    lines = ["| op | " + " | ".join(dtypes) + " |", "|---" * (len(dtypes) + 1) + "|"]
    reasons: dict[str, list[str]] = {}
    for op in (row["name"] for row in _core.op_table()):
        cells = []
        for dtype in dtypes:
            cell = []
            for gradient, word in ((False, "forward"), (True, "gradient")):
                ok, why = supported(op, device, gradient, dtype)
                if ok:
                    cell.append(word)
                else:
                    reason = why.rsplit(f" on {device}: ", 1)[-1]
                    of = f"`{op}`" if not gradient else f"the gradient of `{op}`"
                    if not gradient or cell:  # what is not there has no gradient either
                        named = reasons.setdefault(reason, [])
                        named += [of] if of not in named else []
            cells.append(", ".join(cell) or "no")
        lines.append(f"| `{op}` | " + " | ".join(cells) + " |")
    missing = [t for t in DTYPES if t not in dtypes]
    if missing:
        lines += ["", f"Not computed here: {', '.join(missing)}."]
    if reasons:
        lines += ["", *(f"* {', '.join(ops)}: {reason}" for reason, ops in reasons.items())]
    return "\n".join(lines)
