"""Neurons: pointwise functions (MPSCNNNeuron), PReLU, Softmax and LogSoftmax.

At kinks all devices but `mps` follow PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn.nn.module import Module, Parameter


class _Neuron(Module):
    is_layer = True
    kind = ""

    def __init__(self, **parameters: float) -> None:
        super().__init__()
        me = type(self).__name__
        self.attrs = {name: _check.number(me, name, v) for name, v in parameters.items()}

    def forward(self, x: Any) -> Any:
        """Apply the function to every element."""
        return ops.apply("neuron", [x], {"kind": self.kind, **self.attrs})[0]


class ReLU(_Neuron):
    """max(0, x) (MPSCNNNeuronTypeReLU). NaN passes; the gradient at 0 is 0."""

    kind = "relu"

    def __init__(self) -> None:
        super().__init__()


class LeakyReLU(_Neuron):
    """x for x > 0, else `negative_slope` x (MPSCNNNeuronTypeReLU with a slope).

    Raises:
        ValueError, TypeError: `negative_slope` is no finite number.
    """

    kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(a=_check.number("LeakyReLU", "negative_slope", negative_slope))


class ReLUN(_Neuron):
    """min(x, b) for x > 0, else min(a x, b) (MPSCNNNeuronTypeReLUN; ReLU6 by default).

    Args:
        a: slope below 0; MPS's own default is 1.
        b: the largest value, above 0.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
    """

    kind = "relun"

    def __init__(self, a: float = 0.0, b: float = 6.0) -> None:
        super().__init__(a=a, b=_check.number("ReLUN", "b", b, 0, open_low=True))


class Sigmoid(_Neuron):
    """1 / (1 + exp(-x)) (MPSCNNNeuronTypeSigmoid)."""

    kind = "sigmoid"

    def __init__(self) -> None:
        super().__init__()


class HardSigmoid(_Neuron):
    """a x + b within 0..1 (MPSCNNNeuronTypeHardSigmoid).

    Args:
        a: slope, 1/6 as in PyTorch; 0.2 is that of MPS and Keras.
        b: value at 0.

    Raises:
        ValueError, TypeError: an argument is no finite number.
    """

    kind = "hard_sigmoid"

    def __init__(self, a: float = 1 / 6, b: float = 0.5) -> None:
        super().__init__(a=a, b=b)


class Tanh(_Neuron):
    """a tanh(b x) (MPSCNNNeuronTypeTanH).

    Raises:
        ValueError, TypeError: an argument is no finite number.
    """

    kind = "tanh"

    def __init__(self, a: float = 1.0, b: float = 1.0) -> None:
        super().__init__(a=a, b=b)


class Softplus(_Neuron):
    """a log(1 + exp(beta x)) (MPSCNNNeuronTypeSoftPlus).

    Args:
        beta: not 0.
        a: factor; 1 / beta by default, as in PyTorch.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
    """

    kind = "softplus"

    def __init__(self, beta: float = 1.0, a: float | None = None) -> None:
        beta = _check.number("Softplus", "beta", beta)
        if beta == 0:
            raise ValueError("[Softplus] beta must not be 0")
        super().__init__(a=1 / beta if a is None else a, b=beta)


class Softsign(_Neuron):
    """x / (1 + |x|) (MPSCNNNeuronTypeSoftSign)."""

    kind = "softsign"

    def __init__(self) -> None:
        super().__init__()


class ELU(_Neuron):
    """x for x > 0, else `alpha` (exp(x) - 1) (MPSCNNNeuronTypeELU; Clevert et al. 2015).

    Raises:
        ValueError, TypeError: `alpha` is no finite number.
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(a=_check.number("ELU", "alpha", alpha))


class SELU(_Neuron):
    """1.0507 times an ELU with alpha = 1.6733 (Klambauer et al. 2017)."""

    kind = "elu"

    def __init__(self) -> None:
        super().__init__(a=1.6732632423543772848170429916717, b=1.0507009873554804934193349852946)


