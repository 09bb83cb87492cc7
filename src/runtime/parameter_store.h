// Where a model's arrays live: a canonical copy on the host and one per device and dtype of those
// that use them (float64 graphs have float64 copies).
//
// The copy written last is current. A graph refreshes its device's copy when it encodes; a read
// from Python refreshes the host's. Order comes from the queues: a refresh is queued behind the
// steps that were encoded before it. (One store a parameter rather than one a model: a layer may be
// part of several models.)
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "mpsnn/parameter.h"
#include "runtime/registry.h"

namespace mpsnn {

class ParameterCopies {
 public:
  explicit ParameterCopies(Tensor host)
      : shape_(host.shape()), dtype_(host.dtype()), host_(std::move(host)) {}

  // This device's storage, made at first use; its contents may be old until refresh().
  runtime::Storage& storage(runtime::DeviceContext& device, DType dtype);
  // Brings the device's copy up to date, and makes it the current one if a step is going to write
  // it. Returns its version: the contents are others only if the number is another.
  int64_t refresh(runtime::DeviceContext& device, DType dtype, bool writes);
  // The canonical array is at least as wide as what any graph that trains it writes.
  void widen(DType dtype);
  DType dtype();

  Tensor read();
  void write(const Tensor& value);

  // What the host has of a device that may go; queue thread.
  void keep(Tensor saved);

 private:
  struct Copy {
    runtime::DeviceContext* device;
    DType dtype;
    std::unique_ptr<runtime::Storage> storage;
    int64_t version;
  };
  Copy& copy(runtime::DeviceContext& device, DType dtype);
  void refresh_host();

  std::mutex mutex_;
  Shape shape_;
  DType dtype_;
  Tensor host_;  // empty while a device that stays holds something newer that nobody has read
  std::mutex saved_mutex_;  // taken on queue threads, which others wait for with mutex_ locked
  Tensor saved_;
  int64_t latest_ = 0, host_version_ = 0;
  Copy* current_ = nullptr;  // nullptr: the host's
  std::vector<std::unique_ptr<Copy>> copies_;
};

}  // namespace mpsnn
