// The cells' equations, forward and through time (mps-reference 7.2). Weights of a gate lie side by
// side in the rows of one matrix.
#import "mps_rnn.h"

namespace apple_sim {
namespace {
using Floats = std::vector<float>;

// A gate's weights or their gradient as rows of floats, while a closure runs.
struct Rows {
  Rows(const Gate& g, long out) : gate(g), values(static_cast<size_t>(g.columns() * out)) {}
  Rows(const Gate& g, long out, const MatrixView& from) : Rows(g, out) {
    for (long r = 0; r < out; ++r)
      for (long c = 0; c < g.columns(); ++c)
        *at(r, kBias, c) = from.get(static_cast<size_t>(r), static_cast<size_t>(c));
  }
  float* at(long row, Part part, long column = 0) {
    return values.data() + row * gate.columns() + gate.at[part] + column;
  }
  const Gate& gate;
  Floats values;
};

// to (rows, out) += x (rows, columns) W^T
void multiply(Rows& w, Part part, long rows, const Floats& x, long out, float* to) {
  if (!w.gate.has[part]) return;
  const bool diagonal = part == kMemory && w.gate.diagonal;
  const long columns = w.gate.at[part + 1] - w.gate.at[part];
  for (long n = 0; n < rows; ++n)
    for (long o = 0; o < out; ++o) {
      const float* weights = w.at(o, part);
      float sum = 0;
      if (diagonal)
        sum = weights[0] * x[static_cast<size_t>(n * out + o)];
      else
        for (long c = 0; c < columns; ++c)
          sum += weights[c] * x[static_cast<size_t>(n * columns + c)];
      to[n * out + o] += sum;
    }
}
// dx += d W, dW += d^T x
void multiply_back(Rows& w, Rows* dw, Part part, long rows, const float* d, const Floats& x,
                   long out, Floats& dx) {
  if (!w.gate.has[part]) return;
  const bool diagonal = part == kMemory && w.gate.diagonal;
  const long columns = diagonal ? 1 : w.gate.at[part + 1] - w.gate.at[part];
  for (long n = 0; n < rows; ++n)
    for (long o = 0; o < out; ++o)
      for (long c = 0; c < columns; ++c) {
        const auto i = static_cast<size_t>(diagonal ? n * out + o : n * columns + c);
        dx[i] += d[n * out + o] * *w.at(o, part, c);
        if (dw) *dw->at(o, part, c) += d[n * out + o] * x[i];
      }
}

Floats load(const Sequence& s, size_t i, long columns) {
  Floats x;
  for (long r = 0; r < s.rows[i]; ++r)
    for (long c = 0; c < columns; ++c)
      x.push_back(s.views[i].get(static_cast<size_t>(r), static_cast<size_t>(c)));
  return x;
}
void store(const Sequence& s, size_t i, long columns, const Floats& x) {
  for (long r = 0; r < s.rows[i]; ++r)
    for (long c = 0; c < columns; ++c)
      s.views[i].set(static_cast<size_t>(r), static_cast<size_t>(c),
                     x[static_cast<size_t>(r * columns + c)]);
}
}  // namespace

void run_forward(const Cell& c, const std::vector<MatrixView>& packed, const Sequence& x,
                 const Sequence& y, const Stores& kept) {
  std::vector<Rows> w;
  for (size_t g = 0; g < packed.size(); ++g) w.emplace_back(c.gates[g], c.out, packed[g]);
  const auto first = static_cast<size_t>(x.rows[0] * c.out);
  Floats h(first), memory(first);
  for (size_t t = 0; t < x.rows.size(); ++t) {
    const long rows = x.rows[t], size = rows * c.out;
    const Floats in = load(x, t, c.in);
    float* state = kept[t]->floats();
    float *h0 = state + static_cast<long>(w.size()) * size, *c0 = h0 + size, *c1 = c0 + size;
    h.resize(static_cast<size_t>(size));
    memory.resize(static_cast<size_t>(size));
    std::copy(h.begin(), h.end(), h0);
    std::copy(memory.begin(), memory.end(), c0);
    const auto gate = [&](size_t g, Part part, const Floats& from) {
      multiply(w[g], part, rows, from, c.out, state + static_cast<long>(g) * size);
    };
    const auto value = [&](size_t g, long i) {
      return c.gates[g].neuron.value(state[static_cast<long>(g) * size + i], i % c.out);
    };
    for (size_t g = 0; g < w.size(); ++g) {
      for (long i = 0; i < size; ++i)
        state[static_cast<long>(g) * size + i] = *w[g].at(i % c.out, kBias);
      gate(g, kInput, in);
      if (c.kind != Kind::gru || g < 2) gate(g, kRecurrent, h);
      if (c.kind == Kind::lstm && g < 3) gate(g, kMemory, memory);
    }
    if (c.kind == Kind::lstm) {
      for (long i = 0; i < size; ++i) c1[i] = value(1, i) * c0[i] + value(0, i) * value(2, i);
      memory.assign(c1, c1 + size);
      gate(3, kMemory, memory);
      for (long i = 0; i < size; ++i)
        h[static_cast<size_t>(i)] = value(3, i) * c.to_output.value(c1[i], i % c.out);
    } else if (c.kind == Kind::gru) {
      Floats by_z = h, by_r = h;
      for (long i = 0; i < size; ++i) {
        by_z[static_cast<size_t>(i)] *= value(0, i);
        by_r[static_cast<size_t>(i)] *= value(1, i);
      }
      gate(2, kRecurrent, by_r);
      gate(2, kMemory, by_z);
      for (long i = 0; i < size; ++i) {
        const float z = value(0, i), n = value(2, i);
        h[static_cast<size_t>(i)] = c.flip ? z * n + (1 - z) * h0[i] : (1 - z) * n + z * h0[i];
      }
    } else {
      for (long i = 0; i < size; ++i) h[static_cast<size_t>(i)] = value(0, i);
    }
    store(y, t, c.out, h);
  }
}

void run_gradient(const Cell& c, const std::vector<MatrixView>& packed, const Sequence& x,
                  const Sequence& dy, const Stores& kept, const Sequence& dx,
                  const std::vector<MatrixView>& by_weights, bool adds) {
  std::vector<Rows> w, dw;
  for (size_t g = 0; g < packed.size(); ++g) {
    w.emplace_back(c.gates[g], c.out, packed[g]);
    dw.emplace_back(c.gates[g], c.out);
  }
  Floats dh, dc;
  for (size_t t = x.rows.size(); t-- > 0;) {
    const long rows = x.rows[t], size = rows * c.out;
    const auto all = static_cast<size_t>(size);
    const float* state = kept[t]->floats();
    const float *h0 = state + static_cast<long>(w.size()) * size, *c0 = h0 + size, *c1 = c0 + size;
    const Floats in = load(x, t, c.in), before(h0, h0 + size), c_before(c0, c0 + size),
                 c_after(c1, c1 + size), given = load(dy, t, c.out);
    Floats din(in.size()), dh0(all), dc0(all);
    dh.resize(all);  // sequences that end here have no later step
    dc.resize(all);
    for (size_t i = 0; i < all; ++i) dh[i] += given[i];
    const auto value = [&](size_t g, long i) {
      return c.gates[g].neuron.value(state[static_cast<long>(g) * size + i], i % c.out);
    };
    std::vector<Floats> d(w.size(), Floats(all));
    const auto close = [&](size_t g) {  // from the gate's value to what its neuron saw
      for (long i = 0; i < size; ++i)
        d[g][static_cast<size_t>(i)] *=
            c.gates[g].neuron.derivative(state[static_cast<long>(g) * size + i], i % c.out);
    };
    const auto back = [&](size_t g, Part part, const Floats& from, Floats& to) {
      multiply_back(w[g], &dw[g], part, rows, d[g].data(), from, c.out, to);
    };
    if (c.kind == Kind::lstm) {
      for (long i = 0; i < size; ++i)
        d[3][static_cast<size_t>(i)] =
            dh[static_cast<size_t>(i)] * c.to_output.value(c1[i], i % c.out);
      close(3);
      for (long i = 0; i < size; ++i)
        dc[static_cast<size_t>(i)] +=
            dh[static_cast<size_t>(i)] * value(3, i) * c.to_output.derivative(c1[i], i % c.out);
      back(3, kMemory, c_after, dc);
      for (long i = 0; i < size; ++i) {
        const auto at = static_cast<size_t>(i);
        d[0][at] = dc[at] * value(2, i);
        d[1][at] = dc[at] * c0[i];
        d[2][at] = dc[at] * value(0, i);
        dc0[at] = dc[at] * value(1, i);
      }
      for (size_t g = 0; g < 3; ++g) {
        close(g);
        back(g, kMemory, c_before, dc0);
      }
      for (size_t g = 0; g < 4; ++g) back(g, kRecurrent, before, dh0);
    } else if (c.kind == Kind::gru) {
      Floats by_z(all), by_r(all), d_by_z(all), d_by_r(all);
      for (long i = 0; i < size; ++i) {
        const auto at = static_cast<size_t>(i);
        const float z = value(0, i), n = value(2, i), keep = c.flip ? 1 - z : z;
        by_z[at] = z * h0[i];
        by_r[at] = value(1, i) * h0[i];
        d[0][at] = dh[at] * (c.flip ? n - h0[i] : h0[i] - n);
        d[2][at] = dh[at] * (1 - keep);
        dh0[at] = dh[at] * keep;
      }
      close(2);
      back(2, kRecurrent, by_r, d_by_r);
      back(2, kMemory, by_z, d_by_z);
      for (long i = 0; i < size; ++i) {
        const auto at = static_cast<size_t>(i);
        d[0][at] += d_by_z[at] * h0[i];
        d[1][at] = d_by_r[at] * h0[i];
        dh0[at] += d_by_r[at] * value(1, i) + d_by_z[at] * value(0, i);
      }
      for (size_t g = 0; g < 2; ++g) {
        close(g);
        back(g, kRecurrent, before, dh0);
      }
    } else {
      d[0] = dh;
      close(0);
      back(0, kRecurrent, before, dh0);
    }
    for (size_t g = 0; g < w.size(); ++g) {
      back(g, kInput, in, din);
      for (long i = 0; i < size; ++i) *dw[g].at(i % c.out, kBias) += d[g][static_cast<size_t>(i)];
    }
    if (!dx.views.empty()) store(dx, t, c.in, din);
    dh = dh0;
    dc = dc0;
  }
  for (size_t g = 0; g < by_weights.size(); ++g)
    for (long r = 0; r < c.out; ++r)
      for (long k = 0; k < c.gates[g].columns(); ++k) {
        const auto row = static_cast<size_t>(r), column = static_cast<size_t>(k);
        by_weights[g].set(row, column,
                          *dw[g].at(r, kBias, k) + (adds ? by_weights[g].get(row, column) : 0));
      }
}
}  // namespace apple_sim
