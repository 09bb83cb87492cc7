// Recurrent layers, forward. A block of sequences goes through all its steps on one thread: no step
// waits for another thread, and gates stay in the second cache from the product to the cell. Input
// products are done for a few steps at once, so that they have rows enough.
#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/kernels/packed.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

enum { kLstm, kGru, kGruBefore, kMgu, kRnn };    // ir::Cell
enum { kNone, kRelu, kLeaky, kSigmoid, kTanh };  // ir::Neuron
enum { kPeepholeI, kPeepholeF, kPeepholeO };     // ir::peephole

// One step of one sequence: `pre` is W x + U h without biases, `kept` what the gradient reads.
template <bool kPeepholes>
void lstm_row(const float* pre, const float* bias, const float* p, int64_t n, float* h, float* c,
              float* kept) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    float pi = pre[j] + bias[j], pf = pre[n + j] + bias[n + j],
          po = pre[3 * n + j] + bias[3 * n + j];
    if (kPeepholes) pi += p[kPeepholeI * n + j] * c[j], pf += p[kPeepholeF * n + j] * c[j];
    const float i = fast_sigmoid(pi), f = fast_sigmoid(pf),
                g = fast_tanh(pre[2 * n + j] + bias[2 * n + j]);
    const float next = f * c[j] + i * g;
    if (kPeepholes) po += p[kPeepholeO * n + j] * next;
    const float o = fast_sigmoid(po);
    c[j] = next;
    h[j] = o * fast_tanh(next);
    kept[j] = i, kept[n + j] = f, kept[2 * n + j] = g, kept[3 * n + j] = o, kept[4 * n + j] = next;
  }
}

void gru_row(const float* pre, const float* tail, const float* bias, const float* bias_hn,
             int64_t n, float* h, float* kept) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float r = fast_sigmoid(pre[j] + bias[j]), z = fast_sigmoid(pre[n + j] + bias[n + j]),
                hn = tail[j] + bias_hn[j];
    const float g = fast_tanh(pre[2 * n + j] + bias[2 * n + j] + r * hn);
    h[j] = (1.0f - z) * g + z * h[j];
    kept[j] = r, kept[n + j] = z, kept[2 * n + j] = g, kept[3 * n + j] = hn;
  }
}

// The gates before the last, and the first of them times the state.
void gates_row(const float* pre, const float* bias, int64_t n, int gates, const float* h,
               float* kept, float* gated) {
  const int64_t size = gates * n;
#pragma GCC ivdep
  for (int64_t j = 0; j < size; ++j) kept[j] = fast_sigmoid(pre[j] + bias[j]);
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) gated[j] = kept[j] * h[j];
}

template <bool kMinimal>
void gated_row(const float* pre, const float* tail, const float* bias, int64_t n, float* h,
               float* kept) {
  constexpr int kLast = kMinimal ? 1 : 2;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float keep = kMinimal ? 1.0f - kept[j] : kept[n + j];
    const float g = fast_tanh(pre[kLast * n + j] + tail[j] + bias[kLast * n + j]);
    h[j] = keep * h[j] + (1.0f - keep) * g;
    kept[kLast * n + j] = g;
  }
}

template <class F>
void neuron_row(const float* pre, const float* bias, int64_t n, float* h, F f) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) h[j] = f(pre[j] + bias[j]);
}

void rnn_row(int neuron, const float* pre, const float* bias, int64_t n, float* h) {
  switch (neuron) {
    case kRelu:
      return neuron_row(pre, bias, n, h, [](float x) { return x < 0.0f ? 0.0f : x; });
    case kSigmoid:
      return neuron_row(pre, bias, n, h, [](float x) { return fast_sigmoid(x); });
    case kTanh:
      return neuron_row(pre, bias, n, h, [](float x) { return fast_tanh(x); });
    default:
      return neuron_row(pre, bias, n, h, [](float x) { return x; });
  }
}

// The scratch of a block of m sequences.
struct Scratch {
  Scratch(const RnnShape& s, float* at)
      : x(at),
        pre(x + s.chunk * s.block * s.ip),
        h(pre + s.chunk * s.block * s.gates * s.hp),
        c(h + s.block * s.hp),
        gated(c + s.block * s.hp),
        tail(gated + s.block * s.hp),
        kept(tail + s.block * s.hp) {}
  static int64_t size(const RnnShape& s) {
    return s.block * (s.chunk * (s.ip + s.gates * s.hp) + (4 + s.kept) * s.hp);
  }
  float *x, *pre, *h, *c, *gated, *tail, *kept;
};

void start(const float* from, const RnnShape& s, int64_t first, int64_t m, float* to) {
  for (int64_t r = 0; r < m; ++r)
    for (int64_t j = 0; j < s.hp; ++j)
      to[r * s.hp + j] = from != nullptr && j < s.hidden ? from[(first + r) * s.hidden + j] : 0.0f;
}

