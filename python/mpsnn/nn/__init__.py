"""Layers, containers and losses. Images are channels last; names and defaults are PyTorch's."""

from __future__ import annotations

from mpsnn.nn.containers import ModuleDict, ModuleList, Sequential
from mpsnn.nn.conv import Conv2d
from mpsnn.nn.dropout import Dropout
from mpsnn.nn.linear import Linear
from mpsnn.nn.losses import MSE, Loss, SoftmaxCrossEntropy
from mpsnn.nn.module import Identity, Module, Parameter
from mpsnn.nn.neuron import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from mpsnn.nn.norm import BatchNorm1d, BatchNorm2d
from mpsnn.nn.pool import AvgPool2d, MaxPool2d
from mpsnn.nn.shape import Flatten, Permute, Reshape, SpatialMax, SpatialMean
from mpsnn.ops import add, concat, divide, multiply, subtract

__all__ = [
    "MSE",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "Permute",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "SpatialMax",
    "SpatialMean",
    "Tanh",
    "add",
    "concat",
    "divide",
    "multiply",
    "subtract",
]
