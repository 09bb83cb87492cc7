"""Growth of resident memory over a digits run, mpsnn against PyTorch (Linux).

Each variant is a fresh process: it makes its pictures, imports its framework, notes VmRSS, resets
the peak, trains the talk's network and evaluates it, and answers VmHWM minus what it noted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import common
import numpy as np
import workloads
from common import TUNED, Variant, Worker

MIB = 2**20


def run_mpsnn(x: np.ndarray, y: np.ndarray, batch: int, epochs: int, v: Variant) -> dict[str, int]:
    """Train and evaluate in mpsnn; return planned and naive bytes of both graphs."""
    mpsnn: Any = importlib.import_module("mpsnn")
    trainer = workloads.MpsnnTrainer("digits", batch, v)
    predict = mpsnn.InferenceGraph(
        trainer.model, input_shape=x.shape[1:], batch_size=256, device="cpu"
    )
    batches = mpsnn.data.batches(x, y, batch, shuffle=True, seed=0)
    for _ in range(epochs):
        for images, labels in batches:
            trainer.graph.encode(images, labels)
        predict.evaluate(x, y, metrics=("accuracy",))
    return {
        f"{name}, {kind}": getattr(graph, f"{kind}_bytes")
        for name, graph in (("training", trainer.graph), ("inference", predict))
        for kind in ("planned", "naive")
    }


def run_torch(x: np.ndarray, y: np.ndarray, batch: int, epochs: int, v: Variant) -> dict[str, int]:
    """Do the same in PyTorch."""
    torch: Any = importlib.import_module("torch")
    trainer = workloads.TorchTrainer("digits", batch, v)
    labels = torch.from_numpy(y)
    for _ in range(epochs):
        trainer.model.train()
        order = np.random.default_rng(0).permutation(len(x))
        for start in range(0, len(x), batch):
            part = order[start : start + batch]
            trainer.train(trainer.images(x[part]), labels[part])
        trainer.model.eval()
        with torch.no_grad():
            for start in range(0, len(x), 256):
                trainer.model(trainer.images(x[start : start + 256])).argmax(1)
    return {}


def child() -> None:
    """Be the measured process."""
    answers = common.private_stdout()
    job = json.loads(sys.argv[1])
    variant = Variant(**job["variant"])
    common.limit_cpus(variant.threads)
    x, y = workloads.make_batch("digits", job["images"])
    importlib.import_module(variant.framework)
    growth = common.Growth()
    run = run_mpsnn if variant.framework == "mpsnn" else run_torch
    graphs = run(x, y, job["batch"], job["epochs"], variant)
    answer = {"after_import": growth.before, "growth": growth.bytes(), "graphs": graphs}
    print(json.dumps(answer), file=answers)


def main() -> None:
    """Run the command line."""
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        return child()
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=summary)
    add = parser.add_argument
    add("--batch", type=int, default=64)
    add("--images", type=int, default=10_000, help="pictures trained on, and evaluated")
    add("--epochs", type=int, default=2)
    add("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("memory.py reads /proc/self/status and clear_refs, which only Linux has")
    for framework in ("mpsnn", "torch"):
        common.require(framework)

    variants = [Variant("mpsnn", "mpsnn", "mpsnn")]
    for group, env in (("PyTorch", {}), ("PyTorch tuned", TUNED)):
        for mode in ("eager", "channels-last", "compile"):
            variants.append(Variant(f"{group}: {mode}", group, "torch", 2, mode, env=dict(env)))
    facts = common.machine(["mpsnn", "torch"])
    job = {"batch": args.batch, "images": args.images, "epochs": args.epochs}
    results = {}
    for variant in variants:
        worker = Worker("memory.py", variant, job)
        results[variant.label] = worker.answer()
        worker.close()
    growth = {label: answer["growth"] for label, answer in results.items()}
    ratios = {label: growth["mpsnn"] / growth[label] for label in growth if label != "mpsnn"}
    if args.json:
        print(json.dumps({**facts, **job, "results": results, "ratios": ratios}, indent=1))
        return

    common.print_machine(facts)
    print(f"\ndigits, batch {args.batch}, {args.epochs} epochs of {args.images} pictures: MiB")
    rows = [
        [
            label,
            f"{answer['after_import'] / MIB:.1f}",
            f"{answer['growth'] / MIB:.1f}",
            f"{ratios[label]:.2f}" if label in ratios else "",
        ]
        for label, answer in results.items()
    ]
    common.print_table(["variant", "after import", "growth", "mpsnn / this"], rows)
    print("\nmpsnn's own account: MiB")
    graphs = results["mpsnn"]["graphs"]
    common.print_table(["graph", "bytes"], [[k, f"{v / MIB:.1f}"] for k, v in graphs.items()])
    for group in ("PyTorch", "PyTorch tuned"):
        labels = [v.label for v in variants if v.group == group]
        least = min(labels, key=lambda label: growth[label])
        print(f"mpsnn / least of {group} ({least}): {ratios[least]:.2f}")


if __name__ == "__main__":
    main()
