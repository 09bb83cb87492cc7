// Normalisation of rows of c values by themselves.
#include <type_traits>

#include "backend/cpu/kernels/rows.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

template <int kSums>
struct Terms {
  Vec of[kSums];
};

// Rows of so many values are read one after the other, as prefetching likes it, and few are taken
// together: they are written soon after they were read.
constexpr int64_t kLong = 128;

// Sums over each of at most kLanes rows of c >= kLanes values, of term(row, first column of a
// vector): in float over a few hundred columns, then in double.
template <int kSums, class F>
inline void row_sums(int64_t rows, int64_t c, F term, double (&sums)[kSums][kLanes]) {
  constexpr int64_t kFlush = 512;
  const Rest rest(c);
  const auto part = [&](int64_t r, int64_t first, int64_t end) {
    Terms<kSums> all{};
    const auto add = [&](const Terms<kSums>& terms, auto f) {
      for (int i = 0; i < kSums; ++i) all.of[i] += f(terms.of[i]);
    };
    for (int64_t k = first; k < end; k += kLanes) add(term(r, k), [](Vec v) { return v; });
    if (end == rest.whole && rest.any)
      add(term(r, rest.at), [&](Vec v) { return rest.of(v, 0.0f); });
    return all;
  };
  if (c < kLong) {
    Vec parts[kSums][kLanes] = {};
    for (int64_t r = 0; r < rows; ++r) {
      const Terms<kSums> own = part(r, 0, rest.whole);
      for (int i = 0; i < kSums; ++i) parts[i][r] = own.of[i];
    }
    for (int i = 0; i < kSums; ++i) {
      float all[kLanes];
      store(all, fold_rows(parts[i], [](Vec x, Vec y) { return x + y; }));
      for (int r = 0; r < kLanes; ++r) sums[i][r] = static_cast<double>(all[r]);
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int i = 0; i < kSums; ++i) sums[i][r] = 0;
    for (int64_t first = 0; first < rest.whole; first += kFlush) {
      const int64_t end = first + kFlush < rest.whole ? first + kFlush : rest.whole;
      const Terms<kSums> own = part(r, first, end);
      for (int i = 0; i < kSums; ++i) sums[i][r] += static_cast<double>(fold_sum(own.of[i]));
    }
  }
}

void layer_norm_rows(const float* x, const float* w, const float* b, int64_t rows, int64_t c,
                     float epsilon, float* y, float* mean, float* inverse) {
  const Rest rest(c);
  const auto n = static_cast<double>(c);
  const int64_t together = c < kLong ? kLanes : 1;
  for (int64_t done = 0; done < rows;) {
    const int64_t many = rows - done < together ? rows - done : together;
    const float* in = x + done * c;
    float *m = mean + done, *scale = inverse + done;
    double sums[1][kLanes], both[2][kLanes];
    row_sums<1>(
        many, c, [=](int64_t r, int64_t k) { return Terms<1>{load(in + r * c + k)}; }, sums);
    float first[kLanes];  // rounded: the mean is what is left more than that
    for (int64_t r = 0; r < many; ++r) first[r] = static_cast<float>(sums[0][r] / n);
    const auto rest_and_square = [&](int64_t r, int64_t k) {
      const Vec off = load(in + r * c + k) - first[r];
      return Terms<2>{off, off * off};
    };
    row_sums<2>(many, c, rest_and_square, both);
    for (int64_t r = 0; r < many; ++r) {
      const double more = both[0][r] / n, variance = both[1][r] / n - more * more;
      m[r] = static_cast<float>(static_cast<double>(first[r]) + more);
      scale[r] = 1.0f / __builtin_sqrtf(static_cast<float>(variance) + epsilon);
    }
    for (int64_t r = 0; r < many; ++r) {
      const float* from = in + r * c;
      float* to = y + (done + r) * c;
      const float middle = m[r], by = scale[r];
      const auto one = [=](int64_t k) {
        Vec z = (load(from + k) - middle) * by;
        if (w != nullptr) z *= load(w + k);
        if (b != nullptr) z += load(b + k);
        return z;
      };
      const Vec last = one(rest.at);  // y may be x
      for (int64_t k = 0; k < rest.whole; k += kLanes) store(to + k, one(k));
      if (rest.any) store(to + rest.at, last);
    }
    done += many;
  }
}

