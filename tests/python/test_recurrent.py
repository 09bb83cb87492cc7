"""Recurrent layers: against torch.nn, in graphs, with lengths and carried states, from others."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, optim

rng = np.random.default_rng(0)
N, T, C, H = 5, 7, 4, 6


def sequences(n: int = N, t: int = T, c: int = C) -> np.ndarray:
    return np.random.default_rng(n + t + c).standard_normal((n, t, c)).astype(np.float32)


def close(got: Any, expected: Any, limit: float = 1e-5) -> None:
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= limit * max(np.abs(b).max(), 1e-3), np.abs(a - b).max()


def torch_layer(kind: str, layers: int, both: bool, bias: bool = True, **options: Any) -> Any:
    torch.manual_seed(0)
    cls = getattr(torch.nn, kind)
    return cls(C, H, layers, batch_first=True, bidirectional=both, bias=bias, **options)


KINDS = ("LSTM", "GRU", "RNN")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("t", [1, 2, 20, 100])
def test_like_torch(
    kind: str, layers: int, both: bool, bias: bool, masked: bool, started: bool, t: int
) -> None:
    """Outputs, final states and every gradient, initial states included, in float64 there."""
    theirs = torch_layer(kind, layers, both, bias)
    layer = getattr(nn, kind).from_torch(theirs)
    layer.return_state = True
    theirs = theirs.double()
    slots = layers * (2 if both else 1)
    x, lengths = sequences(t=t), None
    fields = 2 if kind == "LSTM" else 1
    initial = [rng.standard_normal((slots, N, H)).astype(np.float32) for _ in range(fields)]
    initial = initial if started else []
    tx = torch.from_numpy(x).double().requires_grad_(True)
    ti = [torch.from_numpy(s).double().requires_grad_(True) for s in initial]
    fed: Any = tx
    if masked:
        lengths = np.clip(np.array([t, 1, t // 2, t - 1, 2]), 1, t)
        fed = torch.nn.utils.rnn.pack_padded_sequence(
            tx, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
        )
    ty, ts = theirs(fed, *([tuple(ti) if fields == 2 else ti[0]] if ti else []))
    if masked:
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, batch_first=True, total_length=t)
    expected = [ty, *(ts if fields == 2 else [ts])]
    cotangents = [rng.standard_normal(e.shape).astype(np.float32) for e in expected]
    torch.autograd.backward(expected, [torch.from_numpy(c).double() for c in cotangents])

    def run(x: Any, *rest: Any) -> Any:
        state = rest[: len(initial)] or None
        if state is not None and fields == 1:
            state = state[0]
        return layer(x, state, rest[-1] if masked else None)

    parameters = dict(layer.named_parameters())
    extra = [lengths] if masked else []
    (y, state), by_inputs, by_parameters = mpsnn.vjp(
        run, [x, *initial, *extra], cotangents, list(parameters.values())
    )
    limit = 1e-5 if t < 20 else 1e-4
    got = [y, *(state if fields == 2 else [state])]
    for a, b in zip(got, expected, strict=True):
        close(a, b.detach(), limit)
    for a, b in zip(by_inputs[: 1 + len(initial)], [tx, *ti], strict=True):
        close(a, b.grad, limit)
    for name, gradient in zip(parameters, by_parameters, strict=True):
        head, suffix = name.rsplit("_l", 1)
        if head == "bias_hn":
            expected_gradient = getattr(theirs, f"bias_hh_l{suffix}").grad[2 * H :]
        elif head == "bias":
            expected_gradient = getattr(theirs, f"bias_ih_l{suffix}").grad
        else:
            expected_gradient = getattr(theirs, name).grad
        close(gradient, expected_gradient, limit)
    state = (tuple(initial) if fields == 2 else initial[0]) if started else None
    eager_y, _ = layer(x, state, lengths)
    close(eager_y, ty.detach(), limit)


def test_directions_sum_and_last_outputs() -> None:
    theirs = torch_layer("LSTM", 1, True)
    x = sequences()
    y, (h, _) = theirs(torch.from_numpy(x))
    state = nn.LSTM.from_torch(theirs).state_dict()
    for merge, sequences_too, expected in (
        ("sum", True, y[..., :H] + y[..., H:]),
        ("sum", False, h[0] + h[1]),
        ("concat", False, torch.cat([h[0], h[1]], 1)),
    ):
        layer = nn.LSTM(C, H, bidirectional=True, merge=merge, return_sequences=sequences_too)
        layer.load_state_dict(state)
        close(layer(x), expected.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_lengths_like_packed_sequences(kind: str, both: bool) -> None:
    theirs = torch_layer(kind, 2, both)
    layer = getattr(nn, kind).from_torch(theirs)
    x, lengths = sequences(), np.array([7, 1, 3, 6, 2])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
    )
    y, _ = theirs(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=T)
    poisoned = x.copy()
    for i, length in enumerate(lengths):
        poisoned[i, length:] = np.nan  # padding is never computed with
    close(layer(poisoned, None, lengths), y.detach())
    close(mpsnn.InferenceGraph(layer, (T, C), 2)(poisoned, lengths=lengths), y.detach())


def test_images_of_height_one_are_sequences() -> None:
    layer = nn.GRU(C, H)
    x = sequences()
    np.testing.assert_array_equal(layer(x[:, None]), layer(x))


def model(**options: Any) -> nn.Sequential:
    mpsnn.manual_seed(3)
    return nn.Sequential(nn.LSTM(C, H, **options), nn.Linear(H, 3))


def test_training_like_torch() -> None:
    """Ten steps of SGD with labels on every step, some of them past a sequence's length."""
    net = model(num_layers=2)
    twin = torch.nn.LSTM(C, H, 2, batch_first=True)
    head = torch.nn.Linear(H, 3)
    state = {k: torch.from_numpy(v) for k, v in net.torch_state_dict((T, C)).items()}
    twin.load_state_dict({k[2:]: v for k, v in state.items() if k.startswith("0.")})
    head.load_state_dict({k[2:]: v for k, v in state.items() if k.startswith("1.")})
    step = torch.optim.SGD([*twin.parameters(), *head.parameters()], 0.5)
    graph = mpsnn.TrainingGraph(net, nn.SoftmaxCrossEntropy(), optim.SGD(0.5), (T, C), N, "cpu")
    x, lengths = sequences(), np.array([7, 1, 3, 6, 2])
    labels = rng.integers(0, 3, (N, T))
    valid = torch.from_numpy(np.arange(T) < lengths[:, None])
    for _ in range(10):
        step.zero_grad()
        # One bias here is two there: only one of them may move.
        logits = head(twin(torch.from_numpy(x))[0])
        loss = torch.nn.functional.cross_entropy(logits[valid], torch.from_numpy(labels)[valid])
        loss.backward()
        for name, p in twin.named_parameters():
            if name.startswith("bias_hh"):
                p.grad.zero_()
        step.step()
        assert graph.encode(x, labels, lengths=lengths).loss == pytest.approx(
            float(loss.detach()), rel=2e-5
        )
    predict = mpsnn.InferenceGraph(net, (T, C), N, "cpu")
    found = predict.evaluate(x, labels, loss=nn.SoftmaxCrossEntropy(), lengths=lengths)
    guess = head(twin(torch.from_numpy(x))[0]).argmax(-1)[valid].numpy()
    assert found["accuracy"] == pytest.approx((guess == labels[valid.numpy()]).mean())


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_carried_states(kind: str) -> None:
    """A sequence in pieces gives what the whole one gives; gradients stop between pieces."""
    mpsnn.manual_seed(0)
    layer = getattr(nn, kind)(C, H, 2)
    x = sequences(3, 12)
    whole = mpsnn.InferenceGraph(layer, (12, C), 3)(x)
    piece = mpsnn.InferenceGraph(layer, (4, C), 2)
    states: Any = {}
    outputs = []
    for start in range(0, 12, 4):
        y, states = piece(x[:, start : start + 4], states=states)
        outputs.append(y)
    close(np.concatenate(outputs, 1), whole)

    net = nn.Sequential(layer, nn.Linear(H, 2))
    graph = mpsnn.TrainingGraph(net, nn.MSE(), optim.SGD(0.0), (4, C), 3, seed=0)
    target = np.zeros((3, 4, 2), np.float32)
    states = {}
    for start in range(0, 12, 4):
        step = graph.encode(x[:, start : start + 4], target, states=states)
        states = step.states
    _, final = mpsnn.InferenceGraph(net, (12, C), 3)(x, states={})
    for a, b in zip(*(s["0"] if kind == "LSTM" else [s["0"]] for s in (states, final)),
                    strict=True):  # fmt: skip
        close(a, b)
    assert graph.encoded == 3


