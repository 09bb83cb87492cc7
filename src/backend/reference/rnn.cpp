// rnn: step by step for each sequence (ir/rnn.h has the formulas). The gradient runs the sequence
// again, so that nothing is kept. embedding, stack and unstack move elements.
#include <algorithm>
#include <cmath>

#include "backend/reference/reference.h"
#include "ir/neuron.h"
#include "ir/rnn.h"

namespace mpsnn::backend::reference {
namespace {

namespace at = ir::rnn_operand;
using ir::Cell;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The scratch of one step of one sequence, in rows of `hidden`: the gates, the state before and
// after, and, of the gradient, that by each gate. One more row: the product U h + b_hn of a GRU.
struct Record {
  double *gate, *h, *c, *next_h, *next_c, *hn, *delta, *delta_hn;
};

struct Sequence {
  explicit Sequence(Call& call)
      : c(call),
        cell(ir::parse_cell(call.attrs().text("cell"))),
        neuron(ir::epilogue_of(call.attrs())),
        reverse(call.attrs().flag("reverse")),
        gates(ir::gates_of(cell)),
        n(call.x_shape(at::x)[0]),
        in(call.x_shape(at::x).back()),
        steps(count(call.x_shape(at::x)) / (n * in)),
        hidden(call.x_shape(at::weight_hh)[1]) {}

  static int64_t rows(int gates) { return 2 * gates + 6; }
  const double* operand(int i) const { return c.has_x(i) ? c.x(i) : nullptr; }
  Record record(int64_t b, int64_t t) const {
    double* r = c.scratch(0) + (b * steps + t) * rows(gates) * hidden;
    const auto next = [&](int64_t count) {
      double* row = r;
      r += count * hidden;
      return row;
    };
    Record made{};
    made.gate = next(gates);
    made.h = next(1);
    made.c = next(1);
    made.next_h = next(1);
    made.next_c = next(1);
    made.hn = next(1);
    made.delta = next(gates);
    made.delta_hn = next(1);
    return made;
  }
  bool active(int64_t b, int64_t t) const {
    const double* lengths = operand(at::lengths);
    return lengths == nullptr || t < static_cast<int64_t>(lengths[b]);
  }
  int64_t time(int64_t step) const { return reverse ? steps - 1 - step : step; }
  double times(double sum, const double* weight, const double* v, int64_t size) const {
    for (int64_t k = 0; k < size; ++k) sum = c.add(sum, weight[k] * v[k]);
    return sum;
  }

  void forward(int64_t b, double* y, double* last_h, double* last_c) const;
  void step(const double* x, const Record& r) const;
  void gradient(int64_t b) const;
  // From the gradients by the state after a step to those by its gates and by the state before.
  void step_gradient(const Record& r, double* gh, double* gc) const;
  void weight_gradients(int64_t row) const;

