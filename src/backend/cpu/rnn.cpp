// rnn by our own kernels (kernels/rnn.cpp): the sequences are shared out over the threads once,
// each of which does whole sequences; weights are packed before, weight gradients summed after. A
// single sequence keeps one thread busy. embedding, stack and unstack copy rows.
#include "ir/rnn.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/lambda.h"
#include "ir/neuron.h"

namespace mpsnn::backend::cpu {
namespace {

namespace at = ir::rnn_operand;
using ir::Cell;
using runtime::Ref;

// Rows of a product that keep the cores busy; of a weight gradient's sum.
constexpr int64_t kRows = 64, kRowsGradient = 256;

int64_t padded(int64_t size) { return (size + 15) / 16 * 16; }

int kept_rows(Cell cell) {
  constexpr int kKept[] = {5, 4, 3, 2, 0};
  return kKept[static_cast<int>(cell)];
}

RnnShape shape_of(const ir::Plan& plan, const Node& node) {
  const auto shape = [&](int i) -> const Shape& {
    return plan.values[static_cast<std::size_t>(node.x(i))].shape;
  };
  const Cell cell = ir::parse_cell(node.attrs.text("cell"));
  RnnShape s{};
  s.cell = static_cast<int>(cell);
  s.neuron = static_cast<int>(ir::epilogue_of(node.attrs).kind);
  s.reverse = node.attrs.flag("reverse");
  s.n = shape(at::x)[0], s.in = shape(at::x).back();
  s.steps = count(shape(at::x)) / (s.n * s.in);
  s.hidden = shape(at::weight_hh)[1];
  s.ip = padded(s.in), s.hp = padded(s.hidden);
  s.gates = ir::gates_of(cell);
  s.head = cell == Cell::gru || ir::gates_state(cell) ? s.gates - 1 : s.gates;
  s.kept = kept_rows(cell);
  const int64_t share = (s.n + threads::team() - 1) / threads::team(),
                blocks = (share + kRows - 1) / kRows;
  s.block = (share + blocks - 1) / blocks;
  s.chunk = std::clamp<int64_t>(kRows / s.block, 1, s.steps);
  s.chunk_g = std::clamp<int64_t>(kRowsGradient / s.block, 1, s.steps);
  return s;
}

std::size_t floats(int64_t size) { return static_cast<std::size_t>(size); }

// `rows` padded rows of a given array of `rows` of `hidden`, or zeros.
void pad_rows(const float* from, const RnnShape& s, int64_t rows, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < s.hp; ++j)
      to[r * s.hp + j] = from != nullptr && j < s.hidden ? from[r * s.hidden + j] : 0.0f;
}

// f(part, first sequence, end) by all threads.
template <class F>
void share_out(const RnnShape& s, int64_t parts, F f) {
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) f(p, s.n * p / parts, s.n * (p + 1) / parts);
  });
}

class Common : public runtime::Kernel {
 public:
  Common(Builder& b, const Node& node)
      : s_(shape_of(b.plan(), node)), parts_(std::min<int64_t>(threads::team(), s_.n)) {
    const auto operand = [&](int i) { return i < node.nx ? b.in(node.x(i)) : Ref(); };
    x_ = b.in(node.x(at::x));
    w_ = b.weight(node.x(at::weight_ih));
    u_ = b.weight(node.x(at::weight_hh));
    peephole_ = operand(at::peephole);
    h0_ = operand(at::h0);
    c0_ = operand(at::c0);
    lengths_ = at::lengths < node.nx ? b.raw(node.x(at::lengths)) : Ref();
    packed_peephole_ = b.workspace(floats(3 * s_.hp));
    scratch_size_ = padded(select().rnn_scratch(s_, node.gradient));
    scratch_ = b.workspace(floats(parts_ * scratch_size_));
  }
  std::string detail() const override { return std::string("own sequence ") + select().name; }

 protected:
  RnnInputs inputs() const {
    RnnInputs in{};
    in.x = x_.get<float>();
    in.h0 = h0_.get<float>();
    in.c0 = c0_.get<float>();
    in.lengths = lengths_.get<int32_t>();
    if (peephole_) {
      pad_rows(peephole_.get<float>(), s_, 3, packed_peephole_.get<float>());
      in.peephole = packed_peephole_.get<float>();
    }
    return in;
  }
  float* scratch(int64_t part) const { return scratch_.get<float>() + part * scratch_size_; }