def test_wrong_lengths_and_states() -> None:
    graph = mpsnn.TrainingGraph(model(), nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (T, C), N)
    x, labels = sequences(), np.zeros((N, T), np.int64)
    with pytest.raises(ValueError, match=r"8 is outside 0\.\.7"):
        graph.encode(x, labels, lengths=[8, 1, 1, 1, 1])
    with pytest.raises(mpsnn.ShapeError, match="lengths"):
        graph.encode(x, labels, lengths=[1, 1])
    with pytest.raises(mpsnn.DTypeError, match="lengths"):
        graph.encode(x, labels, lengths=np.ones(N))
    with pytest.raises(ValueError, match="no layer 'lstm'"):
        graph.encode(x, labels, states={"lstm": np.zeros((1, N, H))})
    with pytest.raises(mpsnn.ShapeError, match="states"):
        graph.encode(x, labels, states={"0": (np.zeros((1, 2, H)), np.zeros((1, 2, H)))})
    with pytest.raises(TypeError, match="states"):
        graph.encode(x, labels, states=3)
    with pytest.raises(ValueError, match="without states"):
        _ = graph.encode(x, labels).states

    def own(y: Any, t: Any) -> Any:
        return mpsnn.ops.mean(y - t, (1, 2))

    function = mpsnn.TrainingGraph(model(), own, None, (T, C), N)
    with pytest.raises(mpsnn.UnsupportedError, match=r"\[own\] lengths do not mask"):
        function.encode(x, np.zeros((N, T, 3), np.float32), lengths=[1, 2, 3, 4, 5])
    normalized = nn.Sequential(nn.LSTM(C, H), nn.BatchNorm1d(H))
    normal = mpsnn.TrainingGraph(normalized, nn.MSE(), None, (T, C), N)
    with pytest.raises(mpsnn.ShapeError, match="more than one value"):
        normal.encode(x, np.zeros((N, T, H), np.float32), lengths=[1, 0, 0, 0, 0])
    with pytest.raises(mpsnn.ShapeError, match=r"\[LSTM 0\] expected \(N, T, 4\)"):
        mpsnn.InferenceGraph(model(), (T, 5), N)
    with pytest.raises(mpsnn.ShapeError, match="state h"):
        nn.GRU(C, H)(x, np.zeros((2, N, H), np.float32))


