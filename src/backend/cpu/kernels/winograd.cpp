// Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016) in tiles of 6 x 6: F(4, 3) and
// F(2, 5) on the points 0, 1, -1, 1/2, -2 and infinity, which lose about half a digit where the
// usual +-2 lose a whole one (Barabasz et al. 2020). With V = B'dB of the source, U = GgG' of the
// kernel: target = A'(U . V)A, and each gradient is the adjoint of the same steps.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

constexpr int kTile = 6, kPlaces = kTile * kTile, kFinite = 4;

// Powers of the points 1, -1, 1/2, -2.
constexpr float kPower[kFinite][5] = {
    {1, 1, 1, 1, 1}, {1, -1, 1, -1, 1}, {1, 0.5f, 0.25f, 0.125f, 0.0625f}, {1, -2, 4, -8, 16}};
// The kernel's share at each of them: 1 / product of the distances to the other points.
constexpr float kShare[kFinite] = {1.0f / 3, -1.0f / 3, -16.0f / 15, 1.0f / 15};

struct Source {  // B'
  static constexpr int kFrom = kTile, kTo = kTile;
  static void run(const Vec (&d)[kTile], Vec (&v)[kTile]) {
    v[0] = d[0] - 1.5f * (d[1] - d[3]) - 2.0f * d[2] + d[4];
    v[1] = 0.5f * d[2] + 2.5f * d[3] + d[4] - d[1];
    v[2] = d[1] - 2.5f * d[2] + 0.5f * d[3] + d[4];
    v[3] = 2.0f * (d[3] - d[1]) - d[2] + d[4];
    v[4] = 0.5f * (d[1] - d[3]) - d[2] + d[4];
    v[5] = d[1] - 1.5f * (d[2] - d[4]) - 2.0f * d[3] + d[5];
  }
};

template <int kSize>
struct Target {  // A'
  static constexpr int kFrom = kTile, kTo = kSize;
  static void run(const Vec (&z)[kTile], Vec (&y)[kSize]) {
    for (int i = 0; i < kSize; ++i) {
      Vec sum = z[1];
      for (int p = 1; p < kFinite; ++p) sum += kPower[p][i] * z[1 + p];
      y[i] = sum;
    }
    y[0] += z[0];
    y[kSize - 1] += z[5];
  }
};

template <int kSize>
struct TargetAdjoint {  // A
  static constexpr int kFrom = kSize, kTo = kTile;
  static void run(const Vec (&y)[kSize], Vec (&z)[kTile]) {
    for (int p = 0; p < kFinite; ++p) {
      Vec sum = y[0];
      for (int i = 1; i < kSize; ++i) sum += kPower[p][i] * y[i];
      z[1 + p] = sum;
    }
    z[0] = y[0];
    z[5] = y[kSize - 1];
  }
};

template <int kSize>
struct Taps {  // G
  static constexpr int kFrom = kSize, kTo = kTile;
  static void run(const Vec (&g)[kSize], Vec (&u)[kTile]) {
    TargetAdjoint<kSize>::run(g, u);
    for (int p = 0; p < kFinite; ++p) u[1 + p] *= kShare[p];
  }
};

template <int kSize>
struct TapsAdjoint {  // G'
  static constexpr int kFrom = kTile, kTo = kSize;
  static void run(const Vec (&u)[kTile], Vec (&g)[kSize]) {
    Vec scaled[kTile] = {u[0], u[1], u[2], u[3], u[4], u[5]};
    for (int p = 0; p < kFinite; ++p) scaled[1 + p] *= kShare[p];
    Target<kSize>::run(scaled, g);
  }
};

// A transform by columns, then by rows.
template <class T>
inline void both(const Vec (&in)[T::kFrom][T::kFrom], Vec (&out)[T::kTo][T::kTo]) {
  Vec half[T::kTo][T::kFrom];
  for (int j = 0; j < T::kFrom; ++j) {
    Vec column[T::kFrom], turned[T::kTo];
    for (int i = 0; i < T::kFrom; ++i) column[i] = in[i][j];
    T::run(column, turned);
    for (int i = 0; i < T::kTo; ++i) half[i][j] = turned[i];
  }
  for (int i = 0; i < T::kTo; ++i) T::run(half[i], out[i]);
}

// The kSize x kSize pixels of an image of h x w x c that begin at (top, left), which may lie
// outside.
struct Patch {
  const float* image;
  int64_t h, w, c, top, left;
  template <int kSize>
  void read(int64_t channel, Vec (&d)[kSize][kSize]) const {
    for (int i = 0; i < kSize; ++i)
      for (int j = 0; j < kSize; ++j) {
        const int64_t r = top + i, q = left + j;
        const bool inside = r >= 0 && r < h && q >= 0 && q < w;
        d[i][j] = inside ? load(image + (r * w + q) * c + channel) : Vec{};
      }
  }
};

struct Tile {
  Tile(const WinogradShape& s, int64_t index) {
    const int64_t m = kTile + 1 - s.r, across = (s.ow + m - 1) / m, down = (s.oh + m - 1) / m;
    image = index / (across * down);
    row = index / across % down * m;
    column = index % across * m;
  }
  int64_t image, row, column;
};

void read_sources(const WinogradShape& s, const float* x, int64_t first, int64_t tiles, float* v) {
  for (int64_t t = 0; t < tiles; ++t) {
    const Tile tile(s, first + t);
    const Patch patch{
        x + tile.image * s.h * s.w * s.c, s.h, s.w, s.c, tile.row - s.top, tile.column - s.left};
    for (int64_t c = 0; c < s.c; c += kLanes) {
      Vec d[kTile][kTile], turned[kTile][kTile];
      patch.read(c, d);
      both<Source>(d, turned);
      for (int p = 0; p < kPlaces; ++p)
        store(v + (p * tiles + t) * s.c + c, turned[p / kTile][p % kTile]);
    }
  }
}

