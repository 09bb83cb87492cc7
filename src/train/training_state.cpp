#include "train/training_state.h"

#include <cstring>

#include "mpsnn/error.h"

namespace mpsnn::train {
namespace {

constexpr const char* kEncoded = "encoded";

}  // namespace

runtime::Storage& TrainingState::storage(const Value& value, double initial_scale) {
  const auto lock = runtime::lock_unless_forked(mutex_);
  Entry& entry = entries_[value.name];
  if (!entry.storage) {
    entry.shape = value.shape;
    entry.dtype = value.dtype;
    entry.storage = device_.backend->allocate(value.shape, value.dtype);
    Tensor first(value.shape, value.dtype);
    std::memset(first.data(), 0, first.bytes());
    if (value.name == "loss_scale") {
      if (value.dtype == DType::float64)
        *first.as<double>() = initial_scale;
      else
        *first.as<float>() = static_cast<float>(initial_scale);
    }
    device_.queue.run([&] { entry.storage->write(first); });
  }
  return *entry.storage;
}

void TrainingState::clear_failed() {
  const auto lock = runtime::lock_unless_forked(mutex_);
  const auto found = entries_.find("counters");
  if (found == entries_.end()) return;
  device_.queue.run([&] {
    Tensor counters(found->second.shape, found->second.dtype);
    found->second.storage->read(counters);
    for (const ir::Counter c : {ir::kFailed, ir::kAccumulated, ir::kOverflowed})
      counters.as<int32_t>()[c] = 0;
    found->second.storage->write(counters);
  });
}

std::vector<std::pair<std::string, Tensor>> TrainingState::read() {
  runtime::check_not_in_host_call();
  const auto lock = runtime::lock_unless_forked(mutex_);
  std::vector<std::pair<std::string, Tensor>> values;
  device_.queue.run([&] {
    for (auto& [name, entry] : entries_) {
      Tensor value(entry.shape, entry.dtype);
      entry.storage->read(value);
      values.emplace_back(name, std::move(value));
    }
  });
  Tensor count({1}, DType::int64);
  *count.as<int64_t>() = encoded;
  values.emplace_back(kEncoded, std::move(count));
  return values;
}

void TrainingState::write(const std::vector<std::pair<std::string, Tensor>>& values) {
  runtime::check_not_in_host_call();
  const auto lock = runtime::lock_unless_forked(mutex_);
  std::size_t known = 0;
  for (const auto& [name, value] : values) {
    Shape shape{1};
    DType dtype = DType::int64;
    if (name != kEncoded) {
      const auto found = entries_.find(name);
      if (found == entries_.end()) throw ValueError("unexpected training state '" + name + "'");
      shape = found->second.shape;
      dtype = found->second.dtype;
      ++known;
    }
    if (value.shape() != shape)
      throw ShapeError("training state '" + name + "' must be " + to_string(shape) + ", got " +
                       to_string(value.shape()));
    if (value.dtype() != dtype)
      throw DTypeError("training state '" + name + "' must be " + name_of(dtype) + ", got " +
                       name_of(value.dtype()));
    if (name == kEncoded && *value.as<int64_t>() < 0)
      throw ValueError("training state 'encoded' must not be negative");
  }
  if (known != entries_.size() || values.size() != known + 1)
    for (const auto& [name, entry] : entries_) {
      bool there = false;
      for (const auto& given : values) there |= given.first == name;
      if (!there) throw ValueError("training state '" + name + "' is missing");
    }
  device_.queue.run([&] {
    for (const auto& [name, value] : values)
      if (name != kEncoded) entries_.at(name).storage->write(value);
  });
  for (const auto& [name, value] : values)
    if (name == kEncoded) encoded = *value.as<int64_t>();
}

}  // namespace mpsnn::train