def test_dropout_between_layers_is_of_training() -> None:
    layer = nn.LSTM(C, H, 2, dropout=0.5)
    x = sequences()
    np.testing.assert_array_equal(layer(x), layer(x))
    layer.train()
    still = nn.LSTM(C, H, 2)
    still.load_state_dict(layer.state_dict())
    assert np.abs(layer(x) - still(x)).max() > 0
    assert "dropout" in str(mpsnn.TrainingGraph(layer, nn.MSE(), None, (T, C), N).summary())


def test_graph_size_does_not_grow_with_the_steps() -> None:
    sizes = []
    for t in (10, 1000):
        graph = mpsnn.TrainingGraph(
            model(), nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (t, C), 2, "cpu"
        )
        sizes.append(len(graph._program.summary()))
    assert sizes[0] == sizes[1]


def test_from_keras_and_onnx() -> None:
    """The layouts that their documents state, filled by hand from one PyTorch layer."""
    x = sequences()
    for kind, keras, onnx in (
        ("LSTM", (0, 1, 2, 3), (0, 3, 1, 2)), ("GRU", (1, 0, 2), (1, 0, 2)), ("RNN", (0,), (0,)),
    ):  # fmt: skip
        theirs = torch_layer(kind, 1, True)
        expected = theirs(torch.from_numpy(x))[0].detach()
        arrays = {k: v.detach().numpy() for k, v in theirs.named_parameters()}

        def order(name: str, gates: tuple[int, ...], found: Any = arrays) -> np.ndarray:
            blocks = np.split(found[name], len(gates))
            return np.concatenate([blocks[g] for g in gates])

        weights, stacks = [], [[], [], []]  # type: ignore[var-annotated]
        for suffix in ("l0", "l0_reverse"):
            first, second = order(f"bias_ih_{suffix}", keras), order(f"bias_hh_{suffix}", keras)
            weights += [
                order(f"weight_ih_{suffix}", keras).T,
                order(f"weight_hh_{suffix}", keras).T,
            ]
            weights.append(np.stack([first, second]) if kind == "GRU" else first + second)
            for stack, name in zip(stacks, ("weight_ih", "weight_hh"), strict=False):
                stack.append(order(f"{name}_{suffix}", onnx))
            stacks[2].append(np.concatenate([order(f"bias_ih_{suffix}", onnx),
                                             order(f"bias_hh_{suffix}", onnx)]))  # fmt: skip
        cls = getattr(nn, kind)
        close(cls.from_keras(weights)(x), expected)
        options = {"linear_before_reset": 1} if kind == "GRU" else {}
        close(cls.from_onnx(*map(np.stack, stacks), **options)(x), expected)


