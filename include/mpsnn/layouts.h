// Canonical layouts of weights, stated once. Files, Python and every ParameterStore boundary use
// them; a backend converts at its own edge only.
//
//   convolution              (out, kh, kw, in / groups); over sequences (out, k, in / groups)
//   transposed convolution   the same, `out` and `in` being its own output and input
//   dense                    (out, in), `in` in H, W, C order after Flatten
//   recurrent                weight_ih (G H, in), weight_hh (G H, H), bias (G H), bias_hn (H);
//                            gates LSTM i, f, g, o; GRU r, z, n; minimally gated f, n
//   peepholes                (3, H): i, f, o
//   normalisation            weight, bias, running_mean, running_var: (C)
//   images, sequences, rows  (N, H, W, C), (N, T, C), (N, C)
//
// A gradient has the layout of what it is the gradient of.
#pragma once

namespace mpsnn {

namespace conv_weight {
constexpr int out = 0, kh = 1, kw = 2, in = 3, rank = 4;
}
namespace dense_weight {
constexpr int out = 0, in = 1, rank = 2;
}

}  // namespace mpsnn
