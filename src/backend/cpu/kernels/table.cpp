#include "backend/cpu/kernels/kernels.h"

#define MPSNN_TEXT2(x) #x
#define MPSNN_TEXT(x) MPSNN_TEXT2(x)

namespace mpsnn::backend::cpu::MPSNN_ISA {

namespace {
template <class T>
constexpr ImageKernels<T> kImages = {sum<T>,           max_pool<T>,          max_pool_gradient<T>,
                                     avg_pool<T>,      avg_pool_gradient<T>, norm_sums<T>,
                                     norm_moments<T>,  norm_apply<T>,        norm_dots<T>,
                                     norm_gradient<T>, depthwise<T>,         depthwise_weights<T>};
}  // namespace

extern const KernelTable table;
const KernelTable table = {MPSNN_TEXT(MPSNN_ISA),
                           kImages<float>,
                           kImages<uint16_t>,
                           neuron,
                           neuron_gradient,
                           prelu,
                           prelu_gradient,
                           add,
                           copy_rows,
                           join_rows,
                           binary,
                           divide_gradient,
                           ties,
                           reduce,
                           dropout,
                           dropout_gradient,
                           from_half,
                           to_half,
                           from_bfloat,
                           to_bfloat,
                           to_bfloat_pairs,
                           column_sums,
                           gemm,
                           pack_columns,
                           packed_rows,
                           transpose,
                           winograd_sources,
                           winograd_targets,
                           winograd_target_gradients,
                           winograd_taps,
                           winograd_taps_gradient,
                           conv_weights_bfloat,
                           l2_pool,
                           l2_pool_gradient,
                           resample,
                           resample_gradient,
                           softmax,
                           softmax_gradient,
                           log_softmax,
                           log_softmax_gradient,
                           log_sums,
                           scaled_softmax,
                           element_loss,
                           element_loss_gradient,
                           layer_norm,
                           layer_norm_gradient,
                           layer_norm_weights,
                           window_sum,
                           box_sums,
                           contrast_terms,
                           contrast_mixed,
                           contrast_gradient,
                           local_scale,
                           local_terms,
                           rnn_pack_columns,
                           rnn_pack_rows,
                           rnn_scratch,
                           rnn,
                           rnn_gradient,
                           sum_squares,
                           accumulate,
                           sgd,
                           adam,
                           rmsprop};

}  // namespace mpsnn::backend::cpu::MPSNN_ISA
