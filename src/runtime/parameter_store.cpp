#include "runtime/parameter_store.h"

#include "mpsnn/error.h"

namespace mpsnn {

ParameterCopies::Copy& ParameterCopies::copy(runtime::DeviceContext& device, DType dtype) {
  for (const auto& c : copies_)
    if (c->device == &device && c->dtype == dtype) return *c;
  auto storage = device.backend->allocate(shape_, dtype);
  copies_.push_back(std::make_unique<Copy>(Copy{&device, dtype, std::move(storage), -1}));
  return *copies_.back();
}

runtime::Storage& ParameterCopies::storage(runtime::DeviceContext& device, DType dtype) {
  const auto lock = runtime::lock_unless_forked(mutex_);
  return *copy(device, dtype).storage;
}

void ParameterCopies::refresh_host() {
  if (host_version_ == latest_) return;
  const auto lost = [&] { return current_->device->backend->lost(); };
  Tensor fresh(shape_, current_->dtype);
  if (!lost()) try {
      current_->device->queue.run([&] { current_->storage->read(fresh); });
    } catch (const DeviceError&) {
      if (!lost()) throw;
    }
  if (lost()) {
    const std::lock_guard lock(saved_mutex_);
    fresh = saved_ ? saved_ : host_;
    current_ = nullptr;
  }
  host_ = fresh.dtype() == dtype_ ? std::move(fresh) : fresh.to(dtype_);
  host_version_ = latest_;
}

void ParameterCopies::keep(Tensor saved) {
  const std::lock_guard lock(saved_mutex_);
  saved_ = std::move(saved);
}

int64_t ParameterCopies::refresh(runtime::DeviceContext& device, DType dtype, bool writes) {
  runtime::check_not_in_host_call();
  const auto lock = runtime::lock_unless_forked(mutex_);
  Copy& mine = copy(device, dtype);
  if (mine.version != latest_) {
    refresh_host();
    const Tensor given = host_.dtype() == dtype ? host_ : host_.to(dtype);
    device.queue.run([&] { mine.storage->write(given); });
    mine.version = latest_;
  }
  if (writes) {
    mine.version = ++latest_;
    current_ = &mine;
    if (device.backend->save_interval() == 0) host_ = Tensor();  // old from now on
  }
  return mine.version;
}

void ParameterCopies::widen(DType dtype) {
  const auto lock = runtime::lock_unless_forked(mutex_);
  if (size_of(dtype) <= size_of(dtype_)) return;
  dtype_ = dtype;
  if (host_version_ == latest_) host_ = host_.to(dtype);
}

DType ParameterCopies::dtype() {
  const auto lock = runtime::lock_unless_forked(mutex_);
  return dtype_;
}

Tensor ParameterCopies::read() {
  runtime::check_not_in_host_call();
  const auto lock = runtime::lock_unless_forked(mutex_);
  refresh_host();
  return host_.clone();
}

void ParameterCopies::write(const Tensor& value) {
  if (value.shape() != shape_)
    throw ShapeError("expected " + to_string(shape_) + ", got " + to_string(value.shape()));
  if (!is_floating(value.dtype()))
    throw DTypeError(std::string("weights are floating, got ") + name_of(value.dtype()));
  runtime::check_not_in_host_call();
  const auto lock = runtime::lock_unless_forked(mutex_);
  host_ = value.dtype() == dtype_ ? value.clone() : value.to(dtype_);
  host_version_ = ++latest_;
  current_ = nullptr;
}

Parameter::Parameter(Tensor canonical, bool buffer) : shape_(canonical.shape()), buffer_(buffer) {
  const DType dtype = canonical.dtype();
  if (dtype != DType::float32 && dtype != DType::float64)
    throw DTypeError(std::string("weights are float32 or float64, got ") + name_of(dtype));
  const bool shared = canonical.memory().use_count() > 1;
  copies_ = std::make_unique<ParameterCopies>(shared ? canonical.clone() : std::move(canonical));
}

Parameter::~Parameter() {
  if (runtime::forked()) static_cast<void>(copies_.release());  // a device's, as in ~Program
}

DType Parameter::dtype() const { return copies_->dtype(); }
Tensor Parameter::read() const { return copies_->read(); }
void Parameter::write(const Tensor& value) { copies_->write(value); }

}  // namespace mpsnn