// The first rows, as far as they can be taken side by side; how many they are.
int64_t layer_norm_narrow(const float* x, const float* w, const float* b, int64_t rows, int64_t c,
                          float epsilon, float* y, float* mean, float* inverse) {
  const auto n = static_cast<float>(c);
  Columns v(c);
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    v.read(x + r * c);
    Vec sum{}, rest{}, squares{};
    for (int64_t k = 0; k < c; ++k) sum += v[k];
    const Vec first = sum / n;  // rounded: the mean is what is left more than that
    for (int64_t k = 0; k < c; ++k) {
      const Vec off = v[k] - first;
      rest += off;
      squares += off * off;
    }
    const Vec more = rest / n, m = first + more;
    store(mean + r, m);
    store(inverse + r, squares / n - more * more + epsilon);
#pragma GCC ivdep
    for (int64_t i = r; i < r + kLanes; ++i) inverse[i] = 1.0f / __builtin_sqrtf(inverse[i]);
    const Vec scale = load(inverse + r);
    for (int64_t k = 0; k < c; ++k) {
      const Vec z = (v[k] - m) * scale;
      v.set(k, (w == nullptr ? z : z * w[k]) + (b == nullptr ? 0.0f : b[k]));
    }
    v.write(y + r * c);
  }
  return r;
}

}  // namespace

void layer_norm(const float* x, const float* w, const float* b, int64_t rows, int64_t c,
                float epsilon, float* y, float* mean, float* inverse) {
  const auto n = static_cast<double>(c);
  if (c >= kLanes) return layer_norm_rows(x, w, b, rows, c, epsilon, y, mean, inverse);
  int64_t r = layer_norm_narrow(x, w, b, rows, c, epsilon, y, mean, inverse);
  for (; r < rows; ++r) {
    const float* in = x + r * c;
    float* out = y + r * c;
    const auto m = static_cast<float>(sum_of(c, [in](int64_t k) { return in[k]; }) / n);
    const double squares = sum_of(c, [in, m](int64_t k) { return (in[k] - m) * (in[k] - m); });
    const float i = 1.0f / __builtin_sqrtf(static_cast<float>(squares / n) + epsilon);
    for (int64_t k = 0; k < c; ++k)
      out[k] = (in[k] - m) * i * (w == nullptr ? 1.0f : w[k]) + (b == nullptr ? 0.0f : b[k]);
    mean[r] = m;
    inverse[r] = i;
  }
}

