// A dense, row-major host array that shares its memory when copied. Results, canonical weights and
// file contents are Tensors; values inside a plan are not.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "mpsnn/dtype.h"
#include "mpsnn/shape.h"

namespace mpsnn {

class Tensor {
 public:
  Tensor() = default;
  Tensor(Shape shape, DType dtype);  // 64-byte aligned, not initialised; OutOfMemoryError
  Tensor(Shape shape, DType dtype, std::shared_ptr<void> memory, std::string device = "cpu");

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t count() const { return mpsnn::count(shape_); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype_); }
  const std::string& device() const { return device_; }
  void set_device(std::string device) { device_ = std::move(device); }
  explicit operator bool() const { return memory_ != nullptr; }

  void* data() { return memory_.get(); }
  const void* data() const { return memory_.get(); }
  template <class T>
  T* as() {
    return static_cast<T*>(memory_.get());
  }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(memory_.get());
  }
  const std::shared_ptr<void>& memory() const { return memory_; }

  Tensor clone() const;
  Tensor to(DType dtype) const;  // a converted copy; itself when equal

 private:
  Shape shape_;
  DType dtype_ = DType::float32;
  std::shared_ptr<void> memory_;
  std::string device_ = "cpu";
};

// Converts `count` elements between any two types, rounding once to nearest even. Integers
// saturate; NaN becomes 0 in them. The arrays do not overlap.
void convert(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count);

}  // namespace mpsnn
