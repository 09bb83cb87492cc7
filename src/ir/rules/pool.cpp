// max_pool2d, avg_pool2d and l2_pool2d, over images and sequences.
#include <algorithm>

#include "ir/images.h"
#include "ir/op.h"
#include "ir/rules/window.h"

namespace mpsnn::ir {
namespace {

void infer_pool(Infer& n) {
  const bool pair = n.attrs().integers("kernel").size() != 1;
  const std::size_t rank = n.shape(0).size();
  if (!pair || rank != 3)  // a pair pools sequences as well: images of height 1
    n.need_rank(0, pair ? 4 : 3, pair ? "image" : "sequence");
  const auto kernel = read_pair(n, "kernel", 1, 1);
  const bool explicit_pads = !n.attrs().has("padding");
  const Shape image = as_image(n.shape(0));
  const auto size = resolve_window(n, image, kernel);
  const auto& pads = n.attrs().integers("pads");
  for (std::size_t i = 0; explicit_pads && i < 2; ++i)
    if (std::max(pads[i], pads[2 + i]) * 2 > kernel[i])
      n.value_error("padding must be at most half of the kernel, got " +
                    std::to_string(std::max(pads[i], pads[2 + i])) + " for " +
                    std::to_string(kernel[i]));
  output_images(n, size, image[3]);
}

void infer_max_pool2d(Infer& n) {
  infer_pool(n);
  n.opaque_state();
}

void refuse_dilation(Infer& n, const char* kind) {
  if (n.attrs().integers("dilation") != std::vector<int64_t>{1, 1})
    n.value_error(std::string(kind) + " pooling has no dilation");
}

void infer_avg_pool2d(Infer& n) {
  infer_pool(n);
  refuse_dilation(n, "average");
  if (!n.attrs().has("count_include_pad"))
    n.attrs().set("count_include_pad", n.attrs().text("padding", "valid") != "same");
}

void infer_l2_pool2d(Infer& n) {
  infer_pool(n);
  refuse_dilation(n, "L2");
}

}  // namespace

void register_pool(Rule* rules) {
  rules[static_cast<int>(Op::max_pool2d)] = {infer_max_pool2d, 0b1, {0b1, 0b1, 0b1}};
  rules[static_cast<int>(Op::avg_pool2d)] = {infer_avg_pool2d, 0b1, {0, 0, 0}};
  rules[static_cast<int>(Op::l2_pool2d)] = {infer_l2_pool2d, 0b1, {0b1, 0b1, 0}};
}

}  // namespace mpsnn::ir
