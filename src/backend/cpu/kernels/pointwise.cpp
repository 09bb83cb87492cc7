// Copies, dropout, sums, conversions.
#include "backend/cpu/kernels/kernels.h"

#if defined(__F16C__)
#include <immintrin.h>
#else
#include "core/half.h"
#endif

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

struct Words {
  uint32_t w[4];
};
// core/random.h's Philox, written to vectorise over blocks.
inline Words philox_words(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                          uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c0, b = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0, n1 = static_cast<uint32_t>(b),
                   n2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1, n3 = static_cast<uint32_t>(a);
    c0 = n0, c1 = n1, c2 = n2, c3 = n3;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace

void add(const float* a, const float* b, float* y, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

template <class T>
void sum(const T* const* x, int64_t count, int64_t begin, int64_t end, T* y) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    Vec all = load(x[0] + i);
    for (int64_t k = 1; k < count; ++k) all += load(x[k] + i);
    store(y + i, all);
  }
  for (; i < end; ++i) {
    float all = single(x[0][i]);
    for (int64_t k = 1; k < count; ++k) all += single(x[k][i]);
    put(y + i, all);
  }
}
template void sum(const float* const*, int64_t, int64_t, int64_t, float*);
template void sum(const uint16_t* const*, int64_t, int64_t, int64_t, uint16_t*);

namespace {

constexpr int64_t kVector = kLanes * static_cast<int64_t>(sizeof(float));

// Rows of kSize to 2 kSize bytes, or less than so many.
template <int64_t kSize = kVector / 2>
void copy_short_rows(const char* from, int64_t ldx, int64_t rows, int64_t bytes, char* to,
                     int64_t ldy) {
  if constexpr (kSize > 1)
    if (bytes < kSize) return copy_short_rows<kSize / 2>(from, ldx, rows, bytes, to, ldy);
  for (int64_t r = 0; r < rows; ++r, from += ldx, to += ldy) {
    char first[kSize], last[kSize];
    __builtin_memcpy(first, from, kSize);
    __builtin_memcpy(last, from + bytes - kSize, kSize);
    __builtin_memcpy(to, first, kSize);
    __builtin_memcpy(to + bytes - kSize, last, kSize);
  }
}

// Of a vector and more.
inline void copy_row(const char* from, char* to, int64_t bytes) {
  constexpr int64_t kWide = 4 * kVector;
  int64_t i = 0;
  for (; i + kWide <= bytes; i += kWide) __builtin_memcpy(to + i, from + i, kWide);
  for (; i + kVector <= bytes; i += kVector) __builtin_memcpy(to + i, from + i, kVector);
  if (i < bytes)  // the last vector, some of it once more
    __builtin_memcpy(to + bytes - kVector, from + bytes - kVector, kVector);
}

}  // namespace

void copy_rows(const void* x, int64_t ldx, int64_t rows, int64_t bytes, void* y, int64_t ldy) {
  const auto* from = static_cast<const char*>(x);
  auto* to = static_cast<char*>(y);
  if (bytes == 0) return;
  if (bytes < kVector) return copy_short_rows(from, ldx, rows, bytes, to, ldy);
  for (int64_t r = 0; r < rows; ++r, from += ldx, to += ldy) copy_row(from, to, bytes);
}

void join_rows(const RowPart* parts, int64_t count, bool apart, int64_t begin, int64_t end,
               char* whole, int64_t row) {
  // Short rows some at a time; long ones each as a whole, as prefetching likes it.
  constexpr int64_t kShort = 256, kTogether = 4096;  // bytes
  const int64_t some = row <= kShort ? kTogether / row : 1;
  for (int64_t r = begin; r < end; r += some)
    for (int64_t i = 0; i < count; ++i) {
      const RowPart& p = parts[i];
      char *own = p.at + r * p.bytes, *in_whole = whole + r * row + p.offset;
      const char* from = apart ? in_whole : own;
      char* to = apart ? own : in_whole;
      if (some == 1 && p.bytes >= kVector)
        copy_row(from, to, p.bytes);
      else
        copy_rows(from, apart ? row : p.bytes, end - r < some ? end - r : some, p.bytes, to,
                  apart ? p.bytes : row);
    }
}

void dropout(uint64_t seed, uint32_t path, int64_t step, int64_t image, uint32_t threshold,
             float scale, const float* x, float* y, uint8_t* kept, int64_t n) {
  const auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32),
             c1 = static_cast<uint32_t>(image), c2 = static_cast<uint32_t>(step);
  constexpr int kBlocks = 16;
  uint8_t mask[4 * kBlocks];
  for (int64_t first = 0; first < n; first += 4 * kBlocks) {
    const auto block = static_cast<uint32_t>(first / 4);
#pragma GCC ivdep
    for (int b = 0; b < kBlocks; ++b) {
      const Words words = philox_words(block + static_cast<uint32_t>(b), c1, c2, path, k0, k1);
      for (int k = 0; k < 4; ++k) mask[4 * b + k] = words.w[k] >= threshold;
    }
    const int64_t size = n - first < 4 * kBlocks ? n - first : 4 * kBlocks;
    for (int64_t i = 0; i < size; ++i) {
      if (kept != nullptr) kept[first + i] = mask[i];
      y[first + i] = mask[i] != 0 ? x[first + i] * scale : 0.0f;
    }
  }
}

void dropout_gradient(float scale, const uint8_t* kept, const float* gy, float* gx, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) gx[i] = kept[i] != 0 ? gy[i] * scale : 0.0f;
}

void from_half(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  for (; i < n; ++i) y[i] = _cvtsh_ss(x[i]);
#else
  for (; i < n; ++i) y[i] = half_to_float(x[i]);
#endif
}

void to_half(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
#else
  for (; i < n; ++i) y[i] = float_to_half(x[i]);
#endif
}

void from_bfloat(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = single(x[i]);
}

void to_bfloat(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) put(y + i, x[i]);
}

void to_bfloat_pairs(const float* low, const float* high, uint32_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t pair[2];
    put(pair, low[i]);
    put(pair + 1, high[i]);
    y[i] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
}

void column_sums(const float* x, int64_t rows, int64_t c, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * c;
#pragma GCC ivdep
    for (int64_t k = 0; k < c; ++k) sums[k] += row[k];
  }
}

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
