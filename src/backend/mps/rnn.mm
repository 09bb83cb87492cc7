// rnn from MPSMatrix products and our own kernels of its cells: what Apple's training layer lacks,
// which rnn_layer.mm prefers.
// Arrays lie step by step, each step's images together, so that a step is a matrix and all steps
// are one: the products with x, and the gradients by weights and x, are one each for a sequence.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <vector>

#include "backend/mps/own.h"
#include "ir/neuron.h"
#include "ir/rnn.h"

namespace mpsnn::backend::mps {
namespace {

namespace at = ir::rnn_operand;
using ir::Cell;
static_assert(kCellLstm == static_cast<int>(Cell::lstm) &&
              kCellGru == static_cast<int>(Cell::gru) &&
              kCellGruResetBefore == static_cast<int>(Cell::gru_reset_before) &&
              kCellMgu == static_cast<int>(Cell::mgu) && kCellRnn == static_cast<int>(Cell::rnn));

// Rows of floats, `row` apart.
struct Matrix {
  Buffer at;
  int64_t rows, columns, row;
};

MPSMatrix* as_mps(const Matrix& m) {
  const auto u = [](int64_t v) { return static_cast<NSUInteger>(v); };
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:u(m.rows)
                                                                 columns:u(m.columns)
                                                                rowBytes:u(m.row) * sizeof(float)
                                                                dataType:MPSDataTypeFloat32];
  return [[MPSMatrix alloc] initWithBuffer:m.at.buffer offset:m.at.offset descriptor:d];
}

// left right, or left right + what is there.
class Product {
 public:
  enum Transposed { kNeither, kLeft, kRight };
  Product() = default;
  Product(Builder& b, Transposed which, int64_t rows, int64_t columns, int64_t interior,
          bool adds) {
    const auto u = [](int64_t v) { return static_cast<NSUInteger>(v); };
    kernel_ = [[MPSMatrixMultiplication alloc] initWithDevice:b.gpu().device()
                                                transposeLeft:which == kLeft
                                               transposeRight:which == kRight
                                                   resultRows:u(rows)
                                                resultColumns:u(columns)
                                              interiorColumns:u(interior)
                                                        alpha:1
                                                         beta:adds ? 1 : 0];
    label(kernel_, b.layer());
  }
  void run(Encoding& e, const Matrix& left, const Matrix& right, const Matrix& result) const {
    [kernel_ encodeToCommandBuffer:e.commands()
                        leftMatrix:as_mps(left)
                       rightMatrix:as_mps(right)
                      resultMatrix:as_mps(result)];
  }

 private:
  MPSMatrixMultiplication* kernel_ = nil;
};

// What both passes share: sizes, operands, and what the forward pass keeps.
struct Layer {
  explicit Layer(Builder& b)
      : cell(ir::parse_cell(b.attrs().text("cell"))),
        reverse(b.attrs().flag("reverse")),
        gates(ir::gates_of(cell)),
        n(b.x_shape(at::x)[0]),
        in(b.x_shape(at::x).back()),
        steps(count(b.x_shape(at::x)) / (n * in)),
        hidden(b.x_shape(at::weight_hh)[1]),
        kept(places(n, steps, gates, hidden, cell)),
        x(operand(b, at::x)),
        w(operand(b, at::weight_ih)),
        u(operand(b, at::weight_hh)),
        peephole(operand(b, at::peephole)),
        lengths(b.node().nx > at::lengths ? b.node().x(at::lengths) : kNone),
        by_steps(b.scratch(static_cast<std::size_t>(n * steps * in) * 4)),
        by_gated(b.scratch(static_cast<std::size_t>(n * hidden) * 4)) {
    parameters.images = static_cast<int>(n);
    parameters.steps = static_cast<int>(steps);
    parameters.hidden = static_cast<int>(hidden);
    parameters.gates = gates;
    parameters.cell = static_cast<int>(cell);
    parameters.neuron = static_cast<int>(ir::epilogue_of(b.attrs()).kind);
    parameters.limited = lengths != kNone;
    parameters.peepholes = peephole.value != kNone;
    const int64_t step = (reverse ? -1 : 1) * in, start = reverse ? (steps - 1) * in : 0;
    turn = strided({steps, n, in}, {step, steps * in, 1}, {n * in, in, 1});
    turn.a_offset = static_cast<int>(start);
    // The gates whose product is with the state itself.
    plain = cell == Cell::gru || ir::gates_state(cell) ? gates - 1 : gates;
  }
  static Dense operand(Builder& b, int i) {
    return dense_or_none(b, i < b.node().nx ? b.node().x(i) : kNone);
  }

