"""One-line faults of src/backend/mps, each of which some test must notice.

A row is a file, text that occurs in it once, what stands there instead, and, where those of its
file are not enough, the tests that see it. `TESTS` are those of a file: arguments of pytest.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A fault."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


def ops(*names: str) -> tuple[str, ...]:
    """The case table's rows with one of these in their names."""
    return ("tests/ops/test_ops.py::test_against_torch", "-k", " or ".join(names))


DEVICE = ("tests/python/test_mps.py",)
TRAINING = ("tests/python/test_training.py", "-k", "pytorch or accumul or clip or guard or scale")
LOSSES = ("tests/python/test_losses.py",)
GROUPS = ops("conv2d")
GRAPHS = ("tests/python/test_fuzz.py", "-k", "test_random_graphs")
TESTS: dict[str, tuple[str, ...]] = {
    "arithmetic.mm": ops("add", "subtract", "multiply", "divide"),
    "conv.mm": ops("conv2d", "conv_transpose2d"),
    "dropout.mm": ("tests/ops/test_dropout.py",),
    "encoding.mm": (*DEVICE, "-k", "not two_thousand"),
    "executable.mm": (*DEVICE, "-k", "not two_thousand"),
    "gpu.mm": (*DEVICE, "-k", "not two_thousand"),
    "kernels.metal": ops("conv", "neuron", "pool", "add", "divide", "reduce", "prelu", "concat"),
    "kernels_loss.metal": ops("loss", "entropy", "distance"),
    "kernels_norm.metal": ops("norm", "resize", "pad2d"),
    "kernels_rnn.metal": ops("rnn", "embedding", "lstm", "gru", "mgu"),
    "kernels_update.metal": TRAINING,
    "linear.mm": ops("linear"),
    "local_norm.mm": ops("norm"),
    "loss.mm": ops("entropy", "mse", "log", "total_loss"),
    "masked_norm.mm": ops("batch_norm"),
    "mps.mm": (*DEVICE, "-k", "not two_thousand"),
    "neuron.mm": ops("neuron", "elu"),
    "norm.mm": ops("batch_norm"),
    "optimizer.mm": TRAINING,
    "own.mm": ops("reduce", "permute", "norm"),
    "pool.mm": ops("pool"),
    "reduce.mm": ops("reduce"),
    "resample.mm": ops("resize", "pad2d"),
    "rnn.mm": ops("rnn", "embedding", "lstm", "gru", "mgu"),
    "shape.mm": ops("concat", "permute", "slice", "stack", "flatten", "reshape"),
    "softmax.mm": ops("softmax"),
    "unary.mm": ops("neuron", "softmax"),
    "unit_loss.mm": ops("loss", "distance"),
}

