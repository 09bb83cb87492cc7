// conv2d and conv_transpose2d by oneDNN, conv2d by Winograd's algorithm where it applies, or as the
// dense layer that it is where its windows neither overlap nor leave anything out; the gradients of
// 1x1 windows, and by many weights of few pixels, are products of matrices, too. Channels
// by themselves have kernels of their own where oneDNN's are slow. Weights keep their canonical
// layout between steps. A training step packs them into the primitive's own: they are small beside
// the images. Where they do not change, in inference, packed ones are kept, with a batch-norm
// folded in. Images that are bfloat16 are multiplied as such, and summed in float32; weights and
// their gradients are float32, but for the packed copy.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "backend/cpu/conv_weights.h"
#include "backend/cpu/depthwise.h"
#include "backend/cpu/im2col.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/packing.h"
#include "backend/cpu/winograd.h"
#include "ir/images.h"
#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
constexpr auto kFloat = memory::data_type::f32, kBfloat = memory::data_type::bf16;

// oneDNN's two families, alike but in name.
struct Plain {
  using forward = dnnl::convolution_forward;
  using backward_data = dnnl::convolution_backward_data;
  using backward_weights = dnnl::convolution_backward_weights;
  static constexpr auto algorithm = dnnl::algorithm::convolution_direct;
};
struct Transposed {
  using forward = dnnl::deconvolution_forward;
  using backward_data = dnnl::deconvolution_backward_data;
  using backward_weights = dnnl::deconvolution_backward_weights;
  static constexpr auto algorithm = dnnl::algorithm::deconvolution_direct;
};

// Turns to oneDNN's first implementation of that name; false if there is none, and nothing is left.
template <class Descriptor>
bool next_named(Descriptor& d, std::string_view start) {
  while (std::string_view(d.impl_info_str()).substr(0, start.size()) != start)
    if (!d.next_impl()) return false;
  return true;
}

template <class Family>
struct Convolution {
  Convolution(const Node& node, const Shape& x, const Shape& w, const Shape& y, bool bfloat) {
    const auto type = bfloat ? kBfloat : kFloat;
    const int64_t groups = node.attrs.integer("groups");
    const auto &s = node.attrs.integers("stride"), &d = node.attrs.integers("dilation"),
               &p = node.attrs.integers("pads");
    stride = {s[0], s[1]};
    dilation = {d[0] - 1, d[1] - 1};
    before = {p[0], p[1]};
    after = {p[2], p[3]};
    if (node.op == Op::conv_transpose2d) {
      const auto& more = node.attrs.integers("output_padding");
      after = {p[2] - more[0], p[3] - more[1]};
    }
    const memory::dims image{x[0], x[3], x[1], x[2]}, out{y[0], y[3], y[1], y[2]};
    source = {image, type, Tag::nhwc};
    target = {out, type, Tag::nhwc};
    bias = {{w[conv_weight::out]}, kFloat, Tag::x};
    const int64_t o = w[conv_weight::out], kh = w[conv_weight::kh], kw = w[conv_weight::kw],
                  i = w[conv_weight::in];
    channels_alone = groups == o && i == 1;
    if (groups == 1) {
      canonical = {{o, i, kh, kw}, kFloat, Tag::ohwi};
      packed = {{o, i, kh, kw}, type, Tag::any};
      packed_gradient = {{o, i, kh, kw}, kFloat, Tag::any};
    } else {
      canonical = {{groups, o / groups, i, kh, kw}, kFloat, Tag::gohwi};
      packed = {{groups, o / groups, i, kh, kw}, type, Tag::any};
      packed_gradient = {{groups, o / groups, i, kh, kw}, kFloat, Tag::any};
    }
  }
  typename Family::forward::primitive_desc forward(bool with_bias) const {
    return {engine(),
            dnnl::prop_kind::forward_training,
            Family::algorithm,
            source,
            packed,
            with_bias ? bias : memory::desc(),
            target,
            stride,
            dilation,
            before,
            after,
            user_scratchpad()};
  }
  memory::dims stride, dilation, before, after;
  bool channels_alone;
  memory::desc source, target, bias, canonical, packed, packed_gradient;
};

