// One row a type; everything else about it is derived.
#include "mpsnn/dtype.h"

#include <iterator>

#include "mpsnn/error.h"

namespace mpsnn {
namespace {

struct Info {
  const char* name;
  std::size_t size;
  bool floating;
};
constexpr Info kInfo[] = {
    {"float32", 4, true}, {"float16", 2, true}, {"bfloat16", 2, true}, {"float64", 8, true},
    {"int32", 4, false},  {"int64", 8, false},  {"uint8", 1, false},
};
static_assert(std::size(kInfo) == static_cast<std::size_t>(DType::uint8) + 1);

const Info& info(DType dtype) { return kInfo[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::size_t size_of(DType dtype) { return info(dtype).size; }
const char* name_of(DType dtype) { return info(dtype).name; }
bool is_floating(DType dtype) { return info(dtype).floating; }

DType parse_dtype(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < std::size(kInfo); ++i) {
    if (name == kInfo[i].name) return static_cast<DType>(i);
    known += (known.empty() ? "" : ", ") + std::string(kInfo[i].name);
  }
  throw ValueError("unknown dtype '" + std::string(name) + "', expected one of " + known);
}

}  // namespace mpsnn
