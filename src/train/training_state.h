// What lives between the steps of one graph beside its parameters: moments, counters, loss scale.
// All its plans (full batch, last batch, soft labels) share one.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ir/plan.h"
#include "runtime/registry.h"

namespace mpsnn::train {

class TrainingState {
 public:
  explicit TrainingState(runtime::DeviceContext& device) : device_(device) {}

  // Makes what is missing, zero but for the loss scale.
  runtime::Storage& storage(const Value& value, double initial_scale);

  // After a non-finite step has been raised. What had been accumulated goes with it.
  void clear_failed();
  std::vector<std::pair<std::string, Tensor>> read();
  void write(const std::vector<std::pair<std::string, Tensor>>& values);  // all or nothing

  std::atomic<int64_t> encoded{0};

 private:
  struct Entry {
    Shape shape;
    DType dtype;
    std::unique_ptr<runtime::Storage> storage;
  };
  runtime::DeviceContext& device_;
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace mpsnn::train
