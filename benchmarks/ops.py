"""Time of each op, forward and backward, mpsnn against PyTorch: windows that alternate.

With one argument that is a JSON object it is a worker; see `common.Worker`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import common
import numpy as np
from common import TUNED, Variant, Worker, limit_cpus, private_stdout

MODES = ("eager", "channels-last", "compile")
COPY = 64 << 20  # bytes of an array that is copied: beyond any cache
DIRECTIONS = ("forward", "backward")
NOT_ROWS = {
    "flatten": "a view",
    "reshape": "a view",
    "rnn": "recurrent.py",
    "unstack": "slices",
    "yolo_loss": "PyTorch has none",
    "given_loss": "a few numbers",
    "total_loss": "a few numbers",
}


def table(few_channels: bool) -> Any:
    """Return the rows of one of the two tables."""
    rows: Any = importlib.import_module("op_rows")
    return rows.FEW_CHANNELS if few_channels else rows.ROWS


def without_row(rows: Any) -> list[str]:
    """Return the ops that the table leaves out without a reason."""
    ops = {row["name"] for row in importlib.import_module("mpsnn._core").op_table()}
    return sorted(ops - {row.op for row in rows} - NOT_ROWS.keys())


def make_operands(row: Any) -> list[np.ndarray]:
    """Draw seeded operands, channels last."""
    random = np.random.default_rng(0)
    operands = []
    for kind, shape in row.operands:
        if kind == "i":
            operands.append(random.integers(0, row.classes, shape))
            continue
        x = random.random(shape, np.float32) + np.float32(0.5)
        if not row.positive and kind in ("x", "t"):
            x = random.standard_normal(shape, np.float32)
        if row.products and kind == "p":
            x = (x - 1) / np.float32(np.sqrt(np.prod(shape[1:]) or 1))
        operands.append(x)
    return operands


class MpsnnOp:
    """A training plan of one op between two others; the times are those of its own nodes.

    The others multiply by 1: what the op reads has been written just before, as in a network, from
    operands that are there, as PyTorch's are. The timed plan returns the gradients by that 1 and by
    parameters: all others are computed for it, and nothing large is copied out of the plan.
    """

    def __init__(self, row: Any, mode: str, whole: bool = False) -> None:
        self.row = row
        core: Any = importlib.import_module("mpsnn._core")
        graph = core.Graph("float32")
        one = graph.parameter("one", core.Parameter(np.ones((), np.float32)))
        ids, wanted, self.fed = [], [], []
        for i, ((kind, shape), value) in enumerate(
            zip(row.operands, make_operands(row), strict=True)
        ):
            if kind == "i":
                ids.append(graph.input(f"x{i}", shape, "int32", classes=row.classes))
                self.fed.append(value)
            else:
                ids.append(graph.parameter(f"p{i}", core.Parameter(value)))
            if kind == "x":
                ids[-1] = graph.add("multiply", [ids[-1], one], {}, "before")[0]
            if kind in ("x", "p"):
                wanted.append(ids[-1])
        y = graph.add(row.op, ids, dict(row.attrs), "op")[0]
        cotangent = -1
        if "loss" not in row.op and row.op not in ("softmax_cross_entropy", "cosine_distance"):
            shape = graph.shape(y)
            y = graph.add("multiply", [y, one], {}, "behind")[0]
            made = np.random.default_rng(1).random(shape, np.float32)
            cotangent = graph.parameter("cotangent", core.Parameter(made))
        if whole:
            results = [("y", y, False), *((f"g{i}", v, True) for i, v in enumerate(wanted))]
        else:
            small = [i for i, (kind, _) in zip(ids, row.operands, strict=True) if kind == "p"]
            results = [(f"g{i}", v, True) for i, v in enumerate([one, *small])]
        self.program = core.Program.compile(
            graph, device="cpu", training=True, seeds=[(y, cotangent)], results=results
        )
        self.results = len(results)
        self.joined = any("fused the gradient of [op]" in note for note in self.program.notes())
        self.direction = {
            i: int("gradient" in node["op"])
            for i, node in enumerate(self.program.summary())
            if node["layer"] == "op"
        }
        self.bytes = [0.0, 0.0]
        for i, node in enumerate(self.program.summary()):
            if i in self.direction:
                self.bytes[self.direction[i]] += node["bytes"]

    def check(self) -> list[float]:
        """Return the mean size of the elements of output and gradients."""
        op = MpsnnOp(self.row, "", whole=True)
        step = op.program.encode(tuple(op.fed), ())
        step.wait()
        return [
            float(np.abs(np.asarray(step.result(i).numpy(), np.float64)).mean())
            for i in range(op.results)
        ]

    def steps(self) -> Iterator[list[float]]:
        """Yield the seconds of a forward and a backward pass.

        Of two steps in flight the second is timed, as in a training loop: its threads are awake.
        """
        while True:
            self.program.record()
            first = self.program.encode(tuple(self.fed), ())
            self.program.encode(tuple(self.fed), ()).wait()
            first.wait()
            seconds = [0.0, 0.0]
            spans = self.program.recorded()
            for node, begin, end in spans[len(spans) // 2 :]:
                if node in self.direction:
                    seconds[self.direction[node]] += end - begin
            yield seconds


class TorchOp:
    """The op in PyTorch, with gradients, in one of MODES, between multiplications by 1 as well.

    Gradients that are views of others, such as those of a sum or a concatenation, are made dense.
    """

    def __init__(self, row: Any, mode: str) -> None:
        self.torch: Any = importlib.import_module("torch")
        torch = self.torch
        layout = torch.channels_last if mode == "channels-last" else torch.contiguous_format
        self.kinds = [kind for kind, _ in row.operands]
        self.operands = []
        self.layout = layout
        for (kind, shape), value in zip(row.operands, make_operands(row), strict=True):
            tensor = torch.from_numpy(value)
            if row.images and len(shape) == 4:
                tensor = tensor.permute(0, 3, 1, 2).contiguous(memory_format=layout)
            self.operands.append(tensor.requires_grad_(kind == "p"))
        self.function = row.torch
        if mode == "compile":
            torch._dynamo.reset()
            self.function = torch.compile(row.torch, dynamic=False)
        y = self.function(*self.operands)
        g = np.random.default_rng(1).random(
            [y.shape[i] for i in (0, 2, 3, 1)] if row.images and y.ndim == 4 else y.shape,
            np.float32,
        )
        cotangent = torch.from_numpy(np.asarray(g))
        if row.images and y.ndim == 4:
            cotangent = cotangent.permute(0, 3, 1, 2)
        self.cotangent = torch.empty_like(y).copy_(cotangent) if y.ndim else torch.ones(())
        self.bytes, self.joined = [0.0, 0.0], False

    def read(self) -> list[Any]:
        """Return operands of which data have just been written."""
        pairs = zip(self.kinds, self.operands, strict=True)
        return [(t * 1).requires_grad_(True) if kind == "x" else t for kind, t in pairs]

    def gradients(self, y: Any, operands: list[Any], cotangent: Any) -> list[Any]:
        """Return dense gradients."""
        wanted = [t for t in operands if t.requires_grad]
        dense = []
        for g in self.torch.autograd.grad(y, wanted, cotangent):
            layout = self.layout if g.ndim == 4 else self.torch.contiguous_format
            either = g.is_contiguous() or g.is_contiguous(memory_format=layout)
            dense.append(g if either else g.contiguous(memory_format=layout))
        return dense

    def check(self) -> list[float]:
        """Return the mean size of the elements of output and gradients."""
        operands = self.read()
        y = self.function(*operands)
        gradients = self.gradients(y, operands, self.cotangent)
        return [float(t.detach().double().abs().mean()) for t in (y, *gradients)]

    def steps(self) -> Iterator[list[float]]:
        """Yield the seconds of a forward and a backward pass."""
        while True:
            operands = self.read()
            start = time.perf_counter()
            y = self.function(*operands)
            forward = time.perf_counter() - start
            behind, cotangent = y.detach() * 1, self.cotangent * 1
            start = time.perf_counter()
            gradients = self.gradients(y, operands, cotangent)
            backward = time.perf_counter() - start
            del y, gradients, operands, behind, cotangent
            yield [forward, backward]


class TorchCopy:
    """PyTorch's copy of an array beyond all caches."""

    def __init__(self) -> None:
        torch: Any = importlib.import_module("torch")
        self.source, self.target = torch.ones(COPY // 4), torch.zeros(COPY // 4)

    def steps(self) -> Iterator[list[float]]:
        """Yield the seconds of a copy."""
        while True:
            start = time.perf_counter()
            self.target.copy_(self.source)
            yield [time.perf_counter() - start]


def window(op: Any, seconds: float) -> list[float]:
    """Return the medians of the steps of a window, behind one that is not counted."""
    steps = op.steps()
    next(steps)
    times: list[list[float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        times.append(next(steps))
    return [statistics.median(column) for column in zip(*times, strict=True)]


def serve() -> None:
    """Be a worker: make ops and run the windows asked for."""
    answers = private_stdout()
    job = json.loads(sys.argv[1])
    variant = Variant(**job["variant"])
    limit_cpus(job["cpus"])
    importlib.import_module(variant.framework).set_num_threads(variant.threads)
    rows = table(job["few_channels"])
    kind = {"mpsnn": MpsnnOp, "torch": TorchOp}[variant.framework]
    kept: dict[str, Any] = {}
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        question = json.loads(line)
        mode = question["mode"]
        if "row" in question:
            if mode == question["first"]:
                kept.clear()
            kept[mode] = kind(rows[question["row"]], mode)
            op = kept[mode]
            answer: Any = {"check": op.check(), "bytes": op.bytes, "joined": op.joined}
        else:
            if mode == "copy" and mode not in kept:
                kept[mode] = TorchCopy()
            answer = window(kept[mode], question["seconds"])
        print(json.dumps(answer), file=answers)


def measure(args: argparse.Namespace, turn: int, number: int, row: Any, pair: Any) -> Any:
    """Run a round of a row; return its figures, with the seconds of each variant."""
    ours, torch = pair
    modes = [m for m in MODES if row.images or m != "channels-last"]
    made = ours.ask({"row": number, "mode": "plan", "first": "plan"})
    for mode in modes:
        theirs = torch.ask({"row": number, "mode": mode, "first": modes[0]})
        for a, b in zip(made["check"], theirs["check"], strict=True):
            if "dropout" not in row.op and abs(a - b) > 1e-2 * max(abs(a), abs(b)):
                sys.exit(
                    f"{row.name}, {mode}: mpsnn computes {made['check']}, not {theirs['check']}"
                )
    turns = [(ours, "plan"), *((torch, mode) for mode in modes), (torch, "copy")]
    seconds = {}
    for worker, mode in turns if turn % 2 == 0 else reversed(turns):
        time.sleep(0.01)  # idle threads of the last worker stop spinning
        seconds[mode] = worker.ask({"mode": mode, "seconds": args.window})
    return {"row": row.name, "op": row.op, "products": row.products, "bytes": made["bytes"],
            "joined": made["joined"], "seconds": seconds}  # fmt: skip


def measure_all(args: argparse.Namespace, rows: list[tuple[int, Any]]) -> list[Any]:
    """Return the figures of rows, with the seconds of all rounds.

    A round of every row, in fresh processes, comes before the next: memory may have another speed
    for a minute, in which all rounds of a row would fall if they followed one another.
    """
    job = {"cpus": 2, "few_channels": args.few_channels}
    variants = [
        Variant("mpsnn", "mpsnn", "mpsnn"),
        Variant("torch", "PyTorch tuned", "torch", env=TUNED),
    ]
    rounds: list[list[Any]] = []
    for turn in range(args.rounds):
        pair = [Worker("ops.py", variant, job) for variant in variants]
        try:
            for worker in pair:
                worker.answer()
            rounds.append([])
            for number, row in rows:
                print(f"  round {turn + 1}: {row.name:40}", end="\r", file=sys.stderr)
                rounds[-1].append(measure(args, turn, number, row, pair))
        finally:
            for worker in pair:
                worker.close()
    results = rounds[0]
    for at, result in enumerate(results):
        turns = [some[at]["seconds"] for some in rounds]
        result["seconds"] = {mode: [turn[mode] for turn in turns] for mode in result["seconds"]}
    return results


def judge(result: Any) -> list[dict[str, Any]]:
    """Compare a row's directions with those of PyTorch's fastest mode, both together.

    A loss that computes its gradient with it is compared with PyTorch's two passes.
    """
    lines = []
    seconds = result["seconds"]
    fastest = min(
        (mode for mode in MODES if mode in seconds),
        key=lambda mode: statistics.median(sum(turn) for turn in seconds[mode]),
    )
    turns = {mode: seconds[mode] for mode in ("plan", fastest)}
    if result["joined"]:
        turns = {mode: [[sum(turn)] for turn in times] for mode, times in turns.items()}
    for at, direction in enumerate(("both",) if result["joined"] else DIRECTIONS):
        ours = [turn[at] for turn in turns["plan"]]
        theirs = [turn[at] for turn in turns[fastest]]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        rates = [2 * COPY / turn[0] for turn in seconds["copy"]]
        shares = [result["bytes"][at] / a / r for a, r in zip(ours, rates, strict=True) if a > 0]
        ratio = statistics.median(ratios)
        share = statistics.median(shares) if shares else 0.0
        most = 1.05 if result["products"] else 0.7
        lines.append({
            "direction": direction, "ours": ours, "fastest": fastest, "theirs": theirs,
            "ratios": ratios, "share": share, "elided": not shares,
            "met": ratio <= most or (share >= 0.8 and ratio <= 1.05),
        })  # fmt: skip
    return lines


def cells(result: Any, line: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    name = f"{result['row']}, {line['direction']}"
    theirs = f"{1e3 * statistics.median(line['theirs']):.2f}"
    if line["elided"]:
        return [name, "none", theirs, line["fastest"], "", "", "", "", "yes"]
    ratio = common.format_spread(common.spread(line["ratios"]), 2)
    ours = f"{1e3 * statistics.median(line['ours']):.2f}"
    share = "" if result["products"] else f"{line['share']:.0%}"
    return [name, ours, theirs, line["fastest"], *ratio, share, "yes" if line["met"] else "NO"]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose name has one of these")
    add("--few-channels", action="store_true", help="the table of small images of 20 channels")
    add("--part", default="1/1", metavar="I/N", help="the I-th of N parts of the table")
    add("--rounds", type=int, default=5)
    add("--window", type=float, default=0.1, help="seconds a window lasts, about")
    add("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args()
    part, parts = (int(text) for text in args.part.split("/"))
    if args.rounds < 1 or not 1 <= part <= parts:
        parser.error("--rounds must be at least 1, --part 1/N to N/N")
    for framework in ("mpsnn", "torch"):
        common.require(framework)
    all_rows = table(args.few_channels)
    missing = without_row(table(False))
    if missing:
        sys.exit(f"no row: {', '.join(missing)}")
    chosen = [(i, r) for i, r in enumerate(all_rows) if any(text in r.name for text in args.only)]
    chosen = chosen[len(chosen) * (part - 1) // parts : len(chosen) * part // parts]
    if not chosen:
        parser.error("--only and --part leave no row")
    facts = common.machine(["mpsnn", "torch"])
    if not args.json:
        common.print_machine(facts)
    results = measure_all(args, chosen)
    judged = [(result, line) for result in results for line in judge(result)]
    if args.json:
        print(json.dumps({**facts, "results": results, "lines": [line for _, line in judged]}))
        return
    copies = [2e-9 * COPY / turn[0] for result in results for turn in result["seconds"]["copy"]]
    figures = common.format_spread(common.spread(copies), 1)
    print(f"copy of {COPY >> 20} MB: {figures[0]} GB/s ({figures[1]} to {figures[2]})\n")
    head = ["op", "mpsnn ms", "PyTorch ms", "mode", "ratio", "min", "max", "of copy", "bar"]
    common.print_table(head, [cells(result, line) for result, line in judged])
    print(f"\n{sum(line['met'] for _, line in judged)} of {len(judged)} meet their bar")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        serve()
    else:
        main()
