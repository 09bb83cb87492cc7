// Element-wise sums, differences, products and quotients, and reductions. Shapes broadcast; a
// gradient by an operand that was repeated is summed over its repetitions. Reductions keep the
// batch; an extreme that several elements share gives each an equal part of the gradient.
#include <algorithm>

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

void infer_add_n(Infer& n) {
  for (int i = 1; i < n.operands(); ++i) n.need_shape(i, n.shape(0), "every operand");
  n.output(n.shape(0));
}

void infer_reduce(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a batch axis");
  std::vector<int64_t> dims;
  if (n.attrs().has("dims")) {
    for (const int64_t dim : n.attrs().integers("dims")) dims.push_back(n.need_axis(dim, x.size()));
    std::sort(dims.begin(), dims.end());
    if (std::adjacent_find(dims.begin(), dims.end()) != dims.end())
      n.value_error("an axis is named twice: " + to_string(n.attrs().integers("dims")));
  } else {
    for (std::size_t axis = 1; axis < x.size(); ++axis) dims.push_back(static_cast<int64_t>(axis));
  }
  const bool keep = n.attrs().flag("keepdim", false);
  Shape y = reduced(x, dims);
  for (std::size_t i = dims.size(); !keep && i-- > 0;) y.erase(y.begin() + dims[i]);
  n.attrs().set("dims", std::move(dims));
  n.attrs().set("keepdim", keep);
  n.output(std::move(y));
}

}  // namespace

void register_arithmetic(Rule* rules) {
  rules[static_cast<int>(Op::add)] = {infer_binary, 0b11, {}, 0b11};
  rules[static_cast<int>(Op::add_n)] = {infer_add_n, ~uint64_t{0}, {}, ~uint64_t{0}};
  rules[static_cast<int>(Op::subtract)] = {infer_binary, 0b11, {}, 0b01};
  rules[static_cast<int>(Op::multiply)] = {infer_binary, 0b11, {0b11, 0, 0}};
  rules[static_cast<int>(Op::divide)] = {infer_binary, 0b11, {0b11, 0, 0}};
  rules[static_cast<int>(Op::reduce_sum)] = {infer_reduce, 0b1, {}};
  rules[static_cast<int>(Op::reduce_mean)] = {infer_reduce, 0b1, {}};
  rules[static_cast<int>(Op::reduce_max)] = {infer_reduce, 0b1, {0b1, 0b1, 0}};
  rules[static_cast<int>(Op::reduce_min)] = {infer_reduce, 0b1, {0b1, 0b1, 0}};
}

}  // namespace mpsnn::ir