  // Places, in floats: gates and products of every step, states before the first and behind each.
  struct Kept {
    int64_t gates, h, c, products, size;
  };
  static Kept places(int64_t n, int64_t steps, int64_t gates, int64_t hidden, Cell cell) {
    Kept k{};
    const auto next = [&](int64_t count) {
      const int64_t place = k.size;
      k.size += (count + 63) / 64 * 64;
      return place;
    };
    k.gates = next(steps * n * gates * hidden);
    k.h = next((steps + 1) * n * hidden);
    k.c = cell == Cell::lstm ? next((steps + 1) * n * hidden) : k.h;
    const bool product = cell == Cell::gru || ir::gates_state(cell);
    k.products = product ? next(steps * n * hidden) : k.h;
    return k;
  }

  int64_t time(int64_t step) const { return reverse ? steps - 1 - step : step; }
  RnnParams at_step(int64_t step) const {
    RnnParams p = parameters;
    p.time = static_cast<int>(time(step));
    return p;
  }
  static Buffer offset(Buffer from, int64_t floats) {
    return {from.buffer, from.offset + static_cast<std::size_t>(floats) * sizeof(float)};
  }
  Buffer state(Buffer kept_at, int64_t place, int64_t step) const {
    return offset(kept_at, place + step * n * hidden);
  }
  Buffer gates_of_step(Buffer from, int64_t step) const {
    return offset(from, step * n * gates * hidden);
  }
  Matrix hidden_matrix(Buffer from) const { return {from, n, hidden, hidden}; }
  // Gates from `first` on, of one step or of all of them.
  Matrix gate_matrix(Buffer from, int64_t first, int64_t count, int64_t rows) const {
    return {offset(from, first * hidden), rows, count * hidden, gates * hidden};
  }
  Matrix recurrent(Buffer u_at, int64_t first, int64_t count) const {
    return {offset(u_at, first * hidden * hidden), count * hidden, hidden, hidden};
  }

  Cell cell;
  bool reverse;
  int gates, plain = 0;
  int64_t n, in, steps, hidden;
  Kept kept;
  Dense x, w, u, peephole;
  ValueId lengths;
  std::size_t by_steps, by_gated;
  RnnParams parameters{};
  StridedParams turn;  // of x: from sequences to steps
};

class Rnn final : public Operation {
 public:
  explicit Rnn(Builder& b)
      : layer_(b),
        bias_(Layer::operand(b, at::bias)),
        bias_hn_(Layer::operand(b, at::bias_hn)),
        h0_(Layer::operand(b, at::h0)),
        c0_(Layer::operand(b, at::c0)) {
    const Node& node = b.node();
    const int64_t n = layer_.n, hidden = layer_.hidden;
    for (int i = 0; i < node.ny; ++i) y_.push_back(b.dense(node.y(i)));
    state_ = node.state(0);
    keeps_ = b.value(state_).opaque_bytes != 0;
    if (!keeps_) own_state_ = b.scratch(static_cast<std::size_t>(layer_.kept.size) * 4);
    layer_.parameters.biased = bias_.value != kNone;
    layer_.parameters.biased_hn = bias_hn_.value != kNone;
    with_x_ =
        Product(b, Product::kRight, layer_.steps * n, layer_.gates * hidden, layer_.in, false);
    with_h_ = Product(b, Product::kRight, n, layer_.plain * hidden, hidden, true);
    if (layer_.plain != layer_.gates)
      last_ = Product(b, Product::kRight, n, hidden, hidden, layer_.cell != Cell::gru);
  }

