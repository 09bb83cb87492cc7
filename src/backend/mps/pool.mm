// Pooling. MPS clamps a window to the image by repeating edge pixels: harmless in a maximum without
// dilation, as they are in the window anyway; with dilation and padding together they may not be,
// and our own kernels pool instead. So does the gradient of an L2 norm, which MPS does not define
// for a window of zeros.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "backend/mps/own.h"

namespace mpsnn::backend::mps {
namespace {

struct Window {
  explicit Window(Builder& b)
      : x(geometry_of(b.x_shape(0))),
        y(geometry_of(b.y_shape())),
        maximum(b.node().op == Op::max_pool2d),
        average(b.node().op == Op::avg_pool2d) {
    const auto &k = b.attrs().integers("kernel"), &s = b.attrs().integers("stride"),
               &p = b.attrs().integers("pads"), &d = b.attrs().integers("dilation");
    kh = k[0], kw = k[1], sh = s[0], sw = s[1], top = p[0], left = p[1], dh = d[0], dw = d[1];
    padded = p[0] + p[1] + p[2] + p[3] != 0;
    // Windows that reach beyond the padding count what is padding: a band around the image.
    banded = average && b.attrs().flag("count_include_pad") && b.attrs().flag("ceil_mode", false);
    clamps = maximum || banded || (average && !b.attrs().flag("count_include_pad"));
    neuron = ir::epilogue_of(b.attrs());
  }
  bool dilated() const { return dh != 1 || dw != 1; }
  bool own() const { return dilated() && padded; }
  MPSOffset offset() const {
    return {static_cast<NSInteger>(((kw - 1) * dw + 1) / 2 - left),
            static_cast<NSInteger>(((kh - 1) * dh + 1) / 2 - top), 0};
  }
  template <class Average>
  void set_band(Average* kernel) const {
    kernel.zeroPadSizeX = static_cast<NSUInteger>(left);
    kernel.zeroPadSizeY = static_cast<NSUInteger>(top);
  }
  MPSImageEdgeMode edge() const { return clamps ? MPSImageEdgeModeClamp : MPSImageEdgeModeZero; }
  WindowParams parameters() const {
    const auto i = [](int64_t v) { return static_cast<int>(v); };
    return {i(x.n),
            i(x.h),
            i(x.w),
            i(x.c),
            i(y.h),
            i(y.w),
            i(kh),
            i(kw),
            i(sh),
            i(sw),
            i(dh),
            i(dw),
            i(top),
            i(left),
            static_cast<int>(neuron.kind),
            static_cast<float>(neuron.a),
            static_cast<float>(neuron.b),
            static_cast<float>(neuron.c)};
  }
  Geometry x, y;
  bool maximum, average;
  int64_t kh, kw, sh, sw, dh, dw, top, left;
  bool padded, banded, clamps;
  ir::NeuronSpec neuron;
};

template <class Plain, class Dilated>
id make_kernel(const Window& w, DeviceRef device) {
  const auto u = [](int64_t v) { return static_cast<NSUInteger>(v); };
  if (w.dilated())
    return [[Dilated alloc] initWithDevice:device
                               kernelWidth:u(w.kw)
                              kernelHeight:u(w.kh)
                             dilationRateX:u(w.dw)
                             dilationRateY:u(w.dh)
                           strideInPixelsX:u(w.sw)
                           strideInPixelsY:u(w.sh)];
  return [[Plain alloc] initWithDevice:device
                           kernelWidth:u(w.kw)
                          kernelHeight:u(w.kh)
                       strideInPixelsX:u(w.sw)
                       strideInPixelsY:u(w.sh)];
}

class Pool final : public Operation {
 public:
  explicit Pool(Builder& b)
      : window_(b), x_(b.node().x(0)), keeper_(b.keeper()), epilogue_(b, window_.y) {
    DeviceRef device = b.gpu().device();
    if (window_.maximum) {
      kernel_ = make_kernel<MPSCNNPoolingMax, MPSCNNDilatedPoolingMax>(window_, device);
    } else if (window_.average) {
      MPSCNNPoolingAverage* kernel =
          make_kernel<MPSCNNPoolingAverage, MPSCNNDilatedPoolingMax>(window_, device);
      if (window_.banded) window_.set_band(kernel);
      kernel_ = kernel;
    } else {
      kernel_ = make_kernel<MPSCNNPoolingL2Norm, MPSCNNDilatedPoolingMax>(window_, device);
      keeper_ = -1;
    }
    label(kernel_, b.layer());
    kernel_.offset = window_.offset();
    kernel_.edgeMode = window_.edge();
  }
  void encode(Encoding& e) override {
    MPSImageBatch *x = e.read(x_, window_.x), *y = epilogue_.target(e);
    e.forward(kernel_, x, y, keeper_);
    epilogue_.apply(e, y);
  }
  std::string detail() const override {
    if (!window_.maximum) return window_.average ? "MPSCNNPoolingAverage" : "MPSCNNPoolingL2Norm";
    return window_.dilated() ? "MPSCNNDilatedPoolingMax" : "MPSCNNPoolingMax";
  }

