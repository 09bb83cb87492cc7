#include "train/device_errors.h"

#include <algorithm>
#include <string>
#include <vector>

#include "mpsnn/error.h"
#include "runtime/arena.h"

namespace mpsnn::train {
namespace {

std::exception_ptr lost(const std::exception& e, const Device& device, int64_t saved) {
  const std::string weights =
      saved < 0 ? "from before the first step" : "those of step " + std::to_string(saved);
  return std::make_exception_ptr(
      DeviceLostError(device.id() + ": the device was removed; the weights that the host has are " +
                          weights + " (" + e.what() + ")",
                      saved));
}

std::string mebibytes(double bytes) {
  return std::to_string(static_cast<int64_t>(bytes / (1 << 20)) + 1) + " MiB";
}

// Bytes of the arrays that stay, and of those of one step, which share memory.
std::string planned(const ir::Plan& plan, const Device& device, int64_t batch) {
  double fixed = 0;
  std::vector<runtime::Block> blocks;
  for (std::size_t v = 0; v < plan.values.size(); ++v) {
    const Value& value = plan.values[v];
    const auto bytes = static_cast<std::size_t>(count(value.shape)) * size_of(value.dtype);
    if (value.kind == ValueKind::persistent) fixed += static_cast<double>(bytes);
    if (value.kind == ValueKind::persistent || plan.alias[v] != static_cast<ValueId>(v)) continue;
    const ir::Lifetime& life = plan.lifetimes[v];
    if (life.first >= 0)
      blocks.push_back({std::max(bytes, value.opaque_bytes), life.first, life.last, 0});
  }
  const auto step = static_cast<double>(runtime::assign_offsets(blocks));
  std::string text = "; planned: " + mebibytes(step) + " for a step of batch " +
                     std::to_string(batch) + ", " + mebibytes(fixed) + " for weights and moments";
  const double left = 0.9 * static_cast<double>(device.memory) - fixed;
  const auto fits = static_cast<int64_t>(left / (step / static_cast<double>(batch)));
  if (device.memory > 0 && fits > 0 && fits < batch)
    text += "; in the " + mebibytes(static_cast<double>(device.memory)) + " of " + device.id() +
            " a batch of about " + std::to_string(fits) + " would fit";
  return text;
}

}  // namespace

std::exception_ptr explained(std::exception_ptr error, const runtime::Backend& backend,
                             int64_t saved, const ir::Plan& plan, int64_t batch) {
  const Device& device = backend.device();
  try {
    std::rethrow_exception(error);
  } catch (const DeviceError& e) {
    return backend.lost() ? lost(e, device, saved) : error;
  } catch (const OutOfMemoryError& e) {
    if (backend.lost()) return lost(e, device, saved);
    return std::make_exception_ptr(OutOfMemoryError(e.what() + planned(plan, device, batch)));
  } catch (...) {
    return error;
  }
}

}  // namespace mpsnn::train