  void encode(Encoding& e) override {
    const Layer& l = layer_;
    const auto threads = l.n * l.hidden;
    const Buffer x = e.load(l.x), w = e.load(l.w), u = e.load(l.u);
    const auto optional = [&](const Dense& d) { return d.value == kNone ? x : e.load(d); };
    const Buffer bias = optional(bias_), bias_hn = optional(bias_hn_),
                 peephole = optional(l.peephole);
    const Buffer lengths = l.lengths == kNone ? x : e.buffer(l.lengths);
    const Buffer kept = keeps_ ? e.buffer(state_) : e.scratch(own_state_);
    const Buffer by_steps = e.scratch(l.by_steps), y = e.target(y_[0]);
    const Buffer gates = Layer::offset(kept, l.kept.gates);
    start(e, h0_, l.state(kept, l.kept.h, 0));
    if (l.cell == Cell::lstm) start(e, c0_, l.state(kept, l.kept.c, 0));
    e.run(e.gpu().pipeline("move_elements"), {x, by_steps}, l.turn, l.turn.count);
    with_x_.run(e, {by_steps, l.steps * l.n, l.in, l.in}, {w, l.gates * l.hidden, l.in, l.in},
                l.gate_matrix(gates, 0, l.gates, l.steps * l.n));
    for (int64_t s = 0; s < l.steps; ++s) {
      const RnnParams p = l.at_step(s);
      const Buffer own = l.gates_of_step(gates, s), h = l.state(kept, l.kept.h, s),
                   product = l.state(kept, l.kept.products, s);
      with_h_.run(e, l.hidden_matrix(h), l.recurrent(u, 0, l.plain),
                  l.gate_matrix(own, 0, l.plain, l.n));
      if (l.cell == Cell::gru) {
        last_.run(e, l.hidden_matrix(h), l.recurrent(u, l.plain, 1), l.hidden_matrix(product));
      } else if (ir::gates_state(l.cell)) {
        e.run(e.gpu().pipeline("rnn_gate_state"), {own, bias, h, product}, p, threads);
        last_.run(e, l.hidden_matrix(product), l.recurrent(u, l.plain, 1),
                  l.gate_matrix(own, l.plain, 1, l.n));
      }
      e.run(e.gpu().pipeline("rnn_cell"),
            {own, bias, bias_hn, peephole, lengths, h, l.state(kept, l.kept.c, s), product,
             l.state(kept, l.kept.h, s + 1), l.state(kept, l.kept.c, s + 1), y},
            p, threads);
    }
    e.store(y_[0]);
    for (std::size_t i = 1; i < y_.size(); ++i) {
      e.copy(l.state(kept, i == 1 ? l.kept.h : l.kept.c, l.steps), e.target(y_[i]), bytes());
      e.store(y_[i]);
    }
  }
  std::string detail() const override { return "MPSMatrixMultiplication, own kernels"; }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(layer_.n * layer_.hidden) * 4; }
  void start(Encoding& e, const Dense& given, Buffer to) const {
    if (given.value != kNone) return e.copy(e.load(given), to, bytes());
    const ScaleParams zero{static_cast<int>(layer_.n * layer_.hidden), 0, 0};
    e.run(e.gpu().pipeline("fill_array"), {to}, zero, zero.count);
  }

  Layer layer_;
  Dense bias_, bias_hn_, h0_, c0_;
  std::vector<Dense> y_;
  ValueId state_ = kNone;
  bool keeps_ = false;
  std::size_t own_state_ = 0;
  Product with_x_, with_h_, last_;
};

class RnnGradient final : public Operation {
 public:
  explicit RnnGradient(Builder& b) : layer_(b), state_(b.node().state(0)) {
    const Node& node = b.node();
    const int64_t n = layer_.n, hidden = layer_.hidden, rows = layer_.steps * n,
                  width = layer_.gates * hidden;
    for (int i = 0; i < node.ny; ++i) gy_.push_back(dense_or_none(b, node.gy(i)));
    for (int i = 0; i < at::count; ++i)
      gx_.push_back(dense_or_none(b, i < node.nx ? node.gx(i) : kNone));
    layer_.parameters.given = gy_[0].value != kNone;
    const auto array = [&](int64_t floats) {
      return b.scratch(static_cast<std::size_t>(floats) * 4);
    };
    delta_ = array(rows * width);
    delta_hn_ = array(rows * hidden);
    gh_ = array(n * hidden);
    gc_ = array(n * hidden);
    gx_by_steps_ = array(rows * layer_.in);
    by_h_ = Product(b, Product::kNeither, n, hidden, layer_.plain * hidden, true);
    if (layer_.plain != layer_.gates)
      by_last_ = Product(b, Product::kNeither, n, hidden, hidden, layer_.cell == Cell::gru);
    by_x_ = Product(b, Product::kNeither, rows, layer_.in, width, false);
    by_w_ = Product(b, Product::kLeft, width, layer_.in, rows, false);
    by_u_ = Product(b, Product::kLeft, layer_.plain * hidden, hidden, rows, false);
    if (layer_.plain != layer_.gates)
      by_last_u_ = Product(b, Product::kLeft, hidden, hidden, rows, false);
    if (gx_[at::bias].value != kNone) bias_sum_ = column_sums(b, rows, width);
    if (gx_[at::bias_hn].value != kNone) bias_hn_sum_ = column_sums(b, rows, hidden);
    if (gx_[at::peephole].value == kNone) return;
    peephole_parts_ = array(rows * 3 * hidden);
    peephole_sum_ = column_sums(b, rows, 3 * hidden);
  }

