"""TrainingGraph: forward, loss, gradients and update as one compiled step."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program
from mpsnn._device import on_device
from mpsnn._trace import Tracer
from mpsnn.graph.objective import Form as LossForm
from mpsnn.graph.objective import Objective, rank
from mpsnn.graph.program import ProgramGraph
from mpsnn.graph.sequence import Sequences
from mpsnn.graph.step import Step, as_tensor
from mpsnn.nn.module import FORMAT, Module
from mpsnn.optim import Optimizer
from mpsnn.optim.host import HostUpdate

# Whether the targets of each loss are soft labels; whether steps have lengths, and states.
Form = tuple[tuple[LossForm, ...], bool, bool]
DTYPES = ("float32", "float16", "bfloat16", "float64")


def input_shapes(model: Module, input_shape: Any) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape of one image) of each input of `forward`."""
    import inspect

    names = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if isinstance(input_shape, Mapping):
        given = [(name, input_shape[name]) for name in names if name in input_shape]
        if len(given) < len(input_shape) or [n for n, _ in given] != names[: len(given)]:
            raise ValueError(f"forward takes {names}, got shapes of {list(input_shape)}")
    else:
        if not isinstance(input_shape, (tuple, list)):
            raise TypeError(f"input_shape must be a tuple of sizes, got {input_shape!r}")
        several = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
        shapes = list(input_shape) if several else [input_shape]
        given = list(zip(names, shapes, strict=False))
        if len(given) < len(shapes):
            raise ValueError(f"forward takes {len(names)} inputs, got {len(shapes)} shapes")
    return [
        (name, tuple(_check.integer(f"input {name}", "a size", s) for s in shape))
        for name, shape in given
    ]


def in_order(values: Any, names: list[str], what: str) -> tuple[Any, ...]:
    """One value, a tuple in `forward`'s order or a dict by name, as a tuple."""
    if isinstance(values, Mapping):
        if sorted(values) != sorted(names):
            raise ValueError(f"expected {what} {names}, got {list(values)}")
        return tuple(values[name] for name in names)
    if len(names) == 1 and not (isinstance(values, tuple) and len(values) == 1):
        return (values,)
    if not isinstance(values, (tuple, list)) or len(values) != len(names):
        raise ValueError(f"expected {what} {names}")
    return tuple(values)


