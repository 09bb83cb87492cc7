"""Layers, containers and losses. Images are channels last; names and defaults are PyTorch's."""

from __future__ import annotations

from mpsnn.nn.containers import ModuleDict, ModuleList, Sequential
from mpsnn.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from mpsnn.nn.dropout import Dropout
from mpsnn.nn.linear import Linear
from mpsnn.nn.losses import MSE, Loss, SoftmaxCrossEntropy
from mpsnn.nn.module import Identity, Module, Parameter
from mpsnn.nn.neuron import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from mpsnn.nn.norm import BatchNorm1d, BatchNorm2d
from mpsnn.nn.pool import (
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    L2Pool1d,
    L2Pool2d,
    MaxPool1d,
    MaxPool2d,
)
from mpsnn.nn.resample import Crop, Pad, Resize, Upsample
from mpsnn.nn.shape import Flatten
from mpsnn.ops import add, concat

__all__ = [
    "MSE",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Crop",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Identity",
    "L2Pool1d",
    "L2Pool2d",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Pad",
    "Parameter",
    "ReLU",
    "Resize",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Tanh",
    "Upsample",
    "add",
    "concat",
]
