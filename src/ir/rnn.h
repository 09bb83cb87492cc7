// The rnn op: one recurrent layer in one direction over a whole sequence. Its cells, and the places
// of its operands; h' is the new state, W x + U h + b stands for a gate's own rows of the weights.
//
//   lstm              i, f, o = sigmoid, g = tanh; c' = f c + i g; h' = o tanh(c'); with peepholes
//                     p: i and f see p c besides, o sees p c'
//   gru               r, z = sigmoid; n = tanh(W x + b + r (U h + b_hn)); h' = (1 - z) n + z h
//   gru_reset_before  the same, but n = tanh(W x + b + U (r h)): MPS and the first version of Keras
//   mgu               f = sigmoid; n = tanh(W x + b + U (f h)); h' = (1 - f) h + f n (Zhou 2016)
//   rnn               h' = neuron(W x + U h + b)
//
// Steps at or past an image's length give zero and leave the state as it is; `reverse` goes from
// the end to the start, so that there the first step is the last valid one.
#pragma once

#include <cstdint>
#include <string_view>

namespace mpsnn::ir {

enum class Cell : uint8_t { lstm, gru, gru_reset_before, mgu, rnn };

Cell parse_cell(std::string_view name);  // ValueError
inline int gates_of(Cell cell) {
  constexpr int kGates[] = {4, 3, 3, 2, 1};
  return kGates[static_cast<int>(cell)];
}
// Whether the last gate, n, sees U (gate h) and not U h.
inline bool gates_state(Cell cell) { return cell == Cell::gru_reset_before || cell == Cell::mgu; }

namespace rnn_operand {
enum : int { x, weight_ih, weight_hh, bias, bias_hn, peephole, h0, c0, lengths, count };
}
// Rows of the peephole weights (3, H).
namespace peephole {
enum : int { i, f, o };
}

}  // namespace mpsnn::ir
