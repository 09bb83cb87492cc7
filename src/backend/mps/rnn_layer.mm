// rnn on MPSRNNMatrixTrainingLayer: lstm with its peepholes, gru with the reset before the product,
// mgu as such a gru, rnn. The layer's weights are opaque matrices: parameters are copied into them
// when they have changed, gradients out of matrices of the same layout. Each step's matrix is a
// view of the whole sequence: a row for each image, the step by its offset; a reversed sequence is
// the same views in reversed order.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <algorithm>
#include <vector>

#include "backend/mps/own.h"
#include "backend/mps/weights.h"
#include "ir/neuron.h"
#include "ir/rnn.h"

namespace mpsnn::backend::mps {
namespace {

namespace at = ir::rnn_operand;
using ir::Cell;
using Matrices = NSMutableArray<MPSMatrix*>*;

NSUInteger u(int64_t v) { return static_cast<NSUInteger>(v); }

MPSMatrix* rows_of(const Buffer& from, int64_t rows, int64_t columns, int64_t row) {
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:u(rows)
                                                                 columns:u(columns)
                                                                rowBytes:u(row) * sizeof(float)
                                                                dataType:MPSDataTypeFloat32];
  return [[MPSMatrix alloc] initWithBuffer:from.buffer offset:from.offset descriptor:d];
}

bool is_read(const ir::Plan& plan, ValueId id) {
  const auto result = [id](const ResultSpec& r) { return r.value == id; };
  const auto reader = [id](const Node& node) {
    return std::find(node.inputs.begin(), node.inputs.end(), id) != node.inputs.end();
  };
  return std::any_of(plan.results.begin(), plan.results.end(), result) ||
         std::any_of(plan.nodes.begin(), plan.nodes.end(), reader);
}

// A part of an operand, and what the layer calls it.
struct Piece {
  NSUInteger id;  // MPSRNNMatrixId
  int operand;
  int64_t first, rows, columns;  // in floats
};

struct Steps {
  NSMutableArray<MPSMatrix*>* matrices = [NSMutableArray<MPSMatrix*> array];
  std::vector<NSUInteger> offsets;  // bytes
  void add(MPSMatrix* matrix, int64_t floats) {
    [matrices addObject:matrix];
    offsets.push_back(u(floats) * sizeof(float));
  }
};

class RnnLayer final : public Operation {
 public:
  explicit RnnLayer(Builder& b)
      : cell_(ir::parse_cell(b.attrs().text("cell"))),
        reverse_(b.attrs().flag("reverse")),
        n(b.x_shape(at::x)[0]),
        in(b.x_shape(at::x).back()),
        steps(count(b.x_shape(at::x)) / (n * in)),
        hidden(b.x_shape(at::weight_hh)[1]),
        forward_(b.forward()),
        trained_(b.gradients() > 0) {
    const Node& node = b.node();
    y_ = b.dense(node.y(0));
    if (is_read(b.plan(), node.y(1))) last_ = b.dense(node.y(1));
    for (int i = 0; i < at::h0; ++i) {
      operands_.push_back(i < node.nx ? node.x(i) : kNone);
      dense_.push_back(dense_or_none(b, operands_.back()));
    }
    make_layer(b);
    label(layer, b.layer());
    layer.trainingStateIsTemporary = YES;
  }

  void encode(Encoding& e) override {
    const Buffer x = e.load(dense_[at::x]), y = e.target(y_);
    load_weights(e);
    NSMutableArray<MPSRNNMatrixTrainingState*>* states =
        [NSMutableArray<MPSRNNMatrixTrainingState*> array];
    Steps from = in_order(x, in), to = in_order(y, hidden);
    [layer encodeForwardSequenceToCommandBuffer:e.commands()
                                 sourceMatrices:from.matrices
                                  sourceOffsets:from.offsets.data()
                            destinationMatrices:to.matrices
                             destinationOffsets:to.offsets.data()
                                 trainingStates:states
                            recurrentInputState:nil
                          recurrentOutputStates:nil
                                        weights:weights];
    if (trained_)
      e.keep_states(forward_, states);
    else
      for (MPSState* state in states) state.readCount = 0;
    if (last_.value != kNone) {
      e.run(e.gpu().pipeline("rows_from"), {y, e.target(last_)}, last_rows(), n * hidden);
      e.store(last_);
    }
    e.store(y_);
  }
  std::string detail() const override { return "MPSRNNMatrixTrainingLayer"; }

