// The entry points of the backends: one pair each, defined in the backend's own folder.
#pragma once

#include <memory>
#include <vector>

#include "runtime/backend.h"

namespace mpsnn::backend {

std::vector<Device> enumerate_mps();
std::unique_ptr<runtime::Backend> create_mps(const Device& device);

std::vector<Device> enumerate_cpu();
std::unique_ptr<runtime::Backend> create_cpu(const Device& device);

std::vector<Device> enumerate_reference();
std::unique_ptr<runtime::Backend> create_reference(const Device& device);

}  // namespace mpsnn::backend