  RnnShape s_;
  int64_t parts_, scratch_size_ = 0;
  Ref x_, w_, u_, peephole_, h0_, c0_, lengths_, packed_peephole_, scratch_;
};

class Forward final : public Common {
 public:
  Forward(Builder& b, const Node& node)
      : Common(b, node),
        y_(b.out(node.y(0))),
        h_(b.out(node.y(1))),
        c_(node.ny > 2 ? b.out(node.y(2)) : Ref()),
        kept_(b.raw(node.state(0))),
        bias_(at::bias < node.nx ? b.in(node.x(at::bias)) : Ref()),
        bias_hn_(at::bias_hn < node.nx ? b.in(node.x(at::bias_hn)) : Ref()),
        packed_w_(b.workspace(floats(s_.in * s_.gates * s_.hp))),
        packed_u_(b.workspace(floats(s_.hidden * s_.gates * s_.hp))),
        packed_bias_(b.workspace(floats((s_.gates + 1) * s_.hp))) {}

  void run(const runtime::StepContext&) override {
    RnnInputs in = inputs();
    pack();
    in.w = packed_w_.get<float>();
    in.u = packed_u_.get<float>();
    in.tail = in.u + s_.hidden * s_.head * s_.hp;
    in.bias = packed_bias_.get<float>();
    in.bias_hn = in.bias + s_.gates * s_.hp;
    RnnOutputs out{};
    out.y = y_.get<float>();
    out.h = h_.get<float>();
    out.c = c_.get<float>();
    out.kept = kept_.get<float>();
    share_out(s_, parts_, [&](int64_t part, int64_t begin, int64_t end) {
      select().rnn(s_, in, out, begin, end, scratch(part));
    });
  }

 private:
  void pack() const {
    auto* bias = packed_bias_.get<float>();
    pad_rows(bias_.get<float>(), s_, s_.gates, bias);
    pad_rows(bias_hn_.get<float>(), s_, 1, bias + s_.gates * s_.hp);
    const auto *w = w_.get<float>(), *u = u_.get<float>();
    auto *to_w = packed_w_.get<float>(), *to_u = packed_u_.get<float>();
    const int tail = s_.gates - s_.head;
    threads::parallel_for(2, 1, [&](int64_t begin, int64_t end) {
      for (int64_t half = begin; half < end; ++half) {
        if (half == 0) {
          select().rnn_pack_columns(w, s_, s_.in, 0, s_.gates, to_w);
        } else {
          select().rnn_pack_columns(u, s_, s_.hidden, 0, s_.head, to_u);
          if (tail > 0)
            select().rnn_pack_columns(u, s_, s_.hidden, s_.head, tail,
                                      to_u + s_.hidden * s_.head * s_.hp);
        }
      }
    });
  }

  Ref y_, h_, c_, kept_, bias_, bias_hn_, packed_w_, packed_u_, packed_bias_;
};

class Gradient final : public Common {
 public:
  Gradient(Builder& b, const Node& node)
      : Common(b, node),
        y_(b.in(node.y(0))),
        kept_(b.raw(node.state(0))),
        gy_(b.in(node.gy(0))),
        gh_(b.in(node.gy(1))),
        gc_(node.ny > 2 ? b.in(node.gy(2)) : Ref()) {
    const auto wanted = [&](int i) { return i < node.nx ? b.out(node.gx(i)) : Ref(); };
    gx_ = wanted(at::x);
    gw_ = wanted(at::weight_ih);
    gu_ = wanted(at::weight_hh);
    gb_ = wanted(at::bias);
    gb_hn_ = wanted(at::bias_hn);
    gp_ = wanted(at::peephole);
    gh0_ = wanted(at::h0);
    gc0_ = wanted(at::c0);
    const int64_t rows = s_.gates * s_.hp;
    if (gx_) packed_w_ = b.workspace(floats(rows * s_.ip));
    packed_u_ = b.workspace(floats(rows * s_.hp));
    const auto part = [&](bool there, int64_t size) {
      const int64_t offset = partial_size_;
      if (there) partial_size_ += size;
      return offset;
    };
    at_w_ = part(static_cast<bool>(gw_), rows * s_.ip);
    at_u_ = part(static_cast<bool>(gu_), rows * s_.hp);
    at_b_ = part(static_cast<bool>(gb_), rows);
    at_hn_ = part(static_cast<bool>(gb_hn_), s_.hp);
    at_p_ = part(static_cast<bool>(peephole_), 3 * s_.hp);
    partial_ = b.workspace(floats(parts_ * partial_size_));
  }

