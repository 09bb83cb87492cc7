// The gradient by a convolution's weights of bfloat16 images: products of pairs of pixels that lie
// next to each other in an output row (AVX512-BF16), summed in float32.
#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

#if defined(__AVX512F__)

namespace {

// y[i] = low[i], high[i] for n channels; where either is absent, zeros.
void pair(const uint16_t* low, const uint16_t* high, int64_t n, uint32_t* y) {
  for (int64_t i = 0; i < n; i += 16) {
    const auto there = static_cast<__mmask16>(n - i < 16 ? (1 << (n - i)) - 1 : 0xFFFF);
    const auto widened = [=](const uint16_t* x) {
      return x == nullptr ? _mm512_setzero_si512()
                          : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, x + i));
    };
    _mm512_mask_storeu_epi32(y + i, there,
                             _mm512_or_si512(widened(low), _mm512_slli_epi32(widened(high), 16)));
  }
}

// Rows of pairs: `a` of outputs, each kOutputs of k channels; `b` of sources, kVecs vectors of c.
struct Rows {
  const uint32_t *a, *b;
  int64_t a_row, b_row, k, c, pairs;
};

template <int kOutputs, int kVecs>
__attribute__((target("avx512bf16"))) void multiply(const Rows& r, int64_t rows, bool add,
                                                    float* gw, int64_t ldw) {
  __m512 acc[kOutputs][kVecs];
  for (int o = 0; o < kOutputs; ++o)
    for (int v = 0; v < kVecs; ++v)
      acc[o][v] = add ? _mm512_loadu_ps(gw + o * ldw + v * 16) : _mm512_setzero_ps();
  for (int64_t i = 0; i < rows; ++i) {
    const uint32_t *a = r.a + i * r.a_row, *b = r.b + i * r.b_row;
    for (int64_t p = 0; p < r.pairs; ++p, a += r.k, b += r.c) {
      __m512i source[kVecs];
      for (int v = 0; v < kVecs; ++v) source[v] = _mm512_loadu_si512(b + v * 16);
      for (int o = 0; o < kOutputs; ++o) {
        const __m512i output = _mm512_set1_epi32(static_cast<int>(a[o]));
        for (int v = 0; v < kVecs; ++v)
          acc[o][v] = _mm512_dpbf16_ps(acc[o][v], reinterpret_cast<__m512bh>(output),
                                       reinterpret_cast<__m512bh>(source[v]));
      }
    }
  }
  for (int o = 0; o < kOutputs; ++o)
    for (int v = 0; v < kVecs; ++v) _mm512_storeu_ps(gw + o * ldw + v * 16, acc[o][v]);
}

}  // namespace

void conv_weights_bfloat(const PairedConv& s, const uint16_t* x, const uint16_t* gy, int64_t first,
                         int64_t rows, bool add, uint32_t* scratch, float* gw) {
  const int64_t low = first * s.sh - s.top, reach = (s.kh - 1) * s.dh, top = low < 0 ? 0 : low,
                end = low + (rows - 1) * s.sh + reach + 1 < s.h
                          ? low + (rows - 1) * s.sh + reach + 1
                          : s.h;
  uint32_t *a = scratch, *b = scratch + s.rows * s.pairs * s.k;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t p = 0; p < s.pairs; ++p) {
      const uint16_t* at = gy + ((first + i) * s.ow + 2 * p) * s.k;
      pair(at, 2 * p + 1 < s.ow ? at + s.k : nullptr, s.k, a + (i * s.pairs + p) * s.k);
    }
  const int64_t phase_size = s.tall * s.across * s.c;
  for (int64_t phase = 0; phase < 2 * s.sw; ++phase) {
    bool used = false;
    for (int64_t j = 0; j < s.kw; ++j)
      used = used || (j * s.dw - s.left - s.before * 2 * s.sw) % (2 * s.sw) == phase;
    for (int64_t r = top; used && r < end; ++r)
      for (int64_t p = 0; p < s.across; ++p) {
        const int64_t q = (s.before + p) * 2 * s.sw + phase, next = q + s.sw;
        const uint16_t* row = x + r * s.w * s.c;
        pair(q >= 0 && q < s.w ? row + q * s.c : nullptr,
             next >= 0 && next < s.w ? row + next * s.c : nullptr, s.c,
             b + phase * phase_size + ((r - top) * s.across + p) * s.c);
      }
  }
  const int64_t taps = s.kh * s.kw, ldw = taps * s.c;
  for (int64_t t = 0; t < taps; ++t) {
    // Output rows whose source row is inside.
    const int64_t r0 = low + t / s.kw * s.dh;
    const int64_t skip = r0 < 0 ? (-r0 + s.sh - 1) / s.sh : 0;
    const int64_t last = r0 < s.h ? (s.h - 1 - r0) / s.sh : -1;
    const int64_t many = (last < rows - 1 ? last + 1 : rows) - skip;
    const int64_t from = t % s.kw * s.dw - s.left - s.before * 2 * s.sw;
    if (many <= 0 && add) continue;
    const int64_t inside = many > 0 ? many : 0, at = inside > 0 ? r0 + skip * s.sh - top : 0;
    Rows r{a + (inside > 0 ? skip : 0) * s.pairs * s.k,
           b + from % (2 * s.sw) * phase_size + (at * s.across + from / (2 * s.sw)) * s.c,
           s.pairs * s.k,
           s.sh * s.across * s.c,
           s.k,
           s.c,
           s.pairs};
    float* to = gw + t * s.c;
    for (int64_t c = 0; c < s.c; c += 32, r.b += 32) {
      const bool last = c + 32 > s.c;
      Rows part = r;
      for (int64_t o = 0, next; o < s.k; part.a += next - o, o = next) {
        next = o + (last && o + 16 <= s.k ? 16 : 8);
        float* at = to + o * ldw + c;
        if (!last)
          multiply<8, 2>(part, inside, add, at, ldw);
        else if (next == o + 16)
          multiply<16, 1>(part, inside, add, at, ldw);
        else
          multiply<8, 1>(part, inside, add, at, ldw);
      }
    }
  }
}

#else

void conv_weights_bfloat(const PairedConv&, const uint16_t*, const uint16_t*, int64_t, int64_t,
                         bool, uint32_t*, float*) {}  // multiplies_bfloat() is false

#endif

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
