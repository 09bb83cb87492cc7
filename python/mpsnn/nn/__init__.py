"""Layers, containers and losses. Images are channels last; names and defaults are PyTorch's."""

from __future__ import annotations

from mpsnn.nn.containers import ModuleDict, ModuleList, Sequential
from mpsnn.nn.conv import Conv2d
from mpsnn.nn.dropout import Dropout, Dropout2d
from mpsnn.nn.linear import Linear
from mpsnn.nn.losses import MSE, Loss, SoftmaxCrossEntropy
from mpsnn.nn.module import Identity, Module, Parameter
from mpsnn.nn.neuron import (
    CELU,
    ELU,
    GELU,
    SELU,
    Abs,
    Exp,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    LinearNeuron,
    Log,
    LogSoftmax,
    Power,
    PReLU,
    ReLU,
    ReLUN,
    Sigmoid,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from mpsnn.nn.norm import BatchNorm1d, BatchNorm2d
from mpsnn.nn.pool import AvgPool2d, MaxPool2d
from mpsnn.nn.shape import Flatten
from mpsnn.ops import add, concat

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "MSE",
    "SELU",
    "Abs",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Dropout2d",
    "Exp",
    "Flatten",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LinearNeuron",
    "Log",
    "LogSoftmax",
    "Loss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "PReLU",
    "Parameter",
    "Power",
    "ReLU",
    "ReLUN",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Softsign",
    "Tanh",
    "add",
    "concat",
]