namespace {

// gx = scale (g w - s - d (x - m)), of some rows. Also adds to the sums that the gradients by
// weight and bias are.
template <bool kWeighted, bool kSums>
void layer_norm_gradient_rows(const float* gy, const float* x, const float* w, const float* mean,
                              const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                              float* sums) {
  constexpr int kFew = 4;  // of long rows
  const Rest rest(c);
  const auto n = static_cast<double>(c);
  const auto add = [](float* to, Vec v) { store(to, load(to) + v); };
  const int64_t together = c < kLong ? kLanes : kFew;
  Vec last_dot{}, last_sum{};
  for (int64_t done = 0; done < rows;) {
    const int64_t many = rows - done < together ? rows - done : together;
    const float *g = gy + done * c, *in = x + done * c;
    float* out = gx + done * c;
    float m[kLanes], scale[kLanes], s[kLanes], d[kLanes];
    for (int64_t r = 0; r < many; ++r) m[r] = mean[done + r], scale[r] = inverse[done + r];
    double totals[2][kLanes];
    const auto term = [&](int64_t r, int64_t k) {
      const Vec one = kWeighted ? load(g + r * c + k) * load(w + k) : load(g + r * c + k);
      return Terms<2>{one, one * (load(in + r * c + k) - m[r])};
    };
    row_sums<2>(many, c, term, totals);
    for (int64_t r = 0; r < many; ++r) {
      const auto square = static_cast<double>(scale[r]) * static_cast<double>(scale[r]);
      s[r] = static_cast<float>(totals[0][r] / n);
      d[r] = static_cast<float>(totals[1][r] * square / n);
    }
    const auto columns = [&](auto count) {
      const auto column = [&](int64_t k, float* to, int64_t pitch, Vec& dot, Vec& sum) {
        const Vec weight = kWeighted ? load(w + k) : Vec{};
        for (int64_t r = 0; r < count; ++r) {
          const Vec one = load(g + r * c + k), off = load(in + r * c + k) - m[r];
          store(to + r * pitch, scale[r] * ((kWeighted ? one * weight : one) - s[r] - off * d[r]));
          dot += one * (off * scale[r]);
          sum += one;
        }
      };
      float last[kLanes * kLanes];  // gx may be gy or x
      if (rest.any) column(rest.at, last, kLanes, last_dot, last_sum);
      for (int64_t k = 0; k < rest.whole; k += kLanes) {
        Vec dot{}, sum{};
        column(k, out + k, c, dot, sum);
        if (kSums) add(dots + k, dot), add(sums + k, sum);
      }
      for (int64_t r = 0; r < count && rest.any; ++r)
        store(out + r * c + rest.at, load(last + r * kLanes));
    };
    if (many == kFew)
      columns(std::integral_constant<int64_t, kFew>());
    else
      columns(many);
    done += many;
  }
  if (!kSums || !rest.any) return;
  add(dots + rest.at, rest.of(last_dot, 0.0f));
  add(sums + rest.at, rest.of(last_sum, 0.0f));
}

// sums[k] is added to by the lanes of columns[k], for c of them.
void add_lanes(const Columns& columns, int64_t c, float* sums) {
  for (int64_t first = 0; first < c; first += kLanes) {
    const int64_t width = c - first < kLanes ? c - first : kLanes;
    Vec rows[kLanes];
    for (int64_t k = 0; k < kLanes; ++k) rows[k] = k < width ? columns[first + k] : Vec{};
    float all[kLanes];
    store(all, fold_rows(rows, [](Vec a, Vec b) { return a + b; }));
    for (int64_t k = 0; k < width; ++k) sums[first + k] += all[k];
  }
}

// The first rows, as far as they can be taken side by side; how many they are.
template <bool kWeighted, bool kSums>
int64_t layer_norm_columns(const float* gy, const float* x, const float* w, const float* mean,
                           const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                           float* sums) {
  if (!are_narrow(rows, c)) return 0;
  Columns g(c), v(c), by_weight(c), by_bias(c);
  for (int64_t k = 0; kSums && k < c; ++k) by_weight.set(k, Vec{}), by_bias.set(k, Vec{});
  int64_t r = 0;
  for (; are_narrow(rows - r, c); r += kLanes) {
    g.read(gy + r * c);
    v.read(x + r * c);
    const Vec m = load(mean + r), scale = load(inverse + r);
    Vec sum{}, dot{};
    for (int64_t k = 0; k < c; ++k) {
      const Vec one = g[k], z = (v[k] - m) * scale;
      v.set(k, z);
      if (kSums) {
        by_weight.set(k, by_weight[k] + one * z);
        by_bias.set(k, by_bias[k] + one);
      }
      const Vec weighted = kWeighted ? one * w[k] : one;
      g.set(k, weighted);
      sum += weighted;
      dot += weighted * z;
    }
    sum /= static_cast<float>(c);
    dot /= static_cast<float>(c);
    for (int64_t k = 0; k < c; ++k) g.set(k, scale * (g[k] - sum - v[k] * dot));
    g.write(gx + r * c);
  }
  if (kSums) add_lanes(by_weight, c, dots), add_lanes(by_bias, c, sums);
  return r;
}

// A gradient, the same by the weight, and the normalised value.
struct Point {
  float g, weighted, z;
};

template <bool kWeighted, bool kSums>
void layer_norm_gradient_of(const float* g, const float* x, const float* w, const float* mean,
                            const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                            float* sums) {
  if (c >= kLanes)
    return layer_norm_gradient_rows<kWeighted, kSums>(g, x, w, mean, inverse, rows, c, gx, dots,
                                                      sums);
  int64_t r = layer_norm_columns<kWeighted, kSums>(g, x, w, mean, inverse, rows, c, gx, dots, sums);
  for (; r < rows; ++r) {
    float sum = 0, dot = 0;
    const auto at = [&](int64_t k) {
      const float one = g[r * c + k], z = (x[r * c + k] - mean[r]) * inverse[r];
      return Point{one, kWeighted ? one * w[k] : one, z};
    };
    for (int64_t k = 0; k < c; ++k) {
      const Point p = at(k);
      sum += p.weighted, dot += p.weighted * p.z;
    }
    for (int64_t k = 0; k < c; ++k) {
      const Point p = at(k);
      if (kSums) dots[k] += p.g * p.z, sums[k] += p.g;
      gx[r * c + k] = inverse[r] * (p.weighted - (sum + p.z * dot) / static_cast<float>(c));
    }
  }
}

}  // namespace

void layer_norm_gradient(const float* gy, const float* x, const float* w, const float* mean,
                         const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                         float* sums) {
  const auto run = [&](auto kernel) { kernel(gy, x, w, mean, inverse, rows, c, gx, dots, sums); };
  if (w != nullptr)
    return dots != nullptr ? run(layer_norm_gradient_of<true, true>)
                           : run(layer_norm_gradient_of<true, false>);
  dots != nullptr ? run(layer_norm_gradient_of<false, true>)
                  : run(layer_norm_gradient_of<false, false>);
}

void layer_norm_weights(const float* gy, const float* x, const float* mean, const float* inverse,
                        int64_t rows, int64_t c, float* dots, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *g = gy + r * c, *in = x + r * c;
    const float m = mean[r], i = inverse[r];
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) {
      dots[k] += g[k] * ((in[k] - m) * i);
      sums[k] += g[k];
    }
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