template <int kSize>
void write_targets(const WinogradShape& s, const float* z, const float* bias, int64_t first,
                   int64_t tiles, float* y) {
  for (int64_t t = 0; t < tiles; ++t) {
    const Tile tile(s, first + t);
    for (int64_t k = 0; k < s.k; k += kLanes) {
      Vec in[kTile][kTile], out[kSize][kSize];
      for (int p = 0; p < kPlaces; ++p)
        in[p / kTile][p % kTile] = load(z + (p * tiles + t) * s.k + k);
      both<Target<kSize>>(in, out);
      const Vec add = bias == nullptr ? Vec{} : load(bias + k);
      for (int i = 0; i < kSize && tile.row + i < s.oh; ++i)
        for (int j = 0; j < kSize && tile.column + j < s.ow; ++j)
          store(y + ((tile.image * s.oh + tile.row + i) * s.ow + tile.column + j) * s.k + k,
                out[i][j] + add);
    }
  }
}

template <int kSize>
void read_targets(const WinogradShape& s, const float* gy, int64_t first, int64_t tiles, float* z) {
  for (int64_t t = 0; t < tiles; ++t) {
    const Tile tile(s, first + t);
    const Patch patch{gy + tile.image * s.oh * s.ow * s.k, s.oh, s.ow, s.k, tile.row, tile.column};
    for (int64_t k = 0; k < s.k; k += kLanes) {
      Vec in[kSize][kSize], turned[kTile][kTile];
      patch.read(k, in);
      both<TargetAdjoint<kSize>>(in, turned);
      for (int p = 0; p < kPlaces; ++p)
        store(z + (p * tiles + t) * s.k + k, turned[p / kTile][p % kTile]);
    }
  }
}

template <int kSize>
void taps(const WinogradTaps& w, int64_t begin, int64_t end, int64_t c, int64_t k, float* u) {
  for (int64_t row = begin; row < end; ++row)
    for (int64_t n = 0; n < k; n += kLanes) {
      Vec g[kSize][kSize], turned[kTile][kTile];
      for (int i = 0; i < kSize; ++i)
        for (int j = 0; j < kSize; ++j)
          g[i][j] = load(w.at + i * w.row + j * w.column + row * w.source + n);
      both<Taps<kSize>>(g, turned);
      for (int p = 0; p < kPlaces; ++p)
        store(u + (p * c + row) * k + n, turned[p / kTile][p % kTile]);
    }
}

template <int kSize>
void taps_gradient(const float* gu, int64_t parts, int64_t begin, int64_t end, int64_t c, int64_t k,
                   float* gw) {
  for (int64_t row = begin; row < end; ++row)
    for (int64_t n = 0; n < k; n += kLanes) {
      Vec in[kTile][kTile], out[kSize][kSize];
      for (int p = 0; p < kPlaces; ++p) {
        const float* from = gu + (p * c + row) * k + n;
        Vec sum = load(from);
        for (int64_t part = 1; part < parts; ++part) sum += load(from + part * kPlaces * c * k);
        in[p / kTile][p % kTile] = sum;
      }
      both<TapsAdjoint<kSize>>(in, out);
      for (int i = 0; i < kSize; ++i)
        for (int j = 0; j < kSize; ++j) store(gw + ((i * kSize + j) * c + row) * k + n, out[i][j]);
    }
}

}  // namespace

void winograd_taps(int r, const WinogradTaps& w, int64_t begin, int64_t end, int64_t c, int64_t k,
                   float* u) {
  r == 3 ? taps<3>(w, begin, end, c, k, u) : taps<5>(w, begin, end, c, k, u);
}

void winograd_taps_gradient(int r, const float* gu, int64_t parts, int64_t begin, int64_t end,
                            int64_t c, int64_t k, float* gw) {
  r == 3 ? taps_gradient<3>(gu, parts, begin, end, c, k, gw)
         : taps_gradient<5>(gu, parts, begin, end, c, k, gw);
}

void winograd(const WinogradShape& s, const float* x, const float* u, const float* bias, float* y,
              int64_t first, int64_t tiles, float* scratch) {
  float *v = scratch, *z = scratch + kPlaces * tiles * s.c;
  read_sources(s, x, first, tiles, v);
  for (int64_t p = 0; p < kPlaces; ++p)
    gemm(tiles, s.k, s.c, v + p * tiles * s.c, s.c, 1, u + p * s.c * s.k, s.k, nullptr, false,
         z + p * tiles * s.k, s.k, nullptr);
  s.r == 3 ? write_targets<4>(s, z, bias, first, tiles, y)
           : write_targets<2>(s, z, bias, first, tiles, y);
}

void winograd_gradient(const WinogradShape& s, const float* x, const float* gy, float* gu,
                       int64_t first, int64_t tiles, float* scratch) {
  float *v = scratch, *z = scratch + kPlaces * tiles * s.c;
  read_sources(s, x, first, tiles, v);
  s.r == 3 ? read_targets<4>(s, gy, first, tiles, z) : read_targets<2>(s, gy, first, tiles, z);
  for (int64_t p = 0; p < kPlaces; ++p)
    gemm(s.c, s.k, tiles, v + p * tiles * s.c, 1, s.c, z + p * tiles * s.k, s.k, nullptr, true,
         gu + p * s.c * s.k, s.k, nullptr);
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