  void encode(Encoding& e) override {
    const Layer& l = layer_;
    const auto threads = l.n * l.hidden;
    const Buffer x = e.load(l.x), w = e.load(l.w), u = e.load(l.u), kept = e.buffer(state_);
    const Buffer peephole = l.peephole.value == kNone ? x : e.load(l.peephole);
    const Buffer lengths = l.lengths == kNone ? x : e.buffer(l.lengths);
    const Buffer gy = gy_[0].value == kNone ? x : e.load(gy_[0]);
    const Buffer gates = Layer::offset(kept, l.kept.gates), gh = e.scratch(gh_),
                 gc = e.scratch(gc_), by_gated = e.scratch(l.by_gated);
    start(e, 1, gh);
    start(e, 2, gc);
    for (int64_t s = l.steps; s-- > 0;) {
      const RnnParams p = l.at_step(s);
      const Buffer own = l.gates_of_step(gates, s), h = l.state(kept, l.kept.h, s),
                   delta = l.gates_of_step(e.scratch(delta_), s),
                   delta_hn = l.state(e.scratch(delta_hn_), 0, s);
      e.run(e.gpu().pipeline("rnn_cell_gradient"),
            {own, peephole, lengths, h, l.state(kept, l.kept.c, s), l.state(kept, l.kept.c, s + 1),
             l.state(kept, l.kept.products, s), gy, delta, delta_hn, gh, gc},
            p, threads);
      const Matrix last = l.recurrent(u, l.plain, 1);
      if (l.cell == Cell::gru) {
        by_last_.run(e, l.hidden_matrix(delta_hn), last, l.hidden_matrix(gh));
      } else if (ir::gates_state(l.cell)) {
        by_last_.run(e, l.gate_matrix(delta, l.plain, 1, l.n), last, l.hidden_matrix(by_gated));
        e.run(e.gpu().pipeline("rnn_gate_state_gradient"), {own, lengths, h, by_gated, delta, gh},
              p, threads);
      }
      by_h_.run(e, l.gate_matrix(delta, 0, l.plain, l.n), l.recurrent(u, 0, l.plain),
                l.hidden_matrix(gh));
    }
    finish(e, x, w, kept);
  }
  std::string detail() const override { return "MPSMatrixMultiplication, own kernels"; }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(layer_.n * layer_.hidden) * 4; }
  void start(Encoding& e, std::size_t output, Buffer to) const {
    if (output < gy_.size() && gy_[output].value != kNone)
      return e.copy(e.load(gy_[output]), to, bytes());
    const ScaleParams zero{static_cast<int>(layer_.n * layer_.hidden), 0, 0};
    e.run(e.gpu().pipeline("fill_array"), {to}, zero, zero.count);
  }
  bool wanted(int i) const { return gx_[static_cast<std::size_t>(i)].value != kNone; }

  // The gradients of all steps together.
  void finish(Encoding& e, Buffer x, Buffer w, Buffer kept) const {
    const Layer& l = layer_;
    const int64_t rows = l.steps * l.n, width = l.gates * l.hidden;
    const Buffer delta = e.scratch(delta_), delta_hn = e.scratch(delta_hn_);
    const Matrix deltas = l.gate_matrix(delta, 0, l.gates, rows);
    const auto give = [&](int i, auto make) {
      if (!wanted(i)) return;
      const Dense& to = gx_[static_cast<std::size_t>(i)];
      make(e.target(to));
      e.store(to);
    };
    give(at::x, [&](Buffer to) {
      const Buffer by_steps = e.scratch(gx_by_steps_);
      by_x_.run(e, deltas, {w, width, l.in, l.in}, {by_steps, rows, l.in, l.in});
      StridedParams back = l.turn;
      std::swap(back.a, back.b);
      std::swap(back.a_offset, back.b_offset);
      e.run(e.gpu().pipeline("move_elements"), {by_steps, to}, back, back.count);
    });
    give(at::weight_ih, [&](Buffer to) {
      const Buffer by_steps = e.scratch(l.by_steps);
      e.run(e.gpu().pipeline("move_elements"), {x, by_steps}, l.turn, l.turn.count);
      by_w_.run(e, deltas, {by_steps, rows, l.in, l.in}, {to, width, l.in, l.in});
    });
    give(at::weight_hh, [&](Buffer to) {
      const Matrix before{l.state(kept, l.kept.h, 0), rows, l.hidden, l.hidden};
      by_u_.run(e, l.gate_matrix(delta, 0, l.plain, rows), before, l.recurrent(to, 0, l.plain));
      if (l.plain == l.gates) return;
      if (l.cell == Cell::gru)
        by_last_u_.run(e, {delta_hn, rows, l.hidden, l.hidden}, before,
                       l.recurrent(to, l.plain, 1));
      else
        by_last_u_.run(e, l.gate_matrix(delta, l.plain, 1, rows),
                       {l.state(kept, l.kept.products, 0), rows, l.hidden, l.hidden},
                       l.recurrent(to, l.plain, 1));
    });
    give(at::bias, [&](Buffer to) { bias_sum_.run(e, delta, to); });
    give(at::bias_hn, [&](Buffer to) { bias_hn_sum_.run(e, delta_hn, to); });
    give(at::peephole, [&](Buffer to) {
      const Buffer parts = e.scratch(peephole_parts_);
      e.run(e.gpu().pipeline("rnn_peephole_parts"), {delta, Layer::offset(kept, l.kept.c), parts},
            l.parameters, rows * l.hidden);
      peephole_sum_.run(e, parts, to);
    });
    give(at::h0, [&](Buffer to) { e.copy(e.scratch(gh_), to, bytes()); });
    give(at::c0, [&](Buffer to) { e.copy(e.scratch(gc_), to, bytes()); });
  }

  Layer layer_;
  ValueId state_;
  std::vector<Dense> gy_, gx_;
  std::size_t delta_ = 0, delta_hn_ = 0, gh_ = 0, gc_ = 0, gx_by_steps_ = 0, peephole_parts_ = 0;
  Product by_h_, by_last_, by_x_, by_w_, by_u_, by_last_u_;
  Reduction bias_sum_, bias_hn_sum_, peephole_sum_;
};

}  // namespace