// A batch-norm with running statistics, multiplied into weights and bias.
class Folded {
 public:
  // `constant`: prepared once; `kept`: the weights are read in each step.
  Folded(Builder& b, const Node& node, runtime::Ref weight, runtime::Ref bias, bool constant,
         bool kept)
      : outputs_(b.shape(node.x(1))[conv_weight::out]),
        terms_(count(b.shape(node.x(1))) / outputs_),
        epsilon_(node.attrs.number("epsilon")),
        from_(weight),
        from_bias_(bias) {
    for (int i = 0; i < 4; ++i) norm_[i] = b.in(node.x(3 + i));
    const auto bytes = static_cast<std::size_t>(outputs_) * sizeof(float);
    const std::size_t all = static_cast<std::size_t>(terms_) * bytes;
    weight_ = kept ? b.keep(all) : b.scratch(all);
    bias_ = constant ? b.keep(bytes) : b.scratch(bytes);
  }
  runtime::Ref weight() const { return weight_; }
  runtime::Ref bias() const { return bias_; }
  void prepare() const {
    const auto *w = from_.get<float>(), *old = from_bias_.get<float>();
    const float *gamma = norm_[0].get<float>(), *beta = norm_[1].get<float>(),
                *mean = norm_[2].get<float>(), *variance = norm_[3].get<float>();
    threads::parallel_for(outputs_, 1 + 16384 / terms_, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const double scale = gamma[o] / std::sqrt(static_cast<double>(variance[o]) + epsilon_);
        const double before = old != nullptr ? static_cast<double>(old[o]) : 0;
        bias_.get<float>()[o] = static_cast<float>(beta[o] + (before - mean[o]) * scale);
        const auto factor = static_cast<float>(scale);
        const float* row = w + o * terms_;
        float* to = weight_.get<float>() + o * terms_;
        for (int64_t k = 0; k < terms_; ++k) to[k] = row[k] * factor;
      }
    });
  }

 private:
  int64_t outputs_, terms_;
  double epsilon_;
  runtime::Ref from_, from_bias_, norm_[4], weight_, bias_;
};

bool is_pointwise(const Node& node, const Shape& w) {
  const auto are = [&](const char* name, int64_t value) {
    const auto& list = node.attrs.integers(name);
    return std::all_of(list.begin(), list.end(), [=](int64_t v) { return v == value; });
  };
  return node.op == Op::conv2d && w[conv_weight::kh] * w[conv_weight::kw] == 1 &&
         node.attrs.integer("groups") == 1 && are("stride", 1) && are("pads", 0);
}

template <class Family>
class Forward final : public runtime::Kernel {
 public:
  Forward(Builder& b, const Node& node)
      : epilogue_(node.attrs),
        bfloat_(b.bfloat(node)),
        y_(bfloat_ ? b.raw(node.y(0)) : b.out(node.y(0))),
        elements_(count(b.shape(node.y(0)))),
        constant_(b.constant({node.inputs.begin() + 1, node.inputs.end()})) {
    const Shape x = ir::as_image(b.shape(node.x(0))), w = ir::as_image(b.shape(node.x(1))),
                y = ir::as_image(b.shape(node.y(0)));
    const runtime::Ref source = bfloat_ ? b.raw(node.x(0)) : b.in(node.x(0));
    const bool winograd = winograd_applies(node, x, w, y, bfloat_);
    runtime::Ref weight = bfloat_ && !winograd ? b.raw(node.x(1)) : b.weight(node.x(1)),
                 bias = node.nx > 2 ? b.in(node.x(2)) : runtime::Ref();
    if (node.nx > 3) {
      const bool kept = constant_ && winograd && !Winograd::keeps(x, w, y);
      folded_.emplace(b, node, weight, bias, constant_, kept);
      weight = folded_->weight();
      bias = folded_->bias();
    }
    if (winograd) {
      winograd_.emplace(b, node, x, w, y, /*gradient=*/false, constant_, bfloat_, source, weight,
                        bias, y_);
      return;
    }
    if (Depthwise::applies(node, x, w, /*gradient=*/false, bfloat_)) {
      depthwise_.emplace(b, node, x, w, y, /*gradient=*/false, constant_, bfloat_, source, weight,
                         bias, y_);
      return;
    }
    constexpr int64_t kFewOutputs = 96, kManyInputs = 256;  // then oneDNN waits for its source
    const int64_t out = y[3], in = x[3];
    if (!bfloat_ && is_pointwise(node, w) && out <= kFewOutputs && out % 16 == 0 &&
        in >= kManyInputs) {
      const auto bytes = static_cast<std::size_t>(out * in) * sizeof(float);
      rows_ = {source, weight, bias, constant_ ? b.keep(bytes) : b.scratch(bytes), in, out};
      return;
    }
    const Convolution<Family> c(node, x, w, y, bfloat_);
    const auto descriptor = c.forward(static_cast<bool>(bias));
    const auto layout = descriptor.weights_desc();
    if (layout != c.canonical || folded_) {
      const runtime::Ref packed =
          constant_ ? b.keep(layout.get_size()) : b.scratch(layout.get_size());
      pack_ = Packing(b, c.canonical, weight, layout, packed);
      weight = packed;
    }
    main_ = Primitive::make(b, descriptor, typename Family::forward(descriptor));
    main_.bind(DNNL_ARG_SRC, c.source, source);
    main_.bind(DNNL_ARG_WEIGHTS, layout, weight);
    if (bias) main_.bind(DNNL_ARG_BIAS, c.bias, bias);
    main_.bind(DNNL_ARG_DST, c.target, y_);
  }
  void run(const runtime::StepContext& context) override {
    if (!constant_ || context.weights_changed) {
      if (folded_) folded_->prepare();
      if (winograd_) winograd_->prepare();
      if (depthwise_) depthwise_->prepare();
      if (pack_) pack_.run();
      if (rows_.packed) rows_.prepare();
    }
    if (winograd_) winograd_->run();
    if (depthwise_) depthwise_->run();
    if (main_) main_.run();
    if (rows_.packed) rows_.run(elements_ / rows_.out, y_.get<float>());
    if (bfloat_)
      epilogue_.apply(y_.get<uint16_t>(), elements_);
    else
      epilogue_.apply(y_.get<float>(), elements_);
  }
  std::string detail() const override {
    if (main_) return "oneDNN " + main_.name();
    return (winograd_    ? "Winograd "
            : depthwise_ ? "own depthwise "
                         : "own product ") +
           std::string(select().name);
  }

