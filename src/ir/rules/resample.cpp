// resize2d and pad2d, over images and sequences.
#include <cmath>

#include "ir/images.h"
#include "ir/op.h"
#include "ir/rules/window.h"

namespace mpsnn::ir {
namespace {

Shape need_image(Infer& n) {
  if (n.shape(0).size() != 3) n.need_rank(0, 4, "image");
  return as_image(n.shape(0));
}

void infer_resize2d(Infer& n) {
  const Shape image = need_image(n);
  n.attrs().integers("size");  // must be there
  const auto size = read_pair(n, "size", 1, 1);
  const std::string mode = n.attrs().text("mode", "nearest");
  if (mode != "nearest" && mode != "bilinear")
    n.value_error("mode must be \"nearest\" or \"bilinear\", got \"" + mode + "\"");
  const bool align = n.attrs().flag("align_corners", false);
  if (align && mode == "nearest") n.value_error("align_corners is of mode \"bilinear\"");
  n.attrs().set("mode", mode);
  n.attrs().set("align_corners", align);
  output_images(n, size, image[3]);
}

void infer_pad2d(Infer& n) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const Shape image = need_image(n);
  const auto& sides = n.attrs().integers("sides");  // top, left, bottom, right
  if (sides.size() != 4) n.value_error("sides must be 4 integers");
  const std::string mode = n.attrs().text("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge")
    n.value_error("mode must be \"constant\", \"reflect\" or \"edge\", got \"" + mode + "\"");
  const double value = n.attrs().number("value", 0.0);
  if (!std::isfinite(value)) n.value_error("value must be finite, got " + std::to_string(value));
  if (n.shape(0).size() == 3 && (sides[0] != 0 || sides[2] != 0))
    n.value_error("a sequence is not padded at the top or bottom");
  std::array<int64_t, 2> size{};
  for (std::size_t i = 0; i < 2; ++i) {
    const char* axis = i == 0 ? "height " : "width ";
    for (const int64_t side : {sides[i], sides[2 + i]}) {
      if (side > kMost || side < -kMost)
        n.value_error("padding must be within +-2^30, got " + std::to_string(side));
      if (mode == "reflect" && side >= image[1 + i])
        n.shape_error("reflected padding must be smaller than the image's " + std::string(axis) +
                      std::to_string(image[1 + i]) + ", got " + std::to_string(side));
    }
    size[i] = image[1 + i] + sides[i] + sides[2 + i];
    if (size[i] < 1)
      n.shape_error("padding leaves nothing of the image's " + std::string(axis) +
                    std::to_string(image[1 + i]));
  }
  n.attrs().set("mode", mode);
  n.attrs().set("value", value);
  output_images(n, size, image[3]);
}

}  // namespace

void register_resample(Rule* rules) {
  rules[static_cast<int>(Op::resize2d)] = {infer_resize2d, 0b1, {}};
  rules[static_cast<int>(Op::pad2d)] = {infer_pad2d, 0b1, {}};
}

}  // namespace mpsnn::ir
