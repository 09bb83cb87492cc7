// Element-wise sums, differences, products and quotients. Shapes broadcast; a gradient by an
// operand that was repeated is summed over its repetitions.
#include "ir/broadcast.h"
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_binary(Infer& n) {
  auto shape = broadcast(n.shape(0), n.shape(1));
  if (!shape)
    n.shape_error("shapes do not broadcast: " + to_string(n.shape(0)) + " and " +
                  to_string(n.shape(1)));
  n.output(std::move(*shape));
}

}  // namespace

void register_arithmetic(Rule* rules) {
  rules[static_cast<int>(Op::add)] = {infer_binary, 0b11, {}, 0b11};
  rules[static_cast<int>(Op::subtract)] = {infer_binary, 0b11, {}, 0b01};
  rules[static_cast<int>(Op::multiply)] = {infer_binary, 0b11, {0b11, 0, 0}};
  rules[static_cast<int>(Op::divide)] = {infer_binary, 0b11, {0b11, 0, 0}};
}

}  // namespace mpsnn::ir
