// Two orders of the same products. Where all transformed taps fit the caches, each thread takes
// blocks of tiles from source to target. Where they do not (wide), the sources of a group of tiles
// are transformed first; then a thread transforms a few taps at a time, in its own cache, and uses
// them for the whole group: taps are read from memory once for each group.
#include "backend/cpu/winograd.h"

#include <algorithm>
#include <cstring>

#include "mpsnn/layouts.h"

namespace mpsnn::backend::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 64;                   // of tiles
constexpr int64_t kGroup = 256;                  // of tiles, if wide
constexpr int64_t kSources = 64, kTargets = 64;  // channels at a time, if wide

int64_t tile(int64_t taps) { return taps == 1 ? 1 : taps == 7 ? 8 : 6; }
int64_t places(const WinogradShape& s) { return tile(s.rh) * tile(s.rw); }

int64_t tiles(const WinogradShape& s) {
  const int64_t down = tile(s.rh) + 1 - s.rh, across = tile(s.rw) + 1 - s.rw;
  return s.n * ((s.oh + down - 1) / down) * ((s.ow + across - 1) / across);
}

// Transformed taps that no cache holds.
bool is_wide(const WinogradShape& s) { return places(s) * s.c * s.k > 36 * 256 * 256; }

int64_t chunks(int64_t channels, int64_t size) { return (channels + size - 1) / size; }

// Of so few tiles the time goes into transforming taps, which wide ones have more cache for; if
// there is a piece for each thread.
bool is_like_wide(const WinogradShape& s, int64_t pieces) {
  return s.c * s.k >= 128 * tiles(s) && pieces >= threads::team();
}

// The distance of two places: an odd number of vectors, so that the places of a tile do not all
// meet in one set of the first cache.
int64_t pitch(int64_t floats) { return (floats / kLanes | 1) * kLanes; }

int64_t planes_floats(const WinogradShape& s, int64_t rows, int64_t channels) {
  return places(s) * pitch(rows * channels);
}
WinogradPlanes planes(float* at, int64_t rows, int64_t channels) {
  return {at, pitch(rows * channels), channels};
}

// Whole register blocks, as many for each thread.
int64_t block_of(int64_t total) {
  constexpr int64_t kRows = 8;
  const int64_t parts = threads::team(), rounds = (total + parts * kBlock - 1) / (parts * kBlock);
  const int64_t least = (total + parts * rounds - 1) / (parts * rounds);
  return (least + kRows - 1) / kRows * kRows;
}

// f(part, i) for i in 0..count, one part a thread.
template <class F>
void over_parts(int64_t count, F f) {
  const int64_t parts = threads::team();
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part)
      for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) f(part, i);
  });
}

// f(part, first, count) over blocks of tiles.
template <class F>
void over_blocks(int64_t total, int64_t block, F f) {
  over_parts((total + block - 1) / block, [&](int64_t part, int64_t i) {
    f(part, i * block, std::min(block, total - i * block));
  });
}

}  // namespace

bool Winograd::keeps(const Shape& x, const Shape& weight, const Shape& y) {
  return !is_wide({x[0], x[1], x[2], x[3], y[1], y[2], y[3], weight[conv_weight::kh],
                   weight[conv_weight::kw], 0, 0});
}

bool winograd_applies(const Node& node, const Shape& x, const Shape& weight, const Shape& y,
                      bool bfloat) {
  namespace w = conv_weight;
  const std::vector<int64_t> one{1, 1};
  const int64_t rh = weight[w::kh], rw = weight[w::kw];
  const bool square = rh == rw && (rh == 3 || rh == 5);
  const bool line = std::min(rh, rw) == 1 && (rh * rw == 3 || rh * rw == 7);
  const bool form = node.op == Op::conv2d && node.attrs.integer("groups") == 1 &&
                    node.attrs.integers("stride") == one &&
                    node.attrs.integers("dilation") == one && (square || line);
  if (!form) return false;
  const auto fits = [](int64_t channels) { return channels % kLanes == 0 && channels <= 1024; };
  const WinogradShape s{x[0], x[1], x[2], x[3], y[1], y[2], y[3], rh, rw, 0, 0};
  // In products of one source and one target: those of a tile, what transforms it, and the taps.
  // Those of bfloat16 take half the time.
  const auto channels = [](int64_t n) { return 1.0 / static_cast<double>(n); };
  const double products =
      static_cast<double>(tiles(s)) * (1 + 14 * (channels(s.c) + channels(s.k)));
  const auto sum = static_cast<double>(s.n * s.oh * s.ow * rh * rw);
  return fits(s.c) && fits(s.k) &&
         static_cast<double>(places(s)) * (products + 32) <= (bfloat ? sum / 2 : sum);
}