  Call& c;
  Cell cell;
  ir::NeuronSpec neuron;
  bool reverse;
  int gates;
  int64_t n, in, steps, hidden;
};

void Sequence::step(const double* x, const Record& r) const {
  const double *w = operand(at::weight_ih), *u = operand(at::weight_hh), *bias = operand(at::bias),
               *bias_hn = operand(at::bias_hn), *p = operand(at::peephole);
  const auto sum = [&](int gate, int64_t j, const double* h) {
    const int64_t row = gate * hidden + j;
    double s = times(0, w + row * in, x, in);
    if (h != nullptr) s = times(s, u + row * hidden, h, hidden);
    return bias == nullptr ? s : c.add(s, bias[row]);
  };
  const auto gate = [&](int g, int64_t j) -> double& { return r.gate[g * hidden + j]; };
  const auto peep = [&](int g, int64_t j, double s, double state) {
    return p == nullptr ? s : c.add(s, p[g * hidden + j] * state);
  };
  switch (cell) {
    case Cell::lstm:
      for (int64_t j = 0; j < hidden; ++j) {
        gate(0, j) = sigmoid(peep(ir::peephole::i, j, sum(0, j, r.h), r.c[j]));
        gate(1, j) = sigmoid(peep(ir::peephole::f, j, sum(1, j, r.h), r.c[j]));
        gate(2, j) = std::tanh(sum(2, j, r.h));
        r.next_c[j] = gate(1, j) * r.c[j] + gate(0, j) * gate(2, j);
        gate(3, j) = sigmoid(peep(ir::peephole::o, j, sum(3, j, r.h), r.next_c[j]));
        r.next_h[j] = gate(3, j) * std::tanh(r.next_c[j]);
      }
      break;
    case Cell::gru:
      for (int64_t j = 0; j < hidden; ++j) {
        gate(0, j) = sigmoid(sum(0, j, r.h));
        gate(1, j) = sigmoid(sum(1, j, r.h));
        r.hn[j] = times(0, u + (2 * hidden + j) * hidden, r.h, hidden);
        if (bias_hn != nullptr) r.hn[j] = c.add(r.hn[j], bias_hn[j]);
        gate(2, j) = std::tanh(c.add(sum(2, j, nullptr), gate(0, j) * r.hn[j]));
        r.next_h[j] = (1 - gate(1, j)) * gate(2, j) + gate(1, j) * r.h[j];
      }
      break;
    case Cell::gru_reset_before:
    case Cell::mgu: {
      for (int g = 0; g + 1 < gates; ++g)
        for (int64_t j = 0; j < hidden; ++j) gate(g, j) = sigmoid(sum(g, j, r.h));
      for (int64_t j = 0; j < hidden; ++j) r.hn[j] = gate(0, j) * r.h[j];
      const int n_gate = gates - 1;
      for (int64_t j = 0; j < hidden; ++j) {
        gate(n_gate, j) = std::tanh(sum(n_gate, j, r.hn));
        const double keep = cell == Cell::mgu ? 1 - gate(0, j) : gate(1, j);
        r.next_h[j] = keep * r.h[j] + (1 - keep) * gate(n_gate, j);
      }
      break;
    }
    case Cell::rnn:
      for (int64_t j = 0; j < hidden; ++j)
        r.next_h[j] = gate(0, j) = ir::neuron(neuron, sum(0, j, r.h));
      break;
  }
}

void Sequence::forward(int64_t b, double* y, double* last_h, double* last_c) const {
  const double *x = operand(at::x), *h0 = operand(at::h0), *c0 = operand(at::c0);
  Record previous{};
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t t = time(s);
    const Record r = record(b, t);
    for (int64_t j = 0; j < hidden; ++j) {
      r.h[j] = s > 0 ? previous.next_h[j] : h0 != nullptr ? h0[b * hidden + j] : 0;
      r.c[j] = s > 0 ? previous.next_c[j] : c0 != nullptr ? c0[b * hidden + j] : 0;
    }
    if (active(b, t)) {
      step(x + (b * steps + t) * in, r);
    } else {
      std::copy_n(r.h, hidden, r.next_h);
      std::copy_n(r.c, hidden, r.next_c);
    }
    for (int64_t j = 0; y != nullptr && j < hidden; ++j)
      y[(b * steps + t) * hidden + j] = active(b, t) ? r.next_h[j] : 0;
    previous = r;
  }
  if (last_h != nullptr) std::copy_n(previous.next_h, hidden, last_h + b * hidden);
  if (last_c != nullptr) std::copy_n(previous.next_c, hidden, last_c + b * hidden);
}

void Sequence::step_gradient(const Record& r, double* gh, double* gc) const {
  const double *u = operand(at::weight_hh), *p = operand(at::peephole);
  const auto gate = [&](int g, int64_t j) { return r.gate[g * hidden + j]; };
  const auto delta = [&](int g, int64_t j) -> double& { return r.delta[g * hidden + j]; };
  // Adds the gradient by h of gate g's product, given that by the product.
  const auto back = [&](int g, const double* by, double* to) {
    for (int64_t k = 0; k < hidden; ++k)
      for (int64_t j = 0; j < hidden; ++j)
        to[k] = c.add(to[k], by[j] * u[(g * hidden + j) * hidden + k]);
  };
  const int n_gate = gates - 1;
  switch (cell) {
    case Cell::lstm:
      for (int64_t j = 0; j < hidden; ++j) {
        const double i = gate(0, j), f = gate(1, j), g = gate(2, j), o = gate(3, j);
        const double tanh_c = std::tanh(r.next_c[j]);
        delta(3, j) = gh[j] * tanh_c * o * (1 - o);
        double by_c = gc[j] + gh[j] * o * (1 - tanh_c * tanh_c);
        if (p != nullptr) by_c += delta(3, j) * p[ir::peephole::o * hidden + j];
        delta(0, j) = by_c * g * i * (1 - i);
        delta(1, j) = by_c * r.c[j] * f * (1 - f);
        delta(2, j) = by_c * i * (1 - g * g);
        gc[j] = by_c * f;
        if (p != nullptr)
          gc[j] += delta(0, j) * p[ir::peephole::i * hidden + j] +
                   delta(1, j) * p[ir::peephole::f * hidden + j];
        gh[j] = 0;
      }
      for (int g = 0; g < gates; ++g) back(g, r.delta + g * hidden, gh);
      return;
    case Cell::gru:
      for (int64_t j = 0; j < hidden; ++j) {
        const double reset = gate(0, j), z = gate(1, j), nj = gate(2, j);
        delta(2, j) = gh[j] * (1 - z) * (1 - nj * nj);
        delta(1, j) = gh[j] * (r.h[j] - nj) * z * (1 - z);
        delta(0, j) = delta(2, j) * r.hn[j] * reset * (1 - reset);
        r.delta_hn[j] = delta(2, j) * reset;
        gh[j] *= z;
      }
      back(0, r.delta, gh);
      back(1, r.delta + hidden, gh);
      back(2, r.delta_hn, gh);
      return;
    case Cell::gru_reset_before:
    case Cell::mgu: {
      double* by_gated = r.delta_hn;  // the gradient by gate h
      std::fill_n(by_gated, hidden, 0.0);
      for (int64_t j = 0; j < hidden; ++j) {
        const double keep = cell == Cell::mgu ? 1 - gate(0, j) : gate(1, j), nj = gate(n_gate, j);
        delta(n_gate, j) = gh[j] * (1 - keep) * (1 - nj * nj);
        const double by_keep = gh[j] * (r.h[j] - nj) * keep * (1 - keep);
        delta(cell == Cell::mgu ? 0 : 1, j) = cell == Cell::mgu ? -by_keep : by_keep;
        gh[j] *= keep;
      }
      back(n_gate, r.delta + n_gate * hidden, by_gated);
      for (int64_t j = 0; j < hidden; ++j) {
        const double own = by_gated[j] * r.h[j] * gate(0, j) * (1 - gate(0, j));
        delta(0, j) = cell == Cell::mgu ? delta(0, j) + own : own;
        gh[j] += by_gated[j] * gate(0, j);
      }
      for (int g = 0; g < n_gate; ++g) back(g, r.delta + g * hidden, gh);
      return;
    }
    case Cell::rnn:
      for (int64_t j = 0; j < hidden; ++j) {
        delta(0, j) = gh[j] * ir::neuron_slope(neuron, r.next_h[j]);
        gh[j] = 0;
      }
      back(0, r.delta, gh);
      return;
  }
}

void Sequence::gradient(int64_t b) const {
  const double *gy = c.gy(0), *last_h = c.gy(1), *last_c = c.node().ny > 2 ? c.gy(2) : nullptr;
  const double* w = operand(at::weight_ih);
  double* gx = c.gx(at::x);
  double *gh = c.scratch(0) + (n * steps * rows(gates) + 2 * b) * hidden, *gc = gh + hidden;
  for (int64_t j = 0; j < hidden; ++j) {
    gh[j] = last_h != nullptr ? last_h[b * hidden + j] : 0;
    gc[j] = last_c != nullptr ? last_c[b * hidden + j] : 0;
  }
  for (int64_t s = steps; s-- > 0;) {
    const int64_t t = time(s);
    const Record r = record(b, t);
    std::fill_n(r.delta, (gates + 1) * hidden, 0.0);
    if (!active(b, t)) continue;
    for (int64_t j = 0; gy != nullptr && j < hidden; ++j) gh[j] += gy[(b * steps + t) * hidden + j];
    step_gradient(r, gh, gc);
    if (gx == nullptr) continue;
    double* to = gx + (b * steps + t) * in;
    for (int64_t row = 0; row < gates * hidden; ++row)
      for (int64_t k = 0; k < in; ++k) to[k] = c.add(to[k], r.delta[row] * w[row * in + k]);
  }
  const auto store = [&](int i, const double* from) {
    if (c.has_x(i) && c.gx(i) != nullptr) std::copy_n(from, hidden, c.gx(i) + b * hidden);
  };
  store(at::h0, gh);
  store(at::c0, gc);
}

// The gradients by one row of the weights, summed over the sequences in one order.
void Sequence::weight_gradients(int64_t row) const {
  const int gate = static_cast<int>(row / hidden);
  const int64_t j = row % hidden;
  const bool last = gate == gates - 1;
  const auto wanted = [&](int i) { return c.has_x(i) ? c.gx(i) : nullptr; };
  double *gw = wanted(at::weight_ih), *gu = wanted(at::weight_hh), *gb = wanted(at::bias),
         *gb_hn = wanted(at::bias_hn), *gp = wanted(at::peephole);
  for (int64_t b = 0; b < n; ++b)
    for (int64_t t = 0; t < steps; ++t) {
      if (!active(b, t)) continue;
      const Record r = record(b, t);
      const double* x = operand(at::x) + (b * steps + t) * in;
      const bool after = last && cell == Cell::gru;
      const double d = r.delta[row], of_product = after ? r.delta_hn[j] : d;
      const double* h = last && ir::gates_state(cell) ? r.hn : r.h;
      if (gb != nullptr) gb[row] = c.add(gb[row], d);
      if (gb_hn != nullptr && after) gb_hn[j] = c.add(gb_hn[j], r.delta_hn[j]);
      for (int64_t k = 0; gw != nullptr && k < in; ++k)
        gw[row * in + k] = c.add(gw[row * in + k], d * x[k]);
      for (int64_t k = 0; gu != nullptr && k < hidden; ++k)
        gu[row * hidden + k] = c.add(gu[row * hidden + k], of_product * h[k]);
      if (gp == nullptr || gate == 2) continue;
      double& to = gp[(gate == 3 ? ir::peephole::o : gate) * hidden + j];
      to = c.add(to, d * (gate == 3 ? r.next_c[j] : r.c[j]));
    }
}

}  // namespace

