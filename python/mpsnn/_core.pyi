"""
The compiled core of mpsnn. Private: use the mpsnn package.
"""

from __future__ import annotations
import collections.abc
import numpy
import typing
import typing_extensions

__all__: list[str] = [
    "DTypeError",
    "DeviceError",
    "FormatError",
    "Graph",
    "NonFiniteError",
    "OutOfMemoryError",
    "Parameter",
    "Program",
    "ShapeError",
    "Step",
    "Tensor",
    "UnsupportedError",
    "devices",
    "drain",
    "num_threads",
    "op_table",
    "parse_safetensors",
    "read_safetensors",
    "self_test",
    "set_num_threads",
    "supports",
    "write_safetensors",
]

class ShapeError(ValueError):
    pass

class DTypeError(TypeError):
    pass

class DeviceError(RuntimeError):
    step: int | None

class UnsupportedError(NotImplementedError):
    pass

class OutOfMemoryError(MemoryError):
    pass

class FormatError(ValueError):
    pass

class NonFiniteError(ArithmeticError):
    pass

class Tensor:
    """
    A dense array on a device, channels last. No arithmetic: mpsnn.ops has.
    """
    @staticmethod
    def from_dlpack(array: typing.Any) -> Tensor:
        """
        Shares dense host memory; copies what is strided.
        """
    def __array__(self, dtype: typing.Any = None, copy: typing.Any = None) -> typing.Any: ...
    def __copy__(self) -> Tensor: ...
    def __deepcopy__(self, arg0: dict) -> Tensor: ...
    def __dlpack__(
        self,
        *,
        stream: typing.Any = None,
        max_version: typing.Any = None,
        dl_device: typing.Any = None,
        copy: typing.Any = None,
    ) -> typing_extensions.CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __getitem__(self, arg0: typing.Any) -> Tensor: ...
    def __getstate__(self) -> tuple[tuple, str, str, bytes]: ...
    def __init__(
        self, array: typing.Any, dtype: typing.Any = None, device: typing.Any = "cpu"
    ) -> None:
        """
        Copies an array-like.
        """
    def __len__(self) -> int: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, arg0: tuple) -> None: ...
    def numpy(self) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        A view of the tensor's memory; bfloat16 gives a float32 copy.
        """
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple: ...

class Parameter:
    """
    A model's array, shared by all its graphs.
    """
    def __init__(self, value: typing.Any, buffer: bool = False) -> None: ...
    def read(self) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        A fresh canonical copy; waits for the steps that write it.
        """
    def write(self, value: typing.Any) -> None: ...
    @property
    def buffer(self) -> bool: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple: ...

class Graph:
    """
    Values and nodes; shapes are inferred as nodes are added.
    """
    def __init__(self, dtype: str = "float32") -> None: ...
    def add(
        self,
        op: str,
        operands: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        attrs: dict,
        layer: str,
    ) -> tuple: ...
    def batch(self) -> int: ...
    def gradient(
        self,
        y: typing.SupportsInt | typing.SupportsIndex,
        gy: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    ) -> tuple:
        """
        Appends the gradient node of y's node; the gradient by each operand, -1 for none.
        """
    def input(
        self,
        name: str,
        shape: typing.Any,
        dtype: str | None = None,
        *,
        batched: bool = True,
        classes: typing.SupportsInt | typing.SupportsIndex = 0,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        optional: bool = False,
    ) -> int: ...
    def inputs(self) -> list[int]: ...
    def is_parameter(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> bool: ...
    def make_indices(
        self,
        input: typing.SupportsInt | typing.SupportsIndex,
        classes: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def nodes(self) -> list:
        """
        (op, is a gradient, operands, outputs) of each node, in order.
        """
    def parameter(self, name: str, parameter: Parameter) -> int: ...
    def shape(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> tuple: ...
    def states(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> typing.Any:
        """
        (layer, is there one an image) of the states that v's node makes.
        """
    def value_dtype(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> str: ...
    def with_batch(self, batch: typing.SupportsInt | typing.SupportsIndex) -> Graph: ...
    @property
    def dtype(self) -> str: ...

class Step:
    """
    One submitted step.
    """
    def add_done_callback(self, callback: collections.abc.Callable) -> None: ...
    def done(self) -> bool: ...
    def result(self, i: typing.SupportsInt | typing.SupportsIndex) -> Tensor: ...
    def wait(self, timeout: typing.SupportsFloat | typing.SupportsIndex | None = None) -> bool: ...
    @property
    def index(self) -> int: ...
    @property
    def updated(self) -> bool: ...

class Program:
    """
    A graph compiled for a device.
    """
    @staticmethod
    def compile(
        graph: Graph,
        *,
        device: str,
        training: bool = False,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        half_accumulator: bool = False,
        seeds: collections.abc.Sequence[
            tuple[
                typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex
            ]
        ] = [],
        results: collections.abc.Sequence[
            tuple[str, typing.SupportsInt | typing.SupportsIndex, bool]
        ] = [],
        optimizer: dict | None = None,
        frozen: collections.abc.Sequence[Parameter] = [],
        accumulate: typing.SupportsInt | typing.SupportsIndex = 1,
        clip_value: typing.SupportsFloat | typing.SupportsIndex | None = None,
        clip_norm: typing.SupportsFloat | typing.SupportsIndex | None = None,
        loss_scale: dict | None = None,
        ema: typing.SupportsFloat | typing.SupportsIndex | None = None,
        check_finite: bool = True,
        recompute: bool = False,
        optimize: bool = True,
        continues: Program = None,
    ) -> Program: ...
    def encode(self, inputs: tuple, rates: tuple) -> Step: ...
    def encoded(self) -> int: ...
    def encoded_updates(self) -> int: ...
    def load_state(self, state: collections.abc.Sequence[tuple[str, typing.Any]]) -> None: ...
    def naive_bytes(self) -> int: ...
    def notes(self) -> list[str]: ...
    def packed_bytes(self) -> int: ...
    def planned_bytes(self) -> int: ...
    def record(self) -> None: ...
    def recorded(self) -> list: ...
    def state(self) -> list: ...
    def summary(self) -> list: ...
    def to_dot(self) -> str: ...
    def wait(self) -> None: ...

def devices() -> list: ...
def drain() -> None:
    """
    Waits for all queued steps and callbacks.
    """

def num_threads() -> int: ...
def op_table() -> list: ...
def parse_safetensors(bytes: bytes, name: str) -> tuple: ...
def read_safetensors(path: str, names: collections.abc.Sequence[str] | None = None) -> tuple: ...
def self_test(device: str) -> str:
    """
    Empty when the device computes right.
    """

def set_num_threads(count: typing.SupportsInt | typing.SupportsIndex) -> None: ...
def supports(graph: Graph, device: str, gradient: bool) -> tuple[bool, str]: ...
def write_safetensors(
    path: str, tensors: dict, metadata: collections.abc.Mapping[str, str]
) -> None: ...
