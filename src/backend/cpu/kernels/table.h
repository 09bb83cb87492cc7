// Our own vectorised kernels. Their sources are compiled once for each instruction set, into a
// namespace of its own (MPSNN_ISA); select() picks a table when the process first asks.
//
// Kernels work on ranges and never start threads: the op files split the work.
#pragma once

#include <cstdint>

namespace mpsnn::backend::cpu {

struct PoolShape {
  int64_t h, w, c, oh, ow, kh, kw, sh, sw, top, left, bottom, right, dh, dw;
  bool tiles;  // windows cover the image, and each pixel is in one
};

// One of the parts that a row is joined of.
struct RowPart {
  char* at;
  int64_t offset, bytes;  // in the whole's row
};

// Of a resized or padded axis: ir::Sample.
struct ResampleTap {
  int64_t low, high;
  float part;
};
// What a source's pixel gets of an output pixel's gradient.
struct ResampleTerm {
  int64_t from;
  float weight;
};

// Rows x c of a norm's input; those of its output are `pitch` apart. Behind it a rectifier: kind is
// an ir::Neuron, none, relu or leaky_relu, which the gradients compute again by scale and shift.
// An output that no cache holds is better written past them, where its source was read before.
struct NormRows {
  int64_t rows, c, pitch;
  const float *scale, *shift;
  int kind;
  float slope;
  bool past_caches = false;
};

// A convolution of stride 1: an image of h x w x c to oh x ow x k by rh x rw taps.
struct WinogradShape {
  int64_t n, h, w, c, oh, ow, k, rh, rw, top, left;
};
// Where the taps are: at[i * row + j * column + c * source + k].
struct WinogradTaps {
  const float* at;
  int64_t row, column, source;
};
// Transformed tiles or taps: channel k of row r at a place of the tile is at[place * p + row * r +
// k].
struct WinogradPlanes {
  float* at;
  int64_t place, row;
};

// A convolution whose images are taken as pairs of pixels next to each other: `pairs` of an output
// row, and of a source row `across`, from pair `before` (<= 0) on, in each of 2 sw phases, of which
// the first pixels are so far apart. Room for `rows` output rows and `tall` source rows.
struct PairedConv {
  int64_t h, w, c, oh, ow, k, kh, kw, sh, sw, dh, dw, top, left;
  int64_t pairs, before, across, rows, tall;
};

// A convolution of each channel by itself, h x w x c to oh x ow x c.
struct DepthwiseShape {
  int64_t h, w, c, oh, ow, kh, kw, sh, sw, dh, dw, top, left;
};

// One recurrent layer in one direction (ir/rnn.h). Gates and features are padded to multiples of
// 16, so that every loop is whole vectors: hp of hidden, ip of in.
struct RnnShape {
  int cell, neuron;  // ir::Cell, ir::Neuron
  bool reverse;
  int64_t n, steps, in, hidden, ip, hp;
  int gates, head;         // head: gates whose product is with the state as it is
  int kept;                // rows of hp that a step leaves for the gradient
  int64_t block;           // sequences at a time
  int64_t chunk, chunk_g;  // steps at a time: their input products, their weight gradients
};
// What the layer reads; nullptr where absent. y and what follows is the gradient's.
struct RnnInputs {
  const float *x, *h0, *c0;
  const int32_t* lengths;
  const float *w, *u, *tail;  // packed: columns of gates, or for the gradient rows of gates
  const float *bias, *bias_hn, *peephole;  // padded
  const float *y, *kept, *gy, *gh, *gc;
};
// (steps, n, kept, hp) in `kept`; gradients by weights are padded, (gates hp, ip) and so on.
struct RnnOutputs {
  float *y, *h, *c, *kept;
  float *gx, *gh0, *gc0, *gw, *gu, *gb, *gb_hn, *gp;
};

// A few rows of n elements of K arrays: their strides from row to row and along a row.
template <int K>
struct Tile {
  int64_t rows, n;
  int64_t outer[K], inner[K];
};
enum class Binary : uint8_t { add, subtract, multiply, divide };
// What is summed: a; a * b; a / b; whether a == b. Or the largest or smallest a; NaN wins.
enum class Reduce : uint8_t { sum, dot, quotient, equal, max, min };

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

struct NeuronParams {
  int kind;  // ir::Neuron
  float a, b, c;
};

struct BoxShape {
  int64_t h, w, c, before, after;  // pixels of a window to the front and the back
};
struct ContrastParams {
  double area, alpha, delta, p0, ps, by;
};

// Labels are keep * t + add.
struct LossParams {
  int kind;  // ir::Loss
  float a, keep, add;
};

// Those that take images as they are stored. T: float, or the bits of a bfloat16; all compute
// float.
template <class T>
struct ImageKernels {
  // The sum of elements begin..end of `count` arrays.
  void (*sum)(const T* const* x, int64_t count, int64_t begin, int64_t end, T* y);

