// Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016). With V = B'dB of the source
// and U = GgG' of the kernel: target = A'(U . V)A, and each gradient is the adjoint of the same
// steps. An axis of 3 or 5 taps has tiles of 6 pixels on the points 0, 1, -1, 1/2, -2 and infinity,
// which lose about half a digit where the usual +-2 lose a whole one (Barabasz et al. 2020); one of
// 7 taps has tiles of 8 on 0, +-1, +-2, +-1/2 and infinity; one of a single tap is left as it is.
#include <type_traits>

#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Powers of the finite points but 0, and the kernel's share at each of them: 1 / product of the
// distances to the other points.
struct Six {
  static constexpr int kTile = 6, kFinite = 4;
  static constexpr float kPower[kFinite][5] = {
      {1, 1, 1, 1, 1}, {1, -1, 1, -1, 1}, {1, 0.5f, 0.25f, 0.125f, 0.0625f}, {1, -2, 4, -8, 16}};
  static constexpr float kShare[kFinite] = {1.0f / 3, -1.0f / 3, -16.0f / 15, 1.0f / 15};
  static void source(const Vec (&d)[kTile], Vec (&v)[kTile]) {
    v[0] = d[0] - 1.5f * (d[1] - d[3]) - 2.0f * d[2] + d[4];
    v[1] = 0.5f * d[2] + 2.5f * d[3] + d[4] - d[1];
    v[2] = d[1] - 2.5f * d[2] + 0.5f * d[3] + d[4];
    v[3] = 2.0f * (d[3] - d[1]) - d[2] + d[4];
    v[4] = 0.5f * (d[1] - d[3]) - d[2] + d[4];
    v[5] = d[1] - 1.5f * (d[2] - d[4]) - 2.0f * d[3] + d[5];
  }
};