  int64_t time(int64_t step) const { return reverse_ ? steps - 1 - step : step; }
  RowParams last_rows() const {
    return {static_cast<int>(n * hidden), static_cast<int>(hidden),
            static_cast<int>(steps * hidden), static_cast<int>(time(steps - 1) * hidden)};
  }
  Steps in_order(const Buffer& from, int64_t columns) const {
    Steps s;
    MPSMatrix* all = rows_of(from, n, columns, steps * columns);
    for (int64_t step = 0; step < steps; ++step) s.add(all, time(step) * columns);
    return s;
  }
  void copy(Encoding& e, NSArray<MPSMatrix*>* own, const Piece& piece, Buffer operand,
            bool to_operand) const {
    operand.offset += static_cast<std::size_t>(piece.first) * sizeof(float);
    [layer
        encodeCopyWeightsToCommandBuffer:e.commands()
                                 weights:own
                                matrixId:static_cast<MPSRNNMatrixId>(piece.id)
                                  matrix:rows_of(operand, piece.rows, piece.columns, piece.columns)
                 copyFromWeightsToMatrix:to_operand
                            matrixOffset:MTLOriginMake(0, 0, 0)];
  }

 private:
  void load_weights(Encoding& e) {
    if (!changes_.since(e, {operands_.begin() + at::weight_ih, operands_.end()})) return;
    for (int i = at::weight_ih; i < at::h0; ++i) {
      const auto operand = static_cast<std::size_t>(i);
      if (operands_[operand] == kNone) continue;
      const Buffer from = e.load(dense_[operand]);
      for (const Piece& piece : pieces)
        if (piece.operand == i) copy(e, weights, piece, from, false);
    }
  }

  // Its weights are zeros until they are first copied. The bias is there in any case.
  SourceRef source(Builder& b, int64_t columns, NeuronRef neuron) {
    MPSCNNConvolutionDescriptor* d =
        [MPSCNNConvolutionDescriptor cnnConvolutionDescriptorWithKernelWidth:1
                                                                kernelHeight:1
                                                        inputFeatureChannels:u(columns)
                                                       outputFeatureChannels:u(hidden)];
    if (neuron != nil) d.fusedNeuronDescriptor = neuron;
    return source_of_zeros(d, columns * hidden, neuron == nil ? 0 : hidden, false, b.layer());
  }
  void piece(NSUInteger id, int operand, int64_t first, int64_t rows, int64_t columns) {
    if (operands_[static_cast<std::size_t>(operand)] == kNone) return;
    pieces.push_back({id, operand, first * columns, rows, columns});
  }
  // The pieces of our gate `g`, from the ids that the layer has for it.
  void gate(int g, NSUInteger input, NSUInteger recurrent, NSUInteger bias) {
    piece(input, at::weight_ih, g * hidden, hidden, in);
    piece(recurrent, at::weight_hh, g * hidden, hidden, hidden);
    piece(bias, at::bias, g, 1, hidden);
  }

