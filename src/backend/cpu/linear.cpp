// linear: oneDNN's matmul on the canonical layouts as they are (packed ones were no faster in all);
// our own gemm in small plans, where a call into oneDNN costs more than the product. Few rows by
// many outputs are computed as the transposed product, so that oneDNN packs the rows and not the
// weights. Rows that are bfloat16 are multiplied as such with packed copies of the weights, and
// summed in float32. A convolution whose windows lie one behind the other is the same thing.
#include <algorithm>

#include "backend/cpu/onednn.h"

namespace mpsnn::backend::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
constexpr auto kFloat = memory::data_type::f32, kBfloat = memory::data_type::bf16;
constexpr std::size_t kPackLanes = 16;

// Of a product with a bias of `bias` floats, or none.
dnnl::matmul::primitive_desc product_of(const memory::desc& a, const memory::desc& b, int64_t bias,
                                        const memory::desc& c) {
  if (bias == 0) return {engine(), a, b, c, user_scratchpad()};
  return {engine(), a, b, memory::desc({1, bias}, kFloat, Tag::ab), c, user_scratchpad()};
}

}  // namespace

Primitive product(Builder& b, const memory::desc& da, runtime::Ref a, const memory::desc& db,
                  runtime::Ref bb, runtime::Ref bias, const memory::desc& dc, runtime::Ref c) {
  const int64_t n = dc.get_dims()[1];
  const auto d = product_of(da, db, bias ? n : 0, dc);
  Primitive p = Primitive::make(b, d, dnnl::matmul(d));
  p.bind(DNNL_ARG_SRC, da, a);
  p.bind(DNNL_ARG_WEIGHTS, db, bb);
  if (bias) p.bind(DNNL_ARG_BIAS, memory::desc({1, n}, kFloat, Tag::ab), bias);
  p.bind(DNNL_ARG_DST, dc, c);
  return p;
}

namespace {

// B (k x n) packed as AVX512-BF16 multiplies it: columns in blocks of 64, rows in blocks of 32, and
// of those in pairs.
constexpr auto kPairs = Tag::BA16a64b2a;

void pack_pairs(const float* b, int64_t k, int64_t n, uint32_t* packed) {
  const int64_t columns = (n + 63) / 64, pairs = (k + 31) / 32 * 16;
  threads::parallel_for(columns, 1, [=](int64_t begin, int64_t end) {
    const float none[64] = {};
    for (int64_t c = begin; c < end; ++c) {
      const int64_t width = std::min<int64_t>(64, n - 64 * c);
      uint32_t* to = packed + c * pairs * 64;
      for (int64_t r = 0; r < 2 * pairs; r += 2, to += 64) {
        const float* low = r < k ? b + r * n + 64 * c : none;
        select().to_bfloat_pairs(low, r + 1 < k ? low + n : none, to, width);
        std::fill(to + width, to + 64, 0);
      }
    }
  });
}

// The same of bfloat16 A, with a B of float32 that is packed first.
struct Packed {
  Packed() = default;
  Packed(Builder& b, int64_t m, int64_t n, int64_t k, runtime::Ref a, Tag tb, runtime::Ref bb,
         runtime::Ref bias, runtime::Ref c) {
    const memory::desc da({m, k}, kBfloat, Tag::ab), any({k, n}, kBfloat, Tag::any),
        dc({m, n}, kBfloat, Tag::ab);
    const auto layout = product_of(da, any, bias ? n : 0, dc).weights_desc();
    packed = b.scratch(layout.get_size());
    if (tb == Tag::ab && layout == memory::desc({k, n}, kBfloat, kPairs)) {
      rows = bb;
      depth = k;
      columns = n;
    } else {
      pack = reorder(b, {{k, n}, kFloat, tb}, bb, layout, packed);
    }
    main = product(b, da, a, layout, packed, bias, dc, c);
  }
  void run() {
    if (rows)
      pack_pairs(rows.get<float>(), depth, columns, packed.get<uint32_t>());
    else
      pack.run();
    main.run();
  }
  explicit operator bool() const { return static_cast<bool>(main); }
  runtime::Ref packed, rows;
  int64_t depth = 0, columns = 0;
  Primitive pack, main;
};

struct Sizes {
  Sizes(const Shape& y, const Shape& w) : out(w[0]), in(count(w) / out), rows(count(y) / out) {}
  int64_t out, in, rows;
};

class Forward final : public runtime::Kernel {
 public:
  Forward(Builder& b, const Node& node)
      : size_(b.shape(node.y(0)), b.shape(node.x(1))),
        epilogue_(node.attrs),
        x_(b.in(node.x(0))),
        w_(b.weight(node.x(1))),
        bias_(node.nx > 2 ? b.in(node.x(2)) : runtime::Ref()),
        y_(b.out(node.y(0))) {
    wide_ = !b.small() && size_.rows * 4 <= size_.out;
    if (b.small()) {
      turned_ = b.workspace(static_cast<std::size_t>(size_.in * size_.out));
      pack_ = b.workspace(static_cast<std::size_t>(size_.in) * kPackLanes);
    } else if (wide_) {
      turned_ = b.workspace(static_cast<std::size_t>(size_.rows * size_.out));
      main_ = product(b, size_.out, size_.rows, size_.in, Tag::ab, w_, Tag::ba, x_, {}, turned_);
    } else {
      main_ = product(b, size_.rows, size_.out, size_.in, Tag::ab, x_, Tag::ba, w_, bias_, y_);
    }
  }
  void run(const runtime::StepContext&) override {
    auto* y = y_.get<float>();
    if (main_) {
      main_.run();
      if (wide_) turn();
    } else {
      select().transpose(w_.get<float>(), size_.in, size_.out, size_.in, turned_.get<float>(),
                         size_.out);
      select().gemm(size_.rows, size_.out, size_.in, x_.get<float>(), size_.in, 1,
                    turned_.get<float>(), size_.out, bias_.get<float>(), false, y, size_.out,
                    pack_.get<float>());
    }
    epilogue_.apply(y, size_.rows * size_.out);
  }
  std::string detail() const override { return main_ ? "oneDNN " + main_.name() : "small gemm"; }

