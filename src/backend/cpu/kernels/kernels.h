// The kernels of one instruction set, for the files that define them and for its table.
#pragma once

#include "backend/cpu/kernels/table.h"
#include "backend/cpu/kernels/vector.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

// T: float, or the bits of a bfloat16.
template <class T>
void sum(const T* const*, int64_t, int64_t, int64_t, T*);
template <class T>
void max_pool(const PoolShape&, const T*, int64_t, const float*, T*, int32_t*);
template <class T>
void max_pool_gradient(const PoolShape&, const T*, const int32_t*, int64_t, T*);
template <class T>
void avg_pool(const PoolShape&, const T*, int64_t, bool, T*);
template <class T>
void avg_pool_gradient(const PoolShape&, const T*, int64_t, bool, const T* const*, int64_t, int64_t,
                       T*);
template <class T>
void norm_sums(const T*, const float*, int64_t, int64_t, double*);
template <class T>
void norm_moments(const T*, int64_t, int64_t, double*, double*);
template <class T>
void norm_apply(const NormRows&, const T*, T*);
template <class T>
void norm_dots(const NormRows&, const T*, const T*, const float*, const float*, double*, double*);
template <class T>
void norm_gradient(const NormRows&, const T*, const T*, const float*, const float*, const float*,
                   T*);
template <class T>
void depthwise(const DepthwiseShape&, const T*, const float*, const float*, int64_t, T*);
template <class T>
void depthwise_weights(const DepthwiseShape&, const T*, const T*, int64_t, float*);
template <class T>
void winograd_sources(const WinogradShape&, const T*, int64_t, int64_t, int64_t,
                      const WinogradPlanes&);
template <class T>
void winograd_targets(const WinogradShape&, const WinogradPlanes&, const float*, int64_t, int64_t,
                      int64_t, T*);
template <class T>
void winograd_target_gradients(const WinogradShape&, const T*, int64_t, int64_t, int64_t,
                               const WinogradPlanes&);

void neuron(const NeuronParams&, const float*, float*, int64_t);
void neuron_gradient(const NeuronParams&, const float*, const float*, float*, int64_t);
void prelu(const float*, int64_t, const float*, float*, int64_t);
void prelu_gradient(const float*, int64_t, const float*, const float*, float*, double*, int64_t);
void add(const float*, const float*, float*, int64_t);
void copy_rows(const void*, int64_t, int64_t, int64_t, void*, int64_t);
void join_rows(const RowPart*, int64_t, bool, int64_t, int64_t, char*, int64_t);
void binary(Binary, const Tile<3>&, const float*, const float*, float*);
void ties(const Tile<3>&, const float*, const float*, const float*, float*);
void divide_gradient(const float*, const float*, const float*, float*, float*, int64_t);
void reduce(Reduce, const Tile<3>&, const float*, const float*, double*);
void dropout(uint64_t, uint32_t, int64_t, int64_t, uint32_t, float, const float*, float*, uint8_t*,
             int64_t);
void dropout_gradient(float, const uint8_t*, const float*, float*, int64_t);
void from_half(const uint16_t*, float*, int64_t);
void to_half(const float*, uint16_t*, int64_t);
void from_bfloat(const uint16_t*, float*, int64_t);
void to_bfloat(const float*, uint16_t*, int64_t);
void to_bfloat_pairs(const float*, const float*, uint32_t*, int64_t);
void column_sums(const float*, int64_t, int64_t, float*);
void gemm(int64_t, int64_t, int64_t, const float*, int64_t, int64_t, const float*, int64_t,
          const float*, bool, float*, int64_t, float*);
void pack_columns(const float*, int64_t, int64_t, float*);
void packed_rows(int64_t, int64_t, int64_t, const float*, const float*, const float*, float*);
void transpose(const float*, int64_t, int64_t, int64_t, float*, int64_t);
void winograd_taps(const WinogradShape&, const WinogradTaps&, int64_t, int64_t,
                   const WinogradPlanes&);
void winograd_taps_gradient(const WinogradShape&, const WinogradPlanes&, int64_t, int64_t, int64_t,
                            int64_t, float*, int64_t);
void conv_weights_bfloat(const PairedConv&, const uint16_t*, const uint16_t*, int64_t, int64_t,
                         bool, uint32_t*, float*);
void l2_pool(const PoolShape&, const float*, int64_t, float*);
void l2_pool_gradient(const PoolShape&, const float*, const float*, const float*, float*);
void resample(const float*, const float*, float, const ResampleTap*, int64_t, int64_t, float,
              float*);
void resample_gradient(const float*, const ResampleTerm*, const int64_t*, int64_t, int64_t, float,
                       float*, float, float*, int64_t);
void softmax(const float*, float*, int64_t, int64_t);
void softmax_gradient(const float*, const float*, float*, int64_t, int64_t);
void log_softmax(const float*, float*, int64_t, int64_t);
void log_softmax_gradient(const float*, const float*, float*, int64_t, int64_t);
void log_sums(const float*, int64_t, int64_t, float*);
void scaled_softmax(const float*, const float*, float*, float*, int64_t, int64_t);
double element_loss(const LossParams&, const float*, const float*, const float*, float*, int64_t);
void element_loss_gradient(const LossParams&, const float*, const float*, const float*, float,
                           float*, int64_t);
void layer_norm(const float*, const float*, const float*, int64_t, int64_t, float, float*, float*,
                float*);
void layer_norm_gradient(const float*, const float*, const float*, const float*, const float*,
                         int64_t, int64_t, float*, float*, float*);
void layer_norm_weights(const float*, const float*, const float*, const float*, int64_t, int64_t,
                        float*, float*);
void window_sum(const float*, int64_t, int64_t, float, float, float*);
void box_sums(const float*, bool, const BoxShape&, double*, double*);
void contrast_terms(const float*, const double*, const ContrastParams&, int64_t, double*, float*,
                    float*);
void contrast_mixed(const float*, const float*, const double*, const ContrastParams&, int64_t,
                    float*);
void contrast_gradient(const float*, const float*, const double*, const double*,
                       const ContrastParams&, int64_t, float*);
void local_scale(const float*, const float*, float, float*, int64_t);
void local_terms(const float*, const float*, const float*, float, float*, float*, int64_t);
void rnn_pack_columns(const float*, const RnnShape&, int64_t, int, int, float*);
void rnn_pack_rows(const float*, const RnnShape&, int64_t, int64_t, float*);
int64_t rnn_scratch(const RnnShape&, bool);
void rnn(const RnnShape&, const RnnInputs&, const RnnOutputs&, int64_t, int64_t, float*);
void rnn_gradient(const RnnShape&, const RnnInputs&, const RnnOutputs&, int64_t, int64_t, float*);
double sum_squares(const GradientView&, int64_t);
void accumulate(const float*, float, bool, float*, int64_t);
void sgd(const SgdStep&, const GradientView&, float*, float*, int64_t);
void adam(const AdamStep&, const GradientView&, float*, float*, float*, int64_t);
void rmsprop(const RmsStep&, const GradientView&, float*, float*, float*, float*, int64_t);

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
