"""Neurons: pointwise functions, and Softmax."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module


class _Neuron(Module):
    is_layer = True
    kind = ""
    a = 0.0

    def forward(self, x: Any) -> Any:
        """Apply the function to every element."""
        return ops.apply("neuron", [x], {"kind": self.kind, "a": self.a})[0]


class ReLU(_Neuron):
    """max(0, x) (MPSCNNNeuronReLU). NaN passes; the gradient at 0 is 0."""

    kind = "relu"


class LeakyReLU(_Neuron):
    """x for x > 0, else `negative_slope` x (MPSCNNNeuronReLU with a slope)."""

    kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.a = _check.number("LeakyReLU", "negative_slope", negative_slope)


class Sigmoid(_Neuron):
    """1 / (1 + exp(-x)) (MPSCNNNeuronSigmoid)."""

    kind = "sigmoid"


class Tanh(_Neuron):
    """tanh(x) (MPSCNNNeuronTanH with a = b = 1)."""

    kind = "tanh"


class Softmax(Module):
    """exp(x) / sum(exp(x)) over the last axis (MPSCNNSoftMax)."""

    is_layer = True

    def forward(self, x: Any) -> Any:
        """`(..., C)` to `(..., C)`."""
        return ops.apply("softmax", [x], {})[0]
