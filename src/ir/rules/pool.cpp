// max_pool2d and avg_pool2d.
#include <algorithm>

#include "ir/op.h"
#include "ir/rules/window.h"

namespace mpsnn::ir {
namespace {

std::array<int64_t, 2> pooled_size(Infer& n) {
  n.need_rank(0, 4, "image");
  const auto kernel = n.attrs().integers("kernel");
  if (kernel.size() != 2) n.value_error("kernel must be an integer or a pair");
  const bool explicit_pads = !n.attrs().has("padding");
  const auto size = resolve_window(n, n.shape(0), {kernel[0], kernel[1]});
  const auto& pads = n.attrs().integers("pads");
  for (std::size_t i = 0; explicit_pads && i < 2; ++i)
    if (std::max(pads[i], pads[2 + i]) * 2 > kernel[i])
      n.value_error("padding must be at most half of the kernel, got " +
                    std::to_string(std::max(pads[i], pads[2 + i])) + " for " +
                    std::to_string(kernel[i]));
  return size;
}

void infer_max_pool2d(Infer& n) {
  const auto size = pooled_size(n);
  const Shape& image = n.shape(0);
  n.output({image[0], size[0], size[1], image[3]});
  n.opaque_state();
}

void infer_avg_pool2d(Infer& n) {
  const auto size = pooled_size(n);
  if (n.attrs().integers("dilation") != std::vector<int64_t>{1, 1})
    n.value_error("average pooling has no dilation");
  if (!n.attrs().has("count_include_pad"))
    n.attrs().set("count_include_pad", n.attrs().text("padding", "valid") != "same");
  const Shape& image = n.shape(0);
  n.output({image[0], size[0], size[1], image[3]});
}

}  // namespace

void register_pool(Rule* rules) {
  rules[static_cast<int>(Op::max_pool2d)] = {infer_max_pool2d, 0b1, {0b1, 0b1, 0b1}};
  rules[static_cast<int>(Op::avg_pool2d)] = {infer_avg_pool2d, 0b1, {0, 0, 0}};
}

}  // namespace mpsnn::ir