MUTANTS = (
    # convolution: offsets, edges, weights
    Mutant("conv.mm", "return static_cast<NSInteger>(((kernel - 1) * dilation + 1) / 2 - pad);",
           "return static_cast<NSInteger>(((kernel - 1) * dilation + 1) / 2 - pad + 1);"),
    Mutant("conv.mm", "kernel_.secondaryOffset = {o.x - wide / 2, o.y - high / 2, 0};",
           "kernel_.secondaryOffset = {o.x, o.y, 0};"),
    Mutant("conv.mm", "kernel_.kernelOffsetX = -o.x + (wide % 2 == 0 ? 1 : 0);",
           "kernel_.kernelOffsetX = -o.x;"),
    Mutant("conv.mm", "kernel_.kernelOffsetY = -o.y + (high % 2 == 0 ? 1 : 0);",
           "kernel_.kernelOffsetY = o.y;"),
    Mutant("conv.mm", "descriptor_.dilationRateY = static_cast<NSUInteger>(s.dh);", ""),
    Mutant("conv.mm", "descriptor_.strideInPixelsX = static_cast<NSUInteger>(s.sw);",
           "descriptor_.strideInPixelsX = static_cast<NSUInteger>(s.sh);"),
    Mutant("conv.mm", "    kernel_.edgeMode = MPSImageEdgeModeZero;",
           "    kernel_.edgeMode = MPSImageEdgeModeClamp;"),
    Mutant("conv.mm", "return _half ? MPSDataTypeFloat16 : MPSDataTypeFloat32;",
           "return MPSDataTypeFloat16;"),
    Mutant("conv.mm", "return half_accumulator_ ? MPSNNConvolutionAccumulatorPrecisionOptionHalf",
           "return true ? MPSNNConvolutionAccumulatorPrecisionOptionHalf"),
    Mutant("conv.mm", "if (weighs_) state.readCount += 1;", ""),
    Mutant("conv.mm", "    state.readCount -= 1;\n", ""),
    Mutant("conv.mm", "s.top = (s.kh - 1) * s.dh - pads[0];", "s.top = pads[0];"),
    Mutant("conv.mm", "turn_.a_offset = static_cast<int>((taps - 1) * part_in);",
           "turn_.a_offset = 0;"),
    Mutant("conv.mm", "biasesOffset:biased_ ? terms.offset : 0", "biasesOffset:0",
           ("tests/python/test_api.py", "-k", "ops_on_arrays")),
    Mutant("conv.mm", "    if (same && loaded_) return nil;\n", "", DEVICE),
    Mutant("conv.mm", "std::equal(stamps, stamps + 2, stamps_)", "stamps_[0] >= 0", DEVICE),
    Mutant("conv.mm", "std::swap(back.a, back.b);", ""),
    # linear, neurons
    Mutant("linear.mm", "s.kw = home.w;", "s.kw = home.h;", GRAPHS),
    Mutant("neuron.mm", "if (s.kind == Neuron::elu) return s.b == 1 && s.c == 1;",
           "if (s.kind == Neuron::elu) return true;"),
    Mutant("neuron.mm", "(gradient && spec.kind == Neuron::relun)", "false"),
    Mutant("neuron.mm", "static_cast<float>(s.a)\n", "static_cast<float>(s.b)\n"),
    Mutant("neuron.mm", "if (kernel_ != nil) e.forward(", "if (false) e.forward(",
           ops("conv2d", "pool")),
    Mutant("neuron.mm", 'e.run(e.gpu().pipeline("neuron_gradient_of_output"), {y, gy, inner}',
           'e.run(e.gpu().pipeline("neuron_gradient_of_output"), {gy, y, inner}',
           ops("relu", "pool", "conv2d")),
    Mutant("unary.mm", "keeper_(keeps ? b.keeper() : -1)", "keeper_(-1)"),
    # pooling
    Mutant("pool.mm", "return clamps ? MPSImageEdgeModeClamp : MPSImageEdgeModeZero;",
           "return MPSImageEdgeModeZero;"),
    Mutant("pool.mm", "return {static_cast<NSInteger>(((kw - 1) * dw + 1) / 2 - left),",
           "return {static_cast<NSInteger>(((kw - 1) * dw + 1) / 2 - top),"),
    Mutant("pool.mm", "bool own() const { return dilated() && padded; }",
           "bool own() const { return false; }", GRAPHS),
    Mutant("pool.mm", "kernel.zeroPadSizeY = static_cast<NSUInteger>(top);", ""),
    Mutant("pool.mm", "kernel_.secondaryOffset = window_.offset();", ""),
    Mutant("pool.mm", "MTLSizeMake(static_cast<NSUInteger>(window_.y.w)",
           "MTLSizeMake(static_cast<NSUInteger>(1)"),
    # normalisation
    Mutant("norm.mm", "state.readCount = trained_ ? 6 : 3;", "state.readCount = trained_ ? 5 : 3;"),
    Mutant("norm.mm", "    [statistics_ encodeBatchToCommandBuffer:e.commands()\n"
           "                               sourceImages:x\n"
           "                    batchNormalizationState:state];\n", ""),
    Mutant("norm.mm", "e.copy({state.variance, 0}, e.buffer(node_.state(1)), bytes_);\n    state",
           "e.copy({state.mean, 0}, e.buffer(node_.state(1)), bytes_);\n    state",
           ("tests/python/test_training.py", "-k", "twenty_steps")),
    Mutant("norm.mm", "e.copy({state.gradientForBeta, 0}, e.buffer(node_.gx(2)), bytes_);",
           "e.copy({state.gradientForGamma, 0}, e.buffer(node_.gx(2)), bytes_);"),
    Mutant("norm.mm", "kernel_.epsilon = static_cast<float>(b.attrs().number(\"epsilon\"));",
           "kernel_.epsilon = 1e-3f;"),
    Mutant("masked_norm.mm", "p.width = static_cast<int>(x[x.size() - 2]);",
           "p.width = static_cast<int>(x[1]);"),
    Mutant("masked_norm.mm", 'run("divide_by_rows", {number, variance}, p.channels);', ""),
    Mutant("kernels_norm.metal", "columns += min(max(lengths[n], 0), p.width);",
           "columns += p.width;"),
    Mutant("kernels_norm.metal", "variances[id] = 1.0f / sqrt(variances[id] + p.factor);",
           "variances[id] = 1.0f / sqrt(variances[id]);"),
    Mutant("local_norm.mm", "if (mirrored) std::swap(p.before, p.after);", ""),
    # losses
    Mutant("loss.mm", "p.image_weighted = b.node().nx > 2 && b.node().x(2) != kNone ? 1 : 0;",
           "p.image_weighted = 0;"),
    Mutant("loss.mm", "p_.ignore = static_cast<int>(a.integer(\"ignore_index\"));",
           "p_.ignore = -100;"),
    Mutant("loss.mm", "p_.smoothing = static_cast<float>(a.number(\"label_smoothing\"));", ""),
    Mutant("loss.mm", "    p_.class_weighted = 1;\n", ""),
    Mutant("loss.mm", "if (type == MPSCNNLossTypeLog) made.epsilon", "if (false) made.epsilon"),
    Mutant("loss.mm", "e.to_images(weights, images_, DType::float32, weights_);", ""),
    Mutant("loss.mm", "const ScaleParams p{1, static_cast<float>(weights_[i]),",
           "const ScaleParams p{1, 1.0f,", LOSSES),
    # dropout
    Mutant("dropout.mm", "float keep() const { return static_cast<float>(1 - rate); }",
           "float keep() const { return static_cast<float>(rate); }"),
    Mutant("dropout.mm", "seed, path, step, 0, 0", "seed, path, 0, 0, 0"),
    Mutant("dropout.mm", "spatial ? MTLSizeMake(0, 0, 1)", "spatial ? MTLSizeMake(1, 1, 1)"),
    Mutant("dropout.mm", "for (MPSState* state in states) state.readCount = 0;", "", DEVICE),
    # recurrent layers
    Mutant("rnn.mm", "reverse ? (steps - 1) * in : 0", "0"),
    Mutant("rnn.mm", "return reverse ? steps - 1 - step : step;", "return step;"),
    Mutant("rnn.mm", "give(at::h0, [&](Buffer to) { e.copy(e.scratch(gh_), to, bytes()); });",
           "give(at::h0, [&](Buffer to) { e.copy(e.scratch(gc_), to, bytes()); });"),
    Mutant("rnn.mm", "    start(e, 2, gc);\n", "    start(e, 1, gc);\n"),
    Mutant("rnn.mm", "parameters.limited = lengths != kNone;", "parameters.limited = 0;"),
    Mutant("rnn.mm", "layer_.parameters.biased_hn = bias_hn_.value != kNone;", ""),
    Mutant("kernels_rnn.metal", "const float i = sigmoid_of(pre[0]), f = sigmoid_of(pre[1]), g",
           "const float i = sigmoid_of(pre[1]), f = sigmoid_of(pre[0]), g"),
    Mutant("kernels_rnn.metal", "next_h[id] = h[id];", "next_h[id] = 0.0f;"),
    Mutant("kernels_rnn.metal", "if (p.peepholes != 0) by_c += by_o * peephole[2 * n + j];", ""),
    Mutant("kernels_rnn.metal", "if (p.cell == kCellGru) delta_hn[id] = 0.0f;", ""),
    Mutant("kernels_rnn.metal", "own != p.padding", "true",
           ("tests/python/test_recurrent.py", "-k", "embedding")),
    # the optimizer and the guard
    Mutant("kernels_update.metal", "(sqrt(v) / sqrt(correct2) + p.epsilon)",
           "sqrt((v + p.epsilon) / correct2)"),
    Mutant("kernels_update.metal", "counters[2] = 1;  // until all is written",
           "// until all is written", DEVICE),
    Mutant("kernels_update.metal", "finite = finite && found[i] == 0;", ";"),
    Mutant("kernels_update.metal",
           "const float b = control[0].step == 1 ? g : p.momentum * momentum[id] + p.undamped * g;",
           "const float b = p.momentum * momentum[id] + p.undamped * g;"),
    Mutant("kernels_update.metal", "c.shrink = min(1.0f, p.clip_norm / (sqrt(sum) + 1e-6f));",
           "c.shrink = p.clip_norm / (sqrt(sum) + 1e-6f);"),
    Mutant("kernels_update.metal", "(control[0].first != 0 ? 0.0f : sums[id]) + gradients[id]",
           "sums[id] + gradients[id]"),
    Mutant("kernels_update.metal", "p.decoupled != 0 ? 0.0f : p.weight_decay", "p.weight_decay"),
    Mutant("kernels_update.metal", "loss_scale[0] = max(1.0f, scale / 2.0f);", ""),
    Mutant("optimizer.mm", "if (item.average != kNone && item.host_gradient == kNone)",
           "if (false)", ("tests/python/test_host.py", "-k", "averages")),
    # images, buffers, storage
    Mutant("encoding.mm", "MPSImageBatchIncrementReadCount(live_[r], reads);",
           "MPSImageBatchIncrementReadCount(live_[r], reads + 1);"),
    Mutant("encoding.mm", "    [blit synchronizeResource:executable_.results_[slot_]];\n", ""),
    Mutant("encoding.mm", "if (reads > 1) MPSImageBatchIncrementReadCount(images, reads - 1);", "",
           DEVICE),
    Mutant("encoding.mm", "      if (--it->takers == 0) states_.erase(it);\n",
           "      states_.erase(it);\n", GRAPHS),
    Mutant("encoding.mm", "if (takers > 1) MPSState", "if (false) MPSState",
           GRAPHS),
    Mutant("encoding.mm", "copy(buffer(id), to, (bytes + 3) / 4 * 4);", "copy(buffer(id), to, 4);",
           ops("linear", "conv2d")),
    Mutant("executable.mm", "[inputs_[slot] didModify", "if (false) [inputs_[slot] didModify"),
    Mutant("executable.mm", "if (ones && ones_[slot][i]) return;", "if (ones) return;", LOSSES),
    Mutant("executable.mm", "total += bytes_of(p.values[r]);", "total += 4;", DEVICE),
    Mutant("gpu.mm", "  [blit synchronizeResource:staging];\n", ""),
    Mutant("gpu.mm", "if (!unified_) [upload didModifyRange:NSMakeRange(0, bytes)];", ""),
    Mutant("gpu.mm", "    case MTLCommandBufferErrorOutOfMemory:\n", "    case 12345:\n"),
    Mutant("gpu.mm", "if (device.registryID == own && [what", "if (false && [what"),
    Mutant("gpu.mm", "  @autoreleasepool {\n    try {", "  {\n    try {"),
    Mutant("gpu.mm", "options.fastMathEnabled = NO;", "options.fastMathEnabled = YES;"),
    Mutant("mps.mm", "if (device.removable) return 0;", "if (device.removable) return 9;"),
    # arithmetic, reductions, moves
    Mutant("arithmetic.mm", "kernel_.primaryStrideInFeatureChannels = stride(first.c, images_.c);",
           ""),
    Mutant("kernels.metal", "if (p.kind == kBinarySubtract) part = p.second != 0 ? -g : g;", "",
           ops("subtract")),
    Mutant("kernels.metal", "to[id] = wins[id] * (gradient[result] / ties[result]);",
           "to[id] = wins[id] * gradient[result];"),
    Mutant("kernels.metal", "|| v != v)", ")", ("tests/python/test_shapes.py", "-k", "ties")),
    Mutant("kernels.metal", "const int inside = channel - o / (p.out / p.groups) * part;",
           "const int inside = channel - o % p.groups * part;", GROUPS),
    Mutant("kernels.metal", "float most = -INFINITY;", "float most = 0.0f;",
           GRAPHS),
    Mutant("kernels.metal", "y > 0.0f ? b : c * (y + a * b);", "y > 0.0f ? b : c * y;",
           ops("relu", "elu", "pool", "conv")),
    Mutant("own.mm", "second_.factor = static_cast<float>(factor);", "second_.factor = 1;",
           ops("norm", "reduce")),
    Mutant("shape.mm", "aligned = aligned && offset % 4 == 0;", "aligned = aligned && true;"),
    Mutant("shape.mm", "if (gradient && cuts) e.run(", "if (false) e.run("),
    Mutant("shape.mm", "copy.sourceFeatureChannelOffset = static_cast<NSUInteger>(part.offset);",
           ""),
    Mutant("resample.mm", "top = sides[0];", "top = sides[1];"),
)  # fmt: skip
