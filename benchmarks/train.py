"""Time of a training step, mpsnn against PyTorch or JAX: windows that alternate between processes.

The ratio of a round is mpsnn's window over the same round's window of the peer's fastest variant,
so that a slow minute of the machine meets both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from typing import Any

import common
from common import TUNED, Variant, Worker
from networks import NETWORKS

QUEUED, WAITED = "queued", "encode+wait"
HEAVY = ("inception", "inference", "yolo", *NETWORKS)  # a step takes long enough by itself
BATCHES = {
    "digits": [32, 64], "mlp": [32], "inception": [8], "inference": [1, 8], "yolo": [4],
    **{name: [network.batch] for name, network in NETWORKS.items()},
}  # fmt: skip


def peers(workload: str, framework: str) -> list[Variant]:
    """Return the variants of a peer, in the groups of which the fastest is quoted."""
    if framework == "jax":
        return [Variant("jax jit", "JAX", "jax")]
    if framework == "none":
        return []
    if workload == "digits":
        kinds: list[tuple[str, dict[str, str], bool]] = [
            ("PyTorch", {}, False),
            ("PyTorch tuned", TUNED, False),
            ("PyTorch tuned, fused Adam", TUNED, True),
        ]
        return [
            Variant(f"{group}: {mode}", group, "torch", 2, mode, fused, env=env)
            for group, env, fused in kinds
            for mode in ("eager", "channels-last", "compile")
        ]
    if workload in HEAVY:
        tuned = ("PyTorch tuned", TUNED, False)
        if workload in NETWORKS:
            tuned = ("PyTorch tuned, fused SGD", TUNED, True)
        kinds = [("PyTorch", {}, False), tuned]
        onnx = [Variant("onnxruntime", "onnxruntime", "onnxruntime")]
        return onnx[: workload == "inference"] + [
            Variant(f"{group}: {mode}", group, "torch", 2, mode, fused, env=env)
            for group, env, fused in kinds
            for mode in ("eager", "channels-last", "compile")
        ]
    groups = [
        ("PyTorch eager", "eager", False),
        ("PyTorch eager, fused SGD", "eager", True),
        ("PyTorch compiled", "compile", False),
    ]
    return [
        Variant(
            f"{group}: {threads} thread{'s'[: threads - 1]}", group, "torch", threads, mode, fused
        )
        for group, mode, fused in groups
        for threads in (1, 2)
    ]


def measure(
    args: argparse.Namespace, batch: int, variants: list[Variant], program: str = "workloads.py"
) -> dict[str, Any]:
    """Run one batch size; return every variant's milliseconds a step, a figure a round."""
    heavy = args.workload in HEAVY
    warm = 1 if heavy else 3
    job = {"workload": args.workload, "batch": batch, "cpus": 2, "warm": 2 if heavy else 10}
    workers: list[Worker] = []
    try:
        for variant in variants:  # one after the other: compilations do not disturb each other
            workers.append(Worker(program, variant, job))
            workers[-1].answer()
        steps = {}
        for worker in workers:
            probe = {"steps": 1 if heavy else 5, "wait": False, "warm": warm}
            tries = [worker.ask(probe)["seconds"] for _ in range(1 if heavy else 3)]
            least = 1 if heavy else 5
            steps[worker.variant.label] = max(least, math.ceil(args.window / min(tries)))
        times: dict[str, dict[str, list[float]]] = {
            kind: {v.label: [] for v in variants} for kind in (QUEUED, WAITED)
        }
        losses, growth = {}, {}
        for number in range(args.rounds):
            # Every second round in reverse: nobody always runs behind the same neighbour.
            for worker in workers if number % 2 == 0 else reversed(workers):
                label = worker.variant.label
                for kind in (QUEUED, WAITED):
                    time.sleep(0.02)  # idle threads of the last worker stop spinning
                    question = {"steps": steps[label], "wait": kind == WAITED, "warm": warm}
                    answer = worker.ask(question)
                    times[kind][label].append(1e3 * answer["seconds"])
                    losses[label], growth[label] = answer["loss"], answer.get("growth", 0)
    finally:
        for worker in workers:
            worker.close()
    return {"batch": batch, "steps": steps, "milliseconds": times, "losses": losses,
            "growth": growth}  # fmt: skip


