#include "runtime/registry.h"

#include <map>
#include <mutex>
#include <vector>

#include "core/threads.h"
#include "mpsnn/error.h"

namespace mpsnn {
namespace runtime {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<DeviceContext>> contexts;
  std::vector<std::unique_ptr<DeviceContext>> lost;  // graphs may still hold them
};
Registry& registry() {
  static Registry& r = *new Registry;  // queue threads outlive main
  return r;
}

}  // namespace

DeviceContext& device_context(const std::string& id) {
  check_not_forked();
  check_not_in_host_call();
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  if (const auto found = r.contexts.find(id); found != r.contexts.end()) {
    if (!found->second->backend->lost()) return *found->second;
    r.lost.push_back(std::move(found->second));  // its name may be another device's now
    r.contexts.erase(found);
  }
  std::string known;
  for (const BackendKind& kind : backend_kinds())
    for (const Device& device : kind.enumerate()) {
      if (device.id() == id || (device.index == 0 && id == device.kind + ":0")) {
        std::unique_ptr<DeviceContext>& context = r.contexts[device.id()];
        if (!context) {
          context = std::make_unique<DeviceContext>();
          context->backend = kind.create(device);
        }
        return *context;
      }
      known += (known.empty() ? "" : ", ") + device.id();
    }
  throw DeviceError("there is no device '" + id + "' here; there is " + known);
}

}  // namespace runtime

std::vector<Device> devices() {
  // To enumerate is to use: a driver's own locks may have been held at the fork.
  runtime::check_not_forked();
  std::vector<Device> all;
  for (const runtime::BackendKind& kind : runtime::backend_kinds())
    for (Device& device : kind.enumerate()) all.push_back(std::move(device));
  return all;
}

void drain() {
  if (runtime::forked()) return;
  runtime::Registry& r = runtime::registry();
  {
    const std::lock_guard lock(r.mutex);
    for (auto& [id, context] : r.contexts) context->queue.drain();
    for (auto& context : r.lost) context->queue.drain();
  }
  runtime::drain_notifier();
}

void set_num_threads(int count) { threads::request(count); }
int num_threads() { return threads::requested(); }

}  // namespace mpsnn