def test_onnx_peepholes() -> None:
    layer = nn.LSTM(C, H, peepholes=True)
    p = layer.peephole_l0.numpy()  # type: ignore[attr-defined]
    w, r, b = (getattr(layer, f"{n}_l0").numpy() for n in ("weight_ih", "weight_hh", "bias"))
    iofc = [np.concatenate([np.split(a, 4)[g] for g in (0, 3, 1, 2)]) for a in (w, r, b)]
    iof = np.concatenate([p[0], p[2], p[1]])
    same = nn.LSTM.from_onnx(iofc[0][None], iofc[1][None],
                             np.concatenate([iofc[2], 0 * iofc[2]])[None], iof[None])  # fmt: skip
    np.testing.assert_array_equal(same(sequences()), layer(sequences()))


def test_state_dict_and_torch_names() -> None:
    net = nn.Sequential(nn.GRU(C, H, 2, bidirectional=True), nn.Linear(2 * H, 3))
    state = net.torch_state_dict((T, C))
    twin = torch.nn.GRU(C, H, 2, batch_first=True, bidirectional=True)
    twin.load_state_dict({k[2:]: torch.from_numpy(v) for k, v in state.items() if k[0] == "0"})
    x = sequences()
    close(net[0](x), twin(torch.from_numpy(x))[0].detach())
    other = nn.Sequential(nn.GRU(C, H, 2, bidirectional=True), nn.Linear(2 * H, 3))
    other.load_torch_state_dict(state, (T, C))
    np.testing.assert_array_equal(other(x), net(x))
    assert "0.weight_ih_l1_reverse" in net.state_dict()
    with pytest.raises(mpsnn.UnsupportedError, match="PyTorch has no"):
        nn.Sequential(nn.MGU(C, H)).torch_state_dict((T, C))


def test_ops_and_their_gradients() -> None:
    layer = nn.GRU(C, H)
    a = {k[:-3]: v for k, v in layer.state_dict().items()}
    x = sequences()
    y, h = mpsnn.ops.gru(x, **a, lengths=np.array([7, 1, 3, 6, 2]))
    np.testing.assert_array_equal(y, layer(x, None, np.array([7, 1, 3, 6, 2])))
    np.testing.assert_array_equal(h[1], y[1, 0])
    gradients = mpsnn.ops.gru_gradient((np.ones_like(y), None), x, **a)
    _, by_x, by_w = mpsnn.vjp(layer, x, np.ones_like(y), list(layer.parameters()))
    close(gradients[0], by_x[0], 1e-6)
    for got, expected in zip(gradients[1:], by_w, strict=True):
        close(got, expected, 1e-6)
    parts = mpsnn.ops.unstack(x)
    np.testing.assert_array_equal(mpsnn.ops.stack(parts), x)
    assert mpsnn.gradcheck(
        lambda v, w, u: mpsnn.ops.minimal_gated(v, w, u)[0],
        [rng.standard_normal((2, 3, 2)), rng.standard_normal((4, 2)), rng.standard_normal((4, 2))],
    )


