"""How long `encode` holds up its caller: the digits network, batch 64, into a free slot.

Prints the median of `encode`, of copying the same arrays with `numpy.copyto`, and the difference,
of each round. The device computes between two encodes, outside the time taken.
"""

from __future__ import annotations

import argparse
import statistics
import time

import mpsnn
import numpy as np
import workloads
from mpsnn import nn, optim


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    images, labels = workloads.make_batch("digits", 64)
    graph = mpsnn.TrainingGraph(
        workloads.mpsnn_network("digits"), nn.SoftmaxCrossEntropy(), optim.Adam(1e-3),
        images.shape[1:], 64, arguments.device, seed=0,
    )  # fmt: skip
    for _ in range(20):
        graph.encode(images, labels)
    graph.wait()
    to_images, to_labels = np.empty_like(images), np.empty_like(labels)
    differences = []
    for turn in range(arguments.rounds):
        encodes, copies = [], []
        for _ in range(arguments.steps):
            start = time.perf_counter()
            step = graph.encode(images, labels)
            encodes.append(time.perf_counter() - start)
            step.wait()
            start = time.perf_counter()
            np.copyto(to_images, images)
            np.copyto(to_labels, labels)
            copies.append(time.perf_counter() - start)
        encode, copy = (1e6 * statistics.median(t) for t in (encodes, copies))
        differences.append(encode - copy)
        print(f"round {turn}: encode {encode:.1f} us, copyto {copy:.1f} us, "
              f"difference {encode - copy:.1f} us")  # fmt: skip
    print(f"{graph.device}: median difference {statistics.median(differences):.1f} us "
          f"({min(differences):.1f} to {max(differences):.1f}); bar 50 us")  # fmt: skip


if __name__ == "__main__":
    main()
