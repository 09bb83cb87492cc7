"""The mps device from several threads."""

from __future__ import annotations

import pytest
from test_mps import HERE, script, simulated

pytestmark = pytest.mark.skipif(not HERE, reason="there is no mps device")


# Two graphs in two threads, each on its own device, on the same one, and beside the cpu: what each
# learns is what it learns alone, to the bit.
@simulated
@pytest.mark.parametrize("devices", [("mps", "mps:1"), ("mps", "mps"), ("mps:1", "cpu")],
                         ids=["two-devices", "one-device", "beside-the-cpu"])  # fmt: skip
def test_two_threads(devices: tuple[str, str]) -> None:
    out = script("discrete,unified", """
        import threading, numpy as np, mpsnn
        from apple import violations
        from mpsnn import nn, optim
        rng = np.random.default_rng(0)
        images, labels = rng.random((16, 8, 8, 1), np.float32), rng.integers(0, 5, 16)

        def network(kind):
            if kind == "conv":
                return nn.Sequential(nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8),
                                     nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(),
                                     nn.Linear(128, 5)), images
            return nn.Sequential(nn.LSTM(8, 12, return_sequences=False), nn.Linear(12, 5)), \
                   images[..., 0]

        def learn(kind, device, out, start=None):
            with lock:  # the seed is the process's
                mpsnn.manual_seed(1)
                model, x = network(kind)
            graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.Adam(0.01),
                                        x.shape[1:], 16, device, seed=2)
            if start is not None:
                start.wait()
            steps = [graph.encode(x, labels) for _ in range(40)]
            out.append(([s.loss for s in steps],
                        [np.array(v) for v in model.state_dict().values()]))

        lock = threading.Lock()
        kinds, devices = ("conv", "lstm"), DEVICES
        alone, together = [], []
        for kind, device in zip(kinds, devices):
            alone.append([])
            learn(kind, device, alone[-1])
        start = threading.Barrier(2)
        threads = []
        for kind, device in zip(kinds, devices):
            together.append([])
            threads.append(threading.Thread(target=learn,
                                            args=(kind, device, together[-1], start)))
        for t in threads: t.start()
        for t in threads: t.join()
        for (a,), (b,) in zip(alone, together):
            assert a[0] == b[0] and a[0][-1] < a[0][0], (a[0], b[0])
            assert all(np.array_equal(u, v) for u, v in zip(a[1], b[1]))
        print(mpsnn._core.drain() or violations())
    """.replace("DEVICES", repr(devices)))  # fmt: skip
    assert out == "[]\n"
