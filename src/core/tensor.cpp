// Memory comes from posix_memalign: 64 bytes is a cache line and the widest vector register.
#include "mpsnn/tensor.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/host_info.h"
#include "mpsnn/error.h"

namespace mpsnn {
namespace {

std::size_t checked_bytes(const Shape& shape, DType dtype) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(count(shape)), size_of(dtype), &bytes)) {
    throw OutOfMemoryError("shape " + to_string(shape) + " has more than 2^64 bytes");
  }
  return bytes;
}

std::shared_ptr<void> allocate(const Shape& shape, DType dtype) {
  // Beyond a few times the machine's memory no swap helps; asking for it would abort some
  // allocators.
  static const std::size_t absurd = [] {
    const int64_t memory = host::total_memory();
    return memory > 0 ? 4 * static_cast<std::size_t>(memory) : std::size_t{PTRDIFF_MAX};
  }();
  const std::size_t bytes = checked_bytes(shape, dtype);
  void* memory = nullptr;
  if (bytes > absurd || posix_memalign(&memory, 64, bytes == 0 ? 1 : bytes) != 0) {
    throw OutOfMemoryError("no memory for " + std::to_string(bytes) + " bytes, an array of shape " +
                           to_string(shape) + " and dtype " + name_of(dtype));
  }
  return std::shared_ptr<void>(memory, std::free);
}

}  // namespace

Tensor::Tensor(Shape shape, DType dtype)
    : shape_(std::move(shape)), dtype_(dtype), memory_(allocate(shape_, dtype)) {}

Tensor::Tensor(Shape shape, DType dtype, std::shared_ptr<void> memory, std::string device)
    : shape_(std::move(shape)),
      dtype_(dtype),
      memory_(std::move(memory)),
      device_(std::move(device)) {
  checked_bytes(shape_, dtype_);
}

Tensor Tensor::clone() const {
  if (!memory_) return *this;
  Tensor copy(shape_, dtype_);
  if (bytes() != 0) std::memcpy(copy.data(), data(), bytes());
  copy.device_ = device_;
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  if (!memory_) return Tensor();
  Tensor converted(shape_, dtype);
  convert(data(), dtype_, converted.data(), dtype, count());
  converted.device_ = device_;
  return converted;
}

}  // namespace mpsnn
