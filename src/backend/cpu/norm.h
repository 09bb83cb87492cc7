// What batch-norms share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

// Rows x channels, in parts of which a thread takes one, in tiles of some 128 KiB.
struct NormGeometry {
  explicit NormGeometry(const Shape& x)
      : c(x.back()),
        rows(count(x) / c),
        parts(std::clamp<int64_t>(rows * c / 16384, 1, threads::team())),
        tile(std::max<int64_t>(1, 32768 / c)),
        width(x[x.size() - 2]),
        image(rows / x[0]) {}
  int64_t first(int64_t part) const { return rows * part / parts; }
  template <class F>
  void each_part(F f) const {
    threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) f(part);
    });
  }
  // f(part, first row, rows); the second time from the end of a part, which is still in cache.
  template <class F>
  void each_tile(F f, bool again = false) const {
    each_part([&](int64_t part) {
      const int64_t begin = first(part), end = first(part + 1),
                    tiles = (end - begin + tile - 1) / tile;
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t r = begin + (again ? tiles - 1 - i : i) * tile;
        f(part, r, std::min(tile, end - r));
      }
    });
  }
  // Of the rows begin..end: f(first, count) of each run that counts, g of each that does not.
  template <class F, class G>
  void split(const int32_t* lengths, int64_t begin, int64_t end, F f, G g) const {
    if (lengths == nullptr) return f(begin, end - begin);
    for (int64_t next; begin < end; begin = next) {
      const int64_t start = begin / width * width;
      next = std::min(end, start + width);
      const int64_t padding = std::clamp(start + lengths[begin / image], begin, next);
      if (padding > begin) f(begin, padding - begin);
      if (next > padding) g(padding, next - padding);
    }
  }
  double counting(const int32_t* lengths) const {
    int64_t n = 0;
    split(lengths, 0, rows, [&](int64_t, int64_t size) { n += size; }, skip);
    return static_cast<double>(n);
  }
  // A part's sums by channels: two of each.
  int64_t sums_pitch() const { return apart<double>(2 * c); }
  std::size_t sums_bytes() const {
    return static_cast<std::size_t>(parts * sums_pitch()) * sizeof(double);
  }
  std::size_t channels(int64_t n) const { return static_cast<std::size_t>(n * c); }
  static void skip(int64_t, int64_t) {}
  int64_t c, rows, parts, tile, width, image;
};

// Means and biased variances of all rows, in one pass; `sums`: of g's parts.
template <class T>
void statistics(const NormGeometry& g, const T* x, double* sums, float* mean, float* variance) {
  g.each_part([&](int64_t part) {
    double* m = sums + part * g.sums_pitch();
    const int64_t r = g.first(part);
    images<T>().norm_moments(x + r * g.c, g.first(part + 1) - r, g.c, m, m + g.c);
  });
  for (int64_t part = 1; part < g.parts; ++part) {  // Chan, Golub, LeVeque 1983
    const auto before = static_cast<double>(g.first(part)),
               more = static_cast<double>(g.first(part + 1)) - before, all = before + more;
    const double *m = sums + part * g.sums_pitch(), *s = m + g.c;
    for (int64_t k = 0; k < g.c; ++k) {
      const double step = m[k] - sums[k];
      sums[k] += step * more / all;
      sums[g.c + k] += s[k] + step * step * before * more / all;
    }
  }
  for (int64_t k = 0; k < g.c; ++k) {
    mean[k] = static_cast<float>(sums[k]);
    variance[k] = static_cast<float>(sums[g.c + k] / static_cast<double>(g.rows));
  }
}

// y = x a + shift, before the neuron.
inline void make_affine(const NormGeometry& g, const float* mean, const float* variance,
                        double epsilon, const float* weight, const float* bias, float* a,
                        float* shift) {
  for (int64_t k = 0; k < g.c; ++k) {
    const double s = weight[k] / std::sqrt(static_cast<double>(variance[k]) + epsilon);
    a[k] = static_cast<float>(s);
    shift[k] = static_cast<float>(bias[k] - static_cast<double>(mean[k]) * s);
  }
}

// The neuron behind the norm: one that the kernels have, or a pass of its own.
struct NormNeuron {
  explicit NormNeuron(const Node& node) : spec(ir::epilogue_of(node.attrs)), pass(node.attrs) {
    inside = spec.kind == ir::Neuron::none || spec.kind == ir::Neuron::relu ||
             spec.kind == ir::Neuron::leaky_relu;
  }
  NormRows rows(const NormGeometry& g, int64_t n, int64_t pitch, const float* scale,
                const float* shift) const {
    const ir::NeuronSpec own = inside ? spec : ir::NeuronSpec();
    return {n, g.c, pitch, scale, shift, static_cast<int>(own.kind), static_cast<float>(own.a)};
  }
  template <class T>
  void apply(T* y, int64_t rows, int64_t c, int64_t pitch) const {
    if (inside) return;
    runs(rows, c, pitch, [&](int64_t r, int64_t n) { pass.apply_here(y + r * pitch, n); });
  }
  // Of z, whose rows are dense.
  template <class T>
  void gradient(const T* gy, int64_t pitch, const T* z, int64_t rows, int64_t c, T* gz) const {
    runs(rows, c, pitch, [&](int64_t r, int64_t n) {
      pass.gradient_here(gy + r * pitch, z + r * c, gz + r * c, n);
    });
  }
  // f(row, elements): all at once where they lie side by side.
  template <class F>
  static void runs(int64_t rows, int64_t c, int64_t pitch, F f) {
    if (pitch == c) return f(0, rows * c);
    for (int64_t r = 0; r < rows; ++r) f(r, c);
  }
  ir::NeuronSpec spec;
  Epilogue pass;
  bool inside;
};

// The gradients of a channel from the sums of dz and of dz times the normalised source: by bias and
// weight, and by the source as dz by_gradient + x by_source + more.
struct NormSlopes {
  NormSlopes(double sum, double dot, double n, float gamma, float inverse, float mean) {
    const double a = static_cast<double>(gamma) * static_cast<double>(inverse),
                 slope = -a * static_cast<double>(inverse) * dot / n;
    bias = static_cast<float>(sum);
    weight = static_cast<float>(dot);
    by_gradient = static_cast<float>(a);
    by_source = static_cast<float>(slope);
    more = static_cast<float>(-a * sum / n - slope * static_cast<double>(mean));
  }
  float bias, weight, by_gradient, by_source, more;
};

KernelPtr make_pooled_norm(Builder& b, const Node& node);

}  // namespace mpsnn::backend::cpu