 private:
  // Windows of one pixel and few outputs.
  struct Rows {
    runtime::Ref x, w, bias, packed;
    int64_t in = 0, out = 0;
    void prepare() const { select().pack_columns(w.get<float>(), in, out, packed.get<float>()); }
    void run(int64_t rows, float* y) const {
      threads::parallel_for(rows, 1 + 65536 / (in * out), [&](int64_t begin, int64_t end) {
        select().packed_rows(end - begin, in, out, x.get<float>() + begin * in, packed.get<float>(),
                             bias.get<float>(), y + begin * out);
      });
    }
  };

  Epilogue epilogue_;
  bool bfloat_;
  runtime::Ref y_;
  int64_t elements_;
  bool constant_;
  Rows rows_;
  std::optional<Folded> folded_;
  std::optional<Winograd> winograd_;
  std::optional<Depthwise> depthwise_;
  Packing pack_;
  Primitive main_;
};

template <class Family>
class Gradient final : public runtime::Kernel {
 public:
  Gradient(Builder& b, const Node& node)
      : epilogue_(node.attrs),
        bfloat_(b.bfloat(node)),
        gy_(bfloat_ ? b.raw(node.gy(0)) : b.in(node.gy(0))),
        y_(bfloat_ ? b.raw(node.y(0)) : b.in(node.y(0))),
        channels_(b.shape(node.gy(0)).back()),
        elements_(count(b.shape(node.gy(0)))) {
    const Shape x = ir::as_image(b.shape(node.x(0))), w = ir::as_image(b.shape(node.x(1))),
                y = ir::as_image(b.shape(node.gy(0)));
    gz_ = epilogue_ ? b.workspace(static_cast<std::size_t>(elements_)) : gy_;
    bool bias_left = node.nx > 2 && node.gx(2) != kNone;
    if (winograd_applies(node, x, w, y, bfloat_)) {
      if (node.gx(0) != kNone)
        winograd_data_.emplace(b, node, x, w, y, /*gradient=*/true, /*constant=*/false, bfloat_,
                               gz_, b.weight(node.x(1)), runtime::Ref(),
                               bfloat_ ? b.raw(node.gx(0)) : b.out(node.gx(0)));
      if (node.gx(1) != kNone)
        winograd_weights_.emplace(b, node, x, w, y, bfloat_,
                                  bfloat_ ? b.raw(node.x(0)) : b.in(node.x(0)), gz_,
                                  b.out(node.gx(1)));
    } else {
      const Convolution<Family> c(node, x, w, y, bfloat_);
      const int64_t out = w[conv_weight::out], in = w[conv_weight::in], rows = elements_ / out;
      const bool product_of_rows = !bfloat_ && is_pointwise(node, w);
      constexpr int64_t kManyWeights = 96 << 10;  // oneDNN's convolution is slow at them
      if (node.gx(0) != kNone && product_of_rows)
        data_ = product(b, rows, in, out, Tag::ab, gz_, Tag::ab, b.weight(node.x(1)), {},
                        b.out(node.gx(0)));
      else if (node.gx(0) != kNone && Depthwise::applies(node, x, w, /*gradient=*/true, bfloat_))
        depthwise_.emplace(b, node, x, w, y, /*gradient=*/true, /*constant=*/false, bfloat_, gz_,
                           bfloat_ ? b.raw(node.x(1)) : b.weight(node.x(1)), runtime::Ref(),
                           bfloat_ ? b.raw(node.gx(0)) : b.out(node.gx(0)));
      else if (node.gx(0) != kNone)
        make_data(b, node, c);
      if (node.gx(1) != kNone && product_of_rows && in * out >= kManyWeights)
        weights_ = product(b, out, in, rows, Tag::ba, gz_, Tag::ab, b.in(node.x(0)), {},
                           b.out(node.gx(1)));
      else if (node.gx(1) != kNone && product_of_rows && PixelWeights::applies(in, out))
        pixels_.emplace(b, rows, in, out, b.in(node.x(0)), gz_, b.out(node.gx(1)));
      else if (node.gx(1) != kNone && DepthwiseWeights::applies(node, x, w))
        taps_.emplace(b, node, x, w, y, bfloat_, bfloat_ ? b.raw(node.x(0)) : b.in(node.x(0)), gz_,
                      b.out(node.gx(1)));
      else if (node.gx(1) != kNone && !product_of_rows &&
               WindowWeights::applies(node, x, w, y, bfloat_))
        windows_.emplace(b, node, x, w, y, bfloat_, bfloat_ ? b.raw(node.x(0)) : b.in(node.x(0)),
                         gz_, b.out(node.gx(1)));
      else if (node.gx(1) != kNone && bfloat_ && PairedWeights::applies(node, x, y))
        paired_.emplace(b, node, x, w, y, b.raw(node.x(0)), gz_, b.out(node.gx(1)));
      else if (node.gx(1) != kNone)
        make_weights(b, node, c, std::exchange(bias_left, false));
    }
    if (bias_left && bfloat_) floats_ = b.workspace(static_cast<std::size_t>(elements_));
    if (bias_left) {
      gb_ = b.out(node.gx(2));
      partial_ = b.workspace(bias_gradient_floats(channels_));
    }
  }
  void run(const runtime::StepContext&) override {
    if (epilogue_ && bfloat_)
      epilogue_.gradient(gy_.get<uint16_t>(), y_.get<uint16_t>(), gz_.get<uint16_t>(), elements_);
    else if (epilogue_)
      epilogue_.gradient(gy_.get<float>(), y_.get<float>(), gz_.get<float>(), elements_);
    if (winograd_weights_) winograd_weights_->run();
    if (paired_) paired_->run();
    if (pixels_) pixels_->run();
    if (taps_) taps_->run();
    if (windows_) windows_->run();
    if (weights_) weights_.run();
    if (unpack_) unpack_.run();
    if (floats_)
      pointwise(elements_, [&](int64_t i, int64_t end) {
        select().from_bfloat(gz_.get<uint16_t>() + i, floats_.get<float>() + i, end - i);
      });
    if (gb_)
      bias_gradient((floats_ ? floats_ : gz_).get<float>(), elements_ / channels_, channels_,
                    partial_.get<float>(), gb_.get<float>());
    if (winograd_data_) {
      winograd_data_->prepare();
      winograd_data_->run();
    }
    if (depthwise_) {
      depthwise_->prepare();
      depthwise_->run();
    }
    if (pack_) pack_.run();
    if (data_) data_.run();
  }
  std::string detail() const override {
    if (winograd_data_ || winograd_weights_) return std::string("Winograd ") + select().name;
    const std::string weights = paired_ || pixels_ ? std::string("own ") + select().name
                                : taps_            ? std::string("own depthwise ") + select().name
                                : windows_         ? windows_->name()
                                : weights_         ? "oneDNN " + weights_.name()
                                                   : "no weights";
    const std::string data = depthwise_ ? std::string("own depthwise ") + select().name
                             : data_    ? "oneDNN " + data_.name()
                                        : "no data";
    return data + " / " + weights;
  }

