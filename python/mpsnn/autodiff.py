"""Eager calls of modules, vjp and gradcheck: each traces a function into a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program
from mpsnn._trace import Symbol, Tracer, flatten, rebuild
from mpsnn.ops.run import CAPACITY, as_arrays, device_of, finish


def run_eagerly(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a module on arrays, in its own `training` mode; programs are cached on the module."""
    if kwargs:
        raise TypeError(f"[{type(module).__name__}] is called on arrays by position")
    while args and args[-1] is None:
        args = args[:-1]
    name = type(module).__name__
    arrays, dtype = as_arrays(name, [a for arg in args for a in _parts(arg)], integers=True)
    if dtype == "float64":
        dtype = "float32"  # that of weights; ops and gradcheck compute in float64
    where = device_of(None, arrays)
    modes = tuple((m.training, m.trainable) for _, m in module.named_modules())
    shapes = tuple(None if a is None else (tuple(a.shape), str(a.dtype)) for a in arrays)
    key = (shapes, tuple(len(_parts(arg)) for arg in args), dtype, where, modes)
    programs = module._eager_programs()
    if key not in programs:
        tracer = Tracer(dtype, module, eager=True)
        symbols = [
            None if a is None else tracer.symbol(f"x{i}", a.shape, dtype, batched=False)
            for i, a in enumerate(arrays)
        ]
        rest = iter(symbols)
        call = [tuple(next(rest) for _ in arg) if isinstance(arg, tuple) else next(rest)
                for arg in args]  # fmt: skip
        structure = tracer.call(module, tuple(call), {})
        _check_kinds(symbols, arrays)
        leaves = flatten(structure)
        results = [(f"y{i}", y.id, False) for i, y in enumerate(leaves)]
        programs[key] = (
            Program.compile(
                tracer.graph, device=where, training=any(t for t, _ in modes), results=results
            ),
            structure,
            len(leaves),
        )
        while len(programs) > CAPACITY:
            programs.popitem(last=False)
    program, structure, count = programs[key]
    step = program.encode(tuple(a for a in arrays if a is not None), ())
    step.wait()
    return rebuild(structure, finish([step.result(i) for i in range(count)], arrays))


def _parts(arg: Any) -> tuple[Any, ...]:
    """The arrays of an argument: a tuple is several, such as the state of an LSTM."""
    return arg if isinstance(arg, tuple) else (arg,)


def _check_kinds(symbols: Sequence[Symbol | None], arrays: Sequence[Any]) -> None:
    """Once traced: integers are given where a layer reads indices, as it checks, and only there."""
    for i, (symbol, array) in enumerate(zip(symbols, arrays, strict=True)):
        if symbol is None or symbol.dtype == "int32":
            continue
        if array is None or "float" not in str(array.dtype):
            kind = None if array is None else array.dtype
            raise _core.DTypeError(
                f"[input {i}] expected floating values, got {kind}; integer pictures are scaled "
                "first: x.astype(float32) /255"
            )


def _inputs(tracer: Tracer, arrays: list[Any], dtype: str) -> list[Symbol]:
    for i, array in enumerate(arrays):
        if array is None:
            raise _core.DTypeError(f"[input {i}] expected an array, got None")
    return [tracer.symbol(f"x{i}", a.shape, dtype, batched=False) for i, a in enumerate(arrays)]