struct Eight {
  static constexpr int kTile = 8, kFinite = 6;
  static constexpr float kPower[kFinite][7] = {
      {1, 1, 1, 1, 1, 1, 1},
      {1, -1, 1, -1, 1, -1, 1},
      {1, 2, 4, 8, 16, 32, 64},
      {1, -2, 4, -8, 16, -32, 64},
      {1, 0.5f, 0.25f, 0.125f, 0.0625f, 0.03125f, 0.015625f},
      {1, -0.5f, 0.25f, -0.125f, 0.0625f, -0.03125f, 0.015625f}};
  static constexpr float kShare[kFinite] = {-2.0f / 9, -2.0f / 9,  1.0f / 90,
                                            1.0f / 90, 32.0f / 45, 32.0f / 45};
  static void source(const Vec (&d)[kTile], Vec (&v)[kTile]) {
    v[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
    v[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
    const Vec even1 = d[2] + d[6] - 4.25f * d[4], odd1 = d[1] + d[5] - 4.25f * d[3];
    const Vec even2 = 0.25f * d[2] - 1.25f * d[4] + d[6],
              odd2 = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
    const Vec even3 = 4.0f * d[2] - 5.0f * d[4] + d[6],
              odd3 = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
    v[1] = even1 + odd1;
    v[2] = even1 - odd1;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = even3 + odd3;
    v[6] = even3 - odd3;
  }
};

template <class Points, int kSize>
struct Transform {
  struct Source {  // B'
    static constexpr int kFrom = Points::kTile, kTo = Points::kTile;
    static void run(const Vec (&d)[kFrom], Vec (&v)[kTo]) { Points::source(d, v); }
  };
  struct Target {  // A'
    static constexpr int kFrom = Points::kTile, kTo = kSize;
    static void run(const Vec (&z)[kFrom], Vec (&y)[kTo]) {
      for (int i = 0; i < kSize; ++i) {
        Vec sum = z[1];
        for (int p = 1; p < Points::kFinite; ++p) sum += Points::kPower[p][i] * z[1 + p];
        y[i] = sum;
      }
      y[0] += z[0];
      y[kSize - 1] += z[kFrom - 1];
    }
  };
  struct TargetAdjoint {  // A
    static constexpr int kFrom = kSize, kTo = Points::kTile;
    static void run(const Vec (&y)[kFrom], Vec (&z)[kTo]) {
      for (int p = 0; p < Points::kFinite; ++p) {
        Vec sum = y[0];
        for (int i = 1; i < kSize; ++i) sum += Points::kPower[p][i] * y[i];
        z[1 + p] = sum;
      }
      z[0] = y[0];
      z[kTo - 1] = y[kSize - 1];
    }
  };
};

// An axis of so many taps.
template <int kTaps>
struct Axis {
  using Points = std::conditional_t<kTaps == 7, Eight, Six>;
  static constexpr int kTile = Points::kTile, kSize = kTile + 1 - kTaps;
  using Source = typename Transform<Points, kSize>::Source;
  using Target = typename Transform<Points, kSize>::Target;
  using TargetAdjoint = typename Transform<Points, kSize>::TargetAdjoint;
  struct Taps {  // G
    static constexpr int kFrom = kTaps, kTo = kTile;
    static void run(const Vec (&g)[kFrom], Vec (&u)[kTo]) {
      Transform<Points, kTaps>::TargetAdjoint::run(g, u);
      for (int p = 0; p < Points::kFinite; ++p) u[1 + p] *= Points::kShare[p];
    }
  };
  struct TapsAdjoint {  // G'
    static constexpr int kFrom = kTile, kTo = kTaps;
    static void run(const Vec (&u)[kFrom], Vec (&g)[kTo]) {
      Vec scaled[kTile];
      for (int p = 0; p < kTile; ++p) scaled[p] = u[p];
      for (int p = 0; p < Points::kFinite; ++p) scaled[1 + p] *= Points::kShare[p];
      Transform<Points, kTaps>::Target::run(scaled, g);
    }
  };
};
template <>
struct Axis<1> {
  static constexpr int kTile = 1, kSize = 1;
  struct Same {
    static constexpr int kFrom = 1, kTo = 1;
    static void run(const Vec (&in)[1], Vec (&out)[1]) { out[0] = in[0]; }
  };
  using Source = Same;
  using Target = Same;
  using TargetAdjoint = Same;
  using Taps = Same;
  using TapsAdjoint = Same;
};

// Transforms by columns, then by rows: in(i, j) to out(i, j, value).
template <class Down, class Across, class In, class Out>
inline void both(In in, Out out) {
  Vec half[Down::kTo][Across::kFrom];
  for (int j = 0; j < Across::kFrom; ++j) {
    Vec column[Down::kFrom], turned[Down::kTo];
    for (int i = 0; i < Down::kFrom; ++i) column[i] = in(i, j);
    Down::run(column, turned);
    for (int i = 0; i < Down::kTo; ++i) half[i][j] = turned[i];
  }
  for (int i = 0; i < Down::kTo; ++i) {
    Vec row[Across::kTo];
    Across::run(half[i], row);
    for (int j = 0; j < Across::kTo; ++j) out(i, j, row[j]);
  }
}

// Of an image batch n x h x w x c, the kDown x kAcross pixels from (top, left), which may lie
// partly outside.
template <int kDown, int kAcross>
struct Patch {
  Patch(int64_t h, int64_t w, int64_t c, int64_t image, int64_t top, int64_t left)
      : first(((image * h + top) * w + left) * c),
        row(w * c),
        pixel(c),
        from_i(top < 0 ? -top : 0),
        to_i(h - top < kDown ? h - top : kDown),
        from_j(left < 0 ? -left : 0),
        to_j(w - left < kAcross ? w - left : kAcross) {}
  bool whole() const { return from_i == 0 && from_j == 0 && to_i == kDown && to_j == kAcross; }
  bool has(int i, int j) const { return i >= from_i && i < to_i && j >= from_j && j < to_j; }
  int64_t at(int i, int j) const { return first + i * row + j * pixel; }
  int64_t first, row, pixel, from_i, to_i, from_j, to_j;
};

template <class Down, class Across>
struct Scheme {
  // The targets of a tile, and the pixels that they are sums over.
  template <class F>
  static void over_tiles(const WinogradShape& s, int64_t first, int64_t tiles, F f) {
    const int64_t across = (s.ow + Across::kSize - 1) / Across::kSize,
                  down = (s.oh + Down::kSize - 1) / Down::kSize;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t index = first + t, image = index / (across * down);
      f(t, image, index / across % down * Down::kSize, index % across * Across::kSize);
    }
  }

  template <class T>
  static void sources(const WinogradShape& s, const T* x, int64_t channels, int64_t first,
                      int64_t tiles, const WinogradPlanes& v) {
    over_tiles(s, first, tiles, [&](int64_t t, int64_t image, int64_t row, int64_t column) {
      const Patch<Down::kTile, Across::kTile> patch(s.h, s.w, s.c, image, row - s.top,
                                                    column - s.left);
      spread<typename Down::Source, typename Across::Source>(patch, x, channels, v.at + t * v.row,
                                                             v.place);
    });
  }
  template <class T>
  static void target_gradients(const WinogradShape& s, const T* gy, int64_t channels, int64_t first,
                               int64_t tiles, const WinogradPlanes& z) {
    over_tiles(s, first, tiles, [&](int64_t t, int64_t image, int64_t row, int64_t column) {
      const Patch<Down::kSize, Across::kSize> patch(s.oh, s.ow, s.k, image, row, column);
      spread<typename Down::TargetAdjoint, typename Across::TargetAdjoint>(
          patch, gy, channels, z.at + t * z.row, z.place);
    });
  }
  template <class T>
  static void targets(const WinogradShape& s, const WinogradPlanes& z, const float* bias,
                      int64_t channels, int64_t first, int64_t tiles, T* y) {
    over_tiles(s, first, tiles, [&](int64_t t, int64_t image, int64_t row, int64_t column) {
      const Patch<Down::kSize, Across::kSize> patch(s.oh, s.ow, s.k, image, row, column);
      const bool whole = patch.whole();
      for (int64_t k = 0; k < channels; k += kLanes) {
        const float* from = z.at + t * z.row + k;
        const Vec add = bias == nullptr ? Vec{} : load(bias + k);
        const auto in = [from, place = z.place](int i, int j) {
          return load(from + (i * Across::kTile + j) * place);
        };
        T* to = y + k;
        if (whole)
          both<typename Down::Target, typename Across::Target>(
              in, [=](int i, int j, Vec value) { store(to + patch.at(i, j), value + add); });
        else
          both<typename Down::Target, typename Across::Target>(in, [=](int i, int j, Vec value) {
            if (patch.has(i, j)) store(to + patch.at(i, j), value + add);
          });
      }
    });
  }
  static void taps(const WinogradTaps& w, int64_t sources, int64_t targets,
                   const WinogradPlanes& u) {
    for (int64_t c = 0; c < sources; ++c)
      for (int64_t k = 0; k < targets; k += kLanes) {
        const float* from = w.at + c * w.source + k;
        float* to = u.at + c * u.row + k;
        both<typename Down::Taps, typename Across::Taps>(
            [&](int i, int j) { return load(from + i * w.row + j * w.column); },
            [&](int i, int j, Vec value) { store(to + (i * Across::kTile + j) * u.place, value); });
      }
  }
  static void taps_gradient(const WinogradPlanes& gu, int64_t parts, int64_t part, int64_t sources,
                            int64_t targets, float* gw, int64_t plane) {
    constexpr int kAcross = Across::TapsAdjoint::kTo;
    for (int64_t c = 0; c < sources; ++c)
      for (int64_t k = 0; k < targets; k += kLanes) {
        const float* from = gu.at + c * gu.row + k;
        float* to = gw + c * targets + k;
        both<typename Down::TapsAdjoint, typename Across::TapsAdjoint>(
            [&](int i, int j) {
              const float* at = from + (i * Across::kTile + j) * gu.place;
              Vec sum = load(at);
              for (int64_t n = 1; n < parts; ++n) sum += load(at + n * part);
              return sum;
            },
            [&](int i, int j, Vec value) { store(to + (i * kAcross + j) * plane, value); });
      }
  }

 private:
  // The tile after the next is brought near: its rows are too short to be foreseen.
  template <class TDown, class TAcross, class P, class T>
  static void spread(const P& patch, const T* x, int64_t channels, float* to, int64_t place) {
    const bool whole = patch.whole();
    for (int64_t c = 0; c < channels; c += kLanes) {
      const auto out = [=, at = to + c](int i, int j, Vec value) {
        store(at + (i * Across::kTile + j) * place, value);
      };
      if (whole)
        both<TDown, TAcross>(
            [=, from = x + c](int i, int j) {
              __builtin_prefetch(from + patch.at(i, j + 2 * Across::kSize));
              return load(from + patch.at(i, j));
            },
            out);
      else
        both<TDown, TAcross>(
            [=, from = x + c](int i, int j) {
              __builtin_prefetch(from + patch.at(i, j + 2 * Across::kSize));
              return patch.has(i, j) ? load(from + patch.at(i, j)) : Vec{};
            },
            out);
    }
  }
};

// f(Scheme) of the taps.
template <class F>
void by_taps(int64_t rh, int64_t rw, F f) {
  switch (rh * 10 + rw) {
    case 33:
      return f(Scheme<Axis<3>, Axis<3>>());
    case 55:
      return f(Scheme<Axis<5>, Axis<5>>());
    case 17:
      return f(Scheme<Axis<1>, Axis<7>>());
    case 71:
      return f(Scheme<Axis<7>, Axis<1>>());
    case 13:
      return f(Scheme<Axis<1>, Axis<3>>());
    case 31:
      return f(Scheme<Axis<3>, Axis<1>>());
  }
}

}  // namespace