  void run(const runtime::StepContext&) override {
    RnnInputs in = inputs();
    pack();
    in.w = packed_w_.get<float>();
    in.u = packed_u_.get<float>();
    in.y = y_.get<float>();
    in.kept = kept_.get<float>();
    in.gy = gy_.get<float>();
    in.gh = gh_.get<float>();
    in.gc = gc_.get<float>();
    share_out(s_, parts_, [&](int64_t part, int64_t begin, int64_t end) {
      float* sums = partial_.get<float>() + part * partial_size_;
      RnnOutputs out{};
      out.gx = gx_.get<float>();
      out.gh0 = gh0_.get<float>();
      out.gc0 = gc0_.get<float>();
      if (gw_) out.gw = sums + at_w_;
      if (gu_) out.gu = sums + at_u_;
      if (gb_) out.gb = sums + at_b_;
      if (gb_hn_) out.gb_hn = sums + at_hn_;
      if (peephole_) out.gp = sums + at_p_;
      select().rnn_gradient(s_, in, out, begin, end, scratch(part));
    });
    add_up(at_w_, s_.gates, s_.ip, s_.in, gw_);
    add_up(at_u_, s_.gates, s_.hp, s_.hidden, gu_);
    add_up(at_b_, s_.gates, 1, 1, gb_);
    add_up(at_hn_, 1, 1, 1, gb_hn_);
    add_up(at_p_, 3, 1, 1, gp_);
  }

 private:
  void pack() const {
    threads::parallel_for(2, 1, [&](int64_t begin, int64_t end) {
      for (int64_t half = begin; half < end; ++half) {
        if (half == 0)
          select().rnn_pack_rows(u_.get<float>(), s_, s_.hidden, s_.hp, packed_u_.get<float>());
        else if (gx_)
          select().rnn_pack_rows(w_.get<float>(), s_, s_.in, s_.ip, packed_w_.get<float>());
      }
    });
  }

  // The threads' parts of a gradient of `gates` times `hidden` rows, in their order.
  void add_up(int64_t offset, int64_t gates, int64_t stride, int64_t columns, const Ref& to) const {
    if (!to) return;
    auto* result = to.get<float>();
    const auto* sums = partial_.get<float>() + offset;
    threads::parallel_for(gates * s_.hidden, 1 + 16384 / columns, [&](int64_t row, int64_t end) {
      for (; row < end; ++row) {
        const int64_t from = (row / s_.hidden * s_.hp + row % s_.hidden) * stride;
        float* out = result + row * columns;
        std::memcpy(out, sums + from, floats(columns) * sizeof(float));
        for (int64_t p = 1; p < parts_; ++p)
          select().add(out, sums + p * partial_size_ + from, out, columns);
      }
    });
  }

  Ref y_, kept_, gy_, gh_, gc_, gx_, gw_, gu_, gb_, gb_hn_, gp_, gh0_, gc0_, packed_w_, packed_u_,
      partial_;
  int64_t partial_size_ = 0, at_w_ = 0, at_u_ = 0, at_b_ = 0, at_hn_ = 0, at_p_ = 0;
};