std::size_t rnn_scratch(const Call& c) {
  const Shape& x = c.x_shape(at::x);
  const int gates = ir::gates_of(ir::parse_cell(c.attrs().text("cell")));
  return static_cast<std::size_t>((count(x) / x.back() * Sequence::rows(gates) + 2 * x[0]) *
                                  c.x_shape(at::weight_hh)[1]);
}

void rnn(Call& c) {
  const Sequence s(c);
  each(s.n, s.steps * s.gates * s.hidden * (s.in + s.hidden),
       [&](int64_t b) { s.forward(b, c.y(0), c.y(1), s.cell == Cell::lstm ? c.y(2) : nullptr); });
}

void rnn_gradient(Call& c) {
  const Sequence s(c);
  each(s.n, s.steps * s.gates * s.hidden * (s.in + s.hidden), [&](int64_t b) {
    s.forward(b, nullptr, nullptr, nullptr);
    s.gradient(b);
  });
  each(s.gates * s.hidden, s.n * s.steps * (s.in + s.hidden),
       [&](int64_t row) { s.weight_gradients(row); });
}

void embedding(Call& c) {
  const int64_t rows = c.x_shape(1)[0], size = c.x_shape(1)[1], n = count(c.x_shape(0));
  const double *index = c.x(0), *w = c.x(1);
  double* y = c.y(0);
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<int64_t>(index[i]);
    if (at >= 0 && at < rows) std::copy_n(w + at * size, size, y + i * size);
  }
}

