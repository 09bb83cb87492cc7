// The backends of this build, made at first use. Each backend folder defines one create function;
// backend/register.cpp lists them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/command_queue.h"

namespace mpsnn::runtime {

struct BackendKind {
  const char* kind;
  std::vector<Device> (*enumerate)();
  std::unique_ptr<Backend> (*create)(const Device& device);
};
const std::vector<BackendKind>& backend_kinds();  // in order of preference for "auto"

// A device in use: one for the life of the process.
struct DeviceContext {
  std::unique_ptr<Backend> backend;
  CommandQueue queue;
};

// The context of "cpu", "mps:1"...; DeviceError lists what there is.
DeviceContext& device_context(const std::string& id);

}  // namespace mpsnn::runtime
