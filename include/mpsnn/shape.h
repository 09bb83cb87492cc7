// Shapes are dense and row-major: images (N, H, W, C), sequences (N, T, C), rows (N, C).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mpsnn {

using Shape = std::vector<int64_t>;

int64_t count(const Shape& shape);          // number of elements; 1 for a scalar shape {}
std::string to_string(const Shape& shape);  // "(64, 8, 8, 1)"

}  // namespace mpsnn
