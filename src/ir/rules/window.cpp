#include "ir/rules/window.h"

#include <algorithm>
#include <limits>

namespace mpsnn::ir {
namespace {

constexpr int64_t kMaxExtent = std::numeric_limits<int32_t>::max() / 4;

std::array<int64_t, 2> pair(Infer& n, const char* name, int64_t least) {
  std::array<int64_t, 2> result{1, 1};
  if (n.attrs().has(name)) {
    const auto& given = n.attrs().integers(name);
    if (given.size() != 2) n.value_error(std::string(name) + " must be an integer or a pair");
    result = {given[0], given[1]};
  }
  for (const int64_t v : result)
    if (v < least || v > kMaxExtent)
      n.value_error(std::string(name) + " must be at least " + std::to_string(least) + ", got " +
                    std::to_string(v));
  n.attrs().set(name, std::vector<int64_t>{result[0], result[1]});
  return result;
}

}  // namespace

std::array<int64_t, 2> resolve_window(Infer& n, const Shape& image, std::array<int64_t, 2> kernel) {
  const auto stride = pair(n, "stride", 1), dilation = pair(n, "dilation", 1);
  std::array<int64_t, 2> size{}, extent{};
  for (int i = 0; i < 2; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxExtent / dilation[i])
      n.value_error("kernel must be at least 1, got " + std::to_string(kernel[i]));
    extent[i] = (kernel[i] - 1) * dilation[i] + 1;
  }

  std::vector<int64_t> pads(4, 0);  // top, left, bottom, right
  if (n.attrs().has("pads") && !n.attrs().has("padding")) {
    pads = n.attrs().integers("pads");
    if (pads.size() == 2) pads = {pads[0], pads[1], pads[0], pads[1]};
    if (pads.size() != 4) n.value_error("pads must be 2 or 4 integers");
    for (const int64_t p : pads)
      if (p < 0 || p > kMaxExtent)
        n.value_error("padding must not be negative, got " + std::to_string(p));
  } else {
    const std::string padding = n.attrs().text("padding", "valid");
    if (padding != "same" && padding != "valid")
      n.value_error("padding must be \"same\", \"valid\", an integer or a pair, got \"" + padding +
                    "\"");
    if (padding == "same") {
      for (int i = 0; i < 2; ++i) {
        const int64_t in = image[static_cast<std::size_t>(1 + i)];
        const int64_t out = (in + stride[i] - 1) / stride[i];
        const int64_t extra = std::max<int64_t>(0, (out - 1) * stride[i] + extent[i] - in);
        pads[static_cast<std::size_t>(i)] = extra / 2;
        pads[static_cast<std::size_t>(2 + i)] = extra - extra / 2;
      }
    }
  }
  n.attrs().set("pads", pads);

  for (std::size_t i = 0; i < 2; ++i) {
    const int64_t padded = image[1 + i] + pads[i] + pads[2 + i];
    if (padded < extent[i])
      n.shape_error(std::string("kernel ") + (i == 0 ? "height " : "width ") +
                    std::to_string(extent[i]) + " is larger than the padded image's " +
                    std::to_string(padded));
    size[i] = (padded - extent[i]) / stride[i] + 1;
  }
  return size;
}

}  // namespace mpsnn::ir
