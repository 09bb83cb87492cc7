// What kernels allow the memory pass.
#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

// Output 0 over an operand of its size: these kernels read an element of that operand, or a row of
// channels, before they write it, and never again.
uint64_t overwrites(const Node& node) {
  constexpr uint64_t kAll = ~uint64_t{0}, kFirst = 1;  // the source, or the gradient of the output
  const uint64_t source = uint64_t{1} << (node.gradient ? node.ny : 0);
  switch (node.op) {
    case Op::neuron:
    case Op::softmax:
    case Op::log_softmax:
      return kAll;
    case Op::dropout:
      return kFirst;
    case Op::add:
    case Op::subtract:
    case Op::multiply:
    case Op::divide:
      return node.gradient ? kFirst : kAll;
    case Op::add_n:
      return node.gradient ? 0 : kAll;
    case Op::prelu:
    case Op::group_norm:
    case Op::layer_norm:
      return node.gradient ? kFirst | source : kFirst;
    case Op::batch_norm:  // behind a pooling, values belong to windows
      if (node.attrs.flag("pooled", false)) return node.gradient ? source : 0;
      return node.gradient ? kFirst | source : kFirst;
    case Op::avg_pool2d:
      return node.gradient ? kAll << node.addends() : 0;
    case Op::softmax_cross_entropy:
    case Op::element_loss:
    case Op::cosine_distance:
      return node.gradient ? source : 0;
    default:
      return 0;
  }
}

// Output 0, or of a gradient node its gradient, as some channels of a wider image.
bool takes_slice(const ir::Plan& plan, const Node& node) {
  constexpr int64_t kFewest = 16;  // channels that are worth a call of a kernel
  const ValueId whole = node.gradient ? node.gy(0) : node.y(0);
  const Shape& shape = plan.values[static_cast<std::size_t>(whole)].shape;
  switch (node.op) {
    case Op::batch_norm:
      return plan.dtype == DType::float32 || takes_bfloat(plan, node);
    case Op::neuron:
    case Op::add:
    case Op::subtract:
    case Op::multiply:
    case Op::divide:
      return plan.dtype == DType::float32 && !node.attrs.has("neuron") && !shape.empty() &&
             shape.back() >= kFewest;
    default:
      return false;
  }
}

}  // namespace mpsnn::backend::cpu