 private:
  Window window_;
  ValueId x_;
  int keeper_;
  Epilogue epilogue_;
  MPSCNNPooling* kernel_;
};

class PoolGradient final : public Operation {
 public:
  explicit PoolGradient(Builder& b)
      : window_(b),
        x_(b.node().x(0)),
        gx_(b.node().gx(0)),
        forward_(b.forward()),
        dtype_(b.plan().dtype),
        epilogue_(b, window_.y) {
    DeviceRef device = b.gpu().device();
    if (window_.maximum) {
      kernel_ =
          make_kernel<MPSCNNPoolingMaxGradient, MPSCNNDilatedPoolingMaxGradient>(window_, device);
    } else {
      MPSCNNPoolingAverageGradient* kernel =
          make_kernel<MPSCNNPoolingAverageGradient, MPSCNNDilatedPoolingMaxGradient>(window_,
                                                                                     device);
      if (window_.banded) window_.set_band(kernel);
      kernel_ = kernel;
    }
    label(kernel_, b.layer());
    kernel_.primaryOffset = {0, 0, 0};
    kernel_.secondaryOffset = window_.offset();
    kernel_.primaryEdgeMode = kernel_.secondaryEdgeMode = window_.edge();
    kernel_.sourceSize =
        MTLSizeMake(static_cast<NSUInteger>(window_.y.w), static_cast<NSUInteger>(window_.y.h), 1);
  }
  void encode(Encoding& e) override {
    MPSImageBatch* gy = epilogue_.gradients(e);
    MPSImageBatch* sources = window_.maximum ? e.read(x_, window_.x) : e.sizes(window_.x, dtype_);
    [kernel_ encodeBatchToCommandBuffer:e.commands()
                        sourceGradients:gy
                           sourceImages:sources
                         gradientStates:e.take_states(forward_)
                   destinationGradients:e.write(gx_, window_.x)];
  }
  std::string detail() const override {
    if (!window_.maximum) return "MPSCNNPoolingAverageGradient";
    return window_.dilated() ? "MPSCNNDilatedPoolingMaxGradient" : "MPSCNNPoolingMaxGradient";
  }

 private:
  Window window_;
  ValueId x_, gx_;
  int forward_;
  DType dtype_;
  EpilogueGradient epilogue_;
  MPSCNNPoolingGradient* kernel_;
};

// The gradient finds the winners again, from x.
class OwnPool final : public Operation {
 public:
  explicit OwnPool(Builder& b)
      : parameters_(Window(b).parameters()),
        gradient_(b.node().gradient),
        x_(b.dense(b.node().x(0))) {
    const Window w(b);
    outputs_ = w.y.count();
    inputs_ = w.x.count();
    winners_ = b.scratch(static_cast<std::size_t>(outputs_) * sizeof(int32_t));
    if (gradient_) {
      values_ = b.scratch(static_cast<std::size_t>(outputs_) * sizeof(float));
      gy_ = b.dense(b.node().gy(0));
      gx_ = b.dense(b.node().gx(0));
    } else {
      y_ = b.dense(b.node().y(0));
    }
  }
  void encode(Encoding& e) override {
    const Buffer x = e.load(x_), winners = e.scratch(winners_);
    const Buffer y = gradient_ ? e.scratch(values_) : e.target(y_);
    e.run(e.gpu().pipeline("max_pool"), {x, y, winners}, parameters_, outputs_);
    if (!gradient_) {
      e.store(y_);
      return;
    }
    Buffer gy = e.load(gy_);
    if (parameters_.neuron != 0) {
      const WindowParams& w = parameters_;
      const NeuronParams p{static_cast<int>(outputs_), w.neuron, w.neuron_a, w.neuron_b,
                           w.neuron_c};
      e.run(e.gpu().pipeline("neuron_gradient_of_output"), {y, gy, y}, p, p.count);
      gy = y;
    }
    e.run(e.gpu().pipeline("max_pool_gradient"), {gy, winners, e.target(gx_)}, parameters_,
          inputs_);
    e.store(gx_);
  }
  std::string detail() const override { return "own kernel"; }

 private:
  WindowParams parameters_;
  bool gradient_;
  Dense x_, y_, gy_, gx_;
  int64_t outputs_ = 0, inputs_ = 0;
  std::size_t winners_ = 0, values_ = 0;
};

std::unique_ptr<Operation> make_l2_gradient(Builder& b) {
  const Window w(b);
  const WindowParams p = w.parameters();
  const Dense x = b.dense(b.node().x(0)), y = b.dense(b.node().y(0)), gy = b.dense(b.node().gy(0)),
              gx = b.dense(b.node().gx(0));
  const int64_t pixels = w.x.count();
  return own_kernels([=](Encoding& e) {
    const Buffer from = e.load(x), norms = e.load(y), gradient = e.load(gy);
    e.run(e.gpu().pipeline("l2_pool_gradient"), {from, norms, gradient, e.target(gx)}, p, pixels);
    e.store(gx);
  });
}

}  // namespace

std::unique_ptr<Operation> make_pool(Builder& b) {
  if (Window(b).own()) return std::make_unique<OwnPool>(b);
  if (!b.node().gradient) return std::make_unique<Pool>(b);
  if (b.node().op == Op::l2_pool2d) return make_l2_gradient(b);
  return std::make_unique<PoolGradient>(b);
}

}  // namespace mpsnn::backend::mps
