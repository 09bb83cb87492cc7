#include "runtime/parameter_store.h"

#include "mpsnn/error.h"

namespace mpsnn {

ParameterCopies::Copy& ParameterCopies::copy(runtime::DeviceContext& device) {
  for (const auto& c : copies_)
    if (c->device == &device) return *c;
  auto storage = device.backend->allocate(shape_, dtype_);
  copies_.push_back(std::make_unique<Copy>(Copy{&device, std::move(storage), -1}));
  return *copies_.back();
}

runtime::Storage& ParameterCopies::storage(runtime::DeviceContext& device) {
  const std::lock_guard lock(mutex_);
  return *copy(device).storage;
}

void ParameterCopies::refresh_host() {
  if (host_version_ == latest_) return;
  Tensor fresh(shape_, dtype_);
  current_->device->queue.run([&] { current_->storage->read(fresh); });
  host_ = std::move(fresh);
  host_version_ = latest_;
}

int64_t ParameterCopies::refresh(runtime::DeviceContext& device, bool writes) {
  runtime::check_not_in_host_call();
  const std::lock_guard lock(mutex_);
  Copy& mine = copy(device);
  if (mine.version != latest_) {
    refresh_host();
    device.queue.run([&] { mine.storage->write(host_); });
    mine.version = latest_;
  }
  if (writes) {
    mine.version = ++latest_;
    current_ = &mine;
    host_ = Tensor();  // old from now on
  }
  return mine.version;
}

Tensor ParameterCopies::read() {
  runtime::check_not_in_host_call();
  const std::lock_guard lock(mutex_);
  refresh_host();
  return host_.clone();
}

void ParameterCopies::write(const Tensor& value) {
  if (value.shape() != shape_)
    throw ShapeError("expected " + to_string(shape_) + ", got " + to_string(value.shape()));
  if (!is_floating(value.dtype()))
    throw DTypeError(std::string("weights are floating, got ") + name_of(value.dtype()));
  runtime::check_not_in_host_call();
  Tensor fresh = value.dtype() == dtype_ ? value.clone() : value.to(dtype_);
  const std::lock_guard lock(mutex_);
  host_ = std::move(fresh);
  host_version_ = ++latest_;
  current_ = nullptr;
}

Parameter::Parameter(Tensor canonical, bool buffer)
    : shape_(canonical.shape()), dtype_(canonical.dtype()), buffer_(buffer) {
  if (dtype_ != DType::float32 && dtype_ != DType::float64)
    throw DTypeError(std::string("weights are float32 or float64, got ") + name_of(dtype_));
  const bool shared = canonical.memory().use_count() > 1;
  copies_ = std::make_unique<ParameterCopies>(shared ? canonical.clone() : std::move(canonical));
}

Parameter::~Parameter() = default;

Tensor Parameter::read() const { return copies_->read(); }
void Parameter::write(const Tensor& value) { copies_->write(value); }

}  // namespace mpsnn
