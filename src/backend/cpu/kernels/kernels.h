// The kernels of one instruction set, for the files that define them and for its table.
#pragma once

#include "backend/cpu/kernels/table.h"
#include "backend/cpu/kernels/vector.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {

void neuron(int, float, const float*, float*, int64_t);
void neuron_gradient(int, float, const float*, const float*, const float*, float*, int64_t);
void add(const float*, const float*, float*, int64_t);
void dropout(uint64_t, uint32_t, int64_t, int64_t, uint32_t, float, const float*, float*, uint8_t*,
             int64_t);
void dropout_gradient(float, const uint8_t*, const float*, float*, int64_t);
void from_half(const uint16_t*, float*, int64_t);
void to_half(const float*, uint16_t*, int64_t);
void from_bfloat(const uint16_t*, float*, int64_t);
void to_bfloat(const float*, uint16_t*, int64_t);
void column_sums(const float*, int64_t, int64_t, float*);
void gemm(int64_t, int64_t, int64_t, const float*, int64_t, int64_t, const float*, int64_t,
          const float*, bool, float*, int64_t, float*);
void transpose(const float*, int64_t, int64_t, int64_t, float*, int64_t);
void winograd_taps(int, const WinogradTaps&, int64_t, int64_t, int64_t, int64_t, float*);
void winograd_taps_gradient(int, const float*, int64_t, int64_t, int64_t, int64_t, int64_t, float*);
void winograd(const WinogradShape&, const float*, const float*, const float*, float*, int64_t,
              int64_t, float*);
void winograd_gradient(const WinogradShape&, const float*, const float*, float*, int64_t, int64_t,
                       float*);
void max_pool(const PoolShape&, const float*, int64_t, float*, int32_t*);
void max_pool_gradient(const PoolShape&, const float*, const int32_t*, float*);
void avg_pool(const PoolShape&, const float*, int64_t, bool, float*);
void avg_pool_gradient(const PoolShape&, const float*, bool, float*);
void norm_moments(const float*, int64_t, int64_t, double*, double*);
void norm_apply(const float*, const float*, const float*, int64_t, int64_t, float*);
void norm_dots(const float*, const float*, const float*, const float*, int64_t, int64_t, double*,
               double*);
void norm_gradient(const float*, const float*, const float*, const float*, const float*, int64_t,
                   int64_t, float*);
void softmax(const float*, float*, int64_t, int64_t);
void softmax_gradient(const float*, const float*, float*, int64_t, int64_t);
float exp_row(const float*, float*, int64_t, float*);
double sum_squares(const GradientView&, int64_t);
void accumulate(const float*, float, bool, float*, int64_t);
void sgd(const SgdStep&, const GradientView&, float*, float*, int64_t);
void adam(const AdamStep&, const GradientView&, float*, float*, float*, int64_t);
void rmsprop(const RmsStep&, const GradientView&, float*, float*, float*, float*, int64_t);

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