class TrainingGraph(ProgramGraph):
    """A model compiled for training on one device.

    Args:
        model: its parameters are shared with every other graph of the model.
        loss: an `nn` loss, or a function `f(outputs, targets) -> (N,)` made of `ops`; a tuple in
            `forward`'s order or a dict by name for several outputs (None for one without a loss).
        optimizer: a recipe, or None to update nothing.
        input_shape: of one image, `(H, W, C)`; a tuple or a dict of shapes for several inputs.
        batch_size: of a full batch; smaller ones run on plans of their own.
        device: "auto", a name or a `Device`.
        dtype: storage of images: "float32", "float16", "bfloat16", or "float64" on `reference`.
            Weights are float32 masters (float64 in a float64 graph).
        seed: of dropout; drawn from the system if None.
        loss_weights: a number a loss, in the form of `loss`; the step's loss is their sum.
        outputs: names of values to export in `step.outputs`; `name:grad` is the loss's gradient.
        accumulate: batches an update.
        clip_value, clip_norm: limits of each gradient element, and of the norm of all.
        loss_scale: a number or "dynamic" (the default for float16).
        ema: decay in 0..1 of a moving average of the weights, see `averaged_model`.
        accumulator: "float16" permits half accumulation in a float16 graph.
        recompute: give time for memory: outputs of batch-norms are computed again for gradients
            instead of kept, on `cpu` and `reference`; on `cpu` every bit stays the same.
        check_finite: raise NonFiniteError for a loss or gradient that is not finite.

    Raises:
        ShapeError, DTypeError, UnsupportedError, DeviceError, ValueError, TypeError.
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer | None,
        input_shape: Any,
        batch_size: int,
        device: Any = "auto",
        dtype: str = "float32",
        seed: int | None = None,
        *,
        outputs: Sequence[str] = (),
        loss_weights: Any = None,
        accumulate: int = 1,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        loss_scale: float | str | None = None,
        ema: Any = None,
        accumulator: str = "float32",
        recompute: bool = False,
        check_finite: bool = True,
    ) -> None:
        me = "TrainingGraph"
        if not isinstance(model, Module):
            raise TypeError(f"[{me}] model must be a Module, got {model!r}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"[{me}] optimizer must be one of mpsnn.optim, got {optimizer!r}")
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self._objective = Objective(me, loss, loss_weights)
        host = HostUpdate(optimizer, model) if optimizer is not None else None
        self._host = host if host is not None and host.needed else None
        self.dtype = _check.one_of(me, "dtype", dtype, DTYPES)
        self.batch_size = _check.integer(me, "batch_size", batch_size)
        if not isinstance(outputs, (tuple, list)) or not all(
            isinstance(name, str) for name in outputs
        ):
            raise TypeError(f"[{me}] outputs must be a list of names, got {outputs!r}")
        self.output_names = tuple(outputs)
        self._shapes = input_shapes(model, input_shape)
        self._input_names = [name for name, _ in self._shapes]
        if seed is None:
            seed = int.from_bytes(os.urandom(7), "little")
        self.seed = _check.integer(me, "seed", seed, 0)
        settings = update_options(
            me, self.dtype, accumulate=accumulate, clip_value=clip_value, clip_norm=clip_norm,
            loss_scale=loss_scale, ema=ema, accumulator=accumulator, check_finite=check_finite,
        )  # fmt: skip
        self._options: dict[str, Any] = {
            "training": True,
            "seed": self.seed,
            "recompute": _check.flag(me, "recompute", recompute),
            **settings,
        }
        self.accumulate: int = settings["accumulate"]
        if ema is not None and optimizer is None:
            raise ValueError(f"[{me}] without an optimizer there is nothing to average (ema)")
        self._plain: Form = (((False, None),) * len(self._objective.losses), False, False)
        self._programs: dict[Form, Program] = {}
        self._sequences: dict[Form, Sequences] = {}
        self._program, self.device, self._reason = on_device(
            device, lambda where: self._compile(where, self._plain)
        )
        self._programs[self._plain] = self._program
        self._loss_weights = tuple(self._objective.weights.values())
        self._has_classes = any(one.has_classes for one in self._objective.losses.values())
        self._quick = len(self._shapes) == 1 and self._objective.single
        self._rates: tuple[float, ...] | None = None
        self._schedules: list[Any] = optimizer.rates() if optimizer is not None else []
        self._fix_rates()

    def _compile(self, device: str, form: Form) -> Program:
        forms, lengths, states = form
        tracer = Tracer(self.dtype, self.model, training=True)
        sequence = Sequences(tracer, self._shapes[0][1], lengths, states, True)
        tracer.sequence = self._sequences[form] = sequence
        symbols = [tracer.symbol(name, (self.batch_size, *shape)) for name, shape in self._shapes]
        output = tracer.call(self.model, tuple(symbols), {})
        total, losses = self._objective.build(tracer, output, forms)
        tracer.names["loss"] = total.id
        results = [("loss", total.id, False)]
        results += [(f"losses{i}", one.id, False) for i, one in enumerate(losses)]
        for name in self.output_names:
            gradient = name.endswith(":grad")
            key = name[: -len(":grad")] if gradient else name
            if key not in tracer.names:
                raise ValueError(
                    f"[TrainingGraph] there is no value {key!r}; there are {sorted(tracer.names)}"
                )
            results.append((name, tracer.names[key], gradient))
        results += [(f"state{i}", s.id, False) for i, s in enumerate(sequence.results())]
        frozen = self.model._frozen()
        optimizer = None
        if self.optimizer is not None:
            stopped = {id(p) for p in frozen}
            trained = [(n, p) for n, p in self.model.named_parameters() if id(p) not in stopped]
            optimizer = self.optimizer.spec(trained, self._host)
        options = self._options
        if form != self._plain:
            options = {**options, "continues": self._programs[self._plain]}
        return Program.compile(
            tracer.graph, device=device, seeds=[(total.id, -1)], results=results,
            optimizer=optimizer, frozen=[p.core for p in frozen],
            **options,
        )  # fmt: skip

    def _fix_rates(self) -> None:
        fixed = all(not callable(rate) for rate in self._schedules)
        self._rates = tuple(self._schedules) if fixed else None

    def _rates_now(self) -> tuple[float, ...]:
        if self._rates is not None:
            return self._rates
        update = self._program.encoded_updates()
        made = tuple(float(r(update)) if callable(r) else r for r in self._schedules)
        for rate in made:
            if not rate >= 0:
                raise ValueError(f"a schedule gave the learning rate {rate} for update {update}")
        return made

    @property
    def learning_rate(self) -> float:
        """The rate of the next encode (of the optimizer's own group); settable."""
        if self.optimizer is None:
            raise ValueError("[TrainingGraph] without an optimizer there is no learning rate")
        return self._rates_now()[0]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self.optimizer is None:
            raise ValueError("[TrainingGraph] without an optimizer there is no learning rate")
        rate = _check.number("TrainingGraph", "learning_rate", value, 0)
        for i, (own, _) in enumerate([(None, None), *[(g[1], 0) for g in self.optimizer.groups]]):
            if own is None:
                self._schedules[i] = rate
        self._fix_rates()

    def encode(
        self, inputs: Any, targets: Any, *, weights: Any = None, lengths: Any = None,
        states: Any = None,
    ) -> Step:  # fmt: skip
        """Queue one step and return at once; waits only when two are in flight.

        Args:
            inputs: floating `(N, ...)`, N at most `batch_size`; copied. A tuple or dict for
            several.
            targets: class indices, soft labels, or values of the output's shape; in the form of
                `loss` for several. `LossLabels` carry weights with them.
            weights: one weight an image, `(N,)`, or one an element or position of the one loss;
                `LossLabels` carry those of several.
            lengths: valid steps of each sequence, `(N,)` integers. Recurrent layers stop there,
                and what is past them counts neither in losses of each step nor in the statistics
                of a normalisation.
            states: initial states of the recurrent layers: an earlier step's `states`, or {} for
                zeros. Gradients do not flow into them (truncated back-propagation).

        Raises:
            ShapeError, DTypeError, ValueError: an array does not fit; nothing has run.
            NonFiniteError: of an earlier step that nobody waited for.
        """
        rates = self._rates if self._rates is not None else self._rates_now()
        sequences = lengths is not None or states is not None
        plain = self._quick and type(inputs) is np.ndarray and type(targets) is np.ndarray
        plain = plain and not sequences and rank(weights) < 2
        if plain and not (self._has_classes and targets.dtype.kind == "f"):
            core = self._program.encode((inputs, targets, weights), rates)
            return Step(core, self.output_names, False, self._loss_weights)
        arrays = [as_tensor(a) for a in in_order(inputs, self._input_names, "inputs")]
        valid = None
        if lengths is not None:
            valid = partial(self._sequences[self._plain].valid, lengths, len(arrays[0]))
        labels, forms, weighted = self._objective.arrays(targets, weights, valid)
        form = (forms, lengths is not None, states is not None)
        if form not in self._programs:
            self._programs[form] = self._compile(self.device, form)
        extra: list[Any] = []
        if sequences:
            sequence = self._sequences[form]
            extra = sequence.arrays(len(arrays[0]), lengths, states)
        core = self._programs[form].encode((*arrays, *extra, *labels, *weighted), rates)
        tensors = isinstance(arrays[0], _core.Tensor)
        return Step(core, self.output_names, tensors, self._loss_weights,
                    self._sequences[form] if states is not None else None)  # fmt: skip

    def averaged_model(self) -> Module:
        """A copy of the model with the moving averages of its weights (`ema=`); waits.

        The average starts with the weights after the first update; running statistics are copied.

        Raises:
            ValueError: the graph was compiled without `ema`.
        """
        if self._options["ema"] is None:
            raise ValueError("[TrainingGraph] without ema= there are no averages")
        model = copy.deepcopy(self.model)
        state = dict(self._program.state())
        if state["counters"][0] > 0:
            for name, parameter in model.named_parameters():
                if f"{name}:average" in state:
                    parameter.assign(state[f"{name}:average"])
        return model

    def wait(self) -> None:
        """Wait for all queued steps and raise what they left."""
        for program in self._programs.values():
            program.wait()

    @property
    def encoded(self) -> int:
        """Steps encoded so far, those before a resume included."""
        return self._program.encoded()

    def _recorded(self) -> list[Program]:
        return list(self._programs.values())

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Write weights, statistics, moments, counters, loss scale and seed: one atomic file."""
        file = _check.path("save_state", path)
        tensors: dict[str, Any] = {
            f"model/{name}": value for name, value in self.model.state_dict().items()
        }
        for name, value in self._program.state():
            tensors[f"state/{name}"] = value
        if self._host is not None:
            for name, values in self._host.state.items():
                for key, kept in values.items():
                    tensors[f"host/{name}/{key}"] = np.asarray(kept)
        tensors["seed"] = np.array([self.seed], np.int64)
        _core.write_safetensors(file, tensors, {"mpsnn_format": FORMAT, "mpsnn_kind": "training"})

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Go on where `save_state` stopped, bit for bit; all or nothing.

        Raises:
            FormatError: the file is damaged or no training state.
            ValueError, ShapeError: it is another model's or optimizer's, or of another seed.
        """
        file = _check.path("load_state", path)
        tensors, metadata = _core.read_safetensors(file)
        if metadata.get("mpsnn_format") != FORMAT or metadata.get("mpsnn_kind") != "training":
            raise _core.FormatError(f"{file}: not a training state of mpsnn")
        seed = operator.index(tensors.pop("seed")[0]) if "seed" in tensors else -1
        if seed != self.seed:
            raise ValueError(f"{file}: saved with seed {seed}, this graph has seed {self.seed}")
        weights = {n[6:]: v for n, v in tensors.items() if n.startswith("model/")}
        state = [(n[6:], v) for n, v in tensors.items() if n.startswith("state/")]
        host: dict[str, dict[str, Any]] = {}
        for key, value in tensors.items():
            if key.startswith("host/"):
                _, name, field = key.split("/", 2)
                host.setdefault(name, {})[field] = np.asarray(value)
        if host and self._host is None:
            raise ValueError(f"{file}: saved with an optimizer on the host")
        before: dict[str, np.ndarray] = self.model.state_dict()
        self.model.load_state_dict(weights)
        try:
            self._program.load_state(state)
        except BaseException:
            self.model.load_state_dict(before)
            raise
        if self._host is not None:
            self._host.state = host

    def __repr__(self) -> str:
        return f"TrainingGraph(device={self.device}, dtype={self.dtype}, batch={self.batch_size})"


def update_options(
    owner: str, dtype: str, *, accumulate: Any = 1, clip_value: Any = None, clip_norm: Any = None,
    loss_scale: Any = None, ema: Any = None, accumulator: Any = "float32",
    check_finite: Any = True,
) -> dict[str, Any]:  # fmt: skip
    """The checked options that govern a step's end, as the core takes them."""
    if loss_scale is None and dtype == "float16":
        loss_scale = "dynamic"
    half = _check.one_of(owner, "accumulator", accumulator, ("float16", "float32")) == "float16"
    return {
        "half_accumulator": half,
        "accumulate": _check.integer(owner, "accumulate", accumulate, 1, 2**31 - 1),
        "clip_value": _limit(owner, "clip_value", clip_value),
        "clip_norm": _limit(owner, "clip_norm", clip_norm),
        "loss_scale": _scale(owner, loss_scale),
        "ema": None if ema is None else _check.number(owner, "ema", ema, 0, 1, open_high=True),
        "check_finite": _check.flag(owner, "check_finite", check_finite),
    }


def _limit(owner: str, name: str, value: Any) -> float | None:
    return None if value is None else _check.number(owner, name, value, 0, open_low=True)


def _scale(owner: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, str) and value == "dynamic":
        return {"mode": "dynamic", "initial": 65536.0, "growth_interval": 2000}
    return {
        "mode": "fixed",
        "initial": _check.number(owner, "loss_scale", value, 0, open_low=True),
    }


__all__ = ["TrainingGraph", "in_order", "input_shapes"]