template <class T>
void winograd_sources(const WinogradShape& s, const T* x, int64_t channels, int64_t first,
                      int64_t tiles, const WinogradPlanes& v) {
  by_taps(s.rh, s.rw, [&](auto scheme) { scheme.sources(s, x, channels, first, tiles, v); });
}
template <class T>
void winograd_targets(const WinogradShape& s, const WinogradPlanes& z, const float* bias,
                      int64_t channels, int64_t first, int64_t tiles, T* y) {
  by_taps(s.rh, s.rw, [&](auto scheme) { scheme.targets(s, z, bias, channels, first, tiles, y); });
}
template <class T>
void winograd_target_gradients(const WinogradShape& s, const T* gy, int64_t channels, int64_t first,
                               int64_t tiles, const WinogradPlanes& z) {
  by_taps(s.rh, s.rw,
          [&](auto scheme) { scheme.target_gradients(s, gy, channels, first, tiles, z); });
}
void winograd_taps(const WinogradShape& s, const WinogradTaps& w, int64_t sources, int64_t targets,
                   const WinogradPlanes& u) {
  by_taps(s.rh, s.rw, [&](auto scheme) { scheme.taps(w, sources, targets, u); });
}
void winograd_taps_gradient(const WinogradShape& s, const WinogradPlanes& gu, int64_t parts,
                            int64_t part, int64_t sources, int64_t targets, float* gw,
                            int64_t plane) {
  by_taps(s.rh, s.rw,
          [&](auto scheme) { scheme.taps_gradient(gu, parts, part, sources, targets, gw, plane); });
}

template void winograd_sources(const WinogradShape&, const float*, int64_t, int64_t, int64_t,
                               const WinogradPlanes&);
template void winograd_sources(const WinogradShape&, const uint16_t*, int64_t, int64_t, int64_t,
                               const WinogradPlanes&);
template void winograd_targets(const WinogradShape&, const WinogradPlanes&, const float*, int64_t,
                               int64_t, int64_t, float*);
template void winograd_targets(const WinogradShape&, const WinogradPlanes&, const float*, int64_t,
                               int64_t, int64_t, uint16_t*);
template void winograd_target_gradients(const WinogradShape&, const float*, int64_t, int64_t,
                                        int64_t, const WinogradPlanes&);
template void winograd_target_gradients(const WinogradShape&, const uint16_t*, int64_t, int64_t,
                                        int64_t, const WinogradPlanes&);

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