// Between one array and its slices, where they are there and not in it.
KernelPtr slices(Builder& b, ValueId whole, const std::vector<ValueId>& parts, bool join) {
  bool alike = true;  // then nothing is converted
  for (const ValueId v : parts) alike = alike && (v == kNone || b.dtype(v) == b.dtype(whole));
  const auto read = [&](ValueId id) { return alike ? b.raw(id) : b.in(id); };
  const auto write = [&](ValueId id) { return alike ? b.raw(id) : b.out(id); };
  struct Part {
    Ref ref;
    std::size_t offset;
  };
  const int64_t size = count(b.shape(whole)) / static_cast<int64_t>(parts.size());
  const auto bytes = floats(size) * (alike ? size_of(b.dtype(whole)) : sizeof(float));
  const Ref all = join ? write(whole) : read(whole);
  std::vector<Part> copied;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) * size;
    if (parts[i] != kNone && b.in_place(parts[i], whole, at)) continue;
    if (parts[i] != kNone || join)
      copied.push_back({join ? read(parts[i]) : write(parts[i]), i * bytes});
  }
  return kernel([=](const runtime::StepContext&) {
    for (const Part& p : copied)
      threads::parallel_for(static_cast<int64_t>(bytes), 65536, [&](int64_t begin, int64_t end) {
        char* slice = all.get<char>() + p.offset + begin;
        char* part = p.ref ? p.ref.get<char>() + begin : nullptr;
        const std::size_t size = floats(end - begin);
        if (part == nullptr)
          std::memset(slice, 0, size);
        else
          std::memcpy(join ? slice : part, join ? part : slice, size);
      });
  });
}

std::vector<ValueId> list(int count, ValueId (Node::*at)(int) const, const Node& node) {
  std::vector<ValueId> ids;
  for (int i = 0; i < count; ++i) ids.push_back((node.*at)(i));
  return ids;
}

}  // namespace

std::size_t rnn_state_bytes(const ir::Plan& plan, const Node& node) {
  const RnnShape s = shape_of(plan, node);
  return floats(s.steps * s.n * s.kept * s.hp) * sizeof(float);
}

KernelPtr make_rnn(Builder& b, const Node& node) {
  if (node.gradient) return std::make_unique<Gradient>(b, node);
  return std::make_unique<Forward>(b, node);
}

KernelPtr make_embedding(Builder& b, const Node& node) {
  const ValueId weight = node.gradient ? node.gx(1) : node.x(1);
  const int64_t rows = b.shape(weight)[0], size = b.shape(weight)[1], n = count(b.shape(node.x(0))),
                padding = node.attrs.integer("padding");
  const auto index = b.raw(node.x(0));
  const auto bytes = floats(size) * sizeof(float);
  if (!node.gradient) {
    const auto w = b.weight(weight), y = b.out(node.y(0));
    return kernel([=](const runtime::StepContext&) {
      const auto* at = index.get<int32_t>();
      const auto known = [&](int64_t i) { return at[i] >= 0 && at[i] < rows; };
      threads::parallel_for(n, 1 + 16384 / size, [&](int64_t i, int64_t end) {
        constexpr int64_t kAhead = 4, kLine = 16;  // no processor foresees which row is next
        for (; i < end; ++i) {
          if (i + kAhead < end && known(i + kAhead))
            for (int64_t k = 0; k < size; k += kLine)
              __builtin_prefetch(w.get<float>() + at[i + kAhead] * size + k);
          float* to = y.get<float>() + i * size;
          if (known(i))
            std::memcpy(to, w.get<float>() + at[i] * size, bytes);
          else
            std::memset(to, 0, bytes);
        }
      });
    });
  }
  const auto gy = b.in(node.gy(0)), gw = b.out(weight);
  // Each thread has rows of the weight to itself and looks for them: one order of summation.
  return kernel([=](const runtime::StepContext&) {
    const auto* at = index.get<int32_t>();
    auto* to = gw.get<float>();
    threads::parallel_for(rows, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      std::memset(to + begin * size, 0, floats(end - begin) * bytes);
      for (int64_t i = 0; i < n; ++i)
        if (at[i] >= begin && at[i] < end && at[i] != padding)
          select().add(to + at[i] * size, gy.get<float>() + i * size, to + at[i] * size, size);
    });
  });
}

KernelPtr make_stack(Builder& b, const Node& node) {
  if (node.gradient) return slices(b, node.gy(0), list(node.nx, &Node::gx, node), false);
  return slices(b, node.outputs[0], list(node.nx, &Node::x, node), true);
}

KernelPtr make_unstack(Builder& b, const Node& node) {
  if (node.gradient) return slices(b, node.gx(0), list(node.ny, &Node::gy, node), true);
  return slices(b, node.x(0), list(node.ny, &Node::y, node), false);
}

}  // namespace mpsnn::backend::cpu
