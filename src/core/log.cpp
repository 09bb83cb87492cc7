// Python's logging filters by itself once a sink is there. Without one (a plain C++ program)
// warnings, and debug messages when asked for, go to stderr.
#include "mpsnn/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace mpsnn::log {
namespace {

std::atomic<Sink> sink{nullptr};

bool debug_wanted() {
  static const bool wanted = [] {
    const char* value = std::getenv("MPSNN_LOG");
    return value != nullptr && std::string_view(value) == "debug";
  }();
  return wanted;
}

}  // namespace

void set_sink(Sink s) { sink = s; }

bool enabled(Level level) {
  return level == Level::warning || debug_wanted() || (level == Level::info && sink != nullptr);
}

void write(Level level, const std::string& message) {
  if (!enabled(level)) return;
  if (const Sink s = sink) {
    s(level, message);
  } else {
    std::fprintf(stderr, "mpsnn: %s\n", message.c_str());
  }
}

}  // namespace mpsnn::log
