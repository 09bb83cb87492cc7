// conv2d, conv_transpose2d and linear. Padding is resolved here, once: "same" puts the odd pixel at
// the bottom and the right (TensorFlow, ONNX SAME_UPPER), "valid" none, integers as in PyTorch.
#include "ir/images.h"
#include "ir/op.h"
#include "ir/rules/window.h"
#include "mpsnn/layouts.h"

namespace mpsnn::ir {
namespace {

void infer_convolution(Infer& n, bool transposed) {
  namespace w = conv_weight;
  const std::size_t rank = n.shape(1).size();
  if (rank != 3 && rank != 4)
    n.shape_error("weight must have 4 axes, or 3 over sequences, got " + to_string(n.shape(1)));
  n.need_rank(0, static_cast<int>(rank), rank == 4 ? "image" : "sequence");
  const Shape image = as_image(n.shape(0)), weight = as_image(n.shape(1));
  const int64_t groups = n.attrs().integer("groups", 1);
  if (groups < 1) n.value_error("groups must be at least 1, got " + std::to_string(groups));
  // Divided, not multiplied: the product may overflow.
  if (image[3] % groups != 0 || image[3] / groups != weight[w::in])
    n.shape_error("weight expects " +
                  (groups == 1 ? std::to_string(weight[w::in])
                               : std::to_string(groups) + " x " + std::to_string(weight[w::in])) +
                  " input channels, image has " + std::to_string(image[3]));
  if (weight[w::out] % groups != 0)
    n.shape_error("groups " + std::to_string(groups) + " must divide the " +
                  std::to_string(weight[w::out]) + " output channels");
  n.need_shape(2, {weight[w::out]}, "bias");
  n.attrs().set("groups", groups);
  const std::array<int64_t, 2> kernel{weight[w::kh], weight[w::kw]};
  output_images(
      n, transposed ? resolve_transposed(n, image, kernel) : resolve_window(n, image, kernel),
      weight[w::out]);
}

void infer_conv2d(Infer& n) { infer_convolution(n, false); }
void infer_conv_transpose2d(Infer& n) { infer_convolution(n, true); }

void infer_linear(Infer& n) {
  n.need_rank(1, dense_weight::rank, "weight");
  const Shape &x = n.shape(0), &weight = n.shape(1);
  if (x.empty()) n.shape_error("input must have at least 1 axis, got ()");
  if (x.back() != weight[dense_weight::in])
    n.shape_error("weight expects " + std::to_string(weight[dense_weight::in]) +
                  " input features, input has " + std::to_string(x.back()));
  n.need_shape(2, {weight[dense_weight::out]}, "bias");
  Shape y = x;
  y.back() = weight[dense_weight::out];
  n.output(std::move(y));
}

}  // namespace

void register_conv(Rule* rules) {
  // y is offered for the sake of a fused neuron's gradient.
  rules[static_cast<int>(Op::conv2d)] = {infer_conv2d, 0b111, {0b011, 0b1, 0}};
  rules[static_cast<int>(Op::conv_transpose2d)] = {infer_conv_transpose2d, 0b111, {0b011, 0b1, 0}};
  rules[static_cast<int>(Op::linear)] = {infer_linear, 0b111, {0b011, 0b1, 0}};
}

}  // namespace mpsnn::ir
