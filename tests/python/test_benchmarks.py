"""The benchmarks' tables are complete; their times are not tested."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import op_rows
import ops


def test_every_op_has_a_row_or_a_reason() -> None:
    assert ops.without_row(op_rows.ROWS) == []
    others = [row for row in op_rows.ROWS if row.op != "add_n"]
    assert ops.without_row(others) == ["add_n"]
