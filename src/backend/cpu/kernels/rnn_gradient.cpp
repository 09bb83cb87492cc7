// Recurrent layers, backward, by the same blocks. Every few steps the gradients by the gates of a
// chunk, still in the second cache, give the gradients by the input and by the weights, as products
// over all rows of the chunk.
#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/kernels/packed.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

enum { kLstm, kGru, kGruBefore, kMgu, kRnn };    // ir::Cell
enum { kNone, kRelu, kLeaky, kSigmoid, kTanh };  // ir::Neuron
enum { kPeepholeI, kPeepholeF, kPeepholeO };     // ir::peephole

// d: the gradients by the gates before their neurons. gh, gc: by the state after the step; then
// what reaches the state before it past the products.
template <bool kPeepholes>
void lstm_row(const float* kept, const float* c, const float* p, int64_t n, float* gh, float* gc,
              float* d, float* gp) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float i = kept[j], f = kept[n + j], g = kept[2 * n + j], o = kept[3 * n + j],
                next = kept[4 * n + j], th = fast_tanh(next);
    const float d_o = gh[j] * th * o * (1.0f - o);
    float by_c = gc[j] + gh[j] * o * (1.0f - th * th);
    if (kPeepholes) by_c += d_o * p[kPeepholeO * n + j];
    const float d_i = by_c * g * i * (1.0f - i), d_f = by_c * c[j] * f * (1.0f - f);
    float back = by_c * f;
    if (kPeepholes) {
      back += d_i * p[kPeepholeI * n + j] + d_f * p[kPeepholeF * n + j];
      gp[kPeepholeI * n + j] += d_i * c[j];
      gp[kPeepholeF * n + j] += d_f * c[j];
      gp[kPeepholeO * n + j] += d_o * next;
    }
    d[j] = d_i, d[n + j] = d_f, d[2 * n + j] = by_c * i * (1.0f - g * g), d[3 * n + j] = d_o;
    gc[j] = back;
    gh[j] = 0.0f;
  }
}

void gru_row(const float* kept, const float* h, int64_t n, float* gh, float* d) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float r = kept[j], z = kept[n + j], g = kept[2 * n + j], hn = kept[3 * n + j];
    const float d_n = gh[j] * (1.0f - z) * (1.0f - g * g);
    d[2 * n + j] = d_n;
    d[n + j] = gh[j] * (h[j] - g) * z * (1.0f - z);
    d[j] = d_n * hn * r * (1.0f - r);
    d[3 * n + j] = d_n * r;
    gh[j] *= z;
  }
}

template <bool kMinimal>
void gated_row(const float* kept, const float* h, int64_t n, float* gh, float* d) {
  constexpr int kLast = kMinimal ? 1 : 2, kKeep = kMinimal ? 0 : 1;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float keep = kMinimal ? 1.0f - kept[j] : kept[n + j], g = kept[kLast * n + j];
    const float by = gh[j] * (h[j] - g) * keep * (1.0f - keep);
    d[kLast * n + j] = gh[j] * (1.0f - keep) * (1.0f - g * g);
    d[kKeep * n + j] = kMinimal ? -by : by;
    gh[j] *= keep;
  }
}

// by: the gradient by gate h.
template <bool kMinimal>
void reset_row(const float* kept, const float* h, const float* by, int64_t n, float* gh, float* d) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const float own = by[j] * h[j] * kept[j] * (1.0f - kept[j]);
    d[j] = kMinimal ? d[j] + own : own;
    gh[j] += by[j] * kept[j];
  }
}

template <class F>
void neuron_row(const float* y, int64_t n, float* gh, float* d, F slope) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    d[j] = gh[j] * slope(y[j]);
    gh[j] = 0.0f;
  }
}

void rnn_row(int neuron, const float* y, int64_t n, float* gh, float* d) {
  switch (neuron) {
    case kRelu:
      return neuron_row(y, n, gh, d, [](float v) { return v > 0.0f ? 1.0f : 0.0f; });
    case kSigmoid:
      return neuron_row(y, n, gh, d, [](float v) { return v * (1.0f - v); });
    case kTanh:
      return neuron_row(y, n, gh, d, [](float v) { return 1.0f - v * v; });
    default:
      return neuron_row(y, n, gh, d, [](float) { return 1.0f; });
  }
}

void add_row(const float* x, int64_t n, float* to) {
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) to[j] += x[j];
}