class CELU(_Neuron):
    """x for x > 0, else `alpha` (exp(x / alpha) - 1) (Barron 2017).

    Args:
        alpha: not 0.

    Raises:
        ValueError, TypeError: `alpha` is 0 or no finite number.
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        alpha = _check.number("CELU", "alpha", alpha)
        if alpha == 0:
            raise ValueError("[CELU] alpha must not be 0")
        super().__init__(a=alpha, c=1 / alpha)


class GELU(_Neuron):
    """x times the normal distribution's function at x (MPSCNNNeuronTypeGeLU).

    (Hendrycks, Gimpel 2016.)

    Args:
        approximate: "none", or "tanh" for the approximation by
            tanh(sqrt(2 / pi) (x + 0.044715 x^3)).

    Raises:
        ValueError: `approximate` is another word.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        chosen = _check.one_of("GELU", "approximate", approximate, ("none", "tanh"))
        self.kind = "gelu" if chosen == "none" else "gelu_tanh"


class HardSwish(_Neuron):
    """x times a HardSigmoid of x (Howard et al. 2019)."""

    kind = "hard_swish"

    def __init__(self) -> None:
        super().__init__()


class Abs(_Neuron):
    """|x| (MPSCNNNeuronTypeAbsolute). The gradient at 0 is 0."""

    kind = "absolute"

    def __init__(self) -> None:
        super().__init__()


class LinearNeuron(_Neuron):
    """a x + b (MPSCNNNeuronTypeLinear).

    Raises:
        ValueError, TypeError: an argument is no finite number.
    """

    kind = "linear"

    def __init__(self, a: float = 1.0, b: float = 0.0) -> None:
        super().__init__(a=a, b=b)


class Power(_Neuron):
    """(a x + b)^c (MPSCNNNeuronTypePower). NaN where a x + b < 0 and c is no integer.

    Raises:
        ValueError, TypeError: an argument is no finite number.
    """

    kind = "power"

    def __init__(self, a: float = 1.0, b: float = 0.0, c: float = 1.0) -> None:
        super().__init__(a=a, b=b, c=c)


class Exp(_Neuron):
    """c^(a x + b) (MPSCNNNeuronTypeExponential).

    Args:
        a, b: of the exponent.
        c: the base, above 0; -1 stands for e.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
    """

    kind = "exponential"

    def __init__(self, a: float = 1.0, b: float = 0.0, c: float = -1.0) -> None:
        super().__init__(a=a, b=b, c=_base("Exp", c))


class Log(_Neuron):
    """The logarithm of a x + b to the base c (MPSCNNNeuronTypeLogarithm).

    Args:
        a, b: of the argument.
        c: the base, above 0 and not 1; -1 stands for e.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
    """

    kind = "logarithm"

    def __init__(self, a: float = 1.0, b: float = 0.0, c: float = -1.0) -> None:
        base = _base("Log", c)
        if base == 1:
            raise ValueError("[Log] c must not be 1")
        super().__init__(a=a, b=b, c=base)


def _base(owner: str, value: Any) -> float:
    base = _check.number(owner, "c", value)
    if base <= 0 and base != -1:
        raise ValueError(f"[{owner}] c must be above 0, or -1 for e, got {base}")
    return base


class PReLU(Module):
    """x for x > 0, else a slope times x, the slope learned (He et al. 2015; MPSCNNNeuronTypePReLU).

    Args:
        num_parameters: 1 for one slope, or the number of channels (the last axis).
        init: the slopes at first.

    Attributes:
        weight: the slopes, `(num_parameters,)`.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
        ShapeError: the input has another number of channels.
    """

    is_layer = True

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        count = _check.integer("PReLU", "num_parameters", num_parameters)
        self.weight = Parameter(np.full((count,), _check.number("PReLU", "init", init)))

    def forward(self, x: Any) -> Any:
        """`(..., C)` to `(..., C)`."""
        return ops.apply("prelu", [x, self.weight], {})[0]


class Softmax(Module):
    """exp(x) / sum(exp(x)) over the last axis (MPSCNNSoftMax)."""

    is_layer = True

    def forward(self, x: Any) -> Any:
        """`(..., C)` to `(..., C)`."""
        return ops.apply("softmax", [x], {})[0]


class LogSoftmax(Module):
    """x - log(sum(exp(x))) over the last axis (MPSCNNLogSoftMax)."""

    is_layer = True

    def forward(self, x: Any) -> Any:
        """`(..., C)` to `(..., C)`."""
        return ops.apply("log_softmax", [x], {})[0]