Winograd::Winograd(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                   const Shape& y, bool gradient, bool constant, bool bfloat, runtime::Ref from,
                   runtime::Ref taps, runtime::Ref bias, runtime::Ref to)
    : gradient_(gradient), bfloat_(bfloat), from_(from), taps_(taps), bias_(bias), to_(to) {
  const int64_t rh = weight[conv_weight::kh], rw = weight[conv_weight::kw];
  const auto& pads = node.attrs.integers("pads");
  shape_ = gradient
               ? WinogradShape{y[0],
                               y[1],
                               y[2],
                               y[3],
                               x[1],
                               x[2],
                               x[3],
                               rh,
                               rw,
                               rh - 1 - pads[0],
                               rw - 1 - pads[1]}
               : WinogradShape{x[0], x[1], x[2], x[3], y[1], y[2], y[3], rh, rw, pads[0], pads[1]};
  const WinogradShape& s = shape_;
  total_ = tiles(s);
  wide_ = is_wide(s) || (!constant && is_like_wide(s, chunks(s.k, kTargets)));
  int64_t kept = 0, own = 0;  // floats for all threads, for each
  if (wide_) {
    block_ = std::min(total_, kGroup);
    kept = planes_floats(s, block_, kSources) * chunks(s.c, kSources);
    own = planes_floats(s, kSources, kTargets) + planes_floats(s, block_, kTargets) +
          s.rh * s.rw * kSources * kTargets;
  } else {
    block_ = block_of(total_);
    kept = places(s) * s.c * s.k;
    own = planes_floats(s, block_, s.c) + planes_floats(s, block_, s.k);
    own = std::max(own, s.rh * s.rw * kLanes * s.k);
  }
  const auto floats = static_cast<std::size_t>(kept);
  transformed_ = constant && !wide_ ? b.keep(floats * sizeof(float)) : b.workspace(floats);
  scratch_ = b.workspace(static_cast<std::size_t>(threads::team() * own));
}

WinogradTaps Winograd::taps(int64_t source, int64_t sources, int64_t target, int64_t targets,
                            float* turned) const {
  const WinogradShape& s = shape_;
  const auto* w = taps_.get<float>();
  const int64_t n = s.rh * s.rw;
  if (gradient_)  // the last tap first; what are sources here are outputs of the weights
    return {w + (source * n + n - 1) * s.k + target, -s.rw * s.k, -s.k, n * s.k};
  for (int64_t t = 0; t < n; ++t)
    select().transpose(w + (target * n + t) * s.c + source, n * s.c, targets, sources,
                       turned + t * sources * targets, targets);
  return {turned, s.rw * sources * targets, sources * targets, targets};
}

void Winograd::prepare() {
  if (wide_) return;
  const WinogradShape& s = shape_;
  const int64_t own = s.rh * s.rw * kLanes * s.k;
  over_parts(s.c / kLanes, [&](int64_t part, int64_t i) {
    const int64_t source = i * kLanes;
    select().winograd_taps(s, taps(source, kLanes, 0, s.k, scratch_.get<float>() + part * own),
                           kLanes, s.k, {transformed_.get<float>() + source * s.k, s.c * s.k, s.k});
  });
}

void Winograd::run() {
  by_images(bfloat_, [&](auto image) {
    using T = decltype(image);
    wide_ ? run_by_targets<T>() : run_by_tiles<T>();
  });
}

template <class T>
void Winograd::run_by_tiles() {
  const WinogradShape& s = shape_;
  const auto& kernels = select();
  const int64_t room = planes_floats(s, block_, s.c), own = room + planes_floats(s, block_, s.k);
  over_blocks(total_, block_, [&](int64_t part, int64_t first, int64_t n) {
    float* scratch = scratch_.get<float>() + part * own;
    const WinogradPlanes v = planes(scratch, block_, s.c), z = planes(scratch + room, block_, s.k);
    images<T>().winograd_sources(s, from_.get<T>(), s.c, first, n, v);
    for (int64_t p = 0; p < places(s); ++p)
      kernels.gemm(n, s.k, s.c, v.at + p * v.place, v.row, 1,
                   transformed_.get<float>() + p * s.c * s.k, s.k, nullptr, false,
                   z.at + p * z.place, z.row, nullptr);
    images<T>().winograd_targets(s, z, bias_.get<float>(), s.k, first, n, to_.get<T>());
  });
}

