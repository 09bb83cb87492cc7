// A named array of a model that outlives any graph: a weight, or a buffer such as a running mean.
//
// Shared by every graph that uses it. Each device that trains or reads it holds a copy in its own
// layout, the host a canonical one until a device has written. The copy written last is current,
// the others refresh at their next use (runtime/parameter_store.h).
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "mpsnn/tensor.h"

namespace mpsnn {

class ParameterCopies;  // the device side

class Parameter {
 public:
  explicit Parameter(Tensor canonical, bool buffer = false);  // float32 or float64
  ~Parameter();
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  const Shape& shape() const { return shape_; }
  DType dtype() const;  // float64 as soon as a float64 graph trains it
  bool is_buffer() const { return buffer_; }

  Tensor read() const;              // a fresh canonical copy; waits for queued steps that write it
  void write(const Tensor& value);  // ShapeError, DTypeError; waits likewise

  ParameterCopies& copies() const { return *copies_; }

 private:
  Shape shape_;
  bool buffer_;
  std::unique_ptr<ParameterCopies> copies_;
};

}  // namespace mpsnn