def test_encoder_hands_its_state_to_a_decoder() -> None:
    """States flow between layers, with gradients."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.LSTM(C, H, 2, return_state=True)
            self.decoder = nn.LSTM(C, H, 2)

        def forward(self, x: Any, z: Any) -> Any:
            return self.decoder(z, self.encoder(x)[1])

    net = Both()
    encoder, decoder = torch_layer("LSTM", 2, False), torch_layer("LSTM", 2, False)
    for name, twin in (("encoder", encoder), ("decoder", decoder)):
        setattr(net, name, nn.LSTM.from_torch(twin))
    net.encoder.return_state = True
    x, z = sequences(), sequences(N, 3)
    tx = torch.from_numpy(x).requires_grad_(True)
    y, _ = decoder(torch.from_numpy(z), encoder(tx)[1])
    y.sum().backward()
    got, (by_x, _) = mpsnn.vjp(net, [x, z], np.ones(y.shape, np.float32))
    close(got, y.detach())
    close(by_x, tx.grad, 3e-5)


def test_embedding_like_torch(device: str) -> None:
    """Training on character indices; rows that are not named do not move."""
    mpsnn.manual_seed(0)
    net = nn.Sequential(nn.Embedding(9, 4, padding_idx=2), nn.GRU(4, H), nn.Linear(H, 9))
    x = np.array([[1, 2, 3], [3, 5, 1]])
    table = torch.from_numpy(net.state_dict()["0.weight"]).requires_grad_(True)
    assert not table[2].any()
    gru, head = torch.nn.GRU(4, H, batch_first=True), torch.nn.Linear(H, 9)
    state = net.torch_state_dict((3,))
    gru.load_state_dict({k[2:]: torch.from_numpy(v) for k, v in state.items() if k[0] == "1"})
    head.load_state_dict({k[2:]: torch.from_numpy(v) for k, v in state.items() if k[0] == "2"})
    rows = torch.nn.functional.embedding(torch.from_numpy(x), table, 2)
    logits = head(gru(rows)[0])
    close(net(x), logits.detach())
    labels = np.array([[2, 3, 4], [5, 1, 0]])
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 9), torch.from_numpy(labels).ravel()
    )
    loss.backward()
    before = net.state_dict()["0.weight"]
    graph = mpsnn.TrainingGraph(net, nn.SoftmaxCrossEntropy(), optim.SGD(1.0), (3,), 2, device,
                                outputs=["0.weight:grad"])  # fmt: skip
    step = graph.encode(x, labels)
    assert step.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    close(step.outputs["0.weight:grad"], table.grad, 3e-5)
    close(before - net.state_dict()["0.weight"], table.grad, 1e-4)
    with pytest.raises(ValueError, match="9 is outside"):
        graph.encode(x + 6, labels)
    with pytest.raises(mpsnn.DTypeError, match="integers"):
        graph.encode(x.astype(np.float32), labels)
    with pytest.raises(mpsnn.DTypeError, match="floating"):
        nn.Linear(3, 2)(x)
    with pytest.raises(ValueError, match="as values and as indices"):
        mpsnn.InferenceGraph(Twice(), (3,), 2)


class Twice(nn.Module):
    """Reads its input as values, then as indices."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)

    def forward(self, x: Any) -> Any:
        return x + x, self.embedding(x)


def test_embedding_op() -> None:
    w = rng.standard_normal((5, 3)).astype(np.float32)
    i = np.array([4, 0, 4])
    np.testing.assert_array_equal(mpsnn.ops.embedding(i, w), w[i])
    (gradient,) = mpsnn.ops.embedding_gradient(np.ones((3, 3), np.float32), i, w, padding_idx=0)
    np.testing.assert_array_equal(gradient[:, 0], [0, 0, 0, 0, 2])