def compare(result: dict[str, Any], variants: list[Variant]) -> list[dict[str, Any]]:
    """Find each peer group's fastest variant, and mpsnn's ratio to it, per kind of window."""
    rows = []
    for kind in (QUEUED, WAITED):
        times = result["milliseconds"][kind]
        for group in dict.fromkeys(v.group for v in variants if v.framework != "mpsnn"):
            labels = [v.label for v in variants if v.group == group]
            fastest = min(labels, key=lambda label: common.spread(times[label])["median"])
            ratios = [a / b for a, b in zip(times["mpsnn"], times[fastest], strict=True)]
            rows.append({"windows": kind, "group": group, "fastest": fastest, "ratios": ratios})
    return rows


def report(result: dict[str, Any], rows: list[dict[str, Any]], workload: str) -> None:
    """Print the tables of one batch size."""
    print(f"\n{workload}, batch {result['batch']}: milliseconds a step")
    table = []
    for label in result["steps"]:
        figures = [
            common.format_spread(common.spread(result["milliseconds"][kind][label]))
            for kind in (QUEUED, WAITED)
        ]
        loss = f"{result['losses'][label]:.2g}"
        growth = f"{result['growth'][label] / 2**20:.0f}"
        steps = str(result["steps"][label])
        table.append([label, *figures[0], *figures[1], steps, loss, growth])
    ends = ["median", "min", "max"]
    head = ["variant", QUEUED, *ends[1:], WAITED, *ends[1:], "steps", "last loss", "growth MiB"]
    common.print_table(head, table)
    if rows:
        print("\nmpsnn / fastest of the group, round by round")
        table = []
        for row in rows:
            each = " ".join(f"{ratio:.2f}" for ratio in row["ratios"])
            figures_text = common.format_spread(common.spread(row["ratios"]))
            table.append([f"{row['windows']}, {row['fastest']}", *figures_text, each])
        common.print_table(["windows, variant", *ends, "rounds"], table)


def main() -> None:
    """Run the command line."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=summary)
    add = parser.add_argument
    add("--workload", choices=tuple(BATCHES), default="digits")
    add("--against", choices=("torch", "jax", "none"), default="torch")
    add("--batch", type=int, nargs="+", help="default: the workload's own")
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--rounds", type=int, default=9)
    add("--skip", default="", metavar="TEXT", help="no peer's variants whose name has TEXT")
    add("--window", type=float, default=0.4, help="seconds a window lasts, about")
    add("--only", default="", metavar="TEXT", help="only the peer's variants whose name has TEXT")
    add("--recompute", action="store_true", help="mpsnn's recompute=True")
    add("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args()
    if args.rounds < 1 or min(args.batch or [1]) < 1:
        parser.error("--rounds and --batch must be at least 1")

    frameworks = ["mpsnn"] + ([args.against] if args.against != "none" else [])
    for framework in frameworks:
        common.require(framework)
    mode = "recompute" if args.recompute else ""
    variants = [Variant("mpsnn", "mpsnn", "mpsnn", mode=mode)]
    variants += [
        v
        for v in peers(args.workload, args.against)
        if args.only in v.label and not (args.skip and args.skip in v.label)
    ]
    variants = [dataclasses.replace(v, dtype=args.dtype) for v in variants]
    if args.against == "jax" and args.workload in HEAVY:
        parser.error("jax has digits and mlp only")
    facts = common.machine(frameworks)
    if not args.json:
        common.print_machine(facts)
    results = []
    for batch in args.batch or BATCHES[args.workload]:
        result = measure(args, batch, variants)
        rows = compare(result, variants)
        results.append({**result, "ratios": rows})
        if not args.json:
            report(result, rows, args.workload)
    if args.json:
        print(json.dumps({**facts, "workload": args.workload, "results": results}, indent=1))


if __name__ == "__main__":
    main()