void embedding_gradient(Call& c) {
  const int64_t rows = c.x_shape(1)[0], size = c.x_shape(1)[1], n = count(c.x_shape(0));
  const int64_t padding = c.attrs().integer("padding");
  const double *index = c.x(0), *gy = c.gy(0);
  double* gw = c.gx(1);
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<int64_t>(index[i]);
    if (at < 0 || at >= rows || at == padding) continue;
    for (int64_t k = 0; k < size; ++k)
      gw[at * size + k] = c.add(gw[at * size + k], gy[i * size + k]);
  }
}

void stack(Call& c) {
  const int64_t size = count(c.x_shape(0));
  for (int i = 0; i < c.node().nx; ++i) std::copy_n(c.x(i), size, c.y(0) + i * size);
}

void stack_gradient(Call& c) {
  const int64_t size = count(c.y_shape()) / c.node().nx;
  for (int i = 0; i < c.node().nx; ++i)
    if (c.gx(i) != nullptr) std::copy_n(c.gy(0) + i * size, size, c.gx(i));
}

void unstack(Call& c) {
  const int64_t size = count(c.y_shape());
  for (int i = 0; i < c.node().ny; ++i) std::copy_n(c.x(0) + i * size, size, c.y(i));
}

void unstack_gradient(Call& c) {
  const int64_t size = count(c.x_shape(0)) / c.node().ny;
  for (int i = 0; i < c.node().ny; ++i)
    if (c.gy(i) != nullptr) std::copy_n(c.gy(i), size, c.gx(0) + i * size);
}

}  // namespace mpsnn::backend::reference