 private:
  void turn() {
    const auto *from = turned_.get<float>(), *bias = bias_.get<float>();
    auto* y = y_.get<float>();
    threads::parallel_for(size_.rows, 1 + 16384 / size_.out, [&](int64_t begin, int64_t end) {
      select().transpose(from + begin, size_.rows, size_.out, end - begin, y + begin * size_.out,
                         size_.out);
      for (int64_t row = begin; bias != nullptr && row < end; ++row)
        select().add(y + row * size_.out, bias, y + row * size_.out, size_.out);
    });
  }

  Sizes size_;
  Epilogue epilogue_;
  bool wide_ = false;
  runtime::Ref x_, w_, bias_, y_, turned_, pack_;
  Primitive main_;
};

class Gradient final : public runtime::Kernel {
 public:
  Gradient(Builder& b, const Node& node)
      : size_(b.shape(node.gy(0)), b.shape(node.x(1))),
        epilogue_(node.attrs),
        small_(b.small()),
        gy_(b.in(node.gy(0))),
        y_(b.in(node.y(0))),
        x_(b.in(node.x(0))),
        w_(b.weight(node.x(1))),
        gx_(b.out(node.gx(0))),
        gw_(b.out(node.gx(1))),
        gb_(node.nx > 2 ? b.out(node.gx(2)) : runtime::Ref()) {
    gz_ = epilogue_ ? b.workspace(static_cast<std::size_t>(size_.rows * size_.out)) : gy_;
    if (gb_) partial_ = b.workspace(bias_gradient_floats(size_.out));
    if (small_) {
      pack_ = b.workspace(static_cast<std::size_t>(std::max(size_.rows, size_.out)) * kPackLanes);
      return;
    }
    if (gx_)
      data_ = product(b, size_.rows, size_.in, size_.out, Tag::ab, gz_, Tag::ab, w_, {}, gx_);
    if (gw_)
      weights_ = product(b, size_.out, size_.in, size_.rows, Tag::ba, gz_, Tag::ab, x_, {}, gw_);
  }
  void run(const runtime::StepContext&) override {
    if (epilogue_)
      epilogue_.gradient(gy_.get<float>(), y_.get<float>(), gz_.get<float>(),
                         size_.rows * size_.out);
    const auto* g = gz_.get<float>();
    if (gb_) bias_gradient(g, size_.rows, size_.out, partial_.get<float>(), gb_.get<float>());
    if (!small_) {
      if (weights_) weights_.run();
      if (data_) data_.run();
      return;
    }
    auto* pack = pack_.get<float>();
    if (gw_)
      select().gemm(size_.out, size_.in, size_.rows, g, 1, size_.out, x_.get<float>(), size_.in,
                    nullptr, false, gw_.get<float>(), size_.in, pack);
    if (gx_)
      select().gemm(size_.rows, size_.in, size_.out, g, size_.out, 1, w_.get<float>(), size_.in,
                    nullptr, false, gx_.get<float>(), size_.in, pack);
  }
  std::string detail() const override {
    return small_ ? "small gemm" : "oneDNN " + (weights_ ? weights_.name() : data_.name());
  }