template <class T>
void Winograd::run_by_targets() {
  const WinogradShape& s = shape_;
  const auto& kernels = select();
  const int64_t chunk = planes_floats(s, block_, kSources);
  const int64_t room = planes_floats(s, kSources, kTargets),
                more = planes_floats(s, block_, kTargets),
                own = room + more + s.rh * s.rw * kSources * kTargets;
  auto* sources = transformed_.get<float>();
  const auto width = [&](int64_t i) { return std::min(kSources, s.c - i * kSources); };
  for (int64_t first = 0; first < total_; first += block_) {
    const int64_t n = std::min(block_, total_ - first);
    over_parts(chunks(s.c, kSources), [&](int64_t, int64_t i) {
      images<T>().winograd_sources(s, from_.get<T>() + i * kSources, width(i), first, n,
                                   planes(sources + i * chunk, n, width(i)));
    });
    over_parts(chunks(s.k, kTargets), [&](int64_t part, int64_t m) {
      const int64_t target = m * kTargets, targets = std::min(kTargets, s.k - target);
      float* scratch = scratch_.get<float>() + part * own;
      const WinogradPlanes z = planes(scratch + room, n, targets);
      for (int64_t i = 0; i < chunks(s.c, kSources); ++i) {
        const WinogradPlanes v = planes(sources + i * chunk, n, width(i)),
                             u = planes(scratch, width(i), targets);
        kernels.winograd_taps(s,
                              taps(i * kSources, width(i), target, targets, scratch + room + more),
                              width(i), targets, u);
        for (int64_t p = 0; p < places(s); ++p)
          kernels.gemm(n, targets, width(i), v.at + p * v.place, v.row, 1, u.at + p * u.place,
                       u.row, nullptr, i > 0, z.at + p * z.place, z.row, nullptr);
      }
      const auto* bias = bias_.get<float>();
      images<T>().winograd_targets(s, z, bias == nullptr ? nullptr : bias + target, targets, first,
                                   n, to_.get<T>() + target);
    });
  }
}

WinogradWeights::WinogradWeights(Builder& b, const Node& node, const Shape& x, const Shape& weight,
                                 const Shape& y, bool bfloat, runtime::Ref source,
                                 runtime::Ref gradient, runtime::Ref to)
    : bfloat_(bfloat), parts_(threads::team()), source_(source), gradient_(gradient), to_(to) {
  const auto& pads = node.attrs.integers("pads");
  shape_ = {x[0],
            x[1],
            x[2],
            x[3],
            y[1],
            y[2],
            y[3],
            weight[conv_weight::kh],
            weight[conv_weight::kw],
            pads[0],
            pads[1]};
  const WinogradShape& s = shape_;
  total_ = tiles(s);
  wide_ = is_wide(s) || is_like_wide(s, chunks(s.c, kSources) * chunks(s.k, kTargets));
  const int64_t taps = s.rh * s.rw;
  int64_t sums = 0, own = 0;
  if (wide_) {
    block_ = std::min(total_, kGroup);
    sums = planes_floats(s, block_, kSources) * chunks(s.c, kSources) +
           planes_floats(s, block_, kTargets) * chunks(s.k, kTargets);
    own = planes_floats(s, kSources, kTargets) + (taps + 1) * kSources * kTargets;
  } else {
    block_ = block_of(total_);
    sums = parts_ * places(s) * s.c * s.k;
    own = planes_floats(s, block_, s.c) + planes_floats(s, block_, s.k);
    own = std::max(own, taps * kLanes * s.k);
  }
  sums_ = b.workspace(static_cast<std::size_t>(sums));
  scratch_ = b.workspace(static_cast<std::size_t>(parts_ * own));
}

void WinogradWeights::run() {
  by_images(bfloat_, [&](auto image) {
    using T = decltype(image);
    wide_ ? run_by_weights<T>() : run_by_tiles<T>();
  });
}