  // Of an image plane: row i of output pixels, or row r of the gradient by the image. winner:
  // nullptr where nobody reads it. signs: nullptr, or 1, -1 (the smallest) or 0 (the first) of each
  // channel.
  void (*max_pool)(const PoolShape& p, const T* x, int64_t i, const float* signs, T* y,
                   int32_t* winner);
  void (*max_pool_gradient)(const PoolShape& p, const T* gy, const int32_t* winner, int64_t r,
                            T* gx);
  void (*avg_pool)(const PoolShape& p, const T* x, int64_t i, bool include, T* y);
  // Plus `count` addends, from `at` on; one may be gx itself.
  void (*avg_pool_gradient)(const PoolShape& p, const T* gy, int64_t r, bool include,
                            const T* const* addends, int64_t count, int64_t at, T* gx);

  // Normalisation over rows x c; sums in double. norm_moments: means and sums of squared
  // deviations; norm_sums and norm_dots add.
  void (*norm_sums)(const T* x, const float* mean, int64_t rows, int64_t c, double* sums);
  void (*norm_moments)(const T* x, int64_t rows, int64_t c, double* mean, double* squares);
  void (*norm_apply)(const NormRows& n, const T* x, T* y);
  void (*norm_dots)(const NormRows& n, const T* gy, const T* x, const float* mean,
                    const float* inverse, double* sums, double* dots);
  void (*norm_gradient)(const NormRows& n, const T* gy, const T* x, const float* a, const float* b,
                        const float* d, T* gx);

  // Of at least 16 channels: row oy of an image's outputs; taps (kh, kw, c), bias may be none. And
  // the row's part of the gradient by the taps, added to sums (kh, kw, channels in blocks of 16,
  // the last block being the last 16).
  void (*depthwise)(const DepthwiseShape& s, const T* x, const float* taps, const float* bias,
                    int64_t oy, T* y);
  void (*depthwise_weights)(const DepthwiseShape& s, const T* x, const T* gy, int64_t oy,
                            float* sums);

  // Numbers of channels are multiples of 16. Tiles first..first+tiles of the batch, so many
  // channels from that of the pointer.
  void (*winograd_sources)(const WinogradShape& s, const T* x, int64_t channels, int64_t first,
                           int64_t tiles, const WinogradPlanes& v);
  void (*winograd_targets)(const WinogradShape& s, const WinogradPlanes& z, const float* bias,
                           int64_t channels, int64_t first, int64_t tiles, T* y);
  void (*winograd_target_gradients)(const WinogradShape& s, const T* gy, int64_t channels,
                                    int64_t first, int64_t tiles, const WinogradPlanes& z);
};

struct KernelTable {
  const char* name;
  ImageKernels<float> single;
  ImageKernels<uint16_t> bfloat;

  // Pointwise over n elements. `from` is the output where ir::gradient_from_output, else the input.
  void (*neuron)(const NeuronParams& p, const float* x, float* y, int64_t n);
  void (*neuron_gradient)(const NeuronParams& p, const float* gy, const float* from, float* gx,
                          int64_t n);
  // `slopes` repeat after `period` elements. Where asked for: gx, and sums[period] += the slopes'.
  void (*prelu)(const float* slopes, int64_t period, const float* x, float* y, int64_t n);
  void (*prelu_gradient)(const float* slopes, int64_t period, const float* gy, const float* x,
                         float* gx, double* sums, int64_t n);
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  // Rows of so many bytes, of which ldx and ldy are the distances.
  void (*copy_rows)(const void* x, int64_t ldx, int64_t rows, int64_t bytes, void* y, int64_t ldy);
  // Rows begin..end of some arrays become those of one, whose rows are `row` bytes, or come of it.
  void (*join_rows)(const RowPart* parts, int64_t count, bool apart, int64_t begin, int64_t end,
                    char* whole, int64_t row);
  // y = a op b, y dense along rows; `to` is joined with the tile's terms, b not read where the term
  // has none.
  void (*binary)(Binary op, const Tile<3>& t, const float* a, const float* b, float* y);
  // ga = g / b, gb = -g a / b^2; either may be absent.
  void (*divide_gradient)(const float* g, const float* a, const float* b, float* ga, float* gb,
                          int64_t n);
  // gx = share where x == y, else 0; y and share have the same strides.
  void (*ties)(const Tile<3>& t, const float* x, const float* y, const float* share, float* gx);
  void (*reduce)(Reduce kind, const Tile<3>& t, const float* a, const float* b, double* to);
  void (*dropout)(uint64_t seed, uint32_t path, int64_t step, int64_t image, uint32_t threshold,
                  float scale, const float* x, float* y, uint8_t* kept, int64_t n);
  void (*dropout_gradient)(float scale, const uint8_t* kept, const float* gy, float* gx, int64_t n);
  void (*from_half)(const uint16_t* x, float* y, int64_t n);
  void (*to_half)(const float* x, uint16_t* y, int64_t n);
  void (*from_bfloat)(const uint16_t* x, float* y, int64_t n);
  void (*to_bfloat)(const float* x, uint16_t* y, int64_t n);
  void (*to_bfloat_pairs)(const float* low, const float* high, uint32_t* y, int64_t n);