 private:
  void make_data(Builder& b, const Node& node, const Convolution<Family>& c) {
    using Descriptor = typename Family::backward_data::primitive_desc;
    const auto hint = c.forward(false);
    const auto first = [&] {
      return Descriptor(engine(), Family::algorithm, c.source, c.packed, c.target, c.stride,
                        c.dilation, c.before, c.after, hint, user_scratchpad());
    };
    Descriptor d = first();
    // At a stride oneDNN's first is one for any groups, in bfloat16 up to thirty times slower.
    if (c.channels_alone && !next_named(d, "jit_dw")) d = first();
    runtime::Ref weight = bfloat_ ? b.raw(node.x(1)) : b.weight(node.x(1));
    if (d.weights_desc() != c.canonical) {
      const runtime::Ref packed = b.scratch(d.weights_desc().get_size());
      pack_ = Packing(b, c.canonical, weight, d.weights_desc(), packed);
      weight = packed;
    }
    data_ = Primitive::make(b, d, typename Family::backward_data(d));
    data_.bind(DNNL_ARG_DIFF_DST, c.target, gz_);
    data_.bind(DNNL_ARG_WEIGHTS, d.weights_desc(), weight);
    data_.bind(DNNL_ARG_DIFF_SRC, c.source, bfloat_ ? b.raw(node.gx(0)) : b.out(node.gx(0)));
  }
  void make_weights(Builder& b, const Node& node, const Convolution<Family>& c, bool with_bias) {
    const typename Family::backward_weights::primitive_desc d(
        engine(), Family::algorithm, c.source, c.packed_gradient,
        with_bias ? c.bias : memory::desc(), c.target, c.stride, c.dilation, c.before, c.after,
        c.forward(false), user_scratchpad());
    const runtime::Ref gw = b.out(node.gx(1));
    runtime::Ref target = gw;
    if (d.diff_weights_desc() != c.canonical) {
      target = b.scratch(d.diff_weights_desc().get_size());
      unpack_ = reorder(b, d.diff_weights_desc(), target, c.canonical, gw);
    }
    weights_ = Primitive::make(b, d, typename Family::backward_weights(d));
    weights_.bind(DNNL_ARG_SRC, c.source, bfloat_ ? b.raw(node.x(0)) : b.in(node.x(0)));
    weights_.bind(DNNL_ARG_DIFF_DST, c.target, gz_);
    weights_.bind(DNNL_ARG_DIFF_WEIGHTS, d.diff_weights_desc(), target);
    if (with_bias) weights_.bind(DNNL_ARG_DIFF_BIAS, c.bias, b.out(node.gx(2)));
  }