template <class T>
void WinogradWeights::run_by_tiles() {
  const WinogradShape& s = shape_;
  const auto& kernels = select();
  auto *sums = sums_.get<float>(), *to = to_.get<float>();
  const int64_t size = places(s) * s.c * s.k, taps = s.rh * s.rw;
  const int64_t room = planes_floats(s, block_, s.c), own = room + planes_floats(s, block_, s.k);
  std::memset(sums, 0, static_cast<std::size_t>(parts_ * size) * sizeof(float));
  over_blocks(total_, block_, [&](int64_t part, int64_t first, int64_t n) {
    float* scratch = scratch_.get<float>() + part * own;
    const WinogradPlanes v = planes(scratch, block_, s.c), z = planes(scratch + room, block_, s.k);
    images<T>().winograd_sources(s, source_.get<T>(), s.c, first, n, v);
    images<T>().winograd_target_gradients(s, gradient_.get<T>(), s.k, first, n, z);
    for (int64_t p = 0; p < places(s); ++p)
      kernels.gemm(s.c, s.k, n, v.at + p * v.place, 1, v.row, z.at + p * z.place, z.row, nullptr,
                   true, sums + part * size + p * s.c * s.k, s.k, nullptr);
  });
  const int64_t plane = kLanes * s.k;
  over_parts(s.c / kLanes, [&](int64_t part, int64_t i) {
    const int64_t source = i * kLanes;
    float* turned = scratch_.get<float>() + part * taps * plane;
    kernels.winograd_taps_gradient(s, {sums + source * s.k, s.c * s.k, s.k}, parts_, size, kLanes,
                                   s.k, turned, plane);
    for (int64_t t = 0; t < taps; ++t)
      kernels.transpose(turned + t * plane, s.k, kLanes, s.k, to + t * s.c + source, taps * s.c);
  });
}

template <class T>
void WinogradWeights::run_by_weights() {
  const WinogradShape& s = shape_;
  const auto& kernels = select();
  auto *sources = sums_.get<float>(), *to = to_.get<float>();
  const int64_t cs = chunks(s.c, kSources), ks = chunks(s.k, kTargets), taps = s.rh * s.rw;
  const int64_t chunk = planes_floats(s, block_, kSources),
                chunk_k = planes_floats(s, block_, kTargets);
  float* targets = sources + cs * chunk;
  const int64_t room = planes_floats(s, kSources, kTargets),
                own = room + (taps + 1) * kSources * kTargets;
  const auto width = [&](int64_t i) { return std::min(kSources, s.c - i * kSources); };
  const auto width_k = [&](int64_t i) { return std::min(kTargets, s.k - i * kTargets); };
  for (int64_t first = 0; first < total_; first += block_) {
    const int64_t n = std::min(block_, total_ - first);
    over_parts(cs + ks, [&](int64_t, int64_t i) {
      if (i < cs)
        images<T>().winograd_sources(s, source_.get<T>() + i * kSources, width(i), first, n,
                                     planes(sources + i * chunk, n, width(i)));
      else
        images<T>().winograd_target_gradients(
            s, gradient_.get<T>() + (i - cs) * kTargets, width_k(i - cs), first, n,
            planes(targets + (i - cs) * chunk_k, n, width_k(i - cs)));
    });
    over_parts(cs * ks, [&](int64_t part, int64_t block) {
      const int64_t i = block / ks, m = block % ks, c = width(i), k = width_k(m);
      float* scratch = scratch_.get<float>() + part * own;
      const WinogradPlanes v = planes(sources + i * chunk, n, c),
                           z = planes(targets + m * chunk_k, n, k), u = planes(scratch, c, k);
      for (int64_t p = 0; p < places(s); ++p)
        kernels.gemm(c, k, n, v.at + p * v.place, 1, v.row, z.at + p * z.place, z.row, nullptr,
                     false, u.at + p * u.place, u.row, nullptr);
      float *turned = scratch + room, *rows = turned + taps * kSources * kTargets;
      kernels.winograd_taps_gradient(s, u, 1, 0, c, k, turned, c * k);
      for (int64_t t = 0; t < taps; ++t) {
        float* at = to + (m * kTargets * taps + t) * s.c + i * kSources;
        kernels.transpose(turned + t * c * k, k, c, k, first == 0 ? at : rows,
                          first == 0 ? taps * s.c : c);
        for (int64_t row = 0; first > 0 && row < k; ++row)
          kernels.add(at + row * taps * s.c, rows + row * c, at + row * taps * s.c, c);
      }
    });
  }
}

}  // namespace mpsnn::backend::cpu
