"""mpsnn: train small and medium networks on a Mac's GPU, a CPU or an NVIDIA GPU with one script.

The training model is that of Apple's Metal Performance Shaders (WWDC 2018, talk 609): a compiled
graph of forward, loss, gradient and update, two steps in flight, weights shared by all graphs of a
model. Images are `(N, H, W, C)`, sequences `(N, T, C)`.
"""

from __future__ import annotations

from mpsnn import _load as _load
from mpsnn import _log as _log
from mpsnn._core import (
    DeviceError,
    DTypeError,
    FormatError,
    NonFiniteError,
    OutOfMemoryError,
    ShapeError,
    Tensor,
    UnsupportedError,
)
from mpsnn._core import num_threads as num_threads
from mpsnn._device import Device, devices, set_num_threads
from mpsnn._random import manual_seed
from mpsnn._version import __version__

from mpsnn import data, datasets, models, nn, ops, optim  # isort: skip
from mpsnn.autodiff import gradcheck, vjp
from mpsnn.data.source import DataSource, SafetensorsSource, WeightsAndBias
from mpsnn.graph.explicit import CompiledGraph, Graph
from mpsnn.graph.inference import InferenceGraph
from mpsnn.graph.step import Step
from mpsnn.graph.training import TrainingGraph
from mpsnn.graph.values import LossLabels, StateBatch
from mpsnn.images import ImageBatch, Matrix
from mpsnn.precision import PrecisionReport, precision_report

__all__ = [
    "CompiledGraph",
    "DTypeError",
    "DataSource",
    "Device",
    "DeviceError",
    "FormatError",
    "Graph",
    "ImageBatch",
    "InferenceGraph",
    "LossLabels",
    "Matrix",
    "NonFiniteError",
    "OutOfMemoryError",
    "PrecisionReport",
    "SafetensorsSource",
    "ShapeError",
    "StateBatch",
    "Step",
    "Tensor",
    "TrainingGraph",
    "UnsupportedError",
    "WeightsAndBias",
    "__version__",
    "data",
    "datasets",
    "devices",
    "gradcheck",
    "manual_seed",
    "models",
    "nn",
    "num_threads",
    "ops",
    "optim",
    "precision_report",
    "set_num_threads",
    "vjp",
]