class Block {
 public:
  Block(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, float* scratch)
      : s_(s),
        in_(in),
        out_(out),
        n_(s.hp),
        ldd_((s.gates + 1) * s.hp + 16),
        whole_(rnn_gradient_rows(s)) {
    const auto next = [&](int64_t size) {
      float* at = scratch;
      scratch += size;
      return at;
    };
    d_ = next(whole_ * ldd_);
    x_ = next(whole_ * s.ip);
    gx_ = next(whole_ * s.ip);
    h_ = next(whole_ * n_);
    gated_ = next(whole_ * n_);
    gh_ = next(s.block * n_);
    gc_ = next(s.block * n_);
    row_ = next(s.block * n_);
    before_ = next(s.block * n_);
  }

  void run(int64_t first, int64_t m, bool add) {
    first_ = first, m_ = m;
    start(in_.gh, gh_);
    start(in_.gc, gc_);
    for (int64_t end = s_.steps; end > 0; end -= s_.chunk_g) {
      const int64_t begin = end < s_.chunk_g ? 0 : end - s_.chunk_g;
      rows_ = (end - begin) * m;
      for (int64_t i = end; i-- > begin;) step(i, (i - begin) * m);
      products(add);
      add = true;
      if (out_.gx != nullptr) input_gradient(begin, end);
    }
    finish(gh_, out_.gh0);
    finish(gc_, out_.gc0);
  }

 private:
  bool two() const { return s_.cell == kGruBefore || s_.cell == kMgu; }
  int64_t time(int64_t step) const { return s_.reverse ? s_.steps - 1 - step : step; }
  const float* kept(int64_t r, int64_t t) const {
    return in_.kept + (t * s_.n + first_ + r) * s_.kept * n_;
  }

  void start(const float* from, float* to) const {
    for (int64_t r = 0; r < m_; ++r)
      for (int64_t j = 0; j < n_; ++j)
        to[r * n_ + j] =
            from != nullptr && j < s_.hidden ? from[(first_ + r) * s_.hidden + j] : 0.0f;
  }
  void finish(const float* from, float* to) const {
    for (int64_t r = 0; to != nullptr && r < m_; ++r)
      memcpy(to + (first_ + r) * s_.hidden, from + r * n_,
             static_cast<size_t>(s_.hidden) * sizeof(float));
  }
  // The state before a step; nullptr for zeros.
  const float* h_before(int64_t r, int64_t i) const {
    if (i > 0 && active(in_, first_ + r, time(i - 1)))
      return in_.y + ((first_ + r) * s_.steps + time(i - 1)) * s_.hidden;
    return in_.h0 == nullptr ? nullptr : in_.h0 + (first_ + r) * s_.hidden;
  }
  void copy(const float* from, float* to) const {
    for (int64_t j = 0; j < n_; ++j) to[j] = from != nullptr && j < s_.hidden ? from[j] : 0.0f;
  }

  // Step i of the block: gates to rows q.. of d, operands of the weight gradients beside them.
  void step(int64_t i, int64_t q) {
    const int64_t t = time(i);
    float* d = d_ + q * ldd_;
    for (int64_t r = 0; r < m_; ++r) {
      const bool on = active(in_, first_ + r, t);
      const int64_t at = (first_ + r) * s_.steps + t;
      const float* h = on ? h_before(r, i) : nullptr;
      pack_row(on ? in_.x + at * s_.in : nullptr, s_.in, whole_, s_.ip, q + r, x_);
      pack_row(h, s_.hidden, whole_, n_, q + r, h_);
      if (!on) {
        memset(d + r * ldd_, 0, static_cast<size_t>(ldd_) * sizeof(float));
        if (two()) {
          pack_row(nullptr, 0, whole_, n_, q + r, gated_);
          memset(row_ + r * n_, 0, static_cast<size_t>(n_) * sizeof(float));
        }
        continue;
      }
      cell(r, i, at, h, d + r * ldd_, q + r);
    }
    const int64_t whole_u = s_.gates * n_;
    if (two()) {
      packed_product(m_, n_, n_, d + s_.head * n_, ldd_, 1, in_.u, whole_u, s_.head * n_, false,
                     row_, n_);
      for (int64_t r = 0; r < m_; ++r) {
        if (!active(in_, first_ + r, t)) continue;
        const float *h = before_ + r * n_, *by = row_ + r * n_, *k = kept(r, t);
        if (s_.cell == kMgu)
          reset_row<true>(k, h, by, n_, gh_ + r * n_, d + r * ldd_);
        else
          reset_row<false>(k, h, by, n_, gh_ + r * n_, d + r * ldd_);
      }
    }
    packed_product(m_, s_.head * n_, n_, d, ldd_, 1, in_.u, whole_u, 0, true, gh_, n_);
    if (s_.cell == kGru)
      packed_product(m_, n_, n_, d + 3 * n_, ldd_, 1, in_.u, whole_u, 2 * n_, true, gh_, n_);
  }

