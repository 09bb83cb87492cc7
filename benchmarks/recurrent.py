"""Time of a step of recurrent layers, mpsnn against PyTorch: windows that alternate.

With one argument that is a JSON object it is a worker; see `common.Worker`.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from typing import Any

import common
import numpy as np
import workloads
from common import TUNED, Variant

import train

STEPS, FEATURES, HIDDEN = 100, 128, 256


def make_batch(workload: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw seeded sequences and what they are trained towards."""
    random = np.random.default_rng(0)
    if workload == "activity":
        x = random.standard_normal((batch, 2000, 6), np.float32)
        return x, random.integers(0, 6, (batch, 20))
    x = random.standard_normal((batch, STEPS, FEATURES), np.float32)
    return x, random.standard_normal((batch, STEPS, HIDDEN), np.float32) * np.float32(0.1)


class MpsnnTrainer:
    """mpsnn as it is shipped, finite guard on."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        mpsnn: Any = importlib.import_module("mpsnn")
        nn, optim = mpsnn.nn, mpsnn.optim
        mpsnn.set_num_threads(variant.threads)
        mpsnn.manual_seed(0)
        self.x, self.y = make_batch(workload, batch)
        loss, optimizer, outputs = nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), []
        if workload == "activity":
            self.x = self.x[:, None]
            model = mpsnn.models.activity_classifier(100, 6, 6)
        else:
            model = (nn.LSTM if workload == "lstm" else nn.GRU)(FEATURES, HIDDEN)
            loss, optimizer = nn.MSE(), None
            outputs = ["x:grad", *(f"{name}:grad" for name, _ in model.named_parameters())]
        self.graph = mpsnn.TrainingGraph(
            model, loss, optimizer, self.x.shape[1:], batch, "cpu", seed=0, outputs=outputs
        )

    def step(self) -> Any:
        return self.graph.encode(self.x, self.y)

    def finish(self, handle: Any) -> float:
        return float(handle.loss)


class TorchTrainer:
    """PyTorch, eager or with forward and loss compiled."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(variant.threads)
        torch.manual_seed(0)
        x, y = make_batch(workload, batch)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        nn = torch.nn
        self.optimizer: Any = None
        if workload == "activity":
            conv, lstm = nn.Conv1d(6, 64, 100, 100), nn.LSTM(64, 200, batch_first=True)
            dense, norm, last = nn.Linear(200, 128), nn.BatchNorm1d(128), nn.Linear(128, 6)
            self.modules = nn.ModuleList([conv, lstm, dense, norm, last])
            self.x = self.x.transpose(1, 2).contiguous()
            first, second = nn.Dropout(0.2), nn.Dropout(0.5)

            def loss(x: Any, y: Any) -> Any:
                steps = first(torch.relu(conv(x))).transpose(1, 2)
                hidden = dense(lstm(steps)[0]).transpose(1, 2)
                logits = last(second(torch.relu(norm(hidden))).transpose(1, 2))
                return nn.functional.cross_entropy(logits.reshape(-1, 6), y.reshape(-1))

            self.optimizer = torch.optim.Adam(self.modules.parameters(), 1e-3)
        else:
            layer = (nn.LSTM if workload == "lstm" else nn.GRU)(FEATURES, HIDDEN, batch_first=True)
            self.modules = layer
            self.x.requires_grad_(True)

            def loss(x: Any, y: Any) -> Any:
                return nn.functional.mse_loss(layer(x)[0], y)

        self.loss = torch.compile(loss) if variant.mode == "compile" else loss

    def step(self) -> Any:
        for parameter in self.modules.parameters():
            parameter.grad = None
        self.x.grad = None
        loss = self.loss(self.x, self.y)
        loss.backward()
        if self.optimizer is not None:
            self.optimizer.step()
        return loss

    def finish(self, handle: Any) -> float:
        return float(handle.item())


def lstm_graph(steps: int, batch: int = 16) -> Any:
    """Return a small LSTM's training graph."""
    mpsnn: Any = importlib.import_module("mpsnn")
    nn = mpsnn.nn
    model = nn.Sequential(nn.LSTM(32, 64), nn.Linear(64, 5))
    return mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), mpsnn.optim.Adam(1e-3), (steps, 32), batch, "cpu", seed=0
    )


def compile_times(rounds: int) -> None:
    """Print the time of compiling graphs of 10 and of 1000 steps, in turns."""
    times: dict[int, list[float]] = {10: [], 1000: []}
    lstm_graph(10, 1)
    for number in range(rounds):
        for steps in times:
            start = time.perf_counter()
            lstm_graph(steps, 17 + number)  # another batch each: no plan is in the cache
            times[steps].append(1e3 * (time.perf_counter() - start))
    rows = [[f"{steps} steps", *common.format_spread(common.spread(t))]
            for steps, t in times.items()]  # fmt: skip
    common.print_table(["compile, ms", "median", "min", "max"], rows)
    ratio = statistics.median(times[1000]) / statistics.median(times[10])
    print(f"1000 steps / 10 steps: {ratio:.2f}")


def memory(count: int) -> None:
    """Print resident memory during `count` training steps of an LSTM."""
    graph = lstm_graph(20)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((16, 20, 32), np.float32), random.integers(0, 5, (16, 20))
    for number in range(1, count + 1):
        graph.encode(x, y)
        if number in (1, count // 10) or number % (count // 4) == 0:
            graph.wait()
            with open("/proc/self/status") as file:
                line = next(line for line in file if line.startswith("VmRSS"))
            print(f"after {number:6} steps: {line.split()[1]} kB")


def main() -> None:
    """Run the command line."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        workloads.main({"mpsnn": MpsnnTrainer, "torch": TorchTrainer})
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--workload", choices=("lstm", "gru", "activity"), default="lstm")
    add("--batch", type=int, help="default: 64, activity 32")
    add("--rounds", type=int, default=7)
    add("--window", type=float, default=0.4, help="seconds a window lasts, about")
    add("--only", default="", metavar="TEXT", help="only the peer's variants whose name has TEXT")
    add("--compile", action="store_true", help="compile times instead")
    add("--memory", type=int, metavar="STEPS", help="resident memory over so many steps instead")
    args = parser.parse_args()
    if args.compile:
        compile_times(args.rounds)
        return
    if args.memory:
        memory(args.memory)
        return
    common.require("torch")
    variants = [Variant("mpsnn", "mpsnn", "mpsnn")]
    for group, mode, env in (
        ("PyTorch eager", "eager", {}), ("PyTorch tuned", "eager", TUNED),
        ("PyTorch tuned, compiled", "compile", TUNED),
    ):  # fmt: skip
        if args.only in group:
            variants.append(Variant(group, group, "torch", 2, mode, False, env=env))
    common.print_machine(common.machine(["mpsnn", "torch"]))
    batch = args.batch or (32 if args.workload == "activity" else 64)
    result = train.measure(args, batch, variants, "recurrent.py")
    train.report(result, train.compare(result, variants), args.workload)


if __name__ == "__main__":
    main()