  void make_layer(Builder& b) {
    NeuronRef sigmoid = describe({ir::Neuron::sigmoid}), tanh = describe({ir::Neuron::tanh, 1, 1});
    MPSRNNDescriptor* descriptor = nil;
    if (cell_ == Cell::lstm) {
      MPSLSTMDescriptor* d =
          [MPSLSTMDescriptor createLSTMDescriptorWithInputFeatureChannels:u(in)
                                                    outputFeatureChannels:u(hidden)];
      d.inputGateInputWeights = source(b, in, sigmoid);
      d.forgetGateInputWeights = source(b, in, sigmoid);
      d.cellGateInputWeights = source(b, in, tanh);
      d.outputGateInputWeights = source(b, in, sigmoid);
      d.inputGateRecurrentWeights = source(b, hidden, nil);
      d.forgetGateRecurrentWeights = source(b, hidden, nil);
      d.cellGateRecurrentWeights = source(b, hidden, nil);
      d.outputGateRecurrentWeights = source(b, hidden, nil);
      d.cellToOutputNeuronType = MPSCNNNeuronTypeTanH;
      gate(0, MPSRNNMatrixIdLSTMInputGateInputWeights, MPSRNNMatrixIdLSTMInputGateRecurrentWeights,
           MPSRNNMatrixIdLSTMInputGateBiasTerms);
      gate(1, MPSRNNMatrixIdLSTMForgetGateInputWeights,
           MPSRNNMatrixIdLSTMForgetGateRecurrentWeights, MPSRNNMatrixIdLSTMForgetGateBiasTerms);
      gate(2, MPSRNNMatrixIdLSTMMemoryGateInputWeights,
           MPSRNNMatrixIdLSTMMemoryGateRecurrentWeights, MPSRNNMatrixIdLSTMMemoryGateBiasTerms);
      gate(3, MPSRNNMatrixIdLSTMOutputGateInputWeights,
           MPSRNNMatrixIdLSTMOutputGateRecurrentWeights, MPSRNNMatrixIdLSTMOutputGateBiasTerms);
      if (operands_[at::peephole] != kNone) {
        d.memoryWeightsAreDiagonal = YES;
        d.inputGateMemoryWeights = source(b, hidden, nil);
        d.forgetGateMemoryWeights = source(b, hidden, nil);
        d.outputGateMemoryWeights = source(b, hidden, nil);
        piece(MPSRNNMatrixIdLSTMInputGateMemoryWeights, at::peephole, ir::peephole::i, 1, hidden);
        piece(MPSRNNMatrixIdLSTMForgetGateMemoryWeights, at::peephole, ir::peephole::f, 1, hidden);
        piece(MPSRNNMatrixIdLSTMOutputGateMemoryWeights, at::peephole, ir::peephole::o, 1, hidden);
      }
      descriptor = d;
    } else if (cell_ == Cell::rnn) {
      MPSRNNSingleGateDescriptor* d = [MPSRNNSingleGateDescriptor
          createRNNSingleGateDescriptorWithInputFeatureChannels:u(in)
                                          outputFeatureChannels:u(hidden)];
      d.inputWeights = source(b, in, describe(ir::epilogue_of(b.attrs())));
      d.recurrentWeights = source(b, hidden, nil);
      gate(0, MPSRNNMatrixIdSingleGateInputWeights, MPSRNNMatrixIdSingleGateRecurrentWeights,
           MPSRNNMatrixIdSingleGateBiasTerms);
      descriptor = d;
    } else {
      // The input gate is z, or mgu's f, which weighs what is new: the outputs are flipped.
      const bool reset = cell_ == Cell::gru_reset_before;
      MPSGRUDescriptor* d =
          [MPSGRUDescriptor createGRUDescriptorWithInputFeatureChannels:u(in)
                                                  outputFeatureChannels:u(hidden)];
      d.inputGateInputWeights = source(b, in, sigmoid);
      d.inputGateRecurrentWeights = source(b, hidden, nil);
      d.outputGateInputWeights = source(b, in, tanh);
      gate(reset ? 1 : 0, MPSRNNMatrixIdGRUInputGateInputWeights,
           MPSRNNMatrixIdGRUInputGateRecurrentWeights, MPSRNNMatrixIdGRUInputGateBiasTerms);
      if (reset) {
        d.recurrentGateInputWeights = source(b, in, sigmoid);
        d.recurrentGateRecurrentWeights = source(b, hidden, nil);
        d.outputGateRecurrentWeights = source(b, hidden, nil);
        gate(0, MPSRNNMatrixIdGRURecurrentGateInputWeights,
             MPSRNNMatrixIdGRURecurrentGateRecurrentWeights,
             MPSRNNMatrixIdGRURecurrentGateBiasTerms);
      } else {
        d.outputGateInputGateWeights = source(b, hidden, nil);
      }
      d.flipOutputGates = !reset;
      gate(reset ? 2 : 1, MPSRNNMatrixIdGRUOutputGateInputWeights,
           reset ? MPSRNNMatrixIdGRUOutputGateRecurrentWeights
                 : MPSRNNMatrixIdGRUOutputGateInputGateWeights,
           MPSRNNMatrixIdGRUOutputGateBiasTerms);
      descriptor = d;
    }
    descriptor.useFloat32Weights = YES;  // half otherwise
    layer = [[MPSRNNMatrixTrainingLayer alloc] initWithDevice:b.gpu().device()
                                                rnnDescriptor:descriptor
                                             trainableWeights:weights];
  }

  Cell cell_;
  bool reverse_;

 public:  // what the gradient shares
  const int64_t n, in, steps, hidden;
  MPSRNNMatrixTrainingLayer* layer = nil;
  Matrices weights = [NSMutableArray<MPSMatrix*> array];
  std::vector<Piece> pieces;

 private:
  int forward_;
  bool trained_;
  std::vector<ValueId> operands_;
  std::vector<Dense> dense_;
  Dense y_, last_;
  Changes changes_;
};

class RnnLayerGradient final : public Operation {
 public:
  explicit RnnLayerGradient(Builder& b)
      : forward_(static_cast<RnnLayer&>(b.forward_operation())),
        node_(b.forward()),
        x_(b.dense(b.node().x(at::x))) {
    const Node& node = b.node();
    for (int i = 0; i < 2; ++i) gy_.push_back(dense_or_none(b, i < node.ny ? node.gy(i) : kNone));
    for (int i = 0; i < at::h0; ++i)
      gx_.push_back(dense_or_none(b, i < node.nx ? node.gx(i) : kNone));
    const auto bytes = static_cast<std::size_t>(forward_.n * forward_.hidden) * 4;
    last_ = b.scratch(bytes);
    zeros_ = b.scratch(bytes);
    const bool weighs = std::any_of(gx_.begin() + at::weight_ih, gx_.end(),
                                    [](const Dense& d) { return d.value != kNone; });
    if (!weighs) return;
    gradients_ = [NSMutableArray<MPSMatrix*> array];
    [forward_.layer createWeightGradientMatrices:gradients_ dataType:MPSDataTypeFloat32];
  }