 private:
  Sizes size_;
  Epilogue epilogue_;
  bool small_;
  runtime::Ref gy_, y_, x_, w_, gx_, gw_, gb_, gz_, partial_, pack_;
  Primitive data_, weights_;
};

class BfloatForward final : public runtime::Kernel {
 public:
  BfloatForward(Builder& b, const Node& node)
      : size_(b.shape(node.y(0)), b.shape(node.x(1))),
        epilogue_(node.attrs),
        y_(b.raw(node.y(0))),
        main_(b, size_.rows, size_.out, size_.in, b.raw(node.x(0)), Tag::ba, b.raw(node.x(1)),
              node.nx > 2 ? b.in(node.x(2)) : runtime::Ref(), y_) {}
  void run(const runtime::StepContext&) override {
    main_.run();
    epilogue_.apply(y_.get<uint16_t>(), size_.rows * size_.out);
  }
  std::string detail() const override { return "oneDNN " + main_.main.name(); }

 private:
  Sizes size_;
  Epilogue epilogue_;
  runtime::Ref y_;
  Packed main_;
};

class BfloatGradient final : public runtime::Kernel {
 public:
  BfloatGradient(Builder& b, const Node& node)
      : size_(b.shape(node.gy(0)), b.shape(node.x(1))),
        epilogue_(node.attrs),
        gy_(b.raw(node.gy(0))),
        y_(b.raw(node.y(0))),
        gb_(node.nx > 2 ? b.out(node.gx(2)) : runtime::Ref()) {
    const auto elements = static_cast<std::size_t>(size_.rows * size_.out);
    gz_ = epilogue_ ? b.scratch(elements * sizeof(uint16_t)) : gy_;
    if (gb_) {
      floats_ = b.workspace(elements);
      partial_ = b.workspace(bias_gradient_floats(size_.out));
    }
    if (const auto gx = b.raw(node.gx(0)))
      data_ = Packed(b, size_.rows, size_.in, size_.out, gz_, Tag::ab, b.raw(node.x(1)), {}, gx);
    if (const auto gw = b.out(node.gx(1)))
      weights_ = product(b, {{size_.out, size_.rows}, kBfloat, Tag::ba}, gz_,
                         {{size_.rows, size_.in}, kBfloat, Tag::ab}, b.raw(node.x(0)), {},
                         {{size_.out, size_.in}, kFloat, Tag::ab}, gw);
  }
  void run(const runtime::StepContext&) override {
    const int64_t elements = size_.rows * size_.out;
    if (epilogue_)
      epilogue_.gradient(gy_.get<uint16_t>(), y_.get<uint16_t>(), gz_.get<uint16_t>(), elements);
    if (gb_) {
      auto* floats = floats_.get<float>();
      pointwise(elements, [&](int64_t i, int64_t end) {
        select().from_bfloat(gz_.get<uint16_t>() + i, floats + i, end - i);
      });
      bias_gradient(floats, size_.rows, size_.out, partial_.get<float>(), gb_.get<float>());
    }
    if (weights_) weights_.run();
    if (data_) data_.run();
  }
  std::string detail() const override {
    return "oneDNN " + (weights_ ? weights_.name() : data_.main.name());
  }

 private:
  Sizes size_;
  Epilogue epilogue_;
  runtime::Ref gy_, y_, gb_, gz_, floats_, partial_;
  Packed data_;
  Primitive weights_;
};

}  // namespace

Primitive product(Builder& b, int64_t m, int64_t n, int64_t k, Tag ta, runtime::Ref a, Tag tb,
                  runtime::Ref bb, runtime::Ref bias, runtime::Ref c) {
  return product(b, {{m, k}, kFloat, ta}, a, {{k, n}, kFloat, tb}, bb, bias,
                 {{m, n}, kFloat, Tag::ab}, c);
}

KernelPtr make_linear(Builder& b, const Node& node) {
  if (!b.small() && b.bfloat(node)) {
    if (node.gradient) return std::make_unique<BfloatGradient>(b, node);
    return std::make_unique<BfloatForward>(b, node);
  }
  if (node.gradient) return std::make_unique<Gradient>(b, node);
  return std::make_unique<Forward>(b, node);
}

}  // namespace mpsnn::backend::cpu