def test_activity_classifier() -> None:
    """The talk's shape; standardisation is the model's own; padding does not enter statistics."""
    model = mpsnn.models.activity_classifier(100, 6, 5)
    x = np.random.default_rng(0).standard_normal((3, 1, 2000, 6)).astype(np.float32) * 3 + 7
    model.standardize(x)
    inside = mpsnn.InferenceGraph(model.standard, (1, 2000, 6), 3)(x)
    np.testing.assert_allclose(inside.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std((0, 1, 2)), 1, atol=1e-4)
    labels = np.random.default_rng(1).integers(0, 5, (3, 20))
    before = model.state_dict()
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (1, 2000, 6), 3)
    first = graph.encode(x, labels).loss
    for _ in range(20):
        last = graph.encode(x, labels).loss
    assert last < first
    after = model.state_dict()
    assert all((before[k] == after[k]).all() for k in before if k.startswith("standard"))
    assert mpsnn.InferenceGraph(model, (1, 2000, 6), 3)(x).shape == (3, 20, 5)


def test_padding_changes_nothing() -> None:
    """A chunk that is filled up trains as the same chunk in a graph of its own length."""
    mpsnn.manual_seed(1)
    model = mpsnn.models.activity_classifier(10, 6, 5, dropout=(0.0, 0.0))
    other = mpsnn.models.activity_classifier(10, 6, 5, dropout=(0.0, 0.0))
    other.load_state_dict(model.state_dict())
    rng = np.random.default_rng(0)
    recordings = [rng.standard_normal((70, 6)).astype(np.float32) for _ in range(3)]
    x, labels, lengths = model.chunks(recordings, [1, 4, 2], steps=20)
    assert x.shape == (3, 1, 200, 6)
    assert (lengths == 70).all()
    assert labels is not None
    padded = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (1, 200, 6), 3, "cpu", seed=0
    )
    short = mpsnn.TrainingGraph(
        other, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (1, 70, 6), 3, "cpu", seed=0
    )
    poisoned = x.copy()
    poisoned[:, :, 70:] = np.nan
    for _ in range(5):
        loss = padded.encode(poisoned, labels, lengths=lengths).loss
        assert loss == pytest.approx(short.encode(x[:, :, :70], labels[:, :7]).loss, rel=1e-5)
    after = other.state_dict()
    for name, value in model.state_dict().items():
        close(value, after[name], 1e-4)
    predict = mpsnn.InferenceGraph(model, (1, 200, 6), 3, "cpu")
    expected = mpsnn.InferenceGraph(other, (1, 70, 6), 3, "cpu")(x[:, :, :70])
    close(predict(poisoned, lengths=lengths)[:, :7], expected, 1e-4)


def test_masked_norm_like_torch() -> None:
    """Statistics, running ones and gradients are those of the steps that are there."""
    x, lengths = sequences(), np.array([7, 1, 3, 0, 2])
    valid = np.arange(T) < lengths[:, None]
    net = nn.Sequential(nn.Linear(C, 3), nn.BatchNorm1d(3))
    theirs, norm = torch.nn.Linear(C, 3), torch.nn.BatchNorm1d(3)
    theirs.load_state_dict({k: torch.from_numpy(net.state_dict()[f"0.{k}"])
                            for k in ("weight", "bias")})  # fmt: skip
    step = torch.optim.SGD([*theirs.parameters(), *norm.parameters()], 0.5)
    graph = mpsnn.TrainingGraph(net, nn.MSE(), optim.SGD(0.5), (T, C), N, "cpu")
    target = rng.standard_normal((N, T, 3)).astype(np.float32)
    rows, aims = torch.from_numpy(x[valid]), torch.from_numpy(target[valid])
    for _ in range(4):
        step.zero_grad()
        loss = torch.nn.functional.mse_loss(norm(theirs(rows)), aims)
        loss.backward()
        step.step()
        got = graph.encode(x, target, lengths=lengths)
        assert got.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert got.losses[3] == 0
    state = net.state_dict()
    for name, value in norm.state_dict().items():
        if name != "num_batches_tracked":
            close(state[f"1.{name}"], value, 1e-5)
    close(state["0.weight"], theirs.weight.detach(), 1e-4)


