"""Summary: what a graph consists of, as a table."""

from __future__ import annotations

from typing import Any

from mpsnn import _core


class Summary:
    """Prints as a table: a row per node, then memory and what the compiler did.

    Attributes:
        rows: dicts with layer, op, outputs, parameters, detail (the kernel chosen).
        planned_bytes, naive_bytes: memory of a step, planned and with nothing shared.
        packed_bytes: weights that the device keeps between steps in a form of its own.
        notes: what was fused and elided.
        conversions: kernels of a half graph that convert their halves, having no half arithmetic.
        dtype_notes: what each dtype costs or gains on this device.
    """

    def __init__(self, program: Any, device: str, reason: str, dtype: str) -> None:
        self.rows: list[dict[str, Any]] = program.summary()
        self.planned_bytes: int = program.planned_bytes()
        self.naive_bytes: int = program.naive_bytes()
        self.packed_bytes: int = program.packed_bytes()
        self.notes: list[str] = program.notes()
        self.device, self.reason, self.dtype = device, reason, dtype
        self.conversions = sum("halves converted" in row["detail"] for row in self.rows)
        row = next(d for d in _core.devices() if d["id"] == device)
        self.dtype_notes: dict[str, str] = dict(zip(row["dtypes"], row["dtype_notes"], strict=True))

    def __str__(self) -> str:
        head = ("layer", "op", "output", "parameters", "kernel")
        table = [head]
        for row in self.rows:
            shapes = " ".join("x".join(map(str, shape)) for shape in row["outputs"])
            count = f"{row['parameters']:,}" if row["parameters"] else ""
            table.append((row["layer"], row["op"], shapes, count, row["detail"]))
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
                 for line in table]  # fmt: skip
        lines.insert(1, "  ".join("-" * w for w in widths))
        total = sum(row["parameters"] for row in self.rows)
        lines.append(f"{total:,} parameters; device {self.device} ({self.reason}); {self.dtype}")
        lines.append(
            f"memory of a step: {self.planned_bytes / 2**20:.2f} MiB planned, "
            f"{self.naive_bytes / 2**20:.2f} MiB without sharing"
        )
        if self.packed_bytes:
            lines.append(f"packed weights, kept between steps: {self.packed_bytes / 2**20:.2f} MiB")
        if self.conversions:
            lines.append(f"{self.conversions} of {len(self.rows)} kernels convert halves")
        for dtype, note in self.dtype_notes.items():
            chosen = " (this graph)" if dtype == self.dtype else ""
            lines.append(f"{dtype}{chosen}: {note}")
        lines += self.notes
        return "\n".join(lines)

    __repr__ = __str__