  void encode(Encoding& e) override {
    const RnnLayer& l = forward_;
    const Buffer x = e.load(x_);
    const Dense& gx = gx_[at::x];
    Steps from = l.in_order(x, l.in), gradients = source_gradients(e), to;
    if (gx.value != kNone) to = l.in_order(e.target(gx), l.in);
    NSArray<MPSState*>* states = e.take_states(node_);
    [l.layer encodeGradientSequenceToCommandBuffer:e.commands()
                                    forwardSources:from.matrices
                              forwardSourceOffsets:from.offsets.data()
                                   sourceGradients:gradients.matrices
                             sourceGradientOffsets:gradients.offsets.data()
                              destinationGradients:gx.value == kNone ? nil : to.matrices
                                destinationOffsets:gx.value == kNone ? nullptr : to.offsets.data()
                                   weightGradients:gradients_
                                    trainingStates:(NSArray<MPSRNNMatrixTrainingState*>*)states
                               recurrentInputState:nil
                             recurrentOutputStates:nil
                                           weights:l.weights];
    if (gx.value != kNone) e.store(gx);
    for (int i = at::weight_ih; i < at::h0; ++i) {
      const Dense& given = gx_[static_cast<std::size_t>(i)];
      if (given.value == kNone) continue;
      const Buffer target = e.target(given);
      for (const Piece& piece : l.pieces)
        if (piece.operand == i) l.copy(e, gradients_, piece, target, true);
      e.store(given);
    }
  }
  std::string detail() const override { return "MPSRNNMatrixTrainingLayer"; }

 private:
  // Those of the sequence, of the last state, or of both: then the last step has their sum.
  Steps source_gradients(Encoding& e) const {
    const RnnLayer& l = forward_;
    const Dense &sequence = gy_[0], &state = gy_[1];
    const bool given = sequence.value != kNone;
    Steps s;
    const Buffer all = given ? e.load(sequence) : Buffer{};
    if (given) s = l.in_order(all, l.hidden);
    if (state.value == kNone) return s;
    const int elements = static_cast<int>(l.n * l.hidden);
    Buffer last = e.load(state);
    if (given) {
      const Buffer sum = e.scratch(last_);
      e.run(e.gpu().pipeline("rows_from"), {all, sum}, l.last_rows(), elements);
      e.run(e.gpu().pipeline("scale_array"), {last, sum}, ScaleParams{elements, 1, 1}, elements);
      last = sum;
    } else {
      const Buffer zeros = e.scratch(zeros_);
      e.run(e.gpu().pipeline("fill_array"), {zeros}, ScaleParams{elements, 0, 0}, elements);
      MPSMatrix* none = rows_of(zeros, l.n, l.hidden, l.hidden);
      for (int64_t step = 0; step < l.steps; ++step) s.add(none, 0);
    }
    [s.matrices replaceObjectAtIndex:u(l.steps - 1)
                          withObject:rows_of(last, l.n, l.hidden, l.hidden)];
    s.offsets.back() = 0;
    return s;
  }

  RnnLayer& forward_;
  int node_;
  Dense x_;
  std::vector<Dense> gy_, gx_;
  std::size_t last_ = 0, zeros_ = 0;
  Matrices gradients_ = nil;
};

}  // namespace

// It starts from zeros, goes through all steps of all sequences, and does not give c away.
bool rnn_has_layer(const ir::Plan& plan, const Node& forward) {
  const Cell cell = ir::parse_cell(forward.attrs.text("cell"));
  if (cell == Cell::gru) return false;
  if (cell == Cell::rnn && !mps_has(ir::epilogue_of(forward.attrs))) return false;
  for (int i = at::h0; i < forward.nx; ++i)
    if (forward.x(i) != kNone) return false;
  if (cell != Cell::lstm || forward.ny < 3) return true;
  const ValueId c = forward.y(2);
  if (is_read(plan, c)) return false;
  for (const Node& node : plan.nodes) {
    const bool own = node.gradient && node.forward >= 0 &&
                     plan.nodes[static_cast<std::size_t>(node.forward)].outputs == forward.outputs;
    if (own && node.gy(2) != kNone) return false;
  }
  return true;
}

std::unique_ptr<Operation> make_rnn_layer(Builder& b) {
  if (b.node().gradient) return std::make_unique<RnnLayerGradient>(b);
  return std::make_unique<RnnLayer>(b);
}

}  // namespace mpsnn::backend::mps
