#include "ir/rules/window.h"

#include <algorithm>
#include <limits>

namespace mpsnn::ir {
namespace {

using Pair = std::array<int64_t, 2>;
constexpr int64_t kMaxExtent = std::numeric_limits<int32_t>::max() / 4;

Pair extents(Infer& n, Pair kernel, Pair dilation) {
  Pair extent{};
  for (std::size_t i = 0; i < 2; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxExtent / dilation[i])
      n.value_error("kernel must be at least 1, got " + std::to_string(kernel[i]));
    extent[i] = (kernel[i] - 1) * dilation[i] + 1;
  }
  return extent;
}

// Whether `padding` says "same"; if neither it nor `pads` is there, "valid".
bool is_same(Infer& n) {
  if (n.attrs().has("pads") && !n.attrs().has("padding")) return false;
  const std::string padding = n.attrs().text("padding", "valid");
  if (padding != "same" && padding != "valid")
    n.value_error("padding must be \"same\", \"valid\", an integer or a pair, got \"" + padding +
                  "\"");
  return padding == "same";
}

// {top, left, bottom, right} as given: one integer (a sequence's), a pair, or all four.
std::vector<int64_t> given_pads(Infer& n) {
  if (!n.attrs().has("pads") || n.attrs().has("padding")) return {0, 0, 0, 0};
  std::vector<int64_t> pads = n.attrs().integers("pads");
  if (pads.size() == 1 && n.shape(0).size() == 3) pads = {0, pads[0]};
  if (pads.size() == 2) pads = {pads[0], pads[1], pads[0], pads[1]};
  if (pads.size() != 4) n.value_error("pads must be 2 or 4 integers");
  for (const int64_t p : pads)
    if (p < 0 || p > kMaxExtent)
      n.value_error("padding must not be negative, got " + std::to_string(p));
  return pads;
}

}  // namespace

Pair read_pair(Infer& n, const char* name, int64_t least, int64_t otherwise) {
  Pair result{otherwise, otherwise};
  if (n.attrs().has(name)) {
    const auto& given = n.attrs().integers(name);
    if (given.size() == 1 && n.shape(0).size() == 3)
      result[1] = given[0];
    else if (given.size() == 2)
      result = {given[0], given[1]};
    else
      n.value_error(std::string(name) + " must be an integer or a pair");
  }
  for (const int64_t v : result)
    if (v < least || v > kMaxExtent)
      n.value_error(std::string(name) + " must be at least " + std::to_string(least) + ", got " +
                    std::to_string(v));
  n.attrs().set(name, std::vector<int64_t>{result[0], result[1]});
  return result;
}

Pair resolve_window(Infer& n, const Shape& image, Pair kernel) {
  const Pair stride = read_pair(n, "stride", 1, 1), dilation = read_pair(n, "dilation", 1, 1);
  const Pair extent = extents(n, kernel, dilation);
  std::vector<int64_t> pads = given_pads(n);
  if (is_same(n))
    for (std::size_t i = 0; i < 2; ++i) {
      const int64_t out = (image[1 + i] + stride[i] - 1) / stride[i];
      const int64_t extra = std::max<int64_t>(0, (out - 1) * stride[i] + extent[i] - image[1 + i]);
      pads[i] = extra / 2;
      pads[2 + i] = extra - extra / 2;
    }
  n.attrs().set("pads", pads);

  const bool ceil = n.attrs().flag("ceil_mode", false);
  Pair size{};
  for (std::size_t i = 0; i < 2; ++i) {
    const int64_t padded = image[1 + i] + pads[i] + pads[2 + i];
    const int64_t room = padded - extent[i] + (ceil ? stride[i] - 1 : 0);
    if (room < 0)
      n.shape_error(std::string("kernel ") + (i == 0 ? "height " : "width ") +
                    std::to_string(extent[i]) + " is larger than the padded image's " +
                    std::to_string(padded));
    size[i] = room / stride[i] + 1;
    // A last window that would begin behind the image is none.
    if (ceil && (size[i] - 1) * stride[i] >= image[1 + i] + pads[i]) --size[i];
  }
  return size;
}

Pair resolve_transposed(Infer& n, const Shape& image, Pair kernel) {
  const Pair stride = read_pair(n, "stride", 1, 1), dilation = read_pair(n, "dilation", 1, 1);
  const Pair extent = extents(n, kernel, dilation);
  const bool same = is_same(n);
  std::vector<int64_t> pads = given_pads(n);
  if (same) n.attrs().set("output_padding", std::vector<int64_t>{0, 0});
  Pair more = read_pair(n, "output_padding", 0, 0), size{};
  for (std::size_t i = 0; i < 2; ++i) {
    if (more[i] >= stride[i])
      n.value_error("output_padding must be smaller than stride " + std::to_string(stride[i]) +
                    ", got " + std::to_string(more[i]));
    if (same) {
      const int64_t extra = std::max<int64_t>(0, extent[i] - stride[i]);
      pads[i] = extra / 2;
      pads[2 + i] = extra - extra / 2;
      more[i] = std::max<int64_t>(0, stride[i] - extent[i]);
    }
    if (image[1 + i] > kMaxExtent / stride[i])
      n.shape_error("image " + to_string(n.shape(0)) + " is too large for stride " +
                    std::to_string(stride[i]));
    size[i] = (image[1 + i] - 1) * stride[i] + extent[i] - pads[i] - pads[2 + i] + more[i];
    if (size[i] < 1)
      n.shape_error(std::string("padding leaves nothing of the output's ") +
                    (i == 0 ? "height" : "width"));
  }
  n.attrs().set("pads", pads);
  n.attrs().set("output_padding", std::vector<int64_t>{more[0], more[1]});
  return size;
}

void output_images(Infer& n, Pair size, int64_t channels) {
  const Shape& x = n.shape(0);
  if (x.size() == 3)
    n.output({x[0], size[1], channels});
  else
    n.output({x[0], size[0], size[1], channels});
}

}  // namespace mpsnn::ir