def test_lengths_mask_every_loss_of_a_sequence() -> None:
    """Soft labels, values, weights of elements: the same as weights of 0 past the lengths."""
    x, lengths = sequences(), np.array([7, 1, 3, 0, 2])
    valid = (np.arange(T) < lengths[:, None]).astype(np.float32)
    soft = rng.random((N, T, 3)).astype(np.float32)
    soft /= soft.sum(-1, keepdims=True)
    indices = rng.integers(0, 3, (N, T))
    elements = rng.random((N, T, 3)).astype(np.float32)
    net = nn.Sequential(nn.Linear(C, 3))
    y = np.asarray(net(x))
    for loss, targets, own in (
        (nn.SoftmaxCrossEntropy(), soft, None), (nn.SoftmaxCrossEntropy(), indices, None),
        (nn.SoftmaxCrossEntropy("sum"), soft, elements[..., 0]),
        (nn.SigmoidCrossEntropy(), indices, None), (nn.SigmoidCrossEntropy(), soft, elements),
        (nn.MSE(), soft, None), (nn.MSE(), soft, elements), (nn.Huber(), soft, elements[..., 1]),
        (nn.CosineDistance(), soft, None),
    ):  # fmt: skip
        weights = valid if own is None else own * (valid if own.ndim == 2 else valid[..., None])
        expected, each = loss(y, targets, weights)
        graph = mpsnn.TrainingGraph(net, loss, None, (T, C), N, "cpu")
        step = graph.encode(x, targets, weights=own, lengths=lengths)
        assert step.loss == pytest.approx(float(expected), rel=1e-5), loss
        close(step.losses, each)
    predict = mpsnn.InferenceGraph(net, (T, C), 2, "cpu")
    for targets in (soft, indices):
        found = predict.evaluate(x, targets, loss=nn.SoftmaxCrossEntropy(), lengths=lengths)
        truth = targets.argmax(-1) if targets.ndim == 3 else targets
        right = (y.argmax(-1) == truth)[valid > 0].mean()
        assert found["accuracy"] == pytest.approx(right)
        expected, _ = nn.SoftmaxCrossEntropy()(y, targets, valid)
        assert found["loss"] == pytest.approx(float(expected), rel=1e-5)
    # One target a sequence has nothing to mask.
    last = nn.LSTM(C, 3, return_sequences=False)
    graph = mpsnn.TrainingGraph(last, nn.MSE(), None, (T, C), N, "cpu")
    aims = np.zeros((N, 3), np.float32)
    expected, _ = nn.MSE()(last(x, None, lengths), aims)
    assert graph.encode(x, aims, lengths=lengths).loss == pytest.approx(float(expected), rel=1e-5)


def test_chunks_of_recordings() -> None:
    model = mpsnn.models.activity_classifier(4, 2, 3)
    samples = np.arange(26, dtype=np.float32).reshape(13, 2)
    labels = np.array([0, 0, 1, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2])
    x, y, lengths = model.chunks([samples, samples[:5]], [labels, 1], steps=2)
    assert x.shape == (3, 1, 8, 2)
    assert lengths.tolist() == [8, 5, 5]
    assert y is not None
    assert y.tolist() == [[0, 2], [1, 2], [1, 1]]
    np.testing.assert_array_equal(x[1, 0, :5], samples[8:])
    assert not x[1, 0, 5:].any()
    assert model.chunks([], steps=2)[0].shape == (0, 1, 8, 2)
    for wrong in ([samples[:, :1]], [samples[0]]):
        with pytest.raises(mpsnn.ShapeError, match=r"\[chunks\]"):
            model.chunks(wrong)
    with pytest.raises(mpsnn.ShapeError, match=r"\[chunks\]"):
        model.chunks([samples], [labels[:3]])
    with pytest.raises(mpsnn.ShapeError, match="1 recordings and 2"):
        model.chunks([samples], [1, 2])
    seen = [
        (batch, int(length))
        for a, _, lens in mpsnn.data.batches(x, y, 2, True, lengths=lengths)
        for batch, length in zip(a, lens, strict=True)
    ]
    assert len(seen) == 3
    for batch, length in seen:
        assert any((batch == x[i]).all() and length == lengths[i] for i in range(3))


def test_basic_motions() -> None:
    (x, y), (xt, yt) = mpsnn.datasets.basic_motions()
    assert x.shape == xt.shape == (40, 100, 6)
    assert x.dtype == np.float32
    for labels in (y, yt):
        assert labels.dtype == np.int64
        assert (np.bincount(labels) == 10).all()