  Epilogue epilogue_;
  bool bfloat_;
  runtime::Ref gy_, y_, gz_, floats_, gb_, partial_;
  int64_t channels_, elements_;
  std::optional<Winograd> winograd_data_;
  std::optional<WinogradWeights> winograd_weights_;
  std::optional<PairedWeights> paired_;
  std::optional<PixelWeights> pixels_;
  std::optional<WindowWeights> windows_;
  std::optional<Depthwise> depthwise_;
  std::optional<DepthwiseWeights> taps_;
  Packing pack_;
  Primitive data_, weights_, unpack_;
};

template <class Family>
KernelPtr make(Builder& b, const Node& node) {
  if (node.gradient) return std::make_unique<Gradient<Family>>(b, node);
  return std::make_unique<Forward<Family>>(b, node);
}

// Whether the windows lie one behind the other in memory and cover the image: a dense layer.
bool is_dense(const Node& node, const Shape& x, const Shape& w, const Shape& y) {
  for (const char* name : {"pads", "dilation"})
    for (const int64_t v : node.attrs.integers(name))
      if (v != (name[0] == 'd' ? 1 : 0)) return false;
  const int64_t kh = w[conv_weight::kh], kw = w[conv_weight::kw];
  const auto& strides = node.attrs.integers("stride");
  if (strides[0] != kh || strides[1] != kw) return false;
  return node.nx <= 3 && node.attrs.integer("groups") == 1 && kh * kw > 1 &&
         (kh == 1 || kw == x[2]) && y[1] * kh == x[1] && y[2] * kw == x[2];
}

}  // namespace

KernelPtr make_conv2d(Builder& b, const Node& node) {
  const Shape &x = b.shape(node.x(0)), &w = b.shape(node.x(1)),
              &y = b.shape(node.gradient ? node.gy(0) : node.y(0));
  if (is_dense(node, ir::as_image(x), ir::as_image(w), ir::as_image(y)))
    return make_linear(b, node);
  return make<Plain>(b, node);
}
KernelPtr make_conv_transpose2d(Builder& b, const Node& node) { return make<Transposed>(b, node); }

}  // namespace mpsnn::backend::cpu
