"""A PyTorch twin of a Sequential: the outside oracle of training."""

from __future__ import annotations

import numpy as np
import torch
from mpsnn import nn
from torch import nn as tnn


class Flatten(tnn.Module):
    """H, W, C order, as mpsnn flattens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)


def twin(model: nn.Sequential) -> tnn.Sequential:
    """The same layers with the same weights, for NCHW input."""
    layers: list[tnn.Module] = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Sequential):
            continue
        state = {k[len(name) + 1 :]: v for k, v in model.state_dict().items()
                 if k.startswith(name + ".")}  # fmt: skip
        made: tnn.Module
        if isinstance(layer, nn.Conv2d):
            w = state["weight"]
            made = tnn.Conv2d(w.shape[3], w.shape[0], w.shape[1:3], padding="same")
            state["weight"] = np.ascontiguousarray(w.transpose(0, 3, 1, 2))
        elif isinstance(layer, nn.Linear):
            made = tnn.Linear(state["weight"].shape[1], state["weight"].shape[0])
        elif isinstance(layer, nn.BatchNorm2d):
            made = tnn.BatchNorm2d(state["weight"].shape[0])
            state["num_batches_tracked"] = np.array(0)
        else:
            kind = type(layer).__name__
            made = {
                "ReLU": tnn.ReLU, "Tanh": tnn.Tanh, "Flatten": Flatten,
                "LeakyReLU": lambda: tnn.LeakyReLU(0.1), "MaxPool2d": lambda: tnn.MaxPool2d(2),
                "AvgPool2d": lambda: tnn.AvgPool2d(2), "Dropout": tnn.Identity,
            }[kind]()  # fmt: skip
        made.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        layers.append(made)
    return tnn.Sequential(*layers)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