void step(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t first, int64_t m,
          int64_t t, float* pre, const Scratch& at) {
  const int64_t n = s.hp, row = s.gates * n;
  packed_product(m, s.hidden, s.head * n, at.h, n, 1, in.u, s.hidden, 0, true, pre, row);
  if (s.cell == kGru)
    packed_product(m, s.hidden, n, at.h, n, 1, in.tail, s.hidden, 0, false, at.tail, n);
  const bool two = s.cell == kGruBefore || s.cell == kMgu;
  const auto kept_of = [&](int64_t r) {
    return out.kept != nullptr ? out.kept + (t * s.n + first + r) * s.kept * n
                               : at.kept + r * s.kept * n;
  };
  if (two) {
    for (int64_t r = 0; r < m; ++r)
      gates_row(pre + r * row, in.bias, n, s.head, at.h + r * n, kept_of(r), at.gated + r * n);
    packed_product(m, s.hidden, n, at.gated, n, 1, in.tail, s.hidden, 0, false, at.tail, n);
  }
  for (int64_t r = 0; r < m; ++r) {
    const float *p = pre + r * row, *tail = at.tail + r * n;
    float *h = at.h + r * n, *kept = kept_of(r),
          *y = out.y + ((first + r) * s.steps + t) * s.hidden;
    if (!active(in, first + r, t)) {
      memset(y, 0, static_cast<size_t>(s.hidden) * sizeof(float));
      continue;
    }
    switch (s.cell) {
      case kLstm:
        if (in.peephole != nullptr)
          lstm_row<true>(p, in.bias, in.peephole, n, h, at.c + r * n, kept);
        else
          lstm_row<false>(p, in.bias, nullptr, n, h, at.c + r * n, kept);
        break;
      case kGru:
        gru_row(p, tail, in.bias, in.bias_hn, n, h, kept);
        break;
      case kGruBefore:
        gated_row<false>(p, tail, in.bias, n, h, kept);
        break;
      case kMgu:
        gated_row<true>(p, tail, in.bias, n, h, kept);
        break;
      default:
        rnn_row(s.neuron, p, in.bias, n, h);
    }
    memcpy(y, h, static_cast<size_t>(s.hidden) * sizeof(float));
  }
}

void block(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t first, int64_t m,
           const Scratch& at) {
  const int64_t row = s.gates * s.hp;
  start(in.h0, s, first, m, at.h);
  start(in.c0, s, first, m, at.c);
  for (int64_t begin = 0; begin < s.steps; begin += s.chunk) {
    const int64_t steps = s.steps - begin < s.chunk ? s.steps - begin : s.chunk;
    const auto time = [&](int64_t i) { return s.reverse ? s.steps - 1 - begin - i : begin + i; };
    for (int64_t i = 0; i < steps; ++i)
      for (int64_t r = 0; r < m; ++r) {
        float* to = at.x + (i * m + r) * s.in;
        const size_t bytes = static_cast<size_t>(s.in) * sizeof(float);
        if (active(in, first + r, time(i)))
          memcpy(to, in.x + ((first + r) * s.steps + time(i)) * s.in, bytes);
        else
          memset(to, 0, bytes);
      }
    packed_product(steps * m, s.in, row, at.x, s.in, 1, in.w, s.in, 0, false, at.pre, row);
    for (int64_t i = 0; i < steps; ++i)
      step(s, in, out, first, m, time(i), at.pre + i * m * row, at);
  }
  for (int64_t r = 0; r < m; ++r) {
    const size_t bytes = static_cast<size_t>(s.hidden) * sizeof(float);
    memcpy(out.h + (first + r) * s.hidden, at.h + r * s.hp, bytes);
    if (out.c != nullptr) memcpy(out.c + (first + r) * s.hidden, at.c + r * s.hp, bytes);
  }
}

}  // namespace

void rnn_pack_columns(const float* w, const RnnShape& s, int64_t depth, int first, int gates,
                      float* to) {
  const int64_t cols = gates * s.hp;
  for (int64_t k = 0; k < cols; k += 2 * kLanes) {
    const int64_t width = cols - k < 2 * kLanes ? kLanes : 2 * kLanes;
    for (int64_t v = 0; v < width; ++v) {
      const int64_t gate = first + (k + v) / s.hp, unit = (k + v) % s.hp;
      const float* from = unit < s.hidden ? w + (gate * s.hidden + unit) * depth : nullptr;
      float* column = to + k * depth + v;
      for (int64_t j = 0; j < depth; ++j) column[j * width] = from != nullptr ? from[j] : 0.0f;
    }
  }
}

void rnn_pack_rows(const float* w, const RnnShape& s, int64_t columns, int64_t cp, float* to) {
  const int64_t rows = s.gates * s.hp;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t gate = row / s.hp, unit = row % s.hp;
    pack_row(unit < s.hidden ? w + (gate * s.hidden + unit) * columns : nullptr, columns, rows, cp,
             row, to);
  }
}

void rnn(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t begin, int64_t end,
         float* scratch) {
  const Scratch at(s, scratch);
  for (int64_t first = begin; first < end; first += s.block)
    block(s, in, out, first, end - first < s.block ? end - first : s.block, at);
}

int64_t rnn_scratch(const RnnShape& s, bool gradient) {
  if (!gradient) return Scratch::size(s);
  const int64_t rows = rnn_gradient_rows(s), deltas = (s.gates + 1) * s.hp + 16;
  return rows * (deltas + 2 * s.ip + 2 * s.hp) + 4 * s.block * s.hp;
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
