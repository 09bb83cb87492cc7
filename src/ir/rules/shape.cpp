// Ops that only move elements: flatten, reshape, permute, slice, concat. All leave the batch alone.
// Each rule completes its attributes, and takes completed ones when it runs for another batch.
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_flatten(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a batch axis");
  n.output({x[0], count(x) / x[0]});
}

void infer_reshape(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a batch axis");
  const int64_t elements = count(x) / x[0];
  Shape shape = n.attrs().integers("shape");
  int64_t known = 1, *open = nullptr;
  for (int64_t& size : shape) {
    if (size == -1 && open == nullptr) {
      open = &size;
      continue;
    }
    if (size < 1) n.value_error("sizes must be at least 1, one may be -1, got " + to_string(shape));
    if (known > elements / size)
      n.shape_error(to_string(shape) + " has more than the " + std::to_string(elements) +
                    " elements of an item of " + to_string(x));
    known *= size;
  }
  if (open != nullptr && elements % known == 0) {
    *open = elements / known;
    known = elements;
  }
  if (known != elements)
    n.shape_error(to_string(shape) + " does not hold the " + std::to_string(elements) +
                  " elements of an item of " + to_string(x));
  n.attrs().set("shape", shape);
  shape.insert(shape.begin(), x[0]);
  n.output(std::move(shape));
}

void infer_permute(Infer& n) {
  const Shape& x = n.shape(0);
  std::vector<int64_t> dims = n.attrs().integers("dims");
  const std::string once =
      "dims must name each axis of " + to_string(x) + " once, got " + to_string(dims);
  if (dims.size() != x.size() || dims.empty()) n.value_error(once);
  if (dims[0] != 0) n.value_error("the batch stays the first axis, got dims " + to_string(dims));
  Shape y{x[0]};
  std::vector<bool> named(x.size(), false);
  for (std::size_t i = 1; i < dims.size(); ++i) {
    dims[i] = n.need_axis(dims[i], x.size());
    const auto axis = static_cast<std::size_t>(dims[i]);
    if (named[axis]) n.value_error(once);
    named[axis] = true;
    y.push_back(x[axis]);
  }
  n.attrs().set("dims", std::move(dims));
  n.output(std::move(y));
}

void infer_slice(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a batch axis");
  const auto dims = n.attrs().integers("dims"), starts = n.attrs().integers("starts"),
             stops = n.attrs().integers("stops");
  if (dims.size() != starts.size() || dims.size() != stops.size())
    n.value_error("starts, stops and dims must be of one length, got " + to_string(starts) + ", " +
                  to_string(stops) + " and " + to_string(dims));
  std::vector<int64_t> axes, from, to;
  for (std::size_t axis = 1; axis < x.size(); ++axis) {
    axes.push_back(static_cast<int64_t>(axis));
    from.push_back(0);
    to.push_back(x[axis]);
  }
  std::vector<bool> named(x.size(), false);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto axis = static_cast<std::size_t>(n.need_axis(dims[i], x.size()));
    if (named[axis]) n.value_error("dims names an axis twice: " + to_string(dims));
    named[axis] = true;
    const int64_t start = starts[i] < 0 ? starts[i] + x[axis] : starts[i];
    const int64_t stop = stops[i] < 0 ? stops[i] + x[axis] : stops[i];
    if (start < 0 || start >= stop || stop > x[axis])
      n.shape_error("there is no " + std::to_string(starts[i]) + " to " + std::to_string(stops[i]) +
                    " in axis " + std::to_string(dims[i]) + " of " + to_string(x));
    from[axis - 1] = start;
    to[axis - 1] = stop;
  }
  Shape y{x[0]};
  for (std::size_t i = 0; i < from.size(); ++i) y.push_back(to[i] - from[i]);
  n.attrs().set("dims", std::move(axes));
  n.attrs().set("starts", std::move(from));
  n.attrs().set("stops", std::move(to));
  n.output(std::move(y));
}

void infer_concat(Infer& n) {
  Shape y = n.shape(0);
  const int64_t dim = n.need_axis(n.attrs().integer("dim", -1), y.size());
  const auto axis = static_cast<std::size_t>(dim);
  std::vector<int64_t> sizes{y[axis]};  // a gradient may lack some of the parts
  for (int i = 1; i < n.operands(); ++i) {
    Shape other = n.shape(i);
    const int64_t size = axis < other.size() ? other[axis] : 0;
    if (axis < other.size()) other[axis] = y[axis];
    if (other != y)
      n.shape_error("all parts must agree but in axis " + std::to_string(axis) + ": part 0 is " +
                    to_string(n.shape(0)) + ", part " + std::to_string(i) + " is " +
                    to_string(n.shape(i)));
    y[axis] += size;
    sizes.push_back(size);
  }
  n.attrs().set("dim", dim);
  n.attrs().set("sizes", std::move(sizes));
  n.output(std::move(y));
}

}  // namespace

void register_shape(Rule* rules) {
  rules[static_cast<int>(Op::flatten)] = {infer_flatten, 0b1, {}, 0, false, true};
  rules[static_cast<int>(Op::reshape)] = {infer_reshape, 0b1, {}, 0, false, true};
  rules[static_cast<int>(Op::permute)] = {infer_permute, 0b1, {}};
  rules[static_cast<int>(Op::slice)] = {infer_slice, 0b1, {}};
  rules[static_cast<int>(Op::concat)] = {infer_concat, ~uint64_t{0}, {}};
}

}  // namespace mpsnn::ir