  // rows x c: sums[c] += sum over rows.
  void (*column_sums)(const float* x, int64_t rows, int64_t c, float* sums);

  // C (rows x cols) = A B + bias [+ C]; A(r, j) = a[r * ar + j * aj], B row-major. `pack`: depth *
  // 16, unless cols is a multiple of 16.
  void (*gemm)(int64_t rows, int64_t cols, int64_t depth, const float* a, int64_t ar, int64_t aj,
               const float* b, int64_t ldb, const float* bias, bool add, float* c, int64_t ldc,
               float* pack);
  // y (rows x cols) = x W' + bias, if there is one, with W (cols x depth) packed before; cols are a
  // multiple of 16.
  void (*pack_columns)(const float* w, int64_t depth, int64_t cols, float* packed);
  void (*packed_rows)(int64_t rows, int64_t depth, int64_t cols, const float* x,
                      const float* packed, const float* bias, float* y);
  void (*transpose)(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);

  // Of numbers of channels that are multiples of 16.
  // A row a source; the gradient from `parts` sums that lie `part` apart, each tap's (sources,
  // targets) `plane` behind the one before.
  void (*winograd_taps)(const WinogradShape& s, const WinogradTaps& w, int64_t sources,
                        int64_t targets, const WinogradPlanes& u);
  void (*winograd_taps_gradient)(const WinogradShape& s, const WinogradPlanes& gu, int64_t parts,
                                 int64_t part, int64_t sources, int64_t targets, float* gw,
                                 int64_t plane);

  // Of one image, output rows first..first+rows, at most s.rows: gw (k, kh, kw, c) [+]=. c is a
  // multiple of 16, k of 8. `scratch`: rows * pairs * k + 2 * sw * tall * across * c.
  void (*conv_weights_bfloat)(const PairedConv& s, const uint16_t* x, const uint16_t* gy,
                              int64_t first, int64_t rows, bool add, uint32_t* scratch, float* gw);

  void (*l2_pool)(const PoolShape& p, const float* x, int64_t i, float* y);
  void (*l2_pool_gradient)(const PoolShape& p, const float* gy, const float* x, const float* y,
                           float* gx);

  // One row of ow output pixels from the source's rows `low` and `high`, `part` of the way between
  // (equal rows where part is 0); its columns by `taps`. Back: times by_low and by_high, added to
  // those of both rows of w pixels that are asked for; terms of pixel q end at ends[q]. The next
  // call's gy is `ahead` (0: there is none).
  void (*resample)(const float* low, const float* high, float part, const ResampleTap* taps,
                   int64_t ow, int64_t c, float fill, float* y);
  void (*resample_gradient)(const float* gy, const ResampleTerm* terms, const int64_t* ends,
                            int64_t w, int64_t c, float by_low, float* low, float by_high,
                            float* high, int64_t ahead);

  void (*softmax)(const float* x, float* y, int64_t rows, int64_t c);
  void (*softmax_gradient)(const float* y, const float* gy, float* gx, int64_t rows, int64_t c);
  void (*log_softmax)(const float* x, float* y, int64_t rows, int64_t c);
  void (*log_softmax_gradient)(const float* y, const float* gy, float* gx, int64_t rows, int64_t c);
  // The logarithms of the sums of each row's exponentials.
  void (*log_sums)(const float* x, int64_t rows, int64_t c, float* y);
  // Softmax times a factor of each row; without factors times 1. And log_sums, if asked for.
  void (*scaled_softmax)(const float* x, const float* factors, float* y, float* log_sums,
                         int64_t rows, int64_t c);

