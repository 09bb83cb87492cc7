// Ops across elements: flatten and concat, which only move them, and image_mean.
#include "ir/op.h"

namespace mpsnn::ir {
namespace {

void infer_flatten(Infer& n) {
  const Shape& x = n.shape(0);
  if (x.empty()) n.shape_error("input needs a batch axis");
  n.output({x[0], count(x) / x[0]});
}

void infer_image_mean(Infer& n) {
  if (n.shape(0).empty()) n.shape_error("input needs a batch axis");
  n.output({n.shape(0)[0]});
}

void infer_concat(Infer& n) {
  Shape y = n.shape(0);
  if (y.empty()) n.shape_error("input needs a channel axis");
  std::vector<int64_t> sizes{y.back()};  // a gradient may lack some of the parts
  for (int i = 1; i < n.operands(); ++i) {
    Shape other = n.shape(i);
    const int64_t channels = other.empty() ? 0 : other.back();
    if (!other.empty()) other.back() = y.back();
    if (other != y)
      n.shape_error("all parts must agree but in channels: part 0 is " + to_string(n.shape(0)) +
                    ", part " + std::to_string(i) + " is " + to_string(n.shape(i)));
    y.back() += channels;
    sizes.push_back(channels);
  }
  n.attrs().set("sizes", std::move(sizes));
  n.output(std::move(y));
}

}  // namespace

void register_shape(Rule* rules) {
  rules[static_cast<int>(Op::flatten)] = {infer_flatten, 0b1, {}};
  rules[static_cast<int>(Op::image_mean)] = {infer_image_mean, 0b1, {}};
  rules[static_cast<int>(Op::concat)] = {infer_concat, ~uint64_t{0}, {}};
}

}  // namespace mpsnn::ir
