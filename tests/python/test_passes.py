"""Compiler passes seen from outside: fused against unfused, memory, plans on random networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpsnn import _core


def random_network(
    seed: int, dtype: str = "float32", rate: float = 0.25
) -> tuple[Any, Any, Any, list[tuple[str, Any]]]:
    """A random branched network over every op of the slice: (graph, loss, logits, parameters)."""
    rng = np.random.default_rng(seed)
    graph = _core.Graph(dtype)
    master = np.float64 if dtype == "float64" else np.float32
    parameters: list[tuple[str, Any]] = []

    def parameter(name: str, shape: Any, buffer: bool = False, fill: float | None = None) -> int:
        value = rng.standard_normal(shape) * 0.3 if fill is None else np.full(shape, fill)
        made = _core.Parameter(value.astype(master), buffer)
        if not buffer:
            parameters.append((name, made))
        return graph.parameter(name, made)

    n, side, channels = int(rng.integers(2, 5)), int(rng.integers(5, 9)), int(rng.integers(1, 6))
    values = [graph.input("x", (n, side, side, channels))]
    for depth in range(int(rng.integers(2, 7))):
        x = values[int(rng.integers(len(values)))]
        _, _h, _w, c = graph.shape(x)
        kind = rng.choice(
            ["conv", "conv", "neuron", "pool", "avg", "norm", "concat", "add", "drop"]
        )
        layer = f"{kind} {depth}"
        if kind == "conv":
            out = int(rng.integers(1, 8))
            k = int(rng.integers(1, 4))
            operands = [x, parameter(f"w{depth}", (out, k, k, c))]
            if rng.random() < 0.7:
                operands.append(parameter(f"b{depth}", (out,)))
            y = graph.add("conv2d", operands, {"padding": "same"}, layer)[0]
            if rng.random() < 0.7:
                act = str(rng.choice(["relu", "leaky_relu", "sigmoid", "tanh"]))
                y = graph.add("neuron", [y], {"kind": act, "a": 0.2}, layer + " act")[0]
        elif kind == "neuron":
            y = graph.add("neuron", [x], {"kind": str(rng.choice(["tanh", "sigmoid"]))}, layer)[0]
        elif kind in ("pool", "avg"):
            op = "max_pool2d" if kind == "pool" else "avg_pool2d"
            attrs = {"kernel": (2, 2), "stride": (1, 1), "padding": "same"}
            y = graph.add(op, [x], attrs, layer)[0]
        elif kind == "norm":
            operands = [x, parameter(f"g{depth}", (c,)), parameter(f"h{depth}", (c,)),
                        parameter(f"m{depth}", (c,), True, 0.0),
                        parameter(f"v{depth}", (c,), True, 1.0)]  # fmt: skip
            y = graph.add("batch_norm", operands, {}, layer)[0]
            if rng.random() < 0.6:
                act = str(rng.choice(["relu", "leaky_relu", "sigmoid", "tanh"]))
                y = graph.add("neuron", [y], {"kind": act, "a": 0.2}, layer + " act")[0]
        elif kind == "drop":
            y = graph.add("dropout", [x], {"rate": rate}, layer)[0]
        else:
            same = [v for v in values if graph.shape(v) == graph.shape(x)]
            if kind == "add":
                y = graph.add("add", [x, same[int(rng.integers(len(same)))]], {}, layer)[0]
                if rng.random() < 0.5:
                    act = str(rng.choice(["relu", "sigmoid", "tanh"]))
                    y = graph.add("neuron", [y], {"kind": act, "a": 0.0}, layer + " act")[0]
            else:
                y = graph.add("concat", [x, values[int(rng.integers(len(values)))]], {}, layer)[0]
        values.append(y)
    flat = graph.add("flatten", [values[-1]], {}, "flatten")[0]
    features = graph.shape(flat)[1]
    logits = graph.add(
        "linear", [flat, parameter("lw", (5, features)), parameter("lb", (5,))], {}, "linear"
    )[0]
    target = graph.input("t", (n,), "int32", classes=5)
    loss = graph.add("softmax_cross_entropy", [logits, target], {}, "loss")[0]
    return graph, loss, logits, parameters


def step(
    seed: int, device: str, dtype: str = "float32", rate: float = 0.25, **options: Any
) -> list[np.ndarray]:
    graph, loss, logits, parameters = random_network(seed, dtype, rate)
    rng = np.random.default_rng(seed + 1)
    shape = graph.shape(graph.inputs()[0])
    x, t = rng.standard_normal(shape), rng.integers(0, 5, shape[0])
    results = [("loss", loss, False), ("logits", logits, False)]
    program = _core.Program.compile(
        graph, device=device, training=True, seed=3, seeds=[(loss, -1)], results=results,
        optimizer={"kind": "sgd", "groups": [{"momentum": 0.9}],
                   "parameters": [(p, 0, name) for name, p in parameters]},
        **options,
    )  # fmt: skip
    kept = []
    for _ in range(2):
        done = program.encode((x.astype(np.float32 if dtype != "float64" else dtype), t), (0.05,))
        done.wait()
        kept += [np.array(done.result(i).numpy(), np.float64) for i in range(2)]
    return kept + [np.array(p.read(), np.float64) for _, p in parameters]


def close(a: list[np.ndarray], b: list[np.ndarray], limit: float) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert np.abs(x - y).max() <= limit * max(1.0, np.abs(y).max())


SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_optimised_equals_plain(seed: int, device: str) -> None:
    close(step(seed, device), step(seed, device, optimize=False), 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_optimised_inference_equals_plain(seed: int, device: str) -> None:
    """Also after the weights have changed: what was folded and packed is made anew."""
    graph, _, logits, parameters = random_network(seed)
    rng = np.random.default_rng(seed + 1)
    shape = graph.shape(graph.inputs()[0])
    x, t = rng.standard_normal(shape).astype(np.float32), np.zeros(shape[0], np.int64)
    programs = [
        _core.Program.compile(graph, device=device, results=[("y", logits, False)], optimize=o)
        for o in (True, False)
    ]
    for _ in range(2):
        made = []
        for program in programs:
            for _ in range(2):
                done = program.encode((x, t), ())
                done.wait()
            made.append(np.array(done.result(0).numpy(), np.float64))
        close(made[:1], made[1:], 1e-4)
        for _, parameter in parameters:
            parameter.write(parameter.read() * np.float32(1.5) + np.float32(0.1))


@pytest.mark.parametrize("seed", SEEDS)
def test_recomputed_equals_kept(seed: int, device: str) -> None:
    close(step(seed, device, recompute=True), step(seed, device), 1e-6)


def branches(device: str, optimize: bool, recompute: bool = False) -> tuple[list[np.ndarray], Any]:
    """One step of an Inception block: a shared input, three branches of convolution, batch-norm and
    ReLU, joined; then a residual sum with a ReLU. Results, and the program."""
    rng = np.random.default_rng(3)
    graph = _core.Graph()
    parameters: list[tuple[str, Any]] = []

    def parameter(name: str, value: np.ndarray, buffer: bool = False) -> int:
        made = _core.Parameter(value.astype(np.float32), buffer)
        if not buffer:
            parameters.append((name, made))
        return graph.parameter(name, made)

    def block(x: int, out: int, name: str, act: bool = True) -> int:
        w = parameter(f"{name}.w", rng.standard_normal((out, 3, 3, graph.shape(x)[3])) * 0.2)
        y = graph.add("conv2d", [x, w], {"padding": "same"}, f"Conv2d {name}")[0]
        operands = [y, parameter(f"{name}.g", rng.random(out) + 0.5),
                    parameter(f"{name}.b", rng.standard_normal(out)),
                    parameter(f"{name}.m", np.zeros(out), True),
                    parameter(f"{name}.v", np.ones(out), True)]  # fmt: skip
        y = graph.add("batch_norm", operands, {}, f"BatchNorm2d {name}")[0]
        return graph.add("neuron", [y], {"kind": "relu"}, f"ReLU {name}")[0] if act else y

    x = block(graph.input("x", (3, 9, 7, 4)), 8, "stem")
    y = graph.add("concat", [block(x, n, f"branch{n}") for n in (5, 6, 7)], {}, "concat")[0]
    z = graph.add("add", [block(y, 18, "last", act=False), y], {}, "add")[0]
    z = graph.add("neuron", [z], {"kind": "relu"}, "ReLU sum")[0]
    target = graph.input("t", graph.shape(z))
    loss = graph.add("element_loss", [z, target], {"kind": "mse"}, "loss")[0]
    program = _core.Program.compile(
        graph, device=device, training=True, seeds=[(loss, -1)], optimize=optimize,
        recompute=recompute, results=[("loss", loss, False), ("x", x, True)],
        optimizer={"kind": "sgd", "groups": [{}],
                   "parameters": [(p, 0, name) for name, p in parameters]},
    )  # fmt: skip
    fed = rng.standard_normal((3, 9, 7, 4)), rng.standard_normal(graph.shape(z))
    for _ in range(2):
        done = program.encode(tuple(a.astype(np.float32) for a in fed), (0.1,))
        done.wait()
    made = [np.array(done.result(i).numpy(), np.float64) for i in range(2)]
    return made + [np.array(p.read(), np.float64) for _, p in parameters], program


def test_a_block_of_branches(device: str) -> None:
    fused, program = branches(device, True)
    plain, unfused = branches(device, False)
    close(fused, plain, 1e-5)
    if device.startswith("mps"):
        return
    notes = "\n".join(program.notes())
    for text in ("[ReLU branch5] into [BatchNorm2d branch5]", "[ReLU sum] into [add]"):
        assert text in notes, notes
    ops = [row["op"] for row in program.summary()]
    assert "neuron" not in ops
    assert ops.count("add_n") == 1  # the sum of the branches' gradients, in one pass
    if device in ("cpu", "reference"):
        assert "[concat]: written in place" in notes
        assert "concat gradient" not in ops
    assert program.planned_bytes() < unfused.planned_bytes()

    again, recomputing = branches(device, True, recompute=True)
    close(
        again, fused, 0.0 if device == "cpu" else 1e-6
    )  # `reference` rounds the statistics it keeps
    assert recomputing.planned_bytes() < program.planned_bytes()
    notes = "\n".join(recomputing.notes())
    for text in ("[BatchNorm2d branch5]", "[concat]"):
        assert f"computed again for gradients: {text}" in notes, notes


@pytest.mark.parametrize("seed", SEEDS)
def test_devices_agree(seed: int, device: str) -> None:
    if device == "reference":
        close(step(seed, device), step(seed, device, "float64"), 1e-4)
        return
    rate = 0.0 if device.startswith("mps") else 0.25  # Metal draws masks of its own
    close(step(seed, device, rate=rate), step(seed, "reference", rate=rate), 1e-4)


def test_fusion_elision_and_memory_are_reported(device: str) -> None:
    graph = _core.Graph()
    x = graph.input("x", (4, 8, 8, 3))
    w = graph.parameter("w", _core.Parameter(np.ones((16, 3, 3, 3), np.float32)))
    y = graph.add("conv2d", [x, w], {"padding": "same"}, "Conv2d c")[0]
    y = graph.add("neuron", [y], {"kind": "relu"}, "ReLU r")[0]
    y = graph.add("dropout", [y], {"rate": 0.5}, "Dropout d")[0]
    y = graph.add("flatten", [y], {}, "Flatten f")[0]
    dead = graph.add("neuron", [y], {"kind": "tanh"}, "Tanh dead")[0]
    plain = _core.Program.compile(graph, device=device, results=[("y", y, False)], optimize=False)
    program = _core.Program.compile(graph, device=device, results=[("y", y, False)])
    notes = "\n".join(program.notes())
    for text in ("[ReLU r] into [Conv2d c]", "[Dropout d]", "[Flatten f]", "[Tanh dead]"):
        assert text in notes, notes
    assert len(program.summary()) == 1
    assert program.naive_bytes() == plain.naive_bytes()
    assert program.planned_bytes() < plain.planned_bytes()
    assert program.packed_bytes() == (16 * 9 * 3 * 4 if device == "cpu" else 0)
    assert dead != y
    a = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    for p in (plain, program):
        done = p.encode((a,), ())
        done.wait()
    assert "Conv2d c" in program.to_dot()


@pytest.mark.parametrize("slope", [0.0, -0.5])
@pytest.mark.parametrize("op", ["conv2d", "linear"])
def test_a_fused_slope_that_the_output_does_not_tell(op: str, slope: float, device: str) -> None:
    """It runs forward; its gradient is refused, by `supports` and when compiled."""
    conv = op == "conv2d"
    graph = _core.Graph()
    x = graph.input("x", (2, 1, 1, 4) if conv else (2, 4))
    w = graph.parameter("w", _core.Parameter(np.eye(4, dtype=np.float32).reshape(
        (4, 1, 1, 4) if conv else (4, 4))))  # fmt: skip
    y = graph.add(op, [x, w], {"neuron": "leaky_relu", "neuron_a": slope}, "Layer l")[0]
    a = np.random.default_rng(0).standard_normal(graph.shape(x)).astype(np.float32)
    program = _core.Program.compile(graph, device=device, results=[("y", y, False)])
    done = program.encode((a,), ())
    done.wait()
    np.testing.assert_allclose(done.result(0).numpy(), np.where(a > 0, a, slope * a), rtol=1e-6)
    assert _core.supports(graph, device, False)[0]
    ok, reason = _core.supports(graph, device, True)
    assert not ok
    c = graph.input("c", graph.shape(y))
    for text in (reason, None):
        if text is None:
            with pytest.raises(_core.UnsupportedError) as caught:
                _core.Program.compile(graph, device=device, training=True, seeds=[(y, c)],
                                      results=[("g", x, True)])  # fmt: skip
            text = str(caught.value)
        assert "[Layer l]" in text
        assert "from its output alone" in text


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("optimize", [True, False])
def test_finite_differences_through_whole_networks(seed: int, optimize: bool) -> None:
    """float64 on `reference`: the loss along a random direction of all parameters and the input."""
    graph, loss, _, parameters = random_network(seed, "float64")
    rng = np.random.default_rng(seed + 1)
    source = graph.inputs()[0]
    x = rng.standard_normal(graph.shape(source))
    t = rng.integers(0, 5, len(x))
    names = dict(parameters)
    ids = {name: graph.parameter(name, p) for name, p in parameters}

    def compile_with(wanted: list[str]) -> Any:
        results = [("loss", loss, False), ("x", source, True)]
        results += [(name, ids[name], True) for name in wanted]
        return _core.Program.compile(
            graph, device="reference", training=True, seed=3, seeds=[(loss, -1)], results=results,
            optimize=optimize,
        )  # fmt: skip

    for name in ids:  # those on a dead branch have no gradient
        try:
            compile_with([name])
        except ValueError as error:
            if "does not depend" not in str(error):
                raise
            del names[name]
    program = compile_with(list(names))

    def run(image: np.ndarray) -> list[np.ndarray]:
        # One index, one dropout mask: the step count goes back with the state.
        program.load_state([("encoded", np.zeros(1, np.int64)), *kept])
        done = program.encode((image, t), ())
        done.wait()
        return [np.array(done.result(i).numpy()) for i in range(2 + len(names))]

    kept = [(n, v) for n, v in program.state() if n != "encoded"]
    values = {name: np.array(p.read()) for name, p in names.items()}
    gradients = run(x)[1:]
    directions = [rng.standard_normal(g.shape) for g in gradients]
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step, ends = 1e-6, []
    for sign in (1, -1):
        for name, d in zip(names, directions[1:], strict=True):
            names[name].write(values[name] + sign * step * d)
        ends.append(float(run(x + sign * step * directions[0])[0][0]))
    numeric = (ends[0] - ends[1]) / (2 * step)
    assert numeric == pytest.approx(analytic, rel=1e-5, abs=1e-7)


def test_requested_values_are_not_fused_away(device: str) -> None:
    graph = _core.Graph()
    x = graph.input("x", (2, 6))
    w = graph.parameter("w", _core.Parameter(np.full((3, 6), -1, np.float32)))
    before = graph.add("linear", [x, w], {}, "Linear l")[0]
    after = graph.add("neuron", [before], {"kind": "relu"}, "ReLU r")[0]
    results = [("before", before, False), ("after", after, False)]
    program = _core.Program.compile(graph, device=device, results=results)
    done = program.encode((np.ones((2, 6), np.float32),), ())
    done.wait()
    assert (done.result(0).numpy() == -6).all()
    assert (done.result(1).numpy() == 0).all()


@pytest.mark.parametrize("squared", [False, True])
def test_losses_and_their_gradients_in_one_pass(squared: bool, device: str) -> None:
    """Two losses, summed: not the one whose gradient is known only when the loss is."""
    rng = np.random.default_rng(5)
    graph = _core.Graph()
    x = graph.input("x", (4, 6))
    w = graph.parameter("w", _core.Parameter(rng.standard_normal((5, 6)).astype(np.float32)))
    y = graph.add("linear", [x, w], {}, "Linear l")[0]
    t, labels = graph.input("t", (4, 5)), graph.input("labels", (4,), "int32", classes=5)
    first = graph.add("element_loss", [y, t], {"kind": "mse"}, "mse")[0]
    second = graph.add("softmax_cross_entropy", [y, labels], {"ignore_index": 2}, "entropy")[0]
    if squared:
        first = graph.add("multiply", [first, first], {}, "square")[0]
    loss = graph.add("total_loss", [first, second], {"weights": (0.5, 2.0)}, "total")[0]
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (4, 5))]
    fed = (*values, np.array([0, 2, 4, 1], np.int32))
    made = []
    for optimize in (True, False):
        program = _core.Program.compile(
            graph, device=device, training=True, seeds=[(loss, -1)], optimize=optimize,
            results=[("loss", loss, False), ("first", first, False), ("w", w, True)],
        )  # fmt: skip
        done = program.encode(fed, ())
        done.wait()
        made.append([np.array(done.result(i).numpy(), np.float64) for i in range(3)])
        if device == "cpu" and optimize:
            notes = "\n".join(program.notes())
            assert ("fused the gradient of [mse] into it" in notes) is not squared
            assert "fused the gradient of [entropy] into it" in notes
    close(made[0], made[1], 1e-6)


def test_stacks_in_place_and_their_parts_elsewhere(device: str) -> None:
    """Parts that come twice, from outside, or are results; those that others read and overwrite."""
    rng = np.random.default_rng(6)
    graph = _core.Graph()
    x = graph.input("x", (3, 4, 4, 2))
    a = graph.add("neuron", [x], {"kind": "tanh"}, "Tanh a")[0]
    b = graph.add("neuron", [a], {"kind": "relu"}, "ReLU b")[
        0
    ]  # may overwrite a, but for the stack
    c = graph.add("multiply", [a, b], {}, "c")[0]
    together = graph.add("stack", [a, c, a, x], {}, "stack")[0]
    parts = graph.add("unstack", [together], {}, "unstack")
    d = graph.add("neuron", [parts[1]], {"kind": "sigmoid"}, "Sigmoid d")[0]
    e = graph.add("add", [d, parts[2]], {}, "e")[0]
    e = graph.add("flatten", [graph.add("subtract", [e, parts[0]], {}, "e")[0]], {}, "flatten")[0]
    both = [graph.add("neuron", [e], {"kind": kind}, kind)[0] for kind in ("tanh", "softsign")]
    again = graph.add("stack", both, {}, "2")[0]
    t = graph.input("t", graph.shape(e))
    first, second = graph.add("unstack", [again], {}, "apart")
    loss = graph.add("element_loss", [graph.add("multiply", [first, second], {}, "h")[0], t],
                     {"kind": "mse"}, "loss")[0]  # fmt: skip
    results = [("loss", loss, False), ("part", parts[2], False), ("whole", together, False)]
    results += [("second", second, False), ("gx", x, True), ("ga", a, True), ("gp", parts[1], True)]
    fed = (rng.standard_normal((3, 4, 4, 2)).astype(np.float32),
           rng.standard_normal((3, 32)).astype(np.float32))  # fmt: skip
    made = []
    for optimize in (True, False):
        program = _core.Program.compile(graph, device=device, training=True, seeds=[(loss, -1)],
                                        optimize=optimize, results=results)  # fmt: skip
        done = program.encode(fed, ())
        done.wait()
        made.append([np.array(done.result(i).numpy(), np.float64) for i in range(len(results))])
        if optimize and not device.startswith("mps"):
            assert "elided [unstack]: a view" in program.notes()
            assert "elided [2]: written in place" in program.notes()
    close(made[0], made[1], 1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [3, 40])
def test_elementwise_parts_of_a_concatenation(side: int, training: bool, device: str) -> None:
    rng = np.random.default_rng(7)
    graph = _core.Graph()
    parts = []
    for i, c in enumerate((20, 17, 33, 16, 48, 16)):
        shape = (2, side, side, c)
        p = graph.input(f"p{i}", shape)
        q = graph.input(f"q{i}", (2, 1, 1, c) if i % 2 else shape)
        a, b = (graph.add("neuron", [v], {"kind": "tanh"}, f"Tanh {v}")[0] for v in (p, q))
        op = ("divide", "subtract", "multiply", "add", "divide", "multiply")[i]
        parts.append(graph.add(op, [a, b], {}, f"{op} {i}")[0])
        if i > 3:
            kind = "gelu" if i == 4 else "relu"
            parts[-1] = graph.add("neuron", [parts[-1]], {"kind": kind}, kind)[0]
    whole = graph.add("concat", parts, {}, "concat")[0]
    y = graph.add("multiply", [whole, whole], {}, "square")[0]
    fed = [rng.uniform(0.5, 2, graph.shape(v)).astype(np.float32) for v in graph.inputs()]
    results = [("y", y, False)]
    seeds = []
    if training:
        seeds = [(y, graph.input("c", graph.shape(y), batched=False))]
        fed.append(rng.standard_normal(graph.shape(y)).astype(np.float32))
        results += [(f"g{v}", v, True) for v in graph.inputs()[:-1]]
    made = []
    for optimize in (True, False):
        program = _core.Program.compile(graph, device=device, training=training, seeds=seeds,
                                        optimize=optimize, results=results)  # fmt: skip
        done = program.encode(tuple(fed), ())
        done.wait()
        made.append([np.array(done.result(i).numpy(), np.float64) for i in range(len(results))])
        if optimize and device == "cpu" and not training:
            assert "elided [concat]: written in place" in program.notes()
    close(made[0], made[1], 1e-5)


def test_a_stack_of_what_is_viewed_before(device: str) -> None:
    graph = _core.Graph()
    x = graph.input("x", (2, 3, 4))
    a, b = (graph.add("neuron", [x], {"kind": k}, k)[0] for k in ("tanh", "sigmoid"))
    flat = graph.add("flatten", [a], {}, "flatten")[0]
    both = graph.add("stack", [a, b], {}, "stack")[0]
    y = graph.add("multiply", [flat, flat], {}, "square")[0]
    results = [("y", y, False), ("both", both, False)]
    program = _core.Program.compile(graph, device=device, results=results)
    value = np.random.default_rng(8).standard_normal((2, 3, 4)).astype(np.float32)
    done = program.encode((value,), ())
    done.wait()
    wanted = np.tanh(value), 1 / (1 + np.exp(-value))
    np.testing.assert_allclose(done.result(0).numpy(), wanted[0].reshape(2, 12) ** 2, rtol=1e-5)
    np.testing.assert_allclose(done.result(1).numpy(), np.stack(wanted), rtol=1e-5)
