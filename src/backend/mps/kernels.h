// What the kernels of kernels.metal take beside their buffers. In the common subset of Metal and
// C++: the file is compiled with the backend and, in front of kernels.metal, with the kernels.
#pragma once

struct CountParams {
  int count;
};

struct ScaleParams {
  int count;
  float factor;
  int adds;  // to what is there
};

struct MeanParams {  // of rows of `size`
  int count, size;
};

#define MPSNN_MOST_AXES 8
enum BinaryKind { kBinaryAdd, kBinarySubtract, kBinaryMultiply, kBinaryDivide };
enum ReduceKind { kReduceSum, kReduceMax, kReduceMin };

struct StridedParams {  // a box, last axis fastest, and where its elements lie in two arrays
  int count, rank;
  int size[MPSNN_MOST_AXES], a[MPSNN_MOST_AXES], b[MPSNN_MOST_AXES];
  int a_offset, b_offset;
  int kind, second;  // BinaryKind
  float factor;
};

struct ReduceParams {
  int count, inner, parts;  // results, terms of each, threads of each
  int kind;                 // ReduceKind
  int outer, rank;
  int size[MPSNN_MOST_AXES], stride[MPSNN_MOST_AXES];
  float factor;
};

struct LossParams {
  int images, positions, classes;  // mse: positions * classes elements an image
  int soft;                        // targets are probabilities, not indices
  int class_weighted, image_weighted;
  int ignore;
  float smoothing;
  int scale;    // of the gradient: 0 one, 1 gy, 2 gy / sum of weights
  int divides;  // reduction "mean"
};

enum NeuronKind {  // those of ir::Neuron that our own kernels know
  kNeuronRelu = 1,
  kNeuronLeakyRelu = 2,
  kNeuronSigmoid = 3,
  kNeuronTanh = 4,
  kNeuronLinear = 5,
  kNeuronElu = 10,
  kNeuronRelun = 11,
  kNeuronExponential = 13,
  kNeuronGeluTanh = 16,
  kNeuronHardSwish = 17,
};

struct NeuronParams {
  int count;
  int kind;  // ir::Neuron
  float a, b, c;
};

struct WindowParams {
  int n, h, w, c, oh, ow, kh, kw, sh, sw, dh, dw, top, left;
  int neuron;  // behind the maximum: ir::Neuron
  float neuron_a, neuron_b, neuron_c;
};

struct RowParams {  // rows of `size` at `offset` in rows of `row`
  int count;
  int size, row, offset;
};

struct GroupParams {
  int out, taps, in, groups;
};

struct NormParams {
  int rows, channels;
  float epsilon;
};

struct MaskedNormParams {  // rows lie in images, `width` of them in a line that has a length
  int rows, channels, images, width;
  int training;
  float epsilon;
};

struct ResampleTap {
  int index;
  float weight;
};

struct ResampleParams {
  int count, h, w, c, from_h, from_w;  // of what is made; of what it is made of
  float fill;                          // where nothing is
};

struct SetParams {
  StridedParams place;  // a: the set, b: the channel
  int weighted, biased;
};

struct LocalParams {
  int count, h, w, c;
  int space;  // or channels
  int before, after;
  float divisor, alpha, beta, delta;
  float p0, pm, ps;
};

enum CellKind { kCellLstm, kCellGru, kCellGruResetBefore, kCellMgu, kCellRnn };  // ir::Cell

struct RnnParams {
  int images, steps, hidden, gates;
  int time;  // of this step
  int cell, neuron;
  int biased, biased_hn, peepholes;
  int limited;  // by lengths
  int given;    // a gradient of the outputs
};

struct EmbeddingParams {
  int count, rows, size, padding;
};

enum LossKind {  // ir::Loss, then the losses of positions and images
  kLossMae,
  kLossMse,
  kLossSigmoid,
  kLossCategorical,
  kLossHinge,
  kLossHuber,
  kLossLog,
  kLossKl,
  kLossSoftmax,
  kLossCosine,
  kLossGiven,
};

struct UnitParams {
  int images, each, classes;  // units an image; channels
  int kind;                   // LossKind
  int soft;                   // targets are no indices
  int class_weighted, image_weighted, unit_weighted, units_a_weight;
  int ignore;
  float smoothing, a;
  int divides, none, normalize;  // reduction "mean", "none"
  int by_loss, by_losses;        // which outputs have a gradient
};

struct YoloParams {
  int images, cells, anchors, width;  // cells of each image, values of each anchor
  int rescore, gradient;
  float xy, wh, no_object, object, classes, presence, absence;
};

struct PartialParams {
  int count, partials;
  float limit;  // clip by value; negative: none
};

struct DecideParams {
  int partials, losses;
  int check_finite, dynamic, growth_interval;
  int accumulate, has_weights, has_items;
  int joined;        // shares have been divided by their own sums of weights
  float clip_norm;   // negative: none
  float most_scale;  // of a dynamic loss scale
};

struct JoinParams {
  int count;
  int adds, divides;  // to what is there; by the share's sum of weights
};

struct ApplyParams {
  int count, offset;
  float clip_value;  // negative: none
  float rate, weight_decay;
  float momentum, undamped;  // 1 - dampening
  int nesterov;
  float beta1, beta2, rest1, rest2;  // rest = 1 - beta
  float log_beta1, log_beta2;
  float epsilon;
  float alpha, rest_alpha;
  int centered;
  int decoupled;  // weight decay of AdamW
};

struct AverageParams {
  int count;
  float keep, rest;  // rest = 1 - keep
};

struct StatisticParams {
  int count;
  float momentum, factor;
  int counted;  // the factor is that of a number of rows, n / (n - 1)
};

// What the decisions of a step's end leave for its other kernels and for the host.
struct UpdateControlBlock {
  int accepted;  // nothing is written otherwise
  int first;     // of the accumulated steps
  int ready;     // the last of them: apply
  int step;      // 1 for the first update
  float scale;   // that this step's gradients carry
  float factor;  // what gradients are multiplied with
  float shrink;  // clip by norm
  int finite, blocked, updated;
};
