// Which nodes may write output 0 over an operand of its size: their kernels read an element of that
// operand, or a row of channels, before they write it, and never again.
#include "backend/cpu/cpu.h"

namespace mpsnn::backend::cpu {

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

}  // namespace mpsnn::backend::cpu
