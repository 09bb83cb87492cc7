#include "backend/cpu/kernels/kernels.h"

#define MPSNN_TEXT2(x) #x
#define MPSNN_TEXT(x) MPSNN_TEXT2(x)

namespace mpsnn::backend::cpu::MPSNN_ISA {

extern const KernelTable table;
const KernelTable table = {MPSNN_TEXT(MPSNN_ISA),
                           neuron,
                           neuron_gradient,
                           add,
                           dropout,
                           dropout_gradient,
                           from_half,
                           to_half,
                           from_bfloat,
                           to_bfloat,
                           column_sums,
                           gemm,
                           transpose,
                           winograd_taps,
                           winograd_taps_gradient,
                           winograd,
                           winograd_gradient,
                           max_pool,
                           max_pool_gradient,
                           avg_pool,
                           avg_pool_gradient,
                           norm_moments,
                           norm_apply,
                           norm_dots,
                           norm_gradient,
                           softmax,
                           softmax_gradient,
                           exp_row,
                           sum_squares,
                           accumulate,
                           sgd,
                           adam,
                           rmsprop};

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