  void cell(int64_t r, int64_t i, int64_t at, const float* h, float* d, int64_t q) {
    float *gh = gh_ + r * n_, *before = before_ + r * n_;
    if (in_.gy != nullptr) {
      const float* gy = in_.gy + at * s_.hidden;
#pragma GCC ivdep
      for (int64_t j = 0; j < s_.hidden; ++j) gh[j] += gy[j];
    }
    const float* k = s_.kept > 0 ? kept(r, time(i)) : nullptr;
    switch (s_.cell) {
      case kLstm: {
        const float* c = before;
        if (i > 0 && active(in_, first_ + r, time(i - 1)))
          c = kept(r, time(i - 1)) + 4 * n_;
        else
          copy(in_.c0 == nullptr ? nullptr : in_.c0 + (first_ + r) * s_.hidden, before);
        if (in_.peephole != nullptr)
          lstm_row<true>(k, c, in_.peephole, n_, gh, gc_ + r * n_, d, out_.gp);
        else
          lstm_row<false>(k, c, nullptr, n_, gh, gc_ + r * n_, d, nullptr);
        break;
      }
      case kGru:
        copy(h, before);
        gru_row(k, before, n_, gh, d);
        break;
      case kGruBefore:
      case kMgu: {
        copy(h, before);
        if (s_.cell == kMgu)
          gated_row<true>(k, before, n_, gh, d);
        else
          gated_row<false>(k, before, n_, gh, d);
        float* gated = row_ + r * n_;
#pragma GCC ivdep
        for (int64_t j = 0; j < n_; ++j) gated[j] = before[j] * k[j];
        pack_row(gated, n_, whole_, n_, q, gated_);
        break;
      }
      default:
        copy(in_.y + at * s_.hidden, before);
        rnn_row(s_.neuron, before, n_, gh, d);
    }
  }

  void products(bool add) const {
    const int64_t all = s_.gates * n_, head = s_.head * n_;
    if (out_.gw != nullptr)
      packed_product(all, rows_, s_.ip, d_, 1, ldd_, x_, whole_, 0, add, out_.gw, s_.ip);
    if (out_.gu != nullptr) {
      packed_product(head, rows_, n_, d_, 1, ldd_, h_, whole_, 0, add, out_.gu, n_);
      if (head < all)
        packed_product(n_, rows_, n_, d_ + (s_.cell == kGru ? all : head), 1, ldd_,
                       two() ? gated_ : h_, whole_, 0, add, out_.gu + head * n_, n_);
    }
    for (int64_t q = 0; q < rows_; ++q) {
      if (out_.gb != nullptr) add_row(d_ + q * ldd_, all, out_.gb);
      if (out_.gb_hn != nullptr) add_row(d_ + q * ldd_ + all, n_, out_.gb_hn);
    }
  }

  void input_gradient(int64_t begin, int64_t end) const {
    const int64_t all = s_.gates * n_;
    packed_product(rows_, all, s_.ip, d_, ldd_, 1, in_.w, all, 0, false, gx_, s_.ip);
    for (int64_t i = begin; i < end; ++i)
      for (int64_t r = 0; r < m_; ++r)
        memcpy(out_.gx + ((first_ + r) * s_.steps + time(i)) * s_.in,
               gx_ + ((i - begin) * m_ + r) * s_.ip, static_cast<size_t>(s_.in) * sizeof(float));
  }

  const RnnShape& s_;
  const RnnInputs& in_;
  const RnnOutputs& out_;
  const int64_t n_, ldd_, whole_;
  int64_t first_ = 0, m_ = 0, rows_ = 0;
  float *d_, *x_, *gx_, *h_, *gated_, *gh_, *gc_, *row_, *before_;
};

}  // namespace

void rnn_gradient(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t begin,
                  int64_t end, float* scratch) {
  const auto clear = [](float* at, int64_t size) {
    if (at != nullptr) memset(at, 0, static_cast<size_t>(size) * sizeof(float));
  };
  clear(out.gb, s.gates * s.hp);
  clear(out.gb_hn, s.hp);
  clear(out.gp, 3 * s.hp);
  Block block(s, in, out, scratch);
  for (int64_t first = begin; first < end; first += s.block)
    block.run(first, end - first < s.block ? end - first : s.block, first > begin);
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