std::size_t rnn_state_bytes(const Shape& x, const Shape& weight_hh, const Attrs& attrs) {
  const Cell cell = ir::parse_cell(attrs.text("cell"));
  const auto kept =
      Layer::places(x[0], count(x) / x[0] / x.back(), ir::gates_of(cell), weight_hh[1], cell);
  return static_cast<std::size_t>(kept.size) * sizeof(float);
}

std::unique_ptr<Operation> make_rnn(Builder& b) {
  if (rnn_has_layer(b.plan(), b.plan().nodes[static_cast<std::size_t>(b.forward())]))
    return make_rnn_layer(b);
  if (b.node().gradient) return std::make_unique<RnnGradient>(b);
  return std::make_unique<Rnn>(b);
}

// The gradient follows, for each row that is read, the list of its places: no atomics.
std::unique_ptr<Operation> make_embedding(Builder& b) {
  const Node& n = b.node();
  const ValueId indices = n.x(0);
  const Shape& weight = b.x_shape(1);
  const int64_t places = count(b.x_shape(0)), rows = weight[0], size = weight[1];
  const EmbeddingParams p{static_cast<int>(places), static_cast<int>(rows), static_cast<int>(size),
                          static_cast<int>(b.attrs().integer("padding"))};
  if (!n.gradient) {
    const Dense w = b.dense(n.x(1)), y = b.dense(n.y(0));
    return own_kernels([=](Encoding& e) {
      const Buffer table = e.load(w);
      e.run(e.gpu().pipeline("embed"), {e.buffer(indices), table, e.target(y)}, p, places * size);
      e.store(y);
    });
  }
  const Dense gy = b.dense(n.gy(0)), gw = b.dense(n.gx(1));
  const std::size_t first = b.scratch(static_cast<std::size_t>(places) * sizeof(int)),
                    next = b.scratch(static_cast<std::size_t>(places) * sizeof(int));
  const ScaleParams zero{static_cast<int>(rows * size), 0, 0};
  return own_kernels([=](Encoding& e) {
    const Buffer g = e.load(gy), to = e.target(gw), own = e.buffer(indices);
    e.run(e.gpu().pipeline("fill_array"), {to}, zero, zero.count);
    e.run(e.gpu().pipeline("embedding_links"), {own, e.scratch(first), e.scratch(next)}, p, places);
    e.run(e.gpu().pipeline("embedding_gradient"), {own, e.scratch(first), e.scratch(next), g, to},
          p, places * size);
    e.store(gw);
  });
}

}  // namespace mpsnn::backend::mps