  // l = w * loss of each element, where w (absent: 1) is not 0; their sum. And its gradient by x.
  double (*element_loss)(const LossParams& p, const float* x, const float* t, const float* w,
                         float* l, int64_t n);
  void (*element_loss_gradient)(const LossParams& p, const float* x, const float* t, const float* w,
                                float factor, float* gx, int64_t n);

  // Rows of c values, each normalised by itself; w and b may be absent. `weights`: gw and gb +=
  // sums over rows.
  void (*layer_norm)(const float* x, const float* w, const float* b, int64_t rows, int64_t c,
                     float epsilon, float* y, float* mean, float* inverse);
  // To dots[c] and sums[c], where given, they add the gradients by weight and bias.
  void (*layer_norm_gradient)(const float* gy, const float* x, const float* w, const float* mean,
                              const float* inverse, int64_t rows, int64_t c, float* gx, float* dots,
                              float* sums);
  void (*layer_norm_weights)(const float* gy, const float* x, const float* mean,
                             const float* inverse, int64_t rows, int64_t c, float* dots,
                             float* sums);

  // y[i] = k + a * (v[i] + ... + v[i + size - 1]).
  void (*window_sum)(const float* v, int64_t n, int64_t size, float a, float k, float* y);
  // Sums over the windows around the values of an image of h x w x c, or of their squares, in
  // double, along one axis after the other; `row`: w c.
  void (*box_sums)(const float* x, bool squares, const BoxShape& s, double* row, double* out);
  // Of sums of values and squares: means, u = delta + alpha * variance, d = x - p0 * mean.
  void (*contrast_terms)(const float* x, const double* squares, const ContrastParams& p, int64_t n,
                         double* means, float* u, float* d);
  // mixed = -p0 ps h - 2 by q mean, and the gradient from the sums of it and of q.
  void (*contrast_mixed)(const float* h, const float* q, const double* means,
                         const ContrastParams& p, int64_t n, float* mixed);
  void (*contrast_gradient)(const float* x, const float* h, const double* mixed, const double* q,
                            const ContrastParams& p, int64_t n, float* gx);
  // y = x * u^-beta; direct = g * u^-beta, through = g * x * u^(-beta - 1).
  void (*local_scale)(const float* x, const float* u, float beta, float* y, int64_t n);
  void (*local_terms)(const float* g, const float* x, const float* u, float beta, float* direct,
                      float* through, int64_t n);

  // Sequences begin..end of an rnn. Packing: rows of depth of `gates` gates, from gate `first` on,
  // as columns; or as they are, with columns padded to cp. `scratch`: as many floats as rnn_scratch
  // says.
  void (*rnn_pack_columns)(const float* w, const RnnShape& s, int64_t depth, int first, int gates,
                           float* to);
  void (*rnn_pack_rows)(const float* w, const RnnShape& s, int64_t columns, int64_t cp, float* to);
  int64_t (*rnn_scratch)(const RnnShape& s, bool gradient);
  void (*rnn)(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t begin,
              int64_t end, float* scratch);
  // Weight gradients of these sequences replace what is there.
  void (*rnn_gradient)(const RnnShape& s, const RnnInputs& in, const RnnOutputs& out, int64_t begin,
                       int64_t end, float* scratch);

  // Optimizer. sum_squares: of the clamped, scaled gradient; not finite if one element is not.
  double (*sum_squares)(const GradientView& g, int64_t n);
  void (*accumulate)(const float* g, float factor, bool first, float* sum, int64_t n);
  void (*sgd)(const SgdStep& s, const GradientView& g, float* w, float* momentum, int64_t n);
  void (*adam)(const AdamStep& s, const GradientView& g, float* w, float* m, float* v, int64_t n);
  void (*rmsprop)(const RmsStep& s, const GradientView& g, float* w, float* square, float* buffer,
                  float* mean, int64_t n);
};

const KernelTable& select();  // MPSNN_CPU_ISA=baseline|avx2|avx512 overrides
// Whether the processor, as far as MPSNN_CPU_ISA allows, has products of bfloat16. Every one with
// AMX has AVX512-BF16, too.
bool multiplies_bfloat();

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
