// Our own vectorised kernels. Their sources are compiled once for each instruction set, into a
// namespace of its own (MPSNN_ISA); select() picks a table when the process first asks.
//
// Kernels work on ranges and never start threads: the op files split the work.
#pragma once

#include <cstdint>

namespace mpsnn::backend::cpu {

struct PoolShape {
  int64_t h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw;
};

// A convolution of stride 1: an image of h x w x c to oh x ow x k by r x r taps, r = 3 or 5.
struct WinogradShape {
  int64_t n, h, w, c, oh, ow, k, r, top, left;
};
// Where the taps are: at[i * row + j * column + c * source + k].
struct WinogradTaps {
  const float* at;
  int64_t row, column, source;
};

struct AdamStep {
  float lr_over_correction, beta1, beta2, epsilon, root_correction2, decay, keep;  // keep: AdamW
};
struct SgdStep {
  float lr, momentum, blend, decay;  // blend: 1 - dampening, or 1 on the first update
  bool nesterov, first;
};
struct RmsStep {
  float lr, alpha, epsilon, decay, momentum;
};
struct GradientView {
  const float* g;
  float factor, limit;  // g * factor, clamped to +-limit unless limit is infinite, * shrink
  float shrink;
};

struct KernelTable {
  const char* name;

  // Pointwise over n elements. `kind` is ir::Neuron.
  void (*neuron)(int kind, float a, const float* x, float* y, int64_t n);
  void (*neuron_gradient)(int kind, float a, const float* gy, const float* x, const float* y,
                          float* gx, int64_t n);
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  void (*dropout)(uint64_t seed, uint32_t path, int64_t step, int64_t image, uint32_t threshold,
                  float scale, const float* x, float* y, uint8_t* kept, int64_t n);
  void (*dropout_gradient)(float scale, const uint8_t* kept, const float* gy, float* gx, int64_t n);
  void (*from_half)(const uint16_t* x, float* y, int64_t n);
  void (*to_half)(const float* x, uint16_t* y, int64_t n);
  void (*from_bfloat)(const uint16_t* x, float* y, int64_t n);
  void (*to_bfloat)(const float* x, uint16_t* y, int64_t n);

  // rows x c: sums[c] += sum over rows.
  void (*column_sums)(const float* x, int64_t rows, int64_t c, float* sums);

  // C (rows x cols) = A B + bias [+ C]; A(r, j) = a[r * ar + j * aj], B row-major. `pack`: depth *
  // 16, unless cols is a multiple of 16.
  void (*gemm)(int64_t rows, int64_t cols, int64_t depth, const float* a, int64_t ar, int64_t aj,
               const float* b, int64_t ldb, const float* bias, bool add, float* c, int64_t ldc,
               float* pack);
  void (*transpose)(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);

  // c and k are multiples of 16. Taps go to u (36, c, k), source channels begin..end of them; back
  // from the sum of `parts` such arrays to gw (r, r, c, k). Tiles first..first+tiles of the image
  // batch go to y, or are added to gu; `scratch`: 36 * tiles * (c + k).
  void (*winograd_taps)(int r, const WinogradTaps& w, int64_t begin, int64_t end, int64_t c,
                        int64_t k, float* u);
  void (*winograd_taps_gradient)(int r, const float* gu, int64_t parts, int64_t begin, int64_t end,
                                 int64_t c, int64_t k, float* gw);
  void (*winograd)(const WinogradShape& s, const float* x, const float* u, const float* bias,
                   float* y, int64_t first, int64_t tiles, float* scratch);
  void (*winograd_gradient)(const WinogradShape& s, const float* x, const float* gy, float* gu,
                            int64_t first, int64_t tiles, float* scratch);

  // One row of output pixels (image plane given, row i); winner: nullptr where nobody reads it.
  void (*max_pool)(const PoolShape& p, const float* x, int64_t i, float* y, int32_t* winner);
  void (*max_pool_gradient)(const PoolShape& p, const float* gy, const int32_t* winner, float* gx);
  void (*avg_pool)(const PoolShape& p, const float* x, int64_t i, bool include, float* y);
  void (*avg_pool_gradient)(const PoolShape& p, const float* gy, bool include, float* gx);

  // Normalisation over rows x c; sums in double. norm_moments: means and sums of squared
  // deviations; norm_dots adds.
  void (*norm_moments)(const float* x, int64_t rows, int64_t c, double* mean, double* squares);
  void (*norm_apply)(const float* x, const float* scale, const float* shift, int64_t rows,
                     int64_t c, float* y);
  void (*norm_dots)(const float* gy, const float* x, const float* mean, const float* inverse,
                    int64_t rows, int64_t c, double* sums, double* dots);
  void (*norm_gradient)(const float* gy, const float* x, const float* a, const float* b,
                        const float* d, int64_t rows, int64_t c, float* gx);

  void (*softmax)(const float* x, float* y, int64_t rows, int64_t c);
  void (*softmax_gradient)(const float* y, const float* gy, float* gx, int64_t rows, int64_t c);
  // y = exp(x - max); returns the sum, and the maximum in `most`.
  float (*exp_row)(const float* x, float* y, int64_t c, float* most);

  // Optimizer. sum_squares: of the clamped, scaled gradient; not finite if one element is not.
  double (*sum_squares)(const GradientView& g, int64_t n);
  void (*accumulate)(const float* g, float factor, bool first, float* sum, int64_t n);
  void (*sgd)(const SgdStep& s, const GradientView& g, float* w, float* momentum, int64_t n);
  void (*adam)(const AdamStep& s, const GradientView& g, float* w, float* m, float* v, int64_t n);
  void (*rmsprop)(const RmsStep& s, const GradientView& g, float* w, float* square, float* buffer,
                  float* mean, int64_t n);
};

const KernelTable& select();  // MPSNN_CPU_ISA=baseline|avx2|avx512 overrides

namespace baseline {
extern const KernelTable table;
}
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}

}  // namespace mpsnn::backend::cpu
