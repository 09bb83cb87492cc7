// Element types of values, parameters and files. float32 is the type of masters and losses; int32
// carries class indices, uint8 opaque state bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mpsnn {

enum class DType : uint8_t { float32, float16, bfloat16, float64, int32, int64, uint8 };

std::size_t size_of(DType dtype);
const char* name_of(DType dtype);
DType parse_dtype(std::string_view name);  // ValueError for an unknown name
bool is_floating(DType dtype);

// The type of weights, gradients of weights, statistics and losses in a graph of `dtype`.
inline DType master_dtype(DType dtype) {
  return dtype == DType::float64 ? DType::float64 : DType::float32;
}

}  // namespace mpsnn
