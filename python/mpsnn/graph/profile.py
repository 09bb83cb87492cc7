"""Profile: where the time of a graph's steps goes, as a table and as a trace."""

from __future__ import annotations

import json
import os
from functools import cache
from types import TracebackType
from typing import Any

import numpy as np

from mpsnn import _core


class Profile:
    """Records the steps encoded in its `with` block, then prints as a table, slowest node first.

    ```python
    with graph.profile() as profile:
        for images, labels in batches:
            graph.encode(images, labels)
    print(profile)
    profile.save("trace.json")  # for chrome://tracing or ui.perfetto.dev
    ```

    Full batches alone are recorded. Operations are those of a convolution's or dense layer's sum,
    whatever computes it: Winograd's algorithm needs fewer, and can be above the roofline. The
    roofline is this device's own, measured with a dense product and a sum of images.

    Attributes:
        rows: dicts with layer, op, detail, seconds (a step), share, bytes, operations (a step),
            gigaflops (a second), roofline (share of what the device could do).
        steps: how many were recorded.
        seconds: of a step, all nodes together.
    """

    def __init__(self, programs: list[Any], device: str) -> None:
        self._programs, self._device = programs, device
        self._spans: list[tuple[int, float, float]] = []
        self._nodes: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.steps = 0
        self.seconds = 0.0

    def __enter__(self) -> Profile:
        for program in self._programs:
            program.wait()
            program.record()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        program = self._programs[0]
        for one in self._programs:
            spans = one.recorded()  # behind the steps in the queue
            if len(spans) >= len(self._spans):
                program, self._spans = one, spans
        update = {"layer": "", "op": "update", "detail": "", "bytes": 0.0, "operations": 0.0}
        self._nodes = [*program.summary(), update]
        self.steps = sum(1 for node, _, _ in self._spans if node == 0)
        spent = [0.0] * len(self._nodes)
        for node, begin, end in self._spans:
            spent[node] += (end - begin) / max(self.steps, 1)
        self.seconds = sum(spent)
        operations, bandwidth = peaks(self._device) if self.steps else (1.0, 1.0)
        for row, seconds in zip(self._nodes, spent, strict=True):
            if seconds == 0:
                continue
            least = max(row["operations"] / operations, row["bytes"] / bandwidth)
            self.rows.append({
                **{key: row[key] for key in ("layer", "op", "detail", "bytes", "operations")},
                "seconds": seconds,
                "share": seconds / self.seconds,
                "gigaflops": row["operations"] / seconds / 1e9,
                "roofline": least / seconds,
            })  # fmt: skip
        self.rows.sort(key=lambda row: -row["seconds"])

    def by_op(self) -> dict[str, float]:
        """Seconds a step of each kind of node, the greatest first."""
        found: dict[str, float] = {}
        for row in self.rows:
            found[row["op"]] = found.get(row["op"], 0.0) + row["seconds"]
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recorded steps as a Chrome trace (JSON)."""
        events = [
            {
                "name": self._nodes[node]["layer"] or self._nodes[node]["op"],
                "cat": self._nodes[node]["op"], "ph": "X", "pid": 0, "tid": 0,
                "ts": begin * 1e6, "dur": (end - begin) * 1e6,
                "args": {"kernel": self._nodes[node]["detail"]},
            }
            for node, begin, end in self._spans
        ]  # fmt: skip
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)

    def __str__(self) -> str:
        if not self.steps:
            return "no full batch was encoded in the profile's with block"
        head = ("layer", "op", "ms", "share", "MB", "GFLOP/s", "roofline", "kernel")
        table = [head]
        for row in self.rows:
            rate = f"{row['gigaflops']:.0f}" if row["operations"] else ""
            table.append((
                row["layer"], row["op"], f"{row['seconds'] * 1e3:.3f}", f"{row['share']:.1%}",
                f"{row['bytes'] / 1e6:.2f}", rate, f"{row['roofline']:.0%}", row["detail"],
            ))  # fmt: skip
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        right = (2, 3, 4, 5, 6)
        lines = [
            "  ".join(
                c.rjust(w) if i in right else c.ljust(w)
                for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        kinds = ", ".join(f"{op} {s / self.seconds:.1%}" for op, s in self.by_op().items())
        lines.append(f"{self.seconds * 1e3:.3f} ms a step, {self.steps} recorded: {kinds}")
        return "\n".join(lines)

    __repr__ = __str__


@cache
def peaks(device: str) -> tuple[float, float]:
    """Operations and bytes a second that this device reaches in a product, and in a sum."""
    operations, bandwidth = _reached(device, 16)
    if operations > 1e9:  # not plain loops
        operations, bandwidth = _reached(device, 4096)
    return operations, bandwidth


def _reached(device: str, rows: int) -> tuple[float, float]:
    size = 1024
    graph = _core.Graph("float32")
    weight = _core.Parameter(np.zeros((size, size), np.float32))
    x, w = graph.input("x", (rows, size)), graph.parameter("w", weight)
    product = graph.add("linear", [x, w], {}, "product")[0]
    total = graph.add("add", [product, x], {}, "sum")[0]
    program = _core.Program.compile(graph, device=device, results=[("total", total, False)])
    image = np.zeros((rows, size), np.float32)
    program.encode((image,), ()).wait()  # memory is mapped
    program.record()
    for _ in range(4):
        program.encode((image,), ()).wait()
    best = [np.inf, np.inf]
    for node, begin, end in program.recorded():
        best[node] = min(best[node], end - begin)
    nodes = program.summary()
    return float(nodes[0]["operations"] / best[0]), float(nodes[1]["bytes"] / best[1])
