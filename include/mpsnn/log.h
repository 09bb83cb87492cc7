// Messages for the "mpsnn" logger. The bindings install the sink; without one nothing is written.
#pragma once

#include <string>

namespace mpsnn::log {

enum class Level { debug, info, warning };
using Sink = void (*)(Level, const std::string&);

void set_sink(Sink sink);
bool enabled(Level level);
void write(Level level, const std::string& message);

}  // namespace mpsnn::log
