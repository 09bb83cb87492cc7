// Cells of the training layer of recurrent networks (mps-reference 7.2), and sequences of matrices.
#pragma once
#import "mps.h"

namespace apple_sim {
enum Part { kBias, kMemory, kRecurrent, kInput, kParts };

struct Gate {
  bool has[kParts] = {};
  bool diagonal = false;  // the memory weights
  long at[kParts + 1] = {};
  Neuron neuron;  // of the input weights' source; without one the identity
  long columns() const { return at[kParts]; }
};
enum class Kind { single, lstm, gru };

struct Cell {
  Kind kind = Kind::single;
  long in = 0, out = 0;
  bool half = true, flip = false;
  std::vector<Gate> gates;  // lstm: input, forget, memory, output; gru: input, recurrent, output
  Neuron to_output;
  long states() const { return static_cast<long>(gates.size()) + 3; }  // and h, c before, c after
};
using CellPtr = std::shared_ptr<const Cell>;

struct Sequence {  // of matrices, as a closure sees them
  std::vector<MatrixView> views;
  std::vector<long> rows;
  Stores stores;
  bool fits = true;
};

// What the forward pass keeps of a step, in floats of (rows, out): what each gate's neuron sees, h
// before, c before and after.
void run_forward(const Cell& cell, const std::vector<MatrixView>& weights, const Sequence& x,
                 const Sequence& y, const Stores& kept);
void run_gradient(const Cell& cell, const std::vector<MatrixView>& weights, const Sequence& x,
                  const Sequence& dy, const Stores& kept, const Sequence& dx,
                  const std::vector<MatrixView>& by_weights, bool adds);
}  // namespace apple_sim