def vjp(
    fn: Callable[..., Any],
    inputs: Any,
    cotangents: Any,
    parameters: Any = None,
    *,
    device: Any = None,
    seed: int = 0,
) -> tuple[Any, ...]:
    """Outputs of `fn` and the gradients of sum(output * cotangent).

    Args:
        fn: a function of `mpsnn.ops` and modules, or a Module; modules' own `training` holds.
        inputs: one array or a sequence of them, floating, or integers where `fn` reads indices
            or lengths; these have None for a gradient.
        cotangents: one array an output, of its shape.
        parameters: Parameters to differentiate by, too.
        device: "cpu" for host arrays by default.
        seed: of dropout.

    Returns:
        (outputs, input gradients), and parameter gradients third if `parameters` is given;
        outputs in
        fn's structure, the others as lists.

    Raises:
        ShapeError, DTypeError: the arrays do not fit.
        ValueError: an output does not depend on an input.
    """
    from mpsnn.nn.module import Module

    one = not isinstance(inputs, (list, tuple))
    arrays, dtype = as_arrays("vjp", [inputs] if one else list(inputs), integers=True)
    given, _ = as_arrays("vjp", flatten(cotangents))
    if dtype == "float64" and isinstance(fn, Module) and any(fn.parameters()):
        dtype = "float32"
    where = device_of(device, arrays)
    tracer = Tracer(dtype, fn if isinstance(fn, Module) else None, eager=True)
    symbols = _inputs(tracer, arrays, dtype)
    training = True
    structure = tracer.call(fn, tuple(symbols), {}) if isinstance(fn, Module) else fn(*symbols)
    _check_kinds(symbols, arrays)
    leaves = flatten(structure)
    if len(leaves) != len(given):
        raise ValueError(f"[vjp] {len(leaves)} outputs take as many cotangents, got {len(given)}")
    seeds = []
    for i, (leaf, cotangent) in enumerate(zip(leaves, given, strict=True)):
        if tuple(cotangent.shape) != leaf.shape:
            raise _core.ShapeError(
                f"[vjp] cotangent {i} must be {leaf.shape}, got {tuple(cotangent.shape)}"
            )
        seeds.append((leaf.id, tracer.symbol(f"cotangent{i}", leaf.shape, leaf.dtype,
                                             batched=False).id))  # fmt: skip
    results = [(f"y{i}", y.id, False) for i, y in enumerate(leaves)]
    moved = [s.id for s in symbols if s.dtype != "int32"]
    results += [(f"gx{i}", value, True) for i, value in enumerate(moved)]
    if not isinstance(parameters, (Iterable, type(None))) or hasattr(parameters, "shape"):
        raise TypeError(f"[vjp] parameters must be a list of Parameters, got {parameters!r}")
    wanted = list(parameters) if parameters is not None else []
    for i, parameter in enumerate(wanted):
        results.append((f"gp{i}", tracer._operand("vjp", parameter), True))
    program = Program.compile(
        tracer.graph,
        device=where,
        training=training,
        seed=_check.integer("vjp", "seed", seed, 0),
        seeds=seeds,
        results=results,
    )
    step = program.encode((*arrays, *given), ())
    step.wait()
    found = finish([step.result(i) for i in range(len(results))], arrays)
    outputs = rebuild(structure, found[: len(leaves)])
    rest = iter(found[len(leaves) :])
    gradients = [next(rest) if s.dtype != "int32" else None for s in symbols]
    return (outputs, gradients) if parameters is None else (outputs, gradients, list(rest))


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    step: float = 1e-6,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> bool:
    """Compare `fn`'s gradients with central differences, in float64 on `reference`.

    Every element of every floating input is moved by `step`. Keep inputs small and away from kinks.

    Returns:
        True.

    Raises:
        AssertionError: a gradient differs; the message names the input and the element.
    """
    step = _check.number("gradcheck", "step", step, 0, open_low=True)
    rtol = _check.number("gradcheck", "rtol", rtol, 0)
    atol = _check.number("gradcheck", "atol", atol, 0)
    given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    arrays = [_check.numbers("gradcheck", f"input {i}", a) for i, a in enumerate(given)]
    arrays = [np.array(a, np.float64 if np.asarray(a).dtype.kind == "f" else None) for a in arrays]
    rng = np.random.default_rng(0)

    def trace() -> tuple[Any, list[Symbol]]:
        tracer = Tracer("float64", None, eager=True)
        symbols = _inputs(tracer, arrays, "float64")
        structure = fn(*symbols)
        _check_kinds(symbols, arrays)
        return tracer, flatten(structure)

    tracer, leaves = trace()
    program = Program.compile(
        tracer.graph, device="reference", training=True,
        results=[(f"y{i}", y.id, False) for i, y in enumerate(leaves)],
    )  # fmt: skip
    cotangents = [rng.standard_normal(y.shape) for y in leaves]

    def value(moved: Sequence[np.ndarray]) -> float:
        done = program.encode(tuple(moved), ())
        done.wait()
        return float(sum((done.result(i).numpy() * c).sum() for i, c in enumerate(cotangents)))

    # Not a module itself, whose weights would make it float32.
    _, gradients = vjp(lambda *x: fn(*x), arrays, cotangents, device="reference")[:2]
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(*arrays[which].shape) if gradient is not None else ():
            ends = []
            for sign in (1.0, -1.0):
                moved = [a.copy() for a in arrays]
                moved[which][index] += sign * step
                ends.append(value(moved))
            numeric = (ends[0] - ends[1]) / (2 * step)
            analytic = float(gradient[index])
            if not abs(numeric - analytic) <= atol + rtol * abs(numeric):
                raise AssertionError(
                    f"gradient by input {which} at {index}: {analytic}, by differences {numeric}"
                )
    return True
